//! One claimed job in memory: its rows, its lease, and the only way its rows are written. Decides nothing.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::status::StepStatus;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::Clock;
use crate::error::JobError;
use crate::events::{Events, JobEvent};
use crate::store::{JobRecord, JobRow, JobStore, JobWrite, Lease};

/// Pause before a write that met an unreachable store is repeated; the end of the lease bounds the repeats.
const WRITE_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Least time between two progress writes of a job: the console promises one second.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What a session borrows from its runner.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub store: Arc<dyn JobStore>,
    pub clock: Arc<dyn Clock>,
    pub events: Events,
    pub lease: Duration,
    pub heartbeat: Duration,
}

/// A job this process holds.
pub(crate) struct Session {
    around: Surroundings,
    lease: Lease,
    rows: Mutex<JobRecord>,
    /// Serialises writes: a step may save a checkpoint while another of its futures does.
    turn: tokio::sync::Mutex<()>,
    weights: Vec<u32>,
    cancel: CancellationToken,
    fraction: watch::Sender<f64>,
}

impl Session {
    pub fn new(around: Surroundings, owner: &str, record: JobRecord, weights: Vec<u32>) -> Self {
        let job = &record.job;
        let lease = Lease { job_id: job.id.clone(), owner: owner.to_owned(), fence: job.fence };
        let cancel = CancellationToken::new();
        if job.cancel_requested_at.is_some() {
            cancel.cancel();
        }
        let turn = tokio::sync::Mutex::new(());
        Self { around, lease, rows: Mutex::new(record), turn, weights, cancel, fraction: watch::Sender::new(0.0) }
    }

    /// Looks at the rows.
    pub fn read<T>(&self, look: impl FnOnce(&JobRecord) -> T) -> T {
        look(&self.rows.lock())
    }

    /// The right to write the job.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Cancelled when somebody asked to cancel the job.
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    pub fn now(&self) -> time::OffsetDateTime {
        self.around.clock.now()
    }

    /// Changes the rows, first in the store and then in memory. `edit` answers with the index of the step it changed.
    pub async fn write(&self, edit: impl FnOnce(&mut JobRecord) -> Option<usize> + Send) -> Result<(), JobError> {
        self.write_and(false, edit).await
    }

    /// As [`Session::write`], and gives the lease back.
    pub async fn write_last(&self, edit: impl FnOnce(&mut JobRecord) -> Option<usize> + Send) -> Result<(), JobError> {
        self.write_and(true, edit).await
    }

    async fn write_and(
        &self,
        release: bool,
        edit: impl FnOnce(&mut JobRecord) -> Option<usize> + Send,
    ) -> Result<(), JobError> {
        let _turn = self.turn.lock().await;
        let mut record = self.rows.lock().clone();
        let changed = edit(&mut record);
        let write = JobWrite {
            status: record.job.status,
            error: record.job.error.clone(),
            percent_complete: record.job.percent_complete,
            started_at: record.job.started_at,
            completed_at: record.job.completed_at,
            release,
        };
        if release {
            (record.job.owner, record.job.lease_until) = (None, None);
        }
        let step = changed.map(|index| &record.steps[index]);
        self.patiently(|| self.around.store.save(&self.lease, &write, step)).await?;
        if let Some(step) = step {
            self.around.events.publish(JobEvent::Step(Arc::new(step.clone())));
        }
        let job = self.replace_rows(record);
        self.around.events.publish(JobEvent::Job(Arc::new(job)));
        Ok(())
    }

    fn replace_rows(&self, mut record: JobRecord) -> JobRow {
        let mut rows = self.rows.lock();
        // The request may have come while the store was writing.
        record.job.cancel_requested_at = rows.job.cancel_requested_at;
        *rows = record;
        rows.job.clone()
    }

