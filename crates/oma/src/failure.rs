//! Errors of the control plane as failures of steps: an operator reads the same words in a job as in an answer.

use api::Problem;
use joblog::StepError;
use model::FailureKind;

use crate::error::OmaError;

/// A problem as a step's failure.
pub(crate) fn step_failure(problem: Problem) -> StepError {
    let mut message = problem.detail.clone();
    for more in [&problem.evidence, &problem.cause].into_iter().flatten() {
        message.push_str(&format!(": {more}"));
    }
    let mut error = StepError::new(problem.kind, message);
    error.remedy = problem.remedy;
    error
}

/// Any error of the control plane as a step's failure.
pub(crate) fn failed(error: impl Into<OmaError>) -> StepError {
    step_failure(error.into().into_problem())
}

/// A failure that is nobody's fault but ours.
pub(crate) fn defect(message: impl Into<String>) -> StepError {
    StepError::new(FailureKind::Internal, message)
}
