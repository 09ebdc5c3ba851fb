//! Every step fails for good, for a while, by a panic; the store is away for a while.

use std::sync::Arc;

use joblog::{JobEvent, JobRow, JobStore};
use model::FailureKind;
use model::status::{JobStatus, StepStatus};

use crate::memory_store::MemoryStore;
use crate::process::{Line, PausedClock, Wire, example, runner};
use crate::world::{PIVOT, STEPS, Trouble, World};

async fn ended(store: &Arc<MemoryStore>, world: &Arc<World>, line: Line) -> JobRow {
    let runner = runner("hub", &Wire::new(store, line), world, PausedClock::new());
    let id = runner.start(example("a")).await.unwrap();
    runner.wait(&id).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_completes() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[]));
    let job = ended(&store, &world, Line::Up).await;
    assert_eq!((job.status, job.percent_complete), (JobStatus::Completed, 100.0));
    assert!(job.started_at.is_some() && job.completed_at.is_some() && job.error.is_none());
    assert_eq!(world.calls(), ["check", "reserve", "copy", "commit", "release", "finished"]);
    world.assert_consistent(JobStatus::Completed);
    let record = store.record(&job.id);
    assert!(record.steps.iter().all(|step| step.status == StepStatus::Completed && step.attempt == 1));
    assert_eq!(record.steps[2].output.as_ref().unwrap()["id"], "copy-of-a", "the output replaced the checkpoint");
}

#[tokio::test(start_paused = true)]
async fn every_step_fails_for_good() {
    for (index, step) in STEPS.iter().enumerate() {
        for late in [false, true] {
            let kind = FailureKind::Exhausted;
            let trouble = if late && index != PIVOT { Trouble::FailLate(kind) } else { Trouble::Fail(kind) };
            let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(step, trouble)]));
            let job = ended(&store, &world, Line::Up).await;
            let error = job.error.unwrap();
            assert_eq!((error.kind, error.message), (kind, format!("{step} broke")));
            let statuses = store.statuses(&job.id);
            if index <= PIVOT {
                assert_eq!(job.status, JobStatus::Failed);
                world.assert_consistent(JobStatus::Failed);
                let begun = statuses[..index.min(PIVOT)].iter().all(|&status| status == StepStatus::Undone);
                assert!(begun, "{step}: {statuses:?}");
                assert!(statuses[index + 1..].iter().all(|&status| status == StepStatus::Pending));
            } else {
                assert_eq!((job.status, statuses[index]), (JobStatus::NeedsOperator, StepStatus::Failed));
                assert_eq!(world.told(), [JobStatus::NeedsOperator]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_fails_for_a_while() {
    for (index, step) in STEPS.iter().enumerate() {
        let trouble = Trouble::FailLate(FailureKind::Unavailable);
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(*step, trouble); 3]));
        let job = ended(&store, &world, Line::Up).await;
        world.assert_consistent(JobStatus::Completed);
        let row = &store.record(&job.id).steps[index];
        assert_eq!((row.attempt, &row.error), (4, &None), "repeated in place, and its error cleared");
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_stays_unavailable() {
    for (index, step) in STEPS.iter().enumerate() {
        let trouble = Trouble::Fail(FailureKind::Unavailable);
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(*step, trouble); 4]));
        let job = ended(&store, &world, Line::Up).await;
        // Whether a pivot that cannot be reached has happened is unknown: neither way is safe.
        let expected = if index < PIVOT { JobStatus::Failed } else { JobStatus::NeedsOperator };
        assert_eq!(job.status, expected, "{step}");
        assert_eq!(world.calls().iter().filter(|call| *call == step).count(), 4, "bounded");
    }
}

#[tokio::test(start_paused = true)]
async fn every_step_panics() {
    for (index, step) in STEPS.iter().enumerate() {
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(step, Trouble::Panic)]));
        let job = ended(&store, &world, Line::Up).await;
        let expected = if index < PIVOT { JobStatus::Failed } else { JobStatus::NeedsOperator };
        assert_eq!(job.status, expected, "{step}");
        assert_eq!(job.error.unwrap().message, format!("panicked: {step} panics"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_fails_for_a_while() {
    let undo = ("undo:reserve", Trouble::Fail(FailureKind::Unavailable));
    let world = World::with(&[("copy", Trouble::FailLate(FailureKind::Invalid)), undo, undo]);
    let job = ended(&Arc::new(MemoryStore::default()), &world, Line::Up).await;
    assert_eq!(job.status, JobStatus::Failed);
    world.assert_consistent(JobStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn the_domain_cannot_be_told_for_a_while() {
    let world = World::with(&[("finished", Trouble::Fail(FailureKind::Unavailable)); 3]);
    let job = ended(&Arc::new(MemoryStore::default()), &world, Line::Up).await;
    assert_eq!((job.status, world.told()), (JobStatus::Completed, vec![JobStatus::Completed]));
}

#[tokio::test(start_paused = true)]
async fn the_store_is_away_for_a_while() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[]));
    let wire = Wire::new(&store, Line::Outage(5));
    let runner = runner("hub", &wire, &world, PausedClock::new());
    let id = runner.start(example("a")).await.unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let job = tokio::select! {
        () = runner.run(shutdown) => unreachable!(),
        job = async {
            loop {
                if let Ok(job) = runner.wait(&id).await { break job }
            }
        } => job,
    };
    assert_eq!(job.status, JobStatus::Completed);
    world.assert_consistent(JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_every_step_and_the_progress() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::AwaitOpen)]));
    let runner = runner("hub", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    let mut events = runner.subscribe();
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    let progress = loop {
        if let JobEvent::Progress { percent_complete, .. } = events.recv().await.unwrap() {
            break percent_complete;
        }
    };
    // Weights 1, 1, 6, 1, 1: two steps done and half of the third.
    assert_eq!(progress, 50.0);
    assert_eq!(store.load(&id).await.unwrap().unwrap().job.percent_complete, 50.0, "readable while it runs");
    world.open.notify_one();
    let mut completed = Vec::new();
    loop {
        match events.recv().await.unwrap() {
            JobEvent::Step(step) if step.status == StepStatus::Completed => completed.push(step.name.clone()),
            JobEvent::Job(job) if job.status == JobStatus::Completed => break,
            _ => {}
        }
    }
    assert_eq!(completed, STEPS[2..]);
}
