//! The table, case by case, and every combination of rows against what must always hold.

use super::*;
use model::status::{StepStatus as S, Transitions};
use serde_json::Value;
use strum::VariantArray;
use time::macros::datetime;

const NOW: time::OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

fn job(status: JobStatus, cancelled: bool) -> JobRow {
    JobRow {
        id: "job".into(),
        parent_job_id: None,
        root_job_id: "job".into(),
        job_type: "example".into(),
        operation: "an example".into(),
        status,
        external_job_id: None,
        vm_context_id: None,
        owner: None,
        lease_until: None,
        fence: 1,
        params: Value::Null,
        metadata: None,
        error: None,
        percent_complete: 0.0,
        cancel_requested_at: cancelled.then_some(NOW),
        created_at: NOW,
        started_at: None,
        completed_at: None,
    }
}

fn step(seq: u32, kind: StepKind, status: StepStatus, error: Option<FailureKind>) -> StepRow {
    StepRow {
        id: format!("step-{seq}"),
        job_id: "job".into(),
        seq,
        name: format!("s{seq}"),
        kind,
        status,
        attempt: 1,
        output: None,
        error: error.map(|kind| StepError::new(kind, format!("s{seq} broke"))),
        started_at: None,
        completed_at: None,
    }
}

const KINDS: [StepKind; 4] = [StepKind::Undoable, StepKind::Undoable, StepKind::Pivot, StepKind::Retried];

fn steps(statuses: [S; 4], failure: FailureKind) -> Vec<StepRow> {
    let row = |(seq, (kind, status)): (u32, (StepKind, S))| {
        let failed = matches!(status, S::Failed | S::UndoFailed);
        step(seq, kind, status, failed.then_some(failure))
    };
    (0..).zip(KINDS.into_iter().zip(statuses)).map(row).collect()
}

fn check(status: JobStatus, cancelled: bool, statuses: [S; 4], failure: FailureKind, expected: Action) {
    let action = next(&job(status, cancelled), &steps(statuses, failure));
    assert_eq!(action, expected, "{status} cancelled={cancelled} {statuses:?} {failure}");
}

#[test]
fn forward() {
    use FailureKind::{Conflict, Internal, Invalid, Unavailable};
    use S::{Completed as C, Failed as F, Pending as P, Running as R};
    let go = |statuses, failure, expected| check(JobStatus::Running, false, statuses, failure, expected);
    go([P, P, P, P], Invalid, Action::Run(0));
    go([R, P, P, P], Invalid, Action::Run(0));
    go([C, P, P, P], Invalid, Action::Run(1));
    go([S::Skipped, S::Skipped, P, P], Invalid, Action::Run(2));
    go([C, C, R, P], Invalid, Action::Run(2));
    go([C, C, C, R], Invalid, Action::Run(3));
    go([C, C, C, C], Invalid, Action::Finish(JobStatus::Completed));
    go([C, F, P, P], Unavailable, Action::TurnBack);
    go([C, C, F, P], Conflict, Action::TurnBack);
    go([C, C, F, P], Unavailable, Action::Finish(JobStatus::NeedsOperator));
    go([C, C, F, P], Internal, Action::Finish(JobStatus::NeedsOperator));
    go([C, C, C, F], Invalid, Action::Finish(JobStatus::NeedsOperator));
    check(JobStatus::Pending, false, [P, P, P, P], Invalid, Action::Run(0));
}

#[test]
fn cancelling() {
    use FailureKind::{Invalid, Unavailable};
    use S::{Completed as C, Failed as F, Pending as P, Running as R};
    let go = |statuses, failure, expected| check(JobStatus::Running, true, statuses, failure, expected);
    check(JobStatus::Pending, true, [P, P, P, P], Invalid, Action::Finish(JobStatus::Cancelled));
    go([P, P, P, P], Invalid, Action::Finish(JobStatus::Cancelled));
    go([R, P, P, P], Invalid, Action::TurnBack);
    go([C, C, P, P], Invalid, Action::TurnBack);
    go([C, C, F, P], Invalid, Action::TurnBack);
    go([C, C, F, P], Unavailable, Action::Finish(JobStatus::NeedsOperator));
    go([C, C, R, P], Invalid, Action::Run(2));
    go([C, C, C, P], Invalid, Action::Run(3));
}

