//! What a running step (or undo) sees of its job and how it speaks to it.

use std::sync::Arc;

use model::FailureKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::failure::StepError;
use crate::saga::{output, parsed};
use crate::session::Session;
use crate::store::{JobRow, Lease};

/// The context of one attempt of one step.
pub struct StepContext {
    session: Arc<Session>,
    job: JobRow,
    index: usize,
    attempt: u32,
    cancellation: CancellationToken,
}

impl StepContext {
    pub(crate) fn new(session: Arc<Session>, index: usize, cancellation: CancellationToken) -> Self {
        let (job, attempt) = session.read(|record| (record.job.clone(), record.steps[index].attempt));
        Self { session, job, index, attempt, cancellation }
    }

    /// The job's id in the job log.
    #[must_use]
    pub fn job_id(&self) -> &str {
        &self.job.id
    }

    /// The job's row as it was when the attempt began; what a child is a [`child of`](crate::NewJob::child_of).
    #[must_use]
    pub fn job(&self) -> &JobRow {
        &self.job
    }

    /// The right to write this job: a transaction that checks it cannot be committed by a runner that was taken over.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        self.session.lease()
    }

    /// How often the step was begun, this time included: 1 for the first attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The step's name.
    #[must_use]
    pub fn step_name(&self) -> String {
        self.session.read(|record| record.steps[self.index].name.clone())
    }

    /// The time by the runner's clock.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.session.now()
    }

    /// The job's parameters.
    ///
    /// # Errors
    /// `internal` when they have another form.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        parsed("the job's parameters", &self.job.params)
    }

    /// What an earlier step left.
    ///
    /// # Errors
    /// `internal` when it left nothing or something of another form: a defect of the saga.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        self.output_if_any(step)?
            .ok_or_else(|| StepError::new(FailureKind::Internal, format!("step `{step}` left no output")))
    }

    /// What another step left, if it did: for undos, which may run when it never came to that.
    ///
    /// # Errors
    /// `internal` when it has another form.
    pub fn output_if_any<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StepError> {
        let value = self
            .session
            .read(|record| record.steps.iter().find(|row| row.name == step).and_then(|row| row.output.clone()));
        value.map(|value| parsed(&format!("the output of `{step}`"), &value)).transpose()
    }

    /// What this step itself left: for its undo the output or the last checkpoint, for a repeated attempt the last
    /// checkpoint.
    ///
    /// # Errors
    /// `internal` when it has another form.
    pub fn own_output<T: DeserializeOwned>(&self) -> Result<Option<T>, StepError> {
        let value = self.session.read(|record| record.steps[self.index].output.clone());
        value.map(|value| parsed("the step's own output", &value)).transpose()
    }

    /// Stores a first form of the step's output now, so that a repeated attempt and the undo know of it even after a
    /// crash: the id of what is about to be created.
    ///
    /// # Errors
    /// When the job log cannot be written.
    pub async fn checkpoint<T: Serialize + Sync>(&self, value: &T) -> Result<(), StepError> {
        let (value, index) = (output(value)?, self.index);
        let written = self.session.write(move |record| {
            record.steps[index].output = Some(value);
            Some(index)
        });
        written.await.map_err(|error| StepError::from_error(error.kind(), &error))
    }

    /// Cancelled when the step should stop early because the job is being cancelled. Never cancelled in undos, pivots
    /// and retried steps. A lost lease and a shutdown are not told: the step is dropped where it awaits.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// Fails when the step should stop.
    ///
    /// # Errors
    /// [`StepError::cancelled`].
    pub fn check_cancelled(&self) -> Result<(), StepError> {
        if self.cancellation.is_cancelled() { Err(StepError::cancelled()) } else { Ok(()) }
    }

    /// Says how far the step is, 0 to 1. May be called as often as one likes: it is written once a second. Answers with
    /// what that makes of the whole job, 0 to 100: that never falls, also when a step is begun anew.
    pub fn progress(&self, fraction: f64) -> f64 {
        self.session.set_fraction(fraction)
    }
}
