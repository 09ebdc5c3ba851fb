//! A job before it is stored.

use model::status::{JobStatus, StepStatus};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::error::JobError;
use crate::saga::StepFacts;
use crate::store::{JobRow, StepRow};

/// What a job is asked to do.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub(crate) id: String,
    pub(crate) parent: Option<(String, String)>,
    pub(crate) job_type: String,
    operation: String,
    external_job_id: Option<String>,
    vm_context_id: Option<String>,
    params: Value,
    metadata: Option<Value>,
}

impl NewJob {
    /// A job of a type, with a sentence for people and the parameters its steps read.
    ///
    /// # Errors
    /// [`JobError::Parameters`] when the parameters have no JSON form. They must hold no secrets.
    pub fn new<P: Serialize>(job_type: &str, operation: impl Into<String>, params: &P) -> Result<Self, JobError> {
        let params = serde_json::to_value(params)
            .map_err(|source| JobError::Parameters { job_type: job_type.to_owned(), source })?;
        Ok(Self {
            id: model::id::new_id(),
            parent: None,
            job_type: job_type.to_owned(),
            operation: operation.into(),
            external_job_id: None,
            vm_context_id: None,
            params,
            metadata: None,
        })
    }

    /// The id it will have.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// With an id chosen before ([`model::id::new_id`]), so that a repeated step begins its child only once:
    /// a second start of the same id is refused as a conflict.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// As a part of another job.
    #[must_use]
    pub fn child_of(mut self, parent: &JobRow) -> Self {
        self.parent = Some((parent.id.clone(), parent.root_job_id.clone()));
        self
    }

    /// With the id of the domain's row.
    #[must_use]
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_job_id = Some(id.into());
        self
    }

    /// About a VM.
    #[must_use]
    pub fn vm_context(mut self, id: impl Into<String>) -> Self {
        self.vm_context_id = Some(id.into());
        self
    }

    /// With something to remember that no step reads.
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// The rows to store.
    pub(crate) fn rows(self, steps: &[StepFacts], now: OffsetDateTime) -> (JobRow, Vec<StepRow>) {
        let (parent_job_id, root_job_id) = match self.parent {
            Some((parent, root)) => (Some(parent), root),
            None => (None, self.id.clone()),
        };
        let job_id = self.id.clone();
        let step_row = |(seq, facts): (u32, &StepFacts)| StepRow {
            id: model::id::new_id(),
            job_id: job_id.clone(),
            seq,
            name: facts.name.to_owned(),
            kind: facts.kind,
            status: StepStatus::Pending,
            attempt: 0,
            output: None,
            error: None,
            started_at: None,
            completed_at: None,
        };
        let steps = (0..).zip(steps).map(step_row).collect();
        let job = JobRow {
            id: self.id,
            parent_job_id,
            root_job_id,
            job_type: self.job_type,
            operation: self.operation,
            status: JobStatus::Pending,
            external_job_id: self.external_job_id,
            vm_context_id: self.vm_context_id,
            owner: None,
            lease_until: None,
            fence: 0,
            params: self.params,
            metadata: self.metadata,
            error: None,
            percent_complete: 0.0,
            cancel_requested_at: None,
            created_at: now,
            started_at: None,
            completed_at: None,
        };
        (job, steps)
    }
}
