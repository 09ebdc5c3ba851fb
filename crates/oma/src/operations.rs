//! Operations of the volume daemon, asked for and waited for by steps.

use api::ClientError;
use api::volume::OperationView;
use joblog::StepError;
use model::FailureKind;
use model::status::OperationStatus;

use crate::failure::{defect, failed, step_failure};
use crate::state::OmaState;

/// How long one look at an operation may wait for it to end, in seconds.
const OPERATION_WAIT_SECONDS: u32 = 25;
/// How often a failed operation is asked for anew within one attempt of a step.
const MAX_OPERATION_ATTEMPTS: u32 = 3;
/// Most operations with one key: a step that is repeated for a day has less.
const MAX_OPERATIONS: u32 = 2000;

/// Asks for an operation and waits for its end. The keys are a row of their own for each attempt, so that a repeat
/// after a crash finds the same operations again and a failed one is followed by a new one. Operations that had ended
/// before they were asked for belong to an earlier go and do not count.
pub(crate) async fn until_done<F, Fut>(state: &OmaState, key: &str, ask: F) -> Result<OperationView, StepError>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<OperationView, ClientError>>,
{
    let mut attempts = 0;
    for number in 1..=MAX_OPERATIONS {
        let mut operation = ask(format!("{key}:{number}")).await.map_err(failed)?;
        let is_new = is_under_way(&operation);
        while is_under_way(&operation) {
            let waited = state.volumes().operation(&operation.id, OPERATION_WAIT_SECONDS).await;
            operation = waited.map_err(failed)?;
        }
        if operation.status == OperationStatus::Completed {
            return Ok(operation);
        }
        if !is_new {
            continue;
        }
        attempts += 1;
        let problem =
            operation.error.ok_or_else(|| defect(format!("operation {} failed without a reason", operation.id)))?;
        if !problem.kind.is_transient() || attempts >= MAX_OPERATION_ATTEMPTS {
            return Err(step_failure(problem));
        }
    }
    Err(StepError::new(FailureKind::Exhausted, format!("{MAX_OPERATIONS} operations of this kind have failed"))
        .remedy("look at what they say (migratekit job list), then begin anew"))
}

fn is_under_way(operation: &OperationView) -> bool {
    matches!(operation.status, OperationStatus::Pending | OperationStatus::Executing)
}
