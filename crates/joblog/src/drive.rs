//! Carries out what `machine` decides for one claimed job: intent first, then the act, then its outcome.
//!
//! Dropping the future of [`drive`] at any await is the same as a crash there: the rows say how to go on.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::FailureKind;
use model::status::{JobStatus, StepKind, StepStatus};
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use crate::context::StepContext;
use crate::error::JobError;
use crate::failure::StepError;
use crate::machine::{self, Action};
use crate::retry::RetryPolicy;
use crate::saga::{ErasedSaga, JobView, StepFacts};
use crate::session::Session;
use crate::store::{JobRecord, StepRow};

/// A job being driven.
pub(crate) struct Drive {
    pub session: Arc<Session>,
    pub saga: Arc<dyn ErasedSaga>,
    pub facts: Vec<StepFacts>,
    /// Stops between steps and during pauses.
    pub stopping: CancellationToken,
}

/// Drives a job until it ends, waits for an operator, or the runner stops. The lease is given back in every case.
pub(crate) async fn drive(drive: &Drive) -> Result<(), JobError> {
    let session = &drive.session;
    let now = session.now();
    if session.read(|record| record.job.status) == JobStatus::Pending && !cancelled_early(session) {
        session
            .write(|record| {
                record.job.status = JobStatus::Running;
                record.job.started_at.get_or_insert(now);
                None
            })
            .await?;
    }
    let stays_pending = session.read(|record| record.job.status == JobStatus::Pending);
    if !stays_pending && !session.read(|record| fits(&record.steps, &drive.facts)) {
        return drive.park_unknown_steps().await;
    }
    loop {
        if drive.stopping.is_cancelled() {
            return session.release().await;
        }
        if !session.read(|record| machine::is_past_return(&record.steps)) {
            session.beat_patiently().await?;
        }
        match session.read(|record| machine::next(&record.job, &record.steps)) {
            Action::Run(index) => drive.run(index).await?,
            Action::Undo(index) => drive.undo(index).await?,
            Action::TurnBack => drive.turn_back().await?,
            Action::Finish(status) => return drive.finish(status).await,
            Action::Wait => return session.release().await,
        }
    }
}

/// A job cancelled before it began goes from `pending` to `cancelled` without running.
fn cancelled_early(session: &Session) -> bool {
    session.read(|record| record.job.cancel_requested_at.is_some())
}

fn fits(rows: &[StepRow], facts: &[StepFacts]) -> bool {
    rows.len() == facts.len()
        && rows.iter().zip(facts).all(|(row, facts)| row.name == facts.name && row.kind == facts.kind)
}

impl Drive {
    async fn run(&self, index: usize) -> Result<(), JobError> {
        let facts = self.facts[index];
        let mut goes = Goes::begin(facts.retry);
        loop {
            self.start(index, StepStatus::Running).await?;
            let cancellation = match facts.kind {
                StepKind::Undoable => self.session.cancel_token().child_token(),
                StepKind::Pivot | StepKind::Retried => CancellationToken::new(),
            };
            let context = StepContext::new(self.session.clone(), index, cancellation);
            let span = self.span(index);
            let outcome = guarded(|| self.saga.act(index, &context)).instrument(span.clone()).await;
            let error = match outcome {
                Ok(output) => {
                    return self.settle(index, StepStatus::Completed, Some(output), None).await;
                }
                Err(error) => error,
            };
            let cancelled = facts.kind == StepKind::Undoable && self.session.cancel_token().is_cancelled();
            let pause = if cancelled { None } else { goes.pause_after(&error) };
            let Some(pause) = pause else {
                span.in_scope(|| log_failure(&error, cancelled));
                return self.settle(index, StepStatus::Failed, None, Some(error)).await;
            };
            span.in_scope(|| warn!(kind = %error.kind, "failed, trying again in {pause:.1?}: {error}"));
            self.stumble(index, error).await?;
            let stop = if facts.kind == StepKind::Undoable {
                self.session.cancel_token().clone()
            } else {
                CancellationToken::new()
            };
            if !self.paused(pause, &stop).await {
                // The rows say `running`, which the machine reads as interrupted.
                return Ok(());
            }
        }
    }

    async fn undo(&self, index: usize) -> Result<(), JobError> {
        let mut goes = Goes::begin(self.facts[index].retry);
        loop {
            self.start(index, StepStatus::Undoing).await?;
            let context = StepContext::new(self.session.clone(), index, CancellationToken::new());
            let span = self.span(index);
            let outcome = guarded(|| self.saga.undo(index, &context)).instrument(span.clone()).await;
            let Err(error) = outcome else {
                span.in_scope(|| info!("undone"));
                return self.settle(index, StepStatus::Undone, None, None).await;
            };
            let Some(pause) = goes.pause_after(&error) else {
                span.in_scope(|| error!(kind = %error.kind, "cannot be undone: {error}"));
                return self.settle(index, StepStatus::UndoFailed, None, Some(error)).await;
            };
            span.in_scope(|| warn!(kind = %error.kind, "undo failed, trying again in {pause:.1?}: {error}"));
            if !self.paused(pause, &CancellationToken::new()).await {
                return Ok(());
            }
        }
    }

