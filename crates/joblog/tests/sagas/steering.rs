//! An operator cancels, retries, abandons; jobs have children; requests that make no sense are refused.

use std::sync::Arc;

use joblog::{JobError, NewJob, Runner};
use model::FailureKind;
use model::status::{JobStatus, StepStatus};

use crate::memory_store::MemoryStore;
use crate::process::{Line, PausedClock, Wire, example, runner};
use crate::world::{PIVOT, STEPS, Trouble, World};

fn hub(plan: &[(&str, Trouble)]) -> (Arc<MemoryStore>, Arc<World>, Runner) {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(plan));
    let runner = runner("hub", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    (store, world, runner)
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_heeded_by_every_step_before_the_pivot() {
    for step in &STEPS[..PIVOT] {
        let (store, world, runner) = hub(&[(step, Trouble::AwaitCancel)]);
        let id = runner.start(example("a")).await.unwrap();
        world.reached.notified().await;
        runner.cancel(&id).await.unwrap();
        let job = runner.wait(&id).await.unwrap();
        assert_eq!((job.status, job.error), (JobStatus::Cancelled, None));
        world.assert_consistent(JobStatus::Cancelled);
        assert!(store.record(&id).job.cancel_requested_at.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_takes_effect_after_a_step_that_does_not_heed_it() {
    let (_, world, runner) = hub(&[("copy", Trouble::AwaitOpen)]);
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    runner.cancel(&id).await.unwrap();
    world.open.notify_one();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Cancelled);
    world.assert_consistent(JobStatus::Cancelled);
    assert!(!world.calls().contains(&"commit".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_wait_for_a_retry() {
    let (_, world, runner) = hub(&[("copy", Trouble::Fail(FailureKind::Unavailable)); 3]);
    let id = runner.start(example("a")).await.unwrap();
    let mut events = runner.subscribe();
    while world.calls().len() < 3 {
        events.recv().await.unwrap();
    }
    runner.cancel(&id).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Cancelled);
    world.assert_consistent(JobStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_past_the_pivot_is_refused() {
    for step in &STEPS[PIVOT..] {
        let (_, world, runner) = hub(&[(step, Trouble::AwaitOpen)]);
        let id = runner.start(example("a")).await.unwrap();
        world.reached.notified().await;
        let refusal = runner.cancel(&id).await.unwrap_err();
        assert!(matches!(&refusal, JobError::Conflict { reason, .. } if reason.contains("point of no return")));
        world.open.notify_one();
        assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Completed);
        world.assert_consistent(JobStatus::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_written_by_another_process_is_learnt_with_a_heartbeat() {
    let (store, world, runner) = hub(&[("copy", Trouble::AwaitCancel)]);
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    let other = crate::process::runner("other", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    other.cancel(&id).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Cancelled);
    world.assert_consistent(JobStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_operator_retries_a_failed_last_step() {
    let (store, world, runner) = hub(&[("release", Trouble::Fail(FailureKind::Forbidden))]);
    let id = runner.start(example("a")).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    runner.retry(&id).await.unwrap();
    let job = runner.wait(&id).await.unwrap();
    assert_eq!((job.status, job.error), (JobStatus::Completed, None));
    assert_eq!(world.told(), [JobStatus::NeedsOperator, JobStatus::Completed]);
    assert_eq!(store.record(&id).steps[4].attempt, 2);
    world.assert_consistent(JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_operator_retries_a_pivot_whose_outcome_is_unknown() {
    let (_, world, runner) = hub(&[("commit", Trouble::FailLate(FailureKind::Internal))]);
    let id = runner.start(example("a")).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    runner.retry(&id).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Completed);
    world.assert_consistent(JobStatus::Completed);
}

/// The first attempt committed but its answer was lost; the second one's refusal proves nothing.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_answer_does_not_undo_what_was_committed() {
    let plan =
        [("commit", Trouble::FailLate(FailureKind::Unavailable)), ("commit", Trouble::Fail(FailureKind::Invalid))];
    let (_, world, runner) = hub(&plan);
    let id = runner.start(example("a")).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    assert_eq!(world.effects(), ["check", "commit", "copy", "reserve"], "nothing is undone");
    runner.retry(&id).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Completed);
    world.assert_consistent(JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_operator_vouches_that_the_pivot_did_not_happen() {
    let (store, world, runner) = hub(&[("commit", Trouble::Fail(FailureKind::Unavailable)); 4]);
    let id = runner.start(example("a")).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    runner.turn_back(&id).await.unwrap();
    let job = runner.wait(&id).await.unwrap();
    assert_eq!((job.status, job.error.unwrap().message), (JobStatus::Failed, "commit broke".to_owned()));
    assert_eq!(store.statuses(&id)[PIVOT], StepStatus::Skipped);
    world.assert_consistent(JobStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn nobody_turns_back_what_is_past_its_pivot() {
    let (store, _, runner) = hub(&[("release", Trouble::Fail(FailureKind::Forbidden))]);
    let id = runner.start(example("a")).await.unwrap();
    runner.wait(&id).await.unwrap();
    assert!(matches!(runner.turn_back(&id).await, Err(JobError::Conflict { .. })));
    let job = store.record(&id).job;
    assert_eq!((job.status, job.owner), (JobStatus::NeedsOperator, None), "and it can still be retried");
    runner.retry(&id).await.unwrap();
    assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_operator_retries_a_failed_undo() {
    let failure = Trouble::FailLate(FailureKind::Exhausted);
    let (store, world, runner) = hub(&[("copy", failure), ("undo:copy", Trouble::Fail(FailureKind::Forbidden))]);
    let id = runner.start(example("a")).await.unwrap();
    let job = runner.wait(&id).await.unwrap();
    assert_eq!(job.status, JobStatus::NeedsOperator);
    let error = job.error.unwrap();
    assert_eq!(error.message, "undoing step `copy` failed: undo:copy broke");
    assert!(error.remedy.is_some());
    assert_eq!(store.statuses(&id)[2], StepStatus::UndoFailed);
    assert_eq!(world.effects(), ["check", "copy", "reserve"], "nothing is undone past the step that cannot be");

    runner.retry(&id).await.unwrap();
    let job = runner.wait(&id).await.unwrap();
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.unwrap().message, "copy broke", "why it failed, not what its undo had met");
    world.assert_consistent(JobStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_operator_abandons_a_job() {
    let (store, world, runner) = hub(&[("release", Trouble::Fail(FailureKind::Forbidden))]);
    let id = runner.start(example("a")).await.unwrap();
    runner.wait(&id).await.unwrap();
    runner.abandon(&id).await.unwrap();
    let job = store.record(&id).job;
    assert_eq!((job.status, job.owner), (JobStatus::Failed, None));
    assert_eq!(job.error.unwrap().message, "release broke");
    assert_eq!(world.told(), [JobStatus::NeedsOperator, JobStatus::Failed]);
    assert!(matches!(runner.abandon(&id).await, Err(JobError::Conflict { .. })));
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_are_refused() {
    let (_, _, runner) = hub(&[]);
    assert!(matches!(runner.cancel("nobody").await, Err(JobError::UnknownJob { .. })));
    assert!(matches!(runner.retry("nobody").await, Err(JobError::UnknownJob { .. })));
    let stranger = NewJob::new("unheard_of", "x", &()).unwrap();
    assert!(matches!(runner.start(stranger).await, Err(JobError::UnknownType { .. })));
    let id = runner.start(example("a")).await.unwrap();
    runner.wait(&id).await.unwrap();
    assert!(matches!(runner.cancel(&id).await, Err(JobError::Conflict { .. })));
    assert!(matches!(runner.retry(&id).await, Err(JobError::Conflict { .. })));
    let again = example("a").with_id(&id);
    assert!(matches!(runner.start(again).await, Err(JobError::Conflict { .. })), "a job begins once");
}

#[tokio::test(start_paused = true)]
async fn a_child_knows_its_family() {
    let (store, _, runner) = hub(&[]);
    let top = runner.start(example("top")).await.unwrap();
    let child = example("child").child_of(&store.record(&top).job).external_id("job-1");
    let child = runner.start(child).await.unwrap();
    let grandchild = example("grandchild").child_of(&store.record(&child).job);
    let grandchild = runner.start(grandchild).await.unwrap();
    let row = store.record(&grandchild).job;
    assert_eq!((row.parent_job_id, row.root_job_id), (Some(child.clone()), top.clone()));
    assert_eq!(store.record(&child).job.external_job_id.as_deref(), Some("job-1"));
    for id in [top, child, grandchild] {
        assert_eq!(runner.wait(&id).await.unwrap().status, JobStatus::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_of_another_version_waits_for_an_operator() {
    let (store, world, runner) = hub(&[("copy", Trouble::Hang)]);
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    store.edit(&id, |record| {
        record.steps[4].name = "renamed".into();
        (record.job.owner, record.job.lease_until) = (None, None);
    });
    let other = crate::process::runner("other", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let job = tokio::select! {
        () = other.run(shutdown) => unreachable!(),
        job = other.wait(&id) => job.unwrap(),
    };
    assert_eq!(job.status, JobStatus::NeedsOperator);
    assert!(job.error.unwrap().message.contains("other steps"));
}
