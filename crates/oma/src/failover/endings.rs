//! The three ways a failover ends: a test is put back (cleanup), a live one is taken back (rollback) or made final
//! (commit). What is begun here is done to the end: every step is repeated until it succeeds.

use api::oma::failovers::{DestinationVm, SafetySnapshot};
use joblog::{Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{ContextStatus, FailoverStatus, FailoverType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::failover_jobs::{self, FailoverJob, Standing};
use store::vm_disks;

use super::cloud::VmCloud;
use super::params::EndParams;
use super::volumes::{self, Holder};
use super::{finish, source};
use crate::failure::{defect, failed};
use crate::state::OmaState;

/// Puts a test back: the replica is what it was before, byte for byte.
pub static CLEANUP: Saga<OmaState> = Saga {
    job_type: "failover_cleanup",
    steps: &[
        Step::check("validate", |state, context| {
            Box::pin(validate(state, context, FailoverType::Test, FailoverStatus::Cleanup, "putting the test back"))
        }),
        Step::retried("stop", |state, context| Box::pin(stop(state, context, Stopping::AtOnce))),
        Step::retried("detach", |state, context| Box::pin(detach(state, context))),
        Step::retried("revert", |state, context| Box::pin(revert(state, context))).with_weight(3),
        Step::retried("reattach", |state, context| Box::pin(reattach(state, context))),
        Step::retried("destroy_vm", |state, context| Box::pin(destroy_vm(state, context))),
        Step::retried("delete_snapshots", |state, context| Box::pin(delete_snapshots(state, context))),
        Step::retried("settle", |state, context| Box::pin(settle_cleanup(state, context))),
    ],
    finished: |state, view| Box::pin(finish::of_ending(state, view)),
};

/// Takes a live failover back: the volumes return to the hub, to be compared, because the guest wrote to them.
pub static ROLLBACK: Saga<OmaState> = Saga {
    job_type: "failover_rollback",
    steps: &[
        Step::check("validate", |state, context| {
            Box::pin(validate(
                state,
                context,
                FailoverType::Live,
                FailoverStatus::Reverting,
                "taking the failover back",
            ))
        }),
        Step::retried("stop", |state, context| Box::pin(stop(state, context, Stopping::AsAsked))),
        Step::retried("detach", |state, context| Box::pin(detach(state, context))),
        Step::retried("mark", |state, context| Box::pin(mark(state, context))),
        Step::retried("reattach", |state, context| Box::pin(reattach(state, context))),
        Step::retried("destroy_vm", |state, context| Box::pin(destroy_vm(state, context))),
        Step::retried("delete_snapshots", |state, context| Box::pin(delete_snapshots(state, context))),
        Step::retried("power_on_source", |state, context| Box::pin(power_on_source(state, context))),
        Step::retried("settle", |state, context| Box::pin(settle_rollback(state, context))),
    ],
    finished: |state, view| Box::pin(finish::of_ending(state, view)),
};

/// Makes a live failover final: the way back is given up and its snapshots with it.
pub static COMMIT: Saga<OmaState> = Saga {
    job_type: "failover_commit",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate_commit(state, context))),
        Step::retried("delete_snapshots", |state, context| Box::pin(delete_snapshots(state, context))),
        Step::retried("settle", |state, context| Box::pin(settle_commit(state, context))),
    ],
    finished: |state, view| Box::pin(finish::of_ending(state, view)),
};

/// What is to be put back, as the failover left it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ended {
    vm_id: Option<String>,
    volumes: Vec<String>,
    snapshots: Vec<SafetySnapshot>,
}

fn ended_of(row: &FailoverJob) -> Result<Ended, StepError> {
    let unreadable = |error: serde_json::Error| defect(format!("{} cannot be read: {error}", row.job_id));
    let vm: Option<DestinationVm> = match &row.source_vm_spec {
        Value::Object(fields) if fields.is_empty() => None,
        spec => Some(serde_json::from_value(spec.clone()).map_err(unreadable)?),
    };
    Ok(Ended {
        vm_id: row.destination_vm_id.clone(),
        volumes: vm.as_ref().map(volumes::uuids).unwrap_or_default(),
        snapshots: serde_json::from_value(row.snapshot_ids.clone()).map_err(unreadable)?,
    })
}

async fn validate(
    state: &OmaState,
    context: &StepContext,
    of_type: FailoverType,
    to: FailoverStatus,
    doing: &'static str,
) -> StepResult {
    let params: EndParams = context.params()?;
    let row = failover_jobs::by_id(state.store(), &params.job_id).await.map_err(failed)?;
    if *row.job_type != of_type {
        let message = format!("{} is a {} failover", row.job_id, *row.job_type);
        let remedy = "a test is put back with `failover cleanup`, a live one taken back with `failover rollback`";
        return Err(StepError::new(FailureKind::Conflict, message).remedy(remedy));
    }
    let ended = ended_of(&row)?;
    let was_whole = *row.status != FailoverStatus::Failed;
    if of_type == FailoverType::Test && was_whole && ended.snapshots.len() != ended.volumes.len() {
        return Err(defect(format!(
            "{} has {} snapshots of {} volumes",
            row.job_id,
            ended.snapshots.len(),
            ended.volumes.len()
        ))
        .remedy("nothing was changed; look at the volumes in CloudStack"));
    }
    failover_jobs::set_status(state.store(), &params.job_id, to, doing).await.map_err(failed)?;
    output(&ended)
}

