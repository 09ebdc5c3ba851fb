//! Operations of the volume daemon, asked for and waited for by steps.

use api::ClientError;
use api::volume::OperationView;
use joblog::StepError;
use model::status::OperationStatus;

use crate::failure::{defect, failed, step_failure};
use crate::state::OmaState;

/// How long one look at an operation may wait for it to end, in seconds.
const OPERATION_WAIT_SECONDS: u32 = 25;
/// How often a failed operation is asked for anew within one step.
const MAX_OPERATION_ATTEMPTS: u32 = 3;

/// Asks for an operation and waits for its end. The keys are a row of their own for each attempt, so that a repeat
/// after a crash finds the same operations again and a failed one is followed by a new one.
pub(crate) async fn until_done<F, Fut>(state: &OmaState, key: &str, ask: F) -> Result<OperationView, StepError>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Result<OperationView, ClientError>>,
{
    let mut attempt = 1;
    loop {
        let mut operation = ask(format!("{key}:{attempt}")).await.map_err(failed)?;
        while matches!(operation.status, OperationStatus::Pending | OperationStatus::Executing) {
            let waited = state.volumes().operation(&operation.id, OPERATION_WAIT_SECONDS).await;
            operation = waited.map_err(failed)?;
        }
        if operation.status == OperationStatus::Completed {
            return Ok(operation);
        }
        let problem =
            operation.error.ok_or_else(|| defect(format!("operation {} failed without a reason", operation.id)))?;
        if !problem.kind.is_transient() || attempt >= MAX_OPERATION_ATTEMPTS {
            return Err(step_failure(problem));
        }
        attempt += 1;
    }
}