    /// Repeats what an unreachable store refuses. Whoever awaits this stops when the lease is lost.
    async fn patiently<T, F: Future<Output = Result<T, JobError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, JobError> {
        loop {
            match attempt().await {
                Err(error) if error.kind().is_transient() => {
                    warn!(error = &error as &dyn std::error::Error, "the job log cannot be written, trying again");
                    tokio::time::sleep(WRITE_RETRY_DELAY).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Gives the lease back and leaves everything else as it is.
    pub async fn release(&self) -> Result<(), JobError> {
        self.write_last(|_| None).await
    }

    /// Says that this runner lives and learns whether to cancel.
    pub async fn beat(&self) -> Result<(), JobError> {
        let now = self.around.clock.now();
        let heartbeat = self.around.store.heartbeat(&self.lease, now + self.around.lease).await?;
        if heartbeat.cancel_requested {
            self.note_cancel(now);
        }
        Ok(())
    }

    /// As [`Session::beat`], however long the store cannot be reached.
    pub async fn beat_patiently(&self) -> Result<(), JobError> {
        self.patiently(|| self.beat()).await
    }

    /// The job shall be cancelled.
    pub fn note_cancel(&self, at: time::OffsetDateTime) {
        self.rows.lock().job.cancel_requested_at.get_or_insert(at);
        self.cancel.cancel();
    }

    /// Keeps the lease; returns when it is lost: taken over, or run out because the store cannot be reached.
    pub async fn keep_lease(&self) {
        let mut ends_at = Instant::now() + self.around.lease;
        loop {
            tokio::time::sleep(self.around.heartbeat).await;
            let asked_at = Instant::now();
            match tokio::time::timeout_at(ends_at, self.beat()).await {
                Ok(Ok(())) => ends_at = asked_at + self.around.lease,
                Ok(Err(error @ JobError::FencedOff { .. })) => {
                    warn!(job_id = self.lease.job_id, %error, "stopping");
                    return;
                }
                Ok(Err(error)) => {
                    warn!(job_id = self.lease.job_id, error = &error as &dyn std::error::Error, "no heartbeat");
                }
                Err(_) => {
                    warn!(job_id = self.lease.job_id, "the lease ran out without an answer of the store, stopping");
                    return;
                }
            }
            if Instant::now() >= ends_at {
                warn!(job_id = self.lease.job_id, "the lease ran out, stopping");
                return;
            }
        }
    }

    /// How far the running step is, 0 to 1; answers with what that makes of the job, 0 to 100, which never falls.
    pub fn set_fraction(&self, fraction: f64) -> f64 {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        self.fraction.send_replace(fraction);
        let rows = self.rows.lock();
        self.percent(&rows, fraction).max(rows.job.percent_complete)
    }

    /// The share of the work that is done, 0 to 100, when the given fraction of the running step is.
    pub fn percent(&self, record: &JobRecord, fraction: f64) -> f64 {
        let total: u32 = self.weights.iter().sum();
        if total == 0 {
            return record.job.percent_complete;
        }
        let done = record.steps.iter().zip(&self.weights).map(|(step, &weight)| match step.status {
            StepStatus::Completed | StepStatus::Skipped => f64::from(weight),
            StepStatus::Running => f64::from(weight) * fraction,
            _ => 0.0,
        });
        done.sum::<f64>() * 100.0 / f64::from(total)
    }

    /// Writes progress as it comes, at most once per interval. Never returns.
    pub async fn report_progress(&self) {
        let mut changes = self.fraction.subscribe();
        // A step may have spoken before this future was first polled.
        changes.mark_changed();
        while changes.changed().await.is_ok() {
            let fraction = *changes.borrow_and_update();
            self.save_progress(fraction).await;
            tokio::time::sleep(PROGRESS_INTERVAL).await;
        }
        std::future::pending::<()>().await;
    }

    async fn save_progress(&self, fraction: f64) {
        let _turn = self.turn.lock().await;
        let percent = {
            let mut rows = self.rows.lock();
            let percent = self.percent(&rows, fraction);
            let running = rows.steps.iter().any(|step| step.status == StepStatus::Running);
            if !running || percent <= rows.job.percent_complete {
                return;
            }
            rows.job.percent_complete = percent;
            percent
        };
        if let Err(error) = self.around.store.save_progress(&self.lease, percent).await {
            // The next write of the job carries it again.
            debug!(job_id = self.lease.job_id, %error, "progress not saved");
        }
        let job_id = self.lease.job_id.as_str().into();
        self.around.events.publish(JobEvent::Progress { job_id, percent_complete: percent });
    }

    /// Logs that the job ended or stopped.
    pub fn log_end(&self, what: &str) {
        info!(job_id = self.lease.job_id, "{what}");
    }
}