#[test]
fn backward() {
    use S::{Completed as C, Failed as F, Pending as P, Running as R, Undoing, Undone as U};
    let go = |statuses, expected| check(JobStatus::Unwinding, true, statuses, FailureKind::Invalid, expected);
    go([C, F, P, P], Action::Undo(1));
    go([C, R, P, P], Action::Undo(1));
    go([C, Undoing, P, P], Action::Undo(1));
    go([C, U, P, P], Action::Undo(0));
    go([C, C, F, P], Action::Undo(1));
    go([U, U, F, P], Action::Finish(JobStatus::Cancelled));
    go([C, S::UndoFailed, P, P], Action::Finish(JobStatus::NeedsOperator));
    go([C, C, C, P], Action::Finish(JobStatus::NeedsOperator));
    let mut failed = job(JobStatus::Unwinding, false);
    failed.error = Some(StepError::new(FailureKind::Invalid, "no"));
    assert_eq!(next(&failed, &steps([U, U, P, P], FailureKind::Invalid)), Action::Finish(JobStatus::Failed));
}

#[test]
fn what_always_holds() {
    let mut combinations = 0;
    for &status in JobStatus::VARIANTS {
        for cancelled in [false, true] {
            for failure in [FailureKind::Invalid, FailureKind::Unavailable] {
                for code in 0..S::VARIANTS.len().pow(4) {
                    let pick = |place: u32| S::VARIANTS[code / S::VARIANTS.len().pow(place) % S::VARIANTS.len()];
                    let rows = steps([pick(0), pick(1), pick(2), pick(3)], failure);
                    let job = job(status, cancelled);
                    assert_sound(&job, &rows, next(&job, &rows));
                    combinations += 1;
                }
            }
        }
    }
    assert_eq!(combinations, 7 * 2 * 2 * 8 * 8 * 8 * 8);
}

fn assert_sound(job: &JobRow, steps: &[StepRow], action: Action) {
    let done = |step: &StepRow| matches!(step.status, S::Completed | S::Skipped);
    let untouched = |step: &StepRow| matches!(step.status, S::Pending | S::Skipped | S::Undone);
    let said = || format!("{job:?} {steps:?} {action:?}");
    let forward = matches!(job.status, JobStatus::Pending | JobStatus::Running);
    match action {
        Action::Run(index) => {
            assert!(forward && steps[..index].iter().all(done), "{}", said());
            assert!(matches!(steps[index].status, S::Pending | S::Running), "{}", said());
            assert!(job.cancel_requested_at.is_none() || is_past_return(steps), "{}", said());
        }
        Action::Undo(index) => {
            assert_eq!(job.status, JobStatus::Unwinding);
            assert_eq!(steps[index].kind, StepKind::Undoable, "{}", said());
            assert!(steps[index].status.may_become(S::Undoing), "{}", said());
            let later = &steps[index + 1..];
            assert!(later.iter().all(|step| untouched(step) || step.kind == StepKind::Pivot), "{}", said());
        }
        Action::TurnBack => {
            assert!(forward, "{}", said());
            let pivot_may_have_happened = matches!(steps[2].status, S::Running | S::Completed);
            assert!(!pivot_may_have_happened, "{}", said());
        }
        Action::Finish(JobStatus::Completed) => assert!(forward && steps.iter().all(done), "{}", said()),
        Action::Finish(JobStatus::Failed | JobStatus::Cancelled) => {
            let clean = |step: &StepRow| untouched(step) || (step.kind == StepKind::Pivot && step.status == S::Failed);
            assert!(steps.iter().all(clean), "{}", said());
        }
        Action::Finish(end) => assert_eq!(end, JobStatus::NeedsOperator),
        Action::Wait => assert!(!forward && job.status != JobStatus::Unwinding),
    }
}