fn ended(context: &StepContext) -> Result<Ended, StepError> {
    context.output("validate")
}

/// How the VM is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    /// Its content is thrown away.
    AtOnce,
    /// By its guest, unless the operator allowed force.
    AsAsked,
}

async fn stop(state: &OmaState, context: &StepContext, how: Stopping) -> StepResult {
    let (params, ended) = (context.params::<EndParams>()?, ended(context)?);
    if let Some(vm_id) = &ended.vm_id {
        let forced = how == Stopping::AtOnce || params.rollback.force;
        let cloud = VmCloud::of(state, &params.vm_context_id).await?;
        cloud.stopped(vm_id, forced).await.map_err(failed)?;
        tracing::info!(vm_id, "the VM is stopped");
    }
    output(&())
}

async fn detach(state: &OmaState, context: &StepContext) -> StepResult {
    let ended = ended(context)?;
    if let Some(vm_id) = &ended.vm_id {
        volumes::detached(state, context, &ended.volumes, Holder::Vm(vm_id)).await?;
    }
    output(&())
}

/// Reverts what may have been written to. After a test that was given up half way the hub may still hold volumes: those
/// that never left it are what they were.
async fn revert(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, ended) = (context.params::<EndParams>()?, ended(context)?);
    let rows = vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let is_trusted = |snapshot: &SafetySnapshot| {
        let row = rows.iter().find(|row| row.volume_uuid.as_deref() == Some(&snapshot.volume_uuid));
        row.and_then(|row| row.disk_change_id.as_ref()).is_some()
    };
    let doubtful: Vec<SafetySnapshot> = ended.snapshots.into_iter().filter(|one| !is_trusted(one)).collect();
    let uuids: Vec<String> = doubtful.iter().map(|snapshot| snapshot.volume_uuid.clone()).collect();
    volumes::detached(state, context, &uuids, Holder::Hub).await?;
    volumes::reverted(state, context, &doubtful).await?;
    volumes::trusted_again(state, &doubtful).await?;
    output(&())
}

/// The guest wrote to the volumes: they are equal to no change id and are compared by the next replication.
async fn mark(state: &OmaState, context: &StepContext) -> StepResult {
    vm_disks::mark_diverged(state.store(), &ended(context)?.volumes).await.map_err(failed)?;
    output(&())
}

async fn reattach(state: &OmaState, context: &StepContext) -> StepResult {
    volumes::reattached(state, context, &ended(context)?.volumes).await?;
    output(&())
}

async fn destroy_vm(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, ended) = (context.params::<EndParams>()?, ended(context)?);
    if let Some(vm_id) = &ended.vm_id {
        let cloud = VmCloud::of(state, &params.vm_context_id).await?;
        cloud.destroyed(vm_id).await.map_err(failed)?;
        tracing::info!(vm_id, "destroyed the VM");
    }
    output(&())
}

async fn delete_snapshots(state: &OmaState, context: &StepContext) -> StepResult {
    volumes::unsnapshotted(state, context, &ended(context)?.snapshots).await?;
    output(&())
}

async fn power_on_source(state: &OmaState, context: &StepContext) -> StepResult {
    let params: EndParams = context.params()?;
    if params.rollback.power_on_source {
        source::power_on(state, &params.vm_context_id).await?;
    }
    output(&())
}

async fn settle_cleanup(state: &OmaState, context: &StepContext) -> StepResult {
    let standing = |params: &EndParams| Standing {
        status: FailoverStatus::CleanedUp,
        context: ContextStatus::ReadyForFailover,
        doing: "the replica is what it was before the test",
        summary: json!({ "operation": "failover_cleanup", "job_id": params.job_id, "outcome": "completed" }),
    };
    settle(state, context, standing).await
}

async fn settle_rollback(state: &OmaState, context: &StepContext) -> StepResult {
    let standing = |params: &EndParams| Standing {
        status: FailoverStatus::RolledBack,
        context: ContextStatus::Discovered,
        doing: "taken back; the next replication compares the disks",
        summary: json!({ "operation": "failover_rollback", "job_id": params.job_id, "outcome": "completed" }),
    };
    settle(state, context, standing).await
}

async fn settle(state: &OmaState, context: &StepContext, standing: impl Fn(&EndParams) -> Standing) -> StepResult {
    let params: EndParams = context.params()?;
    let to = standing(&params);
    failover_jobs::settle(state.store(), &params.job_id, &to, Some(context.lease())).await.map_err(failed)?;
    output(&())
}

async fn validate_commit(state: &OmaState, context: &StepContext) -> StepResult {
    let params: EndParams = context.params()?;
    let row = failover_jobs::by_id(state.store(), &params.job_id).await.map_err(failed)?;
    if *row.job_type != FailoverType::Live || *row.status != FailoverStatus::Completed {
        let message = format!("{} is a {} failover and {}", row.job_id, *row.job_type, *row.status);
        return Err(StepError::new(FailureKind::Conflict, message)
            .remedy("only a live failover whose VM runs can be made final"));
    }
    output(&ended_of(&row)?)
}

async fn settle_commit(state: &OmaState, context: &StepContext) -> StepResult {
    let standing = |params: &EndParams| Standing {
        status: FailoverStatus::Completed,
        context: ContextStatus::Completed,
        doing: "final: there is no way back to the source",
        summary: json!({ "operation": "failover_commit", "job_id": params.job_id, "outcome": "completed" }),
    };
    settle(state, context, standing).await
}
