//! Runs registered sagas in this process: starts, cancels, retries and awaits jobs. What a job does next is decided by
//! `machine`, carried out by `drive`; jobs left behind by dead runners are found by `recover`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::status::{JobStatus, Transitions};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::clock::{Clock, SystemClock};
use crate::drive::{Drive, drive};
use crate::error::JobError;
use crate::events::{Events, JobEvent};
use crate::machine::{self, Resumption};
use crate::new_job::NewJob;
use crate::saga::{Bound, ErasedSaga, JobView, Saga, check_form};
use crate::session::{Session, Surroundings};
use crate::store::{ClaimRequest, JobRecord, JobRow, JobStore, StepRow};

/// Statuses of work a runner may take up by itself.
pub(crate) const UNFINISHED: &[JobStatus] = &[JobStatus::Pending, JobStatus::Running, JobStatus::Unwinding];
/// Statuses an operator may move a job on from.
const WAITING: &[JobStatus] = &[JobStatus::NeedsOperator];
/// How long giving back a lease may take at shutdown before it is left to run out.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a runner behaves. Make one with [`RunnerConfig::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// Name of this process instance, the same after a restart and no other's at any time.
    pub owner: String,
    /// How long a silent runner keeps its jobs.
    pub lease: Duration,
    /// How often it says that it lives.
    pub heartbeat: Duration,
    /// How often it looks for jobs nobody runs.
    pub sweep: Duration,
    /// How long running steps may go on at shutdown before they are dropped (and repeated by the next runner).
    pub shutdown_grace: Duration,
    /// Most jobs run at once, children not counted because their parents wait for them; others stay pending.
    pub max_jobs: usize,
}

impl RunnerConfig {
    /// The usual behaviour under this name: lease 30 s, heartbeat 10 s, sweep 10 s, grace 10 s, 256 jobs.
    #[must_use]
    pub fn new(owner: impl Into<String>) -> Self {
        Self {
            owner: owner.into(),
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            sweep: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(10),
            max_jobs: 256,
        }
    }
}

/// Assembles a [`Runner`].
pub struct RunnerBuilder {
    config: RunnerConfig,
    store: Arc<dyn JobStore>,
    clock: Arc<dyn Clock>,
    events: Events,
    sagas: HashMap<&'static str, Arc<dyn ErasedSaga>>,
}

impl RunnerBuilder {
    /// Adds a saga with the context its steps get.
    ///
    /// # Errors
    /// [`JobError::Malformed`] when its steps are in no workable order or its type is taken.
    pub fn register<C: Send + Sync + 'static>(
        mut self,
        saga: &'static Saga<C>,
        context: Arc<C>,
    ) -> Result<Self, JobError> {
        check_form(saga)?;
        let bound: Arc<dyn ErasedSaga> = Arc::new(Bound { saga, context });
        match self.sagas.insert(saga.job_type, bound) {
            None => Ok(self),
            Some(_) => Err(JobError::Malformed {
                job_type: saga.job_type.to_owned(),
                reason: "another saga has this type".to_owned(),
            }),
        }
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Publishes events where others (the log writer) do, too.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    /// The runner. Jobs it is given run at once; [`Runner::run`] makes it take up what was left behind, too.
    #[must_use]
    pub fn build(self) -> Runner {
        let around = Surroundings {
            store: self.store,
            clock: self.clock,
            events: self.events,
            lease: self.config.lease,
            heartbeat: self.config.heartbeat,
        };
        Runner {
            inner: Arc::new(Inner {
                config: self.config,
                around,
                sagas: self.sagas,
                running: Mutex::default(),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
                dropping: CancellationToken::new(),
            }),
        }
    }
}

/// Runs jobs. Clones are the same runner.
#[derive(Clone)]
pub struct Runner {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: RunnerConfig,
    pub around: Surroundings,
    pub sagas: HashMap<&'static str, Arc<dyn ErasedSaga>>,
    /// Jobs this process holds or is about to claim (no session yet).
    running: Mutex<HashMap<String, Option<Running>>>,
    pub tasks: TaskTracker,
    /// No new jobs, no new steps.
    pub stopping: CancellationToken,
    /// Running steps are dropped.
    pub dropping: CancellationToken,
}

struct Running {
    session: Arc<Session>,
    is_child: bool,
}

impl Runner {
    /// Begins to assemble a runner over a store.
    #[must_use]
    pub fn builder(store: Arc<dyn JobStore>, config: RunnerConfig) -> RunnerBuilder {
        RunnerBuilder { config, store, clock: Arc::new(SystemClock), events: Events::default(), sagas: HashMap::new() }
    }

