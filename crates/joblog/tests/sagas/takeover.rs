//! Two runners and one job; a runner that stops; a runner that is full.

use std::sync::Arc;
use std::time::Duration;

use joblog::{JobStore, Runner, RunnerConfig};
use model::status::{JobStatus, StepStatus};
use tokio_util::sync::CancellationToken;

use crate::memory_store::MemoryStore;
use crate::process::{Line, PausedClock, Wire, example, runner};
use crate::world::{SAGA, STEPS, Trouble, World};

#[tokio::test(start_paused = true)]
async fn a_silent_runner_is_fenced_off_at_every_step() {
    for step in STEPS {
        let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[(step, Trouble::AwaitOpen)]));
        let clock = PausedClock::new();
        let silent = Wire::new(&store, Line::Up);
        let first = runner("first", &silent, &world, clock.clone());
        let second = runner("second", &Wire::new(&store, Line::Up), &world, clock);
        let sweeping = tokio::spawn({
            let second = second.clone();
            async move { second.run(CancellationToken::new()).await }
        });
        let id = first.start(example("a")).await.unwrap();
        world.reached.notified().await;
        silent.set_cut(true);
        let job = second.wait(&id).await.unwrap();
        assert_eq!((job.status, job.fence), (JobStatus::Completed, 2), "{step}");
        let before = store.record(&id);

        // The first comes back to itself and may change nothing any more.
        silent.set_cut(false);
        world.open.notify_one();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(store.record(&id), before);
        world.assert_consistent(JobStatus::Completed);
        assert_eq!(world.told(), [JobStatus::Completed], "only the holder tells");
        sweeping.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_taken_over_by_force_is_dropped_with_the_next_heartbeat() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::AwaitOpen)]));
    let runner = runner("first", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    store.edit(&id, |record| (record.job.owner, record.job.fence) = (Some("second".into()), 7));
    // Longer than a heartbeat: the step is dropped while it waits, so its effect never comes.
    tokio::time::sleep(Duration::from_secs(11)).await;
    world.open.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.effects(), ["check", "reserve"]);
    assert_eq!(store.statuses(&id)[2], StepStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_runner_without_a_store_stops_when_its_lease_ends() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::AwaitOpen)]));
    let wire = Wire::new(&store, Line::Up);
    let runner = runner("first", &wire, &world, PausedClock::new());
    runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    wire.set_cut(true);
    tokio::time::sleep(Duration::from_secs(31)).await;
    world.open.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.effects(), ["check", "reserve"]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_keeps_the_lease_of_a_long_step() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::AwaitOpen)]));
    let clock = PausedClock::new();
    let first = runner("first", &Wire::new(&store, Line::Up), &world, clock.clone());
    let second = runner("second", &Wire::new(&store, Line::Up), &world, clock);
    let sweeping = tokio::spawn(async move { second.run(CancellationToken::new()).await });
    let id = first.start(example("a")).await.unwrap();
    world.reached.notified().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    world.open.notify_one();
    let job = first.wait(&id).await.unwrap();
    assert_eq!((job.status, job.fence), (JobStatus::Completed, 1));
    sweeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_a_long_step_to_the_next_runner_at_once() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::Hang)]));
    let clock = PausedClock::new();
    let first = runner("first", &Wire::new(&store, Line::Up), &world, clock.clone());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (first, shutdown) = (first.clone(), shutdown.clone());
        async move { first.run(shutdown).await }
    });
    let id = first.start(example("a")).await.unwrap();
    world.reached.notified().await;
    shutdown.cancel();
    running.await.unwrap();
    let record = store.record(&id);
    assert_eq!((record.job.status, record.job.owner), (JobStatus::Running, None));
    assert_eq!(record.steps[2].status, StepStatus::Running);
    assert!(first.start(example("b")).await.is_err(), "a stopped runner begins nothing");

    let second = runner("second", &Wire::new(&store, Line::Up), &world, clock);
    let began = tokio::time::Instant::now();
    let job = tokio::select! {
        () = second.run(CancellationToken::new()) => unreachable!(),
        job = second.wait(&id) => job.unwrap(),
    };
    assert_eq!(job.status, JobStatus::Completed);
    assert!(began.elapsed() < Duration::from_secs(1), "no lease had to run out");
    world.assert_consistent(JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_a_short_step_end_and_begins_no_other() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("copy", Trouble::AwaitOpen)]));
    let runner = runner("hub", &Wire::new(&store, Line::Up), &world, PausedClock::new());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (runner, shutdown) = (runner.clone(), shutdown.clone());
        async move { runner.run(shutdown).await }
    });
    let id = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    shutdown.cancel();
    tokio::task::yield_now().await;
    world.open.notify_one();
    running.await.unwrap();
    let statuses = store.statuses(&id);
    assert_eq!(statuses[2..], [StepStatus::Completed, StepStatus::Pending, StepStatus::Pending]);
    assert_eq!(store.record(&id).job.owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_full_runner_leaves_jobs_pending_until_there_is_room() {
    let (store, world) = (Arc::new(MemoryStore::default()), World::with(&[("check", Trouble::AwaitOpen)]));
    let mut config = RunnerConfig::new("hub");
    config.max_jobs = 1;
    let wire: Arc<dyn JobStore> = Wire::new(&store, Line::Up);
    let builder = Runner::builder(wire, config).clock(PausedClock::new());
    let runner = builder.register(&SAGA, world.clone()).unwrap().build();
    let sweeping = tokio::spawn({
        let runner = runner.clone();
        async move { runner.run(CancellationToken::new()).await }
    });
    let first = runner.start(example("a")).await.unwrap();
    world.reached.notified().await;
    let second = runner.start(example("b")).await.unwrap();
    assert_eq!(store.record(&second).job.status, JobStatus::Pending);
    world.open.notify_one();
    assert_eq!(runner.wait(&first).await.unwrap().status, JobStatus::Completed);
    assert_eq!(runner.wait(&second).await.unwrap().status, JobStatus::Completed);
    sweeping.abort();
}
