//! What the rows of a failover say when one of its jobs ends, or waits for an operator.

use joblog::{JobView, StepError};
use model::FailureKind;
use model::status::{ContextStatus, DiskSyncStatus, FailoverStatus, JobStatus, StepKind, StepStatus};
use store::{failover_jobs, vm_disks, vm_replication_contexts};

use super::params::{EndParams, Params};
use crate::failure::failed;
use crate::state::OmaState;

/// The end of a test or live failover's own job.
pub(super) async fn of_failover(state: &OmaState, view: &JobView) -> Result<(), StepError> {
    let params: Params = view.params()?;
    let row = failover_jobs::by_id(state.store(), &params.job_id).await.map_err(failed)?;
    let cause = view.job.error.clone().unwrap_or_else(StepError::cancelled);
    match view.outcome {
        JobStatus::Completed => Ok(()),
        JobStatus::NeedsOperator => {
            failover_jobs::set_error(state.store(), &params.job_id, Some(&cause)).await.map_err(failed)?;
            if is_past_pivot(view) {
                // Its status says how far it came; `failed_over_live` is said at the very end only.
                return Ok(());
            }
            move_context(state, &params.vm_context_id, ContextStatus::CleanupRequired).await
        }
        // Given up after its end was recorded, which stands.
        _ if *row.status == FailoverStatus::Completed => Ok(()),
        outcome => {
            let context = context_after(state, &params, view).await?;
            let cancelled = outcome == JobStatus::Cancelled;
            failover_jobs::end(state.store(), &params.job_id, cancelled, &cause, context).await.map_err(failed)
        }
    }
}

/// Whether the volumes have begun to change hands for good.
fn is_past_pivot(view: &JobView) -> bool {
    view.steps.iter().any(|step| step.kind == StepKind::Pivot && step.status == StepStatus::Completed)
}

/// Where the VM stands after a failover that did not come about; none when it never left its place.
async fn context_after(state: &OmaState, params: &Params, view: &JobView) -> Result<Option<ContextStatus>, StepError> {
    let vm = vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let was_undone = view.steps.iter().all(|step| {
        matches!(step.status, StepStatus::Pending | StepStatus::Skipped | StepStatus::Undone)
            || (step.status == StepStatus::Failed && step.kind != StepKind::Undoable)
    });
    if !was_undone {
        // Given up by an operator with something left behind.
        return Ok(Some(ContextStatus::CleanupRequired));
    }
    let disks = vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let is_whole =
        disks.iter().all(|disk| *disk.sync_status == DiskSyncStatus::Completed && disk.disk_change_id.is_some());
    Ok(match (*vm.current_status, is_whole) {
        (ContextStatus::CleanupRequired, true) => Some(ContextStatus::ReadyForFailover),
        (ContextStatus::CleanupRequired | ContextStatus::ReadyForFailover, false) => Some(ContextStatus::Discovered),
        _ => None,
    })
}

/// The end of a cleanup, a rollback or a commit.
pub(super) async fn of_ending(state: &OmaState, view: &JobView) -> Result<(), StepError> {
    let params: EndParams = view.params()?;
    match view.outcome {
        JobStatus::Completed => failover_jobs::set_error(state.store(), &params.job_id, None).await.map_err(failed),
        JobStatus::NeedsOperator | JobStatus::Failed => {
            let cause = view.job.error.clone();
            failover_jobs::set_error(state.store(), &params.job_id, cause.as_ref()).await.map_err(failed)?;
            let was_begun = view.steps.iter().any(|step| step.kind == StepKind::Retried && step.attempt > 0);
            if !was_begun {
                return Ok(());
            }
            move_context(state, &params.vm_context_id, ContextStatus::CleanupRequired).await
        }
        _ => Ok(()),
    }
}

/// Moves the VM's status where it may move there.
async fn move_context(state: &OmaState, vm_context_id: &str, to: ContextStatus) -> Result<(), StepError> {
    match vm_replication_contexts::set_status(state.store(), vm_context_id, to).await {
        Err(error) if error.kind() == FailureKind::Conflict => Ok(()),
        outcome => outcome.map_err(failed),
    }
}
