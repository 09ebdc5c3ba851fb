//! What can go wrong when talking to CloudStack, said by what was being done.

use std::time::Duration;

use model::FailureKind;

use crate::refusal::{Refusal, RefusalClass};

/// An error below this crate, kept for its text.
pub(crate) type BoxedSource = Box<dyn std::error::Error + Send + Sync>;

/// Failures of calls, jobs and lists.
#[derive(Debug, thiserror::Error)]
pub enum CloudstackError {
    /// The settings cannot work: URL, certificate or thumbprint.
    #[error("the CloudStack connection settings are wrong: {0}")]
    Settings(String),
    /// The request asks for something that cannot be; nothing was sent.
    #[error("{0}")]
    Request(String),
    /// The server's certificate is not the one, or not of the one, that is trusted.
    #[error("the certificate of {host} is not trusted{}", seen(seen_thumbprint.as_deref()))]
    Untrusted {
        /// Host and port.
        host: String,
        /// SHA-256 of the certificate seen, when a thumbprint was pinned.
        seen_thumbprint: Option<String>,
        /// What TLS said.
        #[source]
        source: BoxedSource,
    },
    /// No connection: the request was not sent.
    #[error("{host} cannot be reached for {command}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The command.
        command: String,
        /// What the system said; without the URL, which holds the key and signature.
        #[source]
        source: BoxedSource,
    },
    /// The request may or may not have been carried out: broken connection, time-out, or an answer without JSON.
    #[error("no usable answer to {command}: {reason}")]
    OutcomeUnknown {
        /// The command.
        command: String,
        /// What was seen instead of an answer.
        reason: String,
        /// What lies below, if anything.
        #[source]
        source: Option<BoxedSource>,
    },
    /// Something answered, but it is not the CloudStack API.
    #[error("{host} answers HTTP {status} without JSON: this is not the CloudStack API")]
    NotTheApi {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// The server refused the request.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// An accepted job failed later.
    #[error("job {job_id} failed with {}: {}", refusal.error_code, refusal.text)]
    JobFailed {
        /// The job.
        job_id: String,
        /// Its result.
        refusal: Box<Refusal>,
    },
    /// A job ended without a result: the server was restarted or gave the job up. What it did is unknown.
    #[error("job {job_id} ended with {code} and without a result")]
    JobLost {
        /// The job.
        job_id: String,
        /// `jobresultcode`.
        code: i64,
    },
    /// The server does not know the job any more (purged after a day). What it did is unknown.
    #[error("the server no longer knows job {job_id}")]
    JobForgotten {
        /// The job.
        job_id: String,
    },
    /// The job is still running at the deadline; waiting can be taken up again with its id.
    #[error("job {job_id} is still running after {} s", waited.as_secs())]
    JobPending {
        /// The job.
        job_id: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A job ended well, and what it was to do cannot be seen yet.
    #[error("job {job_id} succeeded but its result cannot be seen yet")]
    NotVisibleYet {
        /// The job.
        job_id: String,
    },
    /// Jobs for the same change were lost again and again.
    #[error("the server lost {submissions} jobs for the same change")]
    JobsLost {
        /// How many.
        submissions: u32,
    },
    /// A thing asked for by id is not in the list.
    #[error("{what} {id} does not exist, or this account cannot see it")]
    Missing {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// JSON of a shape nobody expected.
    #[error("the answer to {command} has an unexpected shape")]
    UnexpectedAnswer {
        /// The command.
        command: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// An answer larger than is taken.
    #[error("the answer to {command} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The command.
        command: String,
        /// The limit.
        limit_bytes: usize,
    },
    /// A list that does not end.
    #[error("{command} did not end after {pages} pages")]
    TooManyPages {
        /// The command.
        command: String,
        /// The limit.
        pages: u32,
    },
}

fn seen(thumbprint: Option<&str>) -> String {
    thumbprint.map(|text| format!(" (SHA-256 {text})")).unwrap_or_default()
}

impl CloudstackError {
    /// The kind of the failure: it alone decides status codes and retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Settings(_) | Self::Request(_) | Self::Untrusted { .. } | Self::NotTheApi { .. } => {
                FailureKind::Invalid
            }
            Self::Unreachable { .. }
            | Self::OutcomeUnknown { .. }
            | Self::JobLost { .. }
            | Self::JobForgotten { .. }
            | Self::JobPending { .. }
            | Self::NotVisibleYet { .. }
            | Self::JobsLost { .. } => FailureKind::Unavailable,
            Self::Refused(refusal) | Self::JobFailed { refusal, .. } => refusal.class.kind(),
            Self::Missing { .. } => FailureKind::NotFound,
            Self::UnexpectedAnswer { .. } | Self::TooLarge { .. } | Self::TooManyPages { .. } => FailureKind::Internal,
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        Some(match self {
            Self::Settings(_) => "correct the target's settings",
            Self::Request(_) => "correct the value the message names",
            Self::Untrusted { .. } => {
                "compare the certificate with the server's own; then set its thumbprint or give its CA"
            }
            Self::Unreachable { .. } => "check the URL, the name resolution, the firewall and the management server",
            Self::OutcomeUnknown { .. } | Self::JobLost { .. } | Self::JobForgotten { .. } => {
                "nothing at once: the thing is read again before the step is repeated"
            }
            Self::NotTheApi { .. } => "give the API endpoint, usually https://HOST:8443/client/api",
            Self::Refused(refusal) | Self::JobFailed { refusal, .. } => refusal.class.remedy(),
            Self::JobPending { .. } => "look at the job and its VM in CloudStack; waiting can be taken up again",
            Self::NotVisibleYet { .. } | Self::JobsLost { .. } => "look at the management server, then repeat",
            Self::Missing { .. } => "choose one that exists, or use keys of the account that owns it",
            Self::UnexpectedAnswer { .. } => return None,
            Self::TooLarge { .. } | Self::TooManyPages { .. } => "narrow the request to one zone or account",
        })
    }

    /// What the server's refusal means, for a refused call or a failed job.
    #[must_use]
    pub fn refusal_class(&self) -> Option<RefusalClass> {
        match self {
            Self::Refused(refusal) | Self::JobFailed { refusal, .. } => Some(refusal.class),
            _ => None,
        }
    }

    /// Whether the change asked for may have happened all the same: read the thing again before anything else.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown { .. }
                | Self::JobLost { .. }
                | Self::JobForgotten { .. }
                | Self::JobPending { .. }
                | Self::JobFailed { .. }
                | Self::NotVisibleYet { .. }
                | Self::JobsLost { .. }
                | Self::UnexpectedAnswer { .. }
                | Self::TooLarge { .. }
        )
    }

    /// How long the server asks to wait before the next request.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attached_volume_is_a_conflict_with_a_remedy() {
        let text = "Please specify a volume that is not attached to any VM.";
        let error = CloudstackError::Refused(Box::new(Refusal::new("deleteVolume", 431, Some(4350), text)));
        assert_eq!(error.kind(), FailureKind::Conflict);
        assert_eq!(error.remedy(), Some("detach the volume from its VM first"));
        assert!(!error.is_outcome_unknown());
    }

    #[test]
    fn a_lost_job_is_transient_and_its_outcome_unknown() {
        let error = CloudstackError::JobLost { job_id: "j".into(), code: 530 };
        assert!(error.kind().is_transient() && error.is_outcome_unknown());
    }
}
