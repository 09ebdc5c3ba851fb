//! Removes one ghost, as an operator asked: looked at again before anything is done, and again by every repeat.
//!
//! No step is `retried` to the end: a ghost that cannot be removed is a failed job and stays in the list, while a job
//! that waits for an operator would stand in the way of the VM.

use api::Problem;
use api::oma::replications::Accepted;
use api::vma::VmRequest;
use futures::future::BoxFuture;
use joblog::{JobFilter, JobStore, JobView, NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{JobStatus, Transitions};
use serde::{Deserialize, Serialize};
use store::{ossea_configs, vm_replication_contexts};

use super::classify::{Fate, Ghost, Removal, Verdict};
use super::gather::{self, Scope};
use crate::error::OmaError;
use crate::failover;
use crate::failure::failed;
use crate::inventory::vcenter;
use crate::operations::until_done;
use crate::state::OmaState;
use crate::{replication, targets, unfinished};

/// Newest removals of one ghost that are looked at; more than one is never unfinished.
const LOOKED_AT: u32 = 4;

/// The saga.
pub static REMOVAL: Saga<OmaState> = Saga {
    job_type: "ghost_removal",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate(state, context))),
        Step::check("remove", |state, context| Box::pin(remove(state, context))).with_weight(3),
    ],
    finished: |state, view| -> BoxFuture<'_, Result<(), StepError>> { Box::pin(finished(state, view)) },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    ghost_id: String,
}

/// Begins to remove a ghost.
///
/// # Errors
/// There is no such ghost, something needs it, or it may not be removed as it is now; nothing is begun then.
pub(crate) async fn start(state: &OmaState, ghost_id: &str) -> Result<Accepted, OmaError> {
    let (ghost, removal) = removable(state, ghost_id).await?;
    let filter = JobFilter {
        job_type: Some(REMOVAL.job_type.to_owned()),
        external_job_id: Some(ghost.id.clone()),
        limit: LOOKED_AT,
        ..JobFilter::default()
    };
    let others = state.store().list_jobs(&filter).await?.jobs;
    if let Some(job) = others.into_iter().find(|job| !job.status.is_final()) {
        return Err(under_way(format!("{ghost_id} is being removed already"), &job.id));
    }
    let params = Params { ghost_id: ghost.id.clone() };
    let operation = format!("remove the ghost {} ({})", ghost.id, ghost.name);
    let mut job = NewJob::new(REMOVAL.job_type, operation, &params)?.external_id(&ghost.id);
    if let Some(context_id) = ghost.vm_context_id.as_ref().filter(|_| removal.excludes_others()) {
        if let Some(other) = unfinished::job_of(state, context_id, &[]).await? {
            return Err(under_way(format!("{} is under way: {}", other.job_type, other.operation), &other.id));
        }
        job = job.vm_context(context_id);
    }
    let tracking_id = state.runner().start(job).await?;
    Ok(Accepted { job_id: tracking_id.clone(), tracking_id })
}

fn under_way(detail: String, job_id: &str) -> OmaError {
    let problem = Problem::new(FailureKind::Conflict, detail);
    problem.remedy(format!("wait for it: migratekit job show {job_id}")).job(job_id).into()
}

/// The ghost as it is now, and how it is removed.
async fn removable(state: &OmaState, ghost_id: &str) -> Result<(Ghost, Removal), OmaError> {
    match found(state, ghost_id).await? {
        Some(found) => Ok(found),
        None => {
            let problem = Problem::new(FailureKind::NotFound, format!("there is no ghost {ghost_id}"));
            Err(problem.remedy("`migratekit ghost list --refresh` shows those there are").into())
        }
    }
}

