//! What a job does next, decided from its rows alone. Pure: no clock, no store, no code of any saga.
//!
//! Steps run in order. Before the point of no return (a pivot, or the first retried step) a failure or a request to
//! cancel turns the job back and everything begun is undone in reverse, the interrupted step too, because nobody knows
//! how far it came. After it the job only goes forward. What can go neither way waits for an operator.
//!
//! The rows say everything, so a runner that finds them after a crash decides as the dead one would have:
//!
//! | job | steps | next |
//! |---|---|---|
//! | pending, running | cancel requested, point of no return not reached | turn back, or end as cancelled when nothing was begun |
//! | pending, running | first unfinished step pending or interrupted | run it |
//! | pending, running | an undoable step failed, or a pivot at its first attempt says that nothing happened | turn back |
//! | pending, running | a retried step failed, or a pivot whose outcome is unknown | needs an operator |
//! | pending, running | all completed | completed |
//! | unwinding | a step begun and not undone | undo the last such |
//! | unwinding | an undo failed | needs an operator |
//! | unwinding | nothing left to undo | failed, or cancelled when nothing had failed |

use model::FailureKind;
use model::status::{JobStatus, StepKind, StepStatus};

use crate::failure::StepError;
use crate::store::{JobRow, StepRow};

/// What to do next with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the step at this index (again, if it was interrupted).
    Run(usize),
    /// Undo the step at this index (again, if its undo was interrupted).
    Undo(usize),
    /// From now on undo: the status becomes `unwinding`.
    TurnBack,
    /// Tell the domain, then record this status.
    Finish(JobStatus),
    /// Nothing, until an operator acts; or never, when the job has ended.
    Wait,
}

/// How an operator's word continues a job that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumption {
    /// The job's new status.
    pub status: JobStatus,
    /// The job's new error.
    pub error: Option<StepError>,
    /// The index of the step that is done again, and its new status.
    pub step: Option<(usize, StepStatus)>,
}

/// What to do next.
#[must_use]
pub fn next(job: &JobRow, steps: &[StepRow]) -> Action {
    match job.status {
        JobStatus::Pending | JobStatus::Running => forward(job, steps),
        JobStatus::Unwinding => backward(job, steps),
        JobStatus::NeedsOperator | JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => Action::Wait,
    }
}

fn forward(job: &JobRow, steps: &[StepRow]) -> Action {
    if job.cancel_requested_at.is_some() && !is_past_return(steps) {
        let begun = steps.iter().any(|step| step.status != StepStatus::Pending && step.status != StepStatus::Skipped);
        return if begun { Action::TurnBack } else { Action::Finish(JobStatus::Cancelled) };
    }
    let unfinished = steps.iter().position(|step| !matches!(step.status, StepStatus::Completed | StepStatus::Skipped));
    let Some(index) = unfinished else { return Action::Finish(JobStatus::Completed) };
    let step = &steps[index];
    match step.status {
        StepStatus::Pending | StepStatus::Running => Action::Run(index),
        StepStatus::Failed if can_turn_back(step) && !is_past_return(steps) => Action::TurnBack,
        // A failure that cannot be undone, or rows no runner leaves behind.
        _ => Action::Finish(JobStatus::NeedsOperator),
    }
}

fn backward(job: &JobRow, steps: &[StepRow]) -> Action {
    for (index, step) in steps.iter().enumerate().rev() {
        match (step.status, step.kind) {
            (StepStatus::Pending | StepStatus::Skipped | StepStatus::Undone, _) => {}
            (StepStatus::UndoFailed, _) => return Action::Finish(JobStatus::NeedsOperator),
            (_, StepKind::Undoable) => return Action::Undo(index),
            (StepStatus::Failed, StepKind::Pivot) if can_turn_back(step) => {}
            (_, StepKind::Pivot | StepKind::Retried) => return Action::Finish(JobStatus::NeedsOperator),
        }
    }
    Action::Finish(if job.error.is_some() { JobStatus::Failed } else { JobStatus::Cancelled })
}