    /// Records the intent.
    async fn start(&self, index: usize, status: StepStatus) -> Result<(), JobError> {
        let now = self.session.now();
        if status == StepStatus::Running {
            self.session.set_fraction(0.0);
        }
        self.session
            .write(|record| {
                let step = &mut record.steps[index];
                step.status = status;
                step.completed_at = None;
                step.started_at.get_or_insert(now);
                if status == StepStatus::Running {
                    step.attempt = step.attempt.saturating_add(1);
                }
                Some(index)
            })
            .await
    }

    /// Shows why the running step has to be repeated.
    async fn stumble(&self, index: usize, error: StepError) -> Result<(), JobError> {
        self.session
            .write(|record| {
                record.steps[index].error = Some(error);
                Some(index)
            })
            .await
    }

    /// Records the outcome. An undo keeps why the step itself had failed.
    async fn settle(
        &self,
        index: usize,
        status: StepStatus,
        output: Option<serde_json::Value>,
        error: Option<StepError>,
    ) -> Result<(), JobError> {
        let now = self.session.now();
        self.session
            .write(|record| {
                let step = &mut record.steps[index];
                step.status = status;
                step.completed_at = Some(now);
                if output.is_some() {
                    step.output = output;
                }
                if error.is_some() || status == StepStatus::Completed {
                    step.error = error;
                }
                if status == StepStatus::Completed {
                    record.job.percent_complete = self.session.percent(record, 0.0);
                }
                Some(index)
            })
            .await
    }

    async fn turn_back(&self) -> Result<(), JobError> {
        self.session
            .write(|record| {
                record.job.error = machine::reason_to_turn_back(&record.job, &record.steps);
                record.job.status = JobStatus::Unwinding;
                None
            })
            .await
    }

    /// Tells the domain and then records the end; a crash in between tells it again.
    async fn finish(&self, status: JobStatus) -> Result<(), JobError> {
        let mut record = self.session.read(JobRecord::clone);
        set_end(&mut record, status, self.session.now());
        let view = JobView {
            job: record.job.clone(),
            steps: record.steps,
            outcome: status,
            lease: self.session.lease().clone(),
        };
        let mut goes = Goes::begin(RetryPolicy::PATIENT);
        let span = info_span!("finish", job_id = %view.job.id, outcome = %status);
        while let Err(error) = guarded(|| self.saga.finished(&view)).instrument(span.clone()).await {
            let pause = goes.pause_after(&error);
            span.in_scope(|| warn!(kind = %error.kind, "the end of the job cannot be told: {error}"));
            let Some(pause) = pause else {
                // Unfinished and free: the next sweep tries again.
                return self.session.release().await;
            };
            if !self.paused(pause, &CancellationToken::new()).await {
                return self.session.release().await;
            }
        }
        let now = self.session.now();
        span.in_scope(|| info!("the job ends: {status}"));
        self.session
            .write_last(|record| {
                set_end(record, status, now);
                None
            })
            .await
    }

    async fn park_unknown_steps(&self) -> Result<(), JobError> {
        let error = StepError::new(FailureKind::Conflict, "the job was begun by a version with other steps")
            .remedy("finish it with the version that began it, or abandon it");
        warn!(job_id = self.session.read(|record| record.job.id.clone()), "{error}");
        self.session
            .write_last(|record| {
                record.job.status = JobStatus::NeedsOperator;
                record.job.error = Some(error);
                None
            })
            .await
    }

    /// Waits; false when the runner stops or `stop` is cancelled first.
    async fn paused(&self, pause: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stopping.cancelled() => false,
            () = stop.cancelled() => false,
        }
    }

    fn span(&self, index: usize) -> tracing::Span {
        self.session.read(|record| {
            let step = &record.steps[index];
            info_span!("step", job_id = %step.job_id, step_id = %step.id, step = %step.name, attempt = step.attempt)
        })
    }
}

fn set_end(record: &mut JobRecord, status: JobStatus, now: time::OffsetDateTime) {
    let job = &mut record.job;
    match status {
        JobStatus::NeedsOperator => job.error = Some(machine::reason_for_operator(job, &record.steps)),
        JobStatus::Completed => (job.error, job.percent_complete) = (None, 100.0),
        _ => {}
    }
    if status != JobStatus::NeedsOperator {
        job.completed_at = Some(now);
    }
    job.status = status;
}

fn log_failure(error: &StepError, cancelled: bool) {
    if cancelled {
        info!("stopped: {error}");
    } else {
        error!(kind = %error.kind, remedy = error.remedy, "failed: {error}");
    }
}

/// Counts the attempts of one go.
struct Goes {
    policy: RetryPolicy,
    began: Instant,
    attempts: u32,
}

impl Goes {
    fn begin(policy: RetryPolicy) -> Self {
        Self { policy, began: Instant::now(), attempts: 0 }
    }

    /// The pause before the next attempt, or none when this failure is final.
    fn pause_after(&mut self, error: &StepError) -> Option<Duration> {
        self.attempts += 1;
        if !error.kind.is_transient() {
            return None;
        }
        self.policy.pause_after(self.attempts, self.began.elapsed(), rand::rng().random())
    }
}

/// Awaits code of a domain; a panic in it becomes an `internal` failure.
async fn guarded<'a, T>(call: impl FnOnce() -> BoxFuture<'a, Result<T, StepError>>) -> Result<T, StepError> {
    let future = async { call().await };
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            Err(StepError::new(FailureKind::Internal, format!("panicked: {}", panic_message(panic.as_ref()))))
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
