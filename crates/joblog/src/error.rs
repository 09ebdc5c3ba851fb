//! What can go wrong while jobs are kept, begun or steered. What goes wrong inside a step is a [`StepError`](crate::StepError).

use model::FailureKind;

/// An error of the job log.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Another runner took the job over: whoever holds the older fence must stop at once and write nothing.
    #[error("job {job_id} was taken over by another runner (this one held fence {fence})")]
    FencedOff {
        /// The job.
        job_id: String,
        /// The fence that is no longer the job's.
        fence: i64,
    },
    /// There is no such job.
    #[error("there is no job {job_id}")]
    UnknownJob {
        /// The id asked for.
        job_id: String,
    },
    /// The job is not in a state in which this can be done.
    #[error("job {job_id}: {reason}")]
    Conflict {
        /// The job.
        job_id: String,
        /// Why not.
        reason: String,
    },
    /// No saga of this type is registered with this runner.
    #[error("this process has no code for jobs of type {job_type}")]
    UnknownType {
        /// The type asked for.
        job_type: String,
    },
    /// A saga whose steps cannot work: found when it is registered.
    #[error("saga {job_type} is not well formed: {reason}")]
    Malformed {
        /// Its type.
        job_type: String,
        /// What is wrong.
        reason: String,
    },
    /// A value could not become JSON.
    #[error("the parameters of a {job_type} job cannot be stored")]
    Parameters {
        /// The type of the job.
        job_type: String,
        /// What serde said.
        #[source]
        source: serde_json::Error,
    },
    /// The runner is shutting down and begins nothing new.
    #[error("the process is shutting down and begins no job")]
    ShuttingDown,
    /// The store could not do it.
    #[error("cannot {doing}")]
    Store {
        /// What was being done: `save a step`, `list jobs`.
        doing: &'static str,
        /// Whether a repeat may help.
        kind: FailureKind,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl JobError {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::FencedOff { .. } | Self::Conflict { .. } => FailureKind::Conflict,
            Self::UnknownJob { .. } => FailureKind::NotFound,
            Self::UnknownType { .. } | Self::Parameters { .. } => FailureKind::Invalid,
            Self::Malformed { .. } => FailureKind::Internal,
            Self::ShuttingDown => FailureKind::Unavailable,
            Self::Store { kind, .. } => *kind,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::FencedOff { .. } => Some("look at the job again: another process goes on with it"),
            Self::UnknownJob { .. } => Some("list the jobs: it may have been deleted"),
            Self::Conflict { .. } => Some("look at the job's status and steps"),
            Self::UnknownType { .. } => Some("ask the process that runs jobs of this type"),
            Self::ShuttingDown => Some("ask again when the process has started"),
            Self::Store { kind: FailureKind::Unavailable, .. } => Some("check that the database can be reached"),
            Self::Malformed { .. } | Self::Parameters { .. } | Self::Store { .. } => None,
        }
    }
}
