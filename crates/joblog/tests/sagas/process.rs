//! A process that may die: a runtime of its own with a runner, over a store that outlives it. Dying drops every future.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use joblog::{
    ClaimRequest, ClaimableFilter, Clock, Heartbeat, JobError, JobFilter, JobPage, JobRecord, JobRow, JobStore,
    JobWrite, Lease, LogEventRow, LogFilter, NewJob, NewLogEvent, Runner, RunnerConfig, StepRow,
};
use model::FailureKind;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::memory_store::MemoryStore;
use crate::world::{SAGA, World};

/// The wall clock of a runtime whose time is paused: moves with tokio's.
pub struct PausedClock {
    began: Instant,
}

impl PausedClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now() })
    }
}

impl Clock for PausedClock {
    fn now(&self) -> OffsetDateTime {
        datetime!(2026-01-02 03:04:05 UTC) + self.began.elapsed()
    }
}

/// What the line to the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Works.
    Up,
    /// The process dies before its n-th write reaches the store.
    DieBeforeWrite(usize),
    /// The process dies after its n-th write, before it learns of it.
    DieAfterWrite(usize),
    /// So many calls fail as unavailable.
    Outage(usize),
}

/// One process's line to the shared store.
pub struct Wire {
    store: Arc<MemoryStore>,
    line: Line,
    writes: AtomicUsize,
    outages: AtomicUsize,
    cut: tokio::sync::watch::Sender<bool>,
    pub died: Notify,
}

impl Wire {
    pub fn new(store: &Arc<MemoryStore>, line: Line) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            line,
            writes: AtomicUsize::new(0),
            outages: AtomicUsize::new(0),
            cut: tokio::sync::watch::Sender::new(false),
            died: Notify::new(),
        })
    }

    /// Holds every call back, or lets them through again.
    pub fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        let mut cut = self.cut.subscribe();
        cut.wait_for(|cut| !cut).await.unwrap();
        if let Line::Outage(calls) = self.line
            && self.outages.fetch_add(1, Ordering::SeqCst) < calls
        {
            let source = "connection refused".into();
            return Err(JobError::Store { doing: "reach the store", kind: FailureKind::Unavailable, source });
        }
        call.await
    }

    async fn write<T>(&self, call: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        if self.line == Line::DieBeforeWrite(number) {
            return self.die().await;
        }
        let outcome = self.call(call).await;
        if self.line == Line::DieAfterWrite(number) {
            return self.die().await;
        }
        outcome
    }

    async fn die<T>(&self) -> T {
        self.died.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl JobStore for Wire {
    async fn create(&self, job: &JobRow, steps: &[StepRow]) -> Result<(), JobError> {
        self.store.create(job, steps).await
    }
    async fn load(&self, job_id: &str) -> Result<Option<JobRecord>, JobError> {
        self.call(self.store.load(job_id)).await
    }
    async fn claim(&self, request: &ClaimRequest) -> Result<Option<JobRecord>, JobError> {
        self.write(self.store.claim(request)).await
    }
    async fn claimable(&self, filter: &ClaimableFilter) -> Result<Vec<String>, JobError> {
        self.call(self.store.claimable(filter)).await
    }
    async fn heartbeat(&self, lease: &Lease, lease_until: OffsetDateTime) -> Result<Heartbeat, JobError> {
        self.call(self.store.heartbeat(lease, lease_until)).await
    }
    async fn save(&self, lease: &Lease, job: &JobWrite, step: Option<&StepRow>) -> Result<(), JobError> {
        self.write(self.store.save(lease, job, step)).await
    }
    async fn save_progress(&self, lease: &Lease, percent_complete: f64) -> Result<(), JobError> {
        self.call(self.store.save_progress(lease, percent_complete)).await
    }
    async fn request_cancel(&self, job_id: &str, now: OffsetDateTime) -> Result<JobRow, JobError> {
        self.call(self.store.request_cancel(job_id, now)).await
    }
    async fn append_log(&self, events: &[NewLogEvent]) -> Result<Vec<i64>, JobError> {
        self.call(self.store.append_log(events)).await
    }
    async fn list_jobs(&self, filter: &JobFilter) -> Result<JobPage, JobError> {
        self.call(self.store.list_jobs(filter)).await
    }
    async fn log_after(&self, filter: &LogFilter) -> Result<Vec<LogEventRow>, JobError> {
        self.call(self.store.log_after(filter)).await
    }
}

pub fn runner(owner: &str, wire: &Arc<Wire>, world: &Arc<World>, clock: Arc<dyn Clock>) -> Runner {
    let mut config = RunnerConfig::new(owner);
    config.shutdown_grace = Duration::from_secs(2);
    Runner::builder(wire.clone(), config).clock(clock).register(&SAGA, world.clone()).unwrap().build()
}

pub fn example(params: &str) -> NewJob {
    NewJob::new("example", "an example", &params).unwrap()
}

/// Lives until the job has ended or the process died; true when it died. `before` acts when the runner is there.
pub fn live(store: &Arc<MemoryStore>, world: &Arc<World>, line: Line, job_id: &str, cancel: bool) -> (bool, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let wire = Wire::new(store, line);
        let runner = runner("hub", &wire, world, PausedClock::new());
        let shutdown = tokio_util::sync::CancellationToken::new();
        let work = async {
            if cancel {
                // Refused when it is too late for it, which is fine.
                let _ = runner.cancel(job_id).await;
            }
            // The line may be down just now.
            while runner.wait(job_id).await.is_err() {}
        };
        let died = tokio::select! {
            () = runner.run(shutdown) => false,
            () = work => false,
            () = wire.died.notified() => true,
            () = world.died.notified() => true,
        };
        (died, wire.writes())
    })
}

/// Stores a job that no process has begun.
pub fn stored(store: &Arc<MemoryStore>, world: &Arc<World>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let wire = Wire::new(store, Line::DieBeforeWrite(0));
        let runner = runner("hub", &wire, world, PausedClock::new());
        let job = example("a");
        let id = job.id().to_owned();
        tokio::select! {
            _ = runner.start(job) => panic!("it should have died while claiming"),
            () = wire.died.notified() => {}
        }
        id
    })
}