/// Whether the failure of this step leaves the way back open.
fn can_turn_back(step: &StepRow) -> bool {
    match step.kind {
        StepKind::Undoable => true,
        // A pivot is begun again only when the outcome of an attempt is unknown. What the later attempt meets says
        // nothing about the earlier one, so its refusal is no proof that nothing happened.
        StepKind::Pivot => {
            let kind = step.error.as_ref().map(|error| error.kind);
            let says_no = kind.is_some_and(|kind| !matches!(kind, FailureKind::Unavailable | FailureKind::Internal));
            says_no && step.attempt <= 1
        }
        StepKind::Retried => false,
    }
}

/// Whether the job can only go forward: its pivot may have happened, or a step after it has begun.
#[must_use]
pub fn is_past_return(steps: &[StepRow]) -> bool {
    steps.iter().any(|step| match (step.kind, step.status) {
        (StepKind::Undoable, _) | (_, StepStatus::Pending | StepStatus::Skipped) => false,
        (StepKind::Pivot, StepStatus::Failed) => !can_turn_back(step),
        (StepKind::Pivot | StepKind::Retried, _) => true,
    })
}

/// Why a job turns back: none when it was cancelled.
#[must_use]
pub fn reason_to_turn_back(job: &JobRow, steps: &[StepRow]) -> Option<StepError> {
    if job.cancel_requested_at.is_some() {
        return None;
    }
    steps.iter().find(|step| step.status == StepStatus::Failed).and_then(|step| step.error.clone())
}

/// Why a job needs an operator.
#[must_use]
pub fn reason_for_operator(job: &JobRow, steps: &[StepRow]) -> StepError {
    let stuck = steps.iter().find(|step| matches!(step.status, StepStatus::UndoFailed | StepStatus::Failed));
    match stuck.map(|step| (step, &step.error)) {
        Some((step, Some(error))) if step.status == StepStatus::UndoFailed => {
            error.of_undo(&step.name, job.error.as_ref())
        }
        Some((_, Some(error))) => error.clone(),
        _ => StepError::new(FailureKind::Internal, "the steps of the job contradict its status"),
    }
}

/// Why a request to cancel is refused, or nothing when it can be honoured.
#[must_use]
pub fn refusal_to_cancel(job: &JobRow, steps: &[StepRow]) -> Option<String> {
    match job.status {
        JobStatus::Pending | JobStatus::Running if is_past_return(steps) => {
            Some("it is past the point of no return and can only be completed".to_owned())
        }
        JobStatus::Pending | JobStatus::Running => None,
        JobStatus::Unwinding => Some("it is already being undone".to_owned()),
        JobStatus::NeedsOperator => Some("it waits for an operator: retry or abandon it".to_owned()),
        JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled => {
            Some(format!("it has ended: {}", job.status))
        }
    }
}

/// How a retry continues; none when the job does not wait for an operator.
#[must_use]
pub fn retry(job: &JobRow, steps: &[StepRow]) -> Option<Resumption> {
    if job.status != JobStatus::NeedsOperator {
        return None;
    }
    if let Some(index) = steps.iter().rposition(|step| step.status == StepStatus::UndoFailed) {
        let error = job.error.as_ref().and_then(StepError::original);
        return Some(Resumption { status: JobStatus::Unwinding, error, step: Some((index, StepStatus::Undoing)) });
    }
    // Parked for another reason than a failed step: on in the direction it had.
    if steps.iter().any(|step| matches!(step.status, StepStatus::Undoing | StepStatus::Undone)) {
        return Some(Resumption { status: JobStatus::Unwinding, error: job.error.clone(), step: None });
    }
    let failed = steps.iter().position(|step| step.status == StepStatus::Failed && !can_turn_back(step));
    let step = failed.map(|index| (index, StepStatus::Running));
    Some(Resumption { status: JobStatus::Running, error: None, step })
}

/// How a job continues when an operator has made sure that its pivot did not happen: the pivot counts as skipped and
/// the steps before it are undone. None when the job does not wait because of its pivot.
#[must_use]
pub fn turn_back(job: &JobRow, steps: &[StepRow]) -> Option<Resumption> {
    if job.status != JobStatus::NeedsOperator {
        return None;
    }
    let failed_pivot = |step: &StepRow| step.kind == StepKind::Pivot && step.status == StepStatus::Failed;
    let index = steps.iter().position(failed_pivot)?;
    let error = steps[index].error.clone();
    Some(Resumption { status: JobStatus::Unwinding, error, step: Some((index, StepStatus::Skipped)) })
}

#[cfg(test)]
mod tests;