    /// Hears what happens to the jobs of this runner from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.inner.around.events.subscribe()
    }

    /// Stores a job and begins it; answers with its id. When the runner is full it stays pending until a sweep.
    ///
    /// # Errors
    /// [`JobError::UnknownType`], [`JobError::ShuttingDown`], or what [`JobStore::create`] says.
    pub async fn start(&self, job: NewJob) -> Result<String, JobError> {
        let inner = &self.inner;
        if inner.stopping.is_cancelled() {
            return Err(JobError::ShuttingDown);
        }
        let Some(saga) = inner.sagas.get(job.job_type.as_str()) else {
            return Err(JobError::UnknownType { job_type: job.job_type });
        };
        let (row, steps) = job.rows(&saga.facts(), inner.around.clock.now());
        inner.around.store.create(&row, &steps).await?;
        let id = row.id.clone();
        inner.around.events.publish(JobEvent::Job(Arc::new(row)));
        self.take_up_or_leave(&id).await;
        Ok(id)
    }

    /// Asks to cancel a job. It is undone as soon as its running step heeds it; a job that passes its point of no
    /// return at the same moment completes instead.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`]; [`JobError::Conflict`] when it is past its point of no return, unwinding or ended.
    pub async fn cancel(&self, job_id: &str) -> Result<(), JobError> {
        let record = self.loaded(job_id).await?;
        if let Some(reason) = machine::refusal_to_cancel(&record.job, &record.steps) {
            return Err(JobError::Conflict { job_id: job_id.to_owned(), reason });
        }
        let now = self.inner.around.clock.now();
        let job = self.inner.around.store.request_cancel(job_id, now).await?;
        self.inner.around.events.publish(JobEvent::Job(Arc::new(job)));
        let session = self.session(job_id);
        match session {
            Some(session) => session.note_cancel(now),
            // Nobody may be running it: end it now rather than at the next sweep.
            None => self.take_up_or_leave(job_id).await,
        }
        Ok(())
    }

    /// Continues a job that waits for an operator: repeats the step, or the undo, that failed.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`]; [`JobError::Conflict`] when it does not wait.
    pub async fn retry(&self, job_id: &str) -> Result<(), JobError> {
        self.resume(job_id, machine::retry).await
    }

    /// Undoes a job whose pivot has an unknown outcome, on the word of an operator who made sure that it did not happen.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`]; [`JobError::Conflict`] when the job does not wait because of its pivot.
    pub async fn turn_back(&self, job_id: &str) -> Result<(), JobError> {
        self.resume(job_id, machine::turn_back).await
    }

    async fn resume(
        &self,
        job_id: &str,
        decide: fn(&JobRow, &[StepRow]) -> Option<Resumption>,
    ) -> Result<(), JobError> {
        let session = self.claim_waiting(job_id).await?;
        let Some(resumption) = session.read(|record| decide(&record.job, &record.steps)) else {
            session.release().await?;
            let reason = "it waits, but not because of its pivot: retry or abandon it".to_owned();
            return Err(JobError::Conflict { job_id: job_id.to_owned(), reason });
        };
        session
            .write_last(|record| {
                record.job.status = resumption.status;
                record.job.error = resumption.error;
                let (index, status) = resumption.step?;
                record.steps[index].status = status;
                Some(index)
            })
            .await?;
        self.take_up_or_leave(job_id).await;
        Ok(())
    }

    /// Gives up a job that waits for an operator: it ends as failed and nothing more is done or undone.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`]; [`JobError::Conflict`] when it does not wait; [`JobError::UnknownType`]; or what the
    /// saga's `finished` says.
    pub async fn abandon(&self, job_id: &str) -> Result<(), JobError> {
        let record = self.loaded(job_id).await?;
        let Some(saga) = self.inner.sagas.get(record.job.job_type.as_str()) else {
            return Err(JobError::UnknownType { job_type: record.job.job_type });
        };
        let session = self.claim_waiting(job_id).await?;
        let (mut job, steps) = session.read(|record| (record.job.clone(), record.steps.clone()));
        (job.status, job.completed_at) = (JobStatus::Failed, Some(session.now()));
        let view = JobView { job, steps, outcome: JobStatus::Failed, lease: session.lease().clone() };
        if let Err(error) = saga.finished(&view).await {
            session.release().await?;
            let kind = error.kind;
            return Err(JobError::Store { doing: "tell that the job is abandoned", kind, source: Box::new(error) });
        }
        session
            .write_last(|record| {
                (record.job.status, record.job.completed_at) = (JobStatus::Failed, view.job.completed_at);
                None
            })
            .await
    }

    /// Waits until a job has ended or needs an operator, and answers with its row.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`], or when the store cannot be read.
    pub async fn wait(&self, job_id: &str) -> Result<JobRow, JobError> {
        let mut events = self.subscribe();
        loop {
            let job = self.loaded(job_id).await?.job;
            if job.status.is_final() || (job.status == JobStatus::NeedsOperator && job.owner.is_none()) {
                return Ok(job);
            }
            // A job another process runs is not heard of: look again now and then.
            tokio::select! {
                () = heard_of(&mut events, job_id) => {}
                () = tokio::time::sleep(self.inner.config.sweep) => {}
            }
        }
    }

    async fn loaded(&self, job_id: &str) -> Result<JobRecord, JobError> {
        let record = self.inner.around.store.load(job_id).await?;
        record.ok_or_else(|| JobError::UnknownJob { job_id: job_id.to_owned() })
    }

    fn session(&self, job_id: &str) -> Option<Arc<Session>> {
        let running = self.inner.running.lock();
        running.get(job_id)?.as_ref().map(|running| running.session.clone())
    }

    /// The lease of a job that waits for an operator.
    async fn claim_waiting(&self, job_id: &str) -> Result<Session, JobError> {
        let request = self.claim_request(job_id, WAITING, false);
        let Some(record) = self.inner.around.store.claim(&request).await? else {
            let status = self.loaded(job_id).await?.job.status;
            let reason = format!("it does not wait for an operator (it is {status})");
            return Err(JobError::Conflict { job_id: job_id.to_owned(), reason });
        };
        Ok(Session::new(self.inner.around.clone(), &self.inner.config.owner, record, Vec::new()))
    }

    fn claim_request(&self, job_id: &str, statuses: &'static [JobStatus], take_own: bool) -> ClaimRequest {
        let now = self.inner.around.clock.now();
        ClaimRequest {
            job_id: job_id.to_owned(),
            owner: self.inner.config.owner.clone(),
            now,
            lease_until: now + self.inner.config.lease,
            statuses,
            take_own,
        }
    }

    async fn take_up_or_leave(&self, job_id: &str) {
        if let Err(error) = self.take_up(job_id, false).await {
            // The job is stored; a sweep will find it.
            warn!(job_id, error = &error as &dyn std::error::Error, "the job cannot be begun now");
        }
    }

    /// Whether a job that is reserved already may begin.
    fn has_room(&self) -> bool {
        let running = self.inner.running.lock();
        let counted = running.values().filter(|entry| entry.as_ref().is_none_or(|running| !running.is_child));
        counted.count() <= self.inner.config.max_jobs
    }

    /// Claims a job and runs it in the background; does nothing when it cannot be claimed.
    pub(crate) async fn take_up(&self, job_id: &str, take_own: bool) -> Result<(), JobError> {
        let Some(reservation) = self.reserve(job_id) else { return Ok(()) };
        let Some(candidate) = self.inner.around.store.load(job_id).await? else { return Ok(()) };
        let is_child = candidate.job.parent_job_id.is_some();
        let Some(saga) = self.inner.sagas.get(candidate.job.job_type.as_str()) else { return Ok(()) };
        if self.inner.stopping.is_cancelled() || !(is_child || self.has_room()) {
            return Ok(());
        }
        let request = self.claim_request(job_id, UNFINISHED, take_own);
        let Some(record) = self.inner.around.store.claim(&request).await? else { return Ok(()) };
        let facts = saga.facts();
        let weights = facts.iter().map(|step| step.weight).collect();
        let session = Session::new(self.inner.around.clone(), &self.inner.config.owner, record, weights);
        let session = Arc::new(session);
        let running = Running { session: session.clone(), is_child };
        self.inner.running.lock().insert(job_id.to_owned(), Some(running));
        let work = Drive { session, saga: saga.clone(), facts, stopping: self.inner.stopping.clone() };
        let dropping = self.inner.dropping.clone();
        self.inner.tasks.spawn(async move {
            hold(work, dropping).await;
            drop(reservation);
        });
        Ok(())
    }

    /// Keeps others in this process from claiming the job; none when it is being run already.
    fn reserve(&self, job_id: &str) -> Option<Reservation> {
        let mut running = self.inner.running.lock();
        if running.contains_key(job_id) {
            return None;
        }
        running.insert(job_id.to_owned(), None);
        Some(Reservation { inner: self.inner.clone(), job_id: job_id.to_owned() })
    }
}