#[test]
fn a_retry_leads_to_an_action() {
    use S::{Completed as C, Failed as F, Pending as P, Undone as U};
    let mut waiting = job(JobStatus::NeedsOperator, false);
    let rows = steps([C, C, C, F], FailureKind::Forbidden);
    waiting.error = Some(reason_for_operator(&waiting, &rows));
    let resumption = retry(&waiting, &rows).unwrap();
    assert_eq!((resumption.status, resumption.step), (JobStatus::Running, Some((3, S::Running))));
    assert_eq!(resumption.error, None);

    let mut unwinding = job(JobStatus::Unwinding, false);
    let original = StepError::new(FailureKind::Invalid, "too small");
    unwinding.error = Some(original.clone());
    let rows = steps([C, S::UndoFailed, P, P], FailureKind::Forbidden);
    let reason = reason_for_operator(&unwinding, &rows);
    assert_eq!(reason.message, "undoing step `s1` failed: s1 broke");
    (unwinding.status, unwinding.error) = (JobStatus::NeedsOperator, Some(reason));
    let resumption = retry(&unwinding, &rows).unwrap();
    assert_eq!((resumption.status, resumption.step), (JobStatus::Unwinding, Some((1, S::Undoing))));
    assert_eq!(resumption.error, Some(original));

    let parked = retry(&waiting, &steps([C, U, P, P], FailureKind::Invalid)).unwrap();
    assert_eq!((parked.status, parked.step), (JobStatus::Unwinding, None));
    let parked = retry(&waiting, &steps([C, P, P, P], FailureKind::Invalid)).unwrap();
    assert_eq!((parked.status, parked.step), (JobStatus::Running, None));
    assert_eq!(retry(&job(JobStatus::Running, false), &rows), None);
}

#[test]
fn a_repeated_pivot_is_not_believed() {
    use S::{Completed as C, Failed as F, Pending as P};
    let mut rows = steps([C, C, F, P], FailureKind::Invalid);
    assert_eq!(next(&job(JobStatus::Running, false), &rows), Action::TurnBack);
    rows[2].attempt = 2;
    assert_eq!(next(&job(JobStatus::Running, false), &rows), Action::Finish(JobStatus::NeedsOperator));
    assert!(is_past_return(&rows), "nor may it be cancelled");
}

#[test]
fn an_operator_vouches_for_a_pivot_only() {
    use S::{Completed as C, Failed as F, Pending as P};
    let waiting = job(JobStatus::NeedsOperator, false);
    let rows = steps([C, C, F, P], FailureKind::Unavailable);
    let resumption = turn_back(&waiting, &rows).unwrap();
    assert_eq!((resumption.status, resumption.step), (JobStatus::Unwinding, Some((2, S::Skipped))));
    assert_eq!(resumption.error.unwrap().message, "s2 broke");
    assert!(S::Failed.may_become(S::Skipped) && waiting.status.may_become(JobStatus::Unwinding));
    assert_eq!(turn_back(&waiting, &steps([C, C, C, F], FailureKind::Invalid)), None, "the pivot happened");
    assert_eq!(turn_back(&waiting, &steps([C, S::UndoFailed, P, P], FailureKind::Invalid)), None);
    assert_eq!(turn_back(&job(JobStatus::Running, false), &rows), None);
}

#[test]
fn why_a_job_turns_back() {
    use S::{Completed as C, Failed as F, Pending as P};
    let rows = steps([C, F, P, P], FailureKind::Exhausted);
    let reason = reason_to_turn_back(&job(JobStatus::Running, false), &rows).unwrap();
    assert_eq!(reason.message, "s1 broke");
    assert_eq!(reason_to_turn_back(&job(JobStatus::Running, true), &rows), None);
}

#[test]
fn cancelling_is_refused_with_the_reason() {
    use S::{Completed as C, Pending as P, Running as R};
    let refusal = |status, statuses| refusal_to_cancel(&job(status, false), &steps(statuses, FailureKind::Invalid));
    assert_eq!(refusal(JobStatus::Running, [C, R, P, P]), None);
    assert!(refusal(JobStatus::Running, [C, C, R, P]).unwrap().contains("point of no return"));
    assert!(refusal(JobStatus::Unwinding, [C, R, P, P]).unwrap().contains("already being undone"));
    assert!(refusal(JobStatus::Completed, [C, C, C, C]).unwrap().contains("has ended: completed"));
    assert!(refusal(JobStatus::NeedsOperator, [C, C, C, R]).unwrap().contains("operator"));
}