/// As [`removable`]; none when it is not there (any more).
async fn found(state: &OmaState, ghost_id: &str) -> Result<Option<(Ghost, Removal)>, OmaError> {
    let Some(scope) = Scope::of(ghost_id) else { return Ok(None) };
    let mut look = gather::look(state, &scope).await?;
    match look.verdicts.remove(ghost_id) {
        None if look.notes.is_empty() => Ok(None),
        None => {
            let problem = Problem::new(FailureKind::Unavailable, format!("{ghost_id} cannot be looked at"));
            Err(problem.evidence(look.notes.join("; ")).remedy("the same request may work later").into())
        }
        Some(Verdict::Needed(why)) => {
            Err(Problem::new(FailureKind::Conflict, format!("{ghost_id} is no ghost: {why}")).into())
        }
        Some(Verdict::Ghost(Ghost { fate: Fate::Kept { obstacle, remedy }, .. })) => {
            let problem = Problem::new(FailureKind::Conflict, format!("{ghost_id} may not be removed: {obstacle}"));
            Err(problem.remedy(remedy).into())
        }
        Some(Verdict::Ghost(ghost)) => match ghost.fate.clone() {
            Fate::Removable(removal) => Ok(Some((ghost, removal))),
            Fate::Kept { .. } => Ok(None),
        },
    }
}

async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let (ghost, removal) = removable(state, &params.ghost_id).await.map_err(failed)?;
    tracing::info!(ghost = ghost.id, name = ghost.name, "{}", ghost.reason);
    output(&removal)
}

async fn remove(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    match found(state, &params.ghost_id).await.map_err(failed)? {
        None => tracing::info!(ghost = params.ghost_id, "it is gone"),
        Some((_, removal)) => {
            tokio::select! {
                () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
                removed = removed(state, context, &removal) => removed?,
            }
            tracing::info!(ghost = params.ghost_id, "removed it");
        }
    }
    output(&())
}

async fn removed(state: &OmaState, context: &StepContext, removal: &Removal) -> Result<(), StepError> {
    let volumes = state.volumes();
    // The same for every attempt: a repeat finds the operation that an earlier one asked for.
    let key = format!("{}:{}", context.job_id(), context.step_name());
    match removal {
        Removal::Vm { target_id, vm_id } => {
            let target = ossea_configs::by_id(state.store(), target_id).await.map_err(failed)?;
            let client = targets::client(state, &target).map_err(failed)?;
            failover::destroyed(state, &client, vm_id).await.map_err(failed)?;
        }
        Removal::KnownVolume { volume_uuid } => {
            until_done(state, &key, |key| async move { volumes.delete(volume_uuid, &key).await }).await?;
        }
        Removal::StrayVolume { target_id, volume_uuid } => {
            let ask = |key: String| async move { volumes.delete_stray(volume_uuid, Some(target_id), &key).await };
            until_done(state, &key, ask).await?;
        }
        Removal::KnownSnapshot { volume_uuid, snapshot_id } => {
            let ask = |key: String| async move { volumes.delete_snapshot(volume_uuid, snapshot_id, &key).await };
            until_done(state, &key, ask).await?;
        }
        Removal::StraySnapshot { target_id, volume_uuid, snapshot_id } => {
            let ask = |key: String| async move {
                volumes.delete_stray_snapshot(volume_uuid, snapshot_id, Some(target_id), &key).await
            };
            until_done(state, &key, ask).await?;
        }
        Removal::VmSnapshots { context_id } => vm_snapshots_removed(state, context_id).await?,
    }
    Ok(())
}

/// The agent refuses while a run of it works on the VM.
async fn vm_snapshots_removed(state: &OmaState, context_id: &str) -> Result<(), StepError> {
    let vm = vm_replication_contexts::by_id(state.store(), context_id).await.map_err(failed)?;
    let agent = replication::agent_of(state, &vm).map_err(failed)?;
    let vcenter = vcenter::connection(state, vm.credential_id.as_deref()).await.map_err(failed)?;
    let removed = agent.remove_vm_snapshots(&vm.vmware_moref, &VmRequest { vcenter }).await.map_err(failed)?;
    tracing::info!(?removed, vm = vm.vm_name, "removed vm_snapshots");
    Ok(())
}

async fn finished(state: &OmaState, view: &JobView) -> Result<(), StepError> {
    if view.outcome == JobStatus::Completed {
        state.ghosts().forget(&view.params::<Params>()?.ghost_id);
    }
    Ok(())
}
