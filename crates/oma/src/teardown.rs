//! Tearing a replica down: its volumes are detached and deleted, and with each volume goes its disk's change id.
//! Only ever begun by an operator; nothing automatic deletes a replica.

use api::Problem;
use api::oma::replications::Accepted;
use futures::future::BoxFuture;
use joblog::{JobView, NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{ContextStatus, JobStatus, Transitions, VolumeState};
use serde::{Deserialize, Serialize};
use store::{failover_jobs, ossea_volumes, vm_replication_contexts};

use crate::error::OmaError;
use crate::failure::{failed, step_failure};
use crate::operations::until_done;
use crate::recovery_points;
use crate::state::OmaState;
use crate::unfinished;

/// Most volumes of one VM.
const MAX_VOLUMES: u32 = 256;

/// The saga: what began to be deleted is deleted to the end.
pub static TEARDOWN: Saga<OmaState> = Saga {
    job_type: "replica_teardown",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate(state, context))),
        Step::retried("detach", |state, context| Box::pin(detach(state, context))),
        Step::retried("delete", |state, context| Box::pin(delete(state, context))),
    ],
    finished: |state, view| -> BoxFuture<'_, Result<(), StepError>> { Box::pin(finished(state, view)) },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm_context_id: String,
}

/// Begins to tear a VM's replica down.
///
/// # Errors
/// There is no such VM, a job of it runs, or it is failed over; nothing is begun then.
pub(crate) async fn start(state: &OmaState, vm: &str) -> Result<Accepted, OmaError> {
    let context = vm_replication_contexts::find(state.store(), vm).await?;
    refuse_while_in_use(state, &context.context_id, &[]).await?;
    let params = Params { vm_context_id: context.context_id.clone() };
    let job = NewJob::new(TEARDOWN.job_type, format!("tear down the replica of {}", context.vm_name), &params)?;
    let job = job.vm_context(&context.context_id);
    let tracking_id = state.runner().start(job).await?;
    Ok(Accepted { job_id: tracking_id.clone(), tracking_id })
}

/// Refuses what needs the replica for itself: while a job of the VM runs, or a failover has its volumes.
///
/// # Errors
/// What uses it, or the database fails.
pub(crate) async fn refuse_while_in_use(state: &OmaState, context_id: &str, own: &[&str]) -> Result<(), OmaError> {
    let vm = vm_replication_contexts::by_id(state.store(), context_id).await?;
    let unfinished = unfinished::job_of(state, context_id, own).await?.map(|job| job.id);
    if let Some(job) = unfinished.or(vm.current_job_id) {
        let problem = Problem::new(FailureKind::Conflict, format!("a job of {} runs", vm.vm_name));
        return Err(problem.evidence(format!("{job} runs")).remedy(format!("wait for it or cancel it: {job}")).into());
    }
    if let Some(failover) = failover_jobs::holding(state.store(), context_id).await? {
        let detail = format!("{} is failed over by {}", vm.vm_name, failover.job_id);
        let remedy = format!("end the failover first: migratekit failover show {}", failover.job_id);
        return Err(Problem::new(FailureKind::Conflict, detail).remedy(remedy).into());
    }
    if matches!(*vm.current_status, ContextStatus::FailedOverTest | ContextStatus::FailedOverLive) {
        let problem = Problem::new(FailureKind::Conflict, format!("{} is {}", vm.vm_name, *vm.current_status));
        return Err(problem.remedy("end the failover first: a VM in CloudStack uses these volumes").into());
    }
    Ok(())
}

async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    refuse_while_in_use(state, &params.vm_context_id, &[context.job_id()]).await.map_err(failed)?;
    let volumes = ossea_volumes::list(state.store(), Some(&params.vm_context_id), MAX_VOLUMES).await.map_err(failed)?;
    let volumes: Vec<String> =
        volumes.into_iter().filter(|row| *row.state != VolumeState::Deleted).map(|row| row.volume_id).collect();
    output(&volumes)
}

async fn detach(state: &OmaState, context: &StepContext) -> StepResult {
    let volumes: Vec<String> = context.output("validate")?;
    for volume in &volumes {
        match state.volumes().volume(volume).await {
            Ok(view) if view.vm_id.is_none() => continue,
            Ok(_) => {}
            Err(error) if error.kind() == FailureKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        }
        let name = model::id::volume_export_name(volume);
        state.gateway().close(&name).await.map_err(failed)?;
        let key = format!("{}:{volume}:detach", context.job_id());
        until_done(state, &key, |key| async move { state.volumes().detach(volume, &key).await }).await?;
    }
    output(&())
}

async fn delete(state: &OmaState, context: &StepContext) -> StepResult {
    let volumes: Vec<String> = context.output("validate")?;
    for volume in &volumes {
        recovery_points::discard(state, std::slice::from_ref(volume)).await?;
        let key = format!("{}:{volume}:delete", context.job_id());
        let deleted = until_done(state, &key, |key| async move { state.volumes().delete(volume, &key).await }).await;
        match deleted {
            Err(error) if error.kind == FailureKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => tracing::info!(volume, "deleted a replica volume"),
        }
    }
    output(&())
}

async fn finished(state: &OmaState, view: &JobView) -> Result<(), StepError> {
    if view.outcome != JobStatus::Completed {
        return Ok(());
    }
    let params: Params = view.params()?;
    let id = &params.vm_context_id;
    let vm = vm_replication_contexts::by_id(state.store(), id).await.map_err(failed)?;
    if vm.current_status.may_become(ContextStatus::Discovered) {
        return vm_replication_contexts::set_status(state.store(), id, ContextStatus::Discovered).await.map_err(failed);
    }
    let detail = format!("{} is {} and stays so", vm.vm_name, *vm.current_status);
    Err(step_failure(Problem::new(FailureKind::Conflict, detail)))
}