/// A job's entry among the running; gone when dropped.
struct Reservation {
    inner: Arc<Inner>,
    job_id: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.job_id);
    }
}

/// Drives a job while its lease is held.
async fn hold(work: Drive, dropping: CancellationToken) {
    let session = work.session.clone();
    let dropped = tokio::select! {
        outcome = drive(&work) => {
            report(&session, outcome);
            false
        }
        () = session.keep_lease() => false,
        () = session.report_progress() => false,
        () = dropping.cancelled() => true,
    };
    if dropped {
        session.log_end("the running step is dropped: the process stops");
        match tokio::time::timeout(RELEASE_TIMEOUT, session.release()).await {
            Ok(outcome) => report(&session, outcome),
            Err(_) => session.log_end("the lease could not be given back and will run out"),
        }
    }
}

fn report(session: &Session, outcome: Result<(), JobError>) {
    if let Err(error) = outcome {
        let job_id = session.read(|record| record.job.id.clone());
        error!(job_id, error = &error as &dyn std::error::Error, "the job stops here; its lease will run out");
    }
}

/// Returns when something happened to the job, or may have.
async fn heard_of(events: &mut broadcast::Receiver<JobEvent>, job_id: &str) {
    loop {
        match events.recv().await {
            Ok(JobEvent::Job(job)) if job.id == job_id => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
