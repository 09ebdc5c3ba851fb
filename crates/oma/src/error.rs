//! What can go wrong in the control plane, and how it is told over HTTP. Describes; decides nothing.

use std::path::PathBuf;

use api::{ClientError, Problem, TransportError};
use axum::response::{IntoResponse, Response};
use cloudstack::CloudstackError;
use joblog::JobError;
use model::FailureKind;
use model::status::EnrollmentStatus;
use proof::ProofError;
use store::StoreError;
use tunnel::{Refusal, TunnelError};

/// HTTP status for callers that ask too often (RFC 6585 §4).
const TOO_MANY_REQUESTS: u16 = 429;
/// What helps against every refused pairing code.
const NEW_CODE: &str = "make a new pairing code on the hub (`migratekit agent pair`): each works once, for ten minutes";

/// An error of the control plane.
#[derive(Debug, thiserror::Error)]
pub enum OmaError {
    /// An address or a socket cannot be listened on.
    #[error(transparent)]
    Listening(#[from] runtime::http::HttpError),
    /// A file of the state folder cannot be used.
    #[error("cannot {doing} {path}")]
    StateFile {
        /// `write`, `read`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The key that seals stored passwords cannot be used.
    #[error("the key for stored passwords cannot be used")]
    Sealing(#[source] runtime::sealed::SealError),
    /// A client of another process cannot be made.
    #[error("the client of {peer} cannot be made")]
    Peer {
        /// Whose.
        peer: &'static str,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// Another process of ours answered with an error, or not at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Digest files and certificates.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The target cloud.
    #[error(transparent)]
    Cloud(#[from] CloudstackError),
    /// The job log.
    #[error(transparent)]
    Jobs(#[from] JobError),
    /// Identities, certificates, agents' connections.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// A random token could not be drawn.
    #[error("the system gave no random bytes")]
    Randomness,
    /// The agent has no control connection.
    #[error("agent {enrollment_id} is not connected")]
    AgentNotConnected {
        /// Its enrolment.
        enrollment_id: String,
    },
    /// An agent dialled that may not connect (any more).
    #[error("agent {enrollment_id} may not connect: {refusal}")]
    AgentRefused {
        /// Its enrolment.
        enrollment_id: String,
        /// Why.
        refusal: Refusal,
    },
    /// An agent is connected but does not answer.
    #[error("the agent did not answer within {seconds} s")]
    AgentSilent {
        /// How long was waited.
        seconds: u64,
    },
    /// There is no connected agent to choose.
    #[error("no agent is connected")]
    NoAgent,
    /// More than one agent is connected and none was named.
    #[error("{count} agents are connected and none was named")]
    SeveralAgents {
        /// How many.
        count: usize,
    },
    /// A pairing code that is unknown, used or too old; which of them is not told to whoever guesses.
    #[error("this pairing code is not known, was used already or is too old")]
    PairingCode,
    /// An address asks too often.
    #[error("too many attempts from this address")]
    TooManyAttempts {
        /// Until the next attempt is looked at, in seconds.
        retry_after_seconds: u64,
    },
    /// The challenge was not signed by the key; the enrolment may or may not allow another attempt.
    #[error("the challenge was not signed by the key that asked ({attempts_left} attempts left)")]
    WrongSignature {
        /// How many more.
        attempts_left: u32,
    },
    /// The key is enrolled already, or was revoked.
    #[error("this key belongs to another enrolment, which is {status}")]
    KeyInUse {
        /// How that enrolment stands.
        status: EnrollmentStatus,
    },
    /// The enrolment's state does not allow this.
    #[error("enrolment {enrollment_id} is {status}: {reason}")]
    EnrollmentState {
        /// Which.
        enrollment_id: String,
        /// How it stands.
        status: EnrollmentStatus,
        /// What that forbids.
        reason: &'static str,
    },
    /// A renewal for another key than the enrolled one.
    #[error("the certificate request is not for the key of enrolment {enrollment_id}")]
    OtherKey {
        /// Which.
        enrollment_id: String,
    },
    /// Something that is wrong with the request itself.
    #[error("{what} {reason}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// No token, or one that is not valid.
    #[error("this request needs a valid operator's token")]
    Unauthenticated,
    /// The token's role is too low.
    #[error("{operator} may not do this: it needs the role {needed}")]
    Forbidden {
        /// Who asked.
        operator: String,
        /// The role it takes.
        needed: model::status::Role,
    },
    /// A problem that is complete as it is.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
}

impl OmaError {
    /// The kind that decides on status codes and retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::KeyInUse { .. } | Self::EnrollmentState { .. } => FailureKind::Conflict,
            Self::StateFile { .. } | Self::Peer { .. } | Self::Randomness => FailureKind::Internal,
            Self::Listening(error) => error.kind(),
            Self::Sealing(error) => error.kind(),
            Self::Client(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Proof(error) => error.kind(),
            Self::Cloud(error) => error.kind(),
            Self::Jobs(error) => error.kind(),
            Self::Tunnel(error) => error.kind(),
            Self::AgentRefused { refusal, .. } => refusal.kind(),
            Self::AgentNotConnected { .. }
            | Self::AgentSilent { .. }
            | Self::NoAgent
            | Self::TooManyAttempts { .. } => FailureKind::Unavailable,
            Self::SeveralAgents { .. } | Self::Invalid { .. } => FailureKind::Invalid,
            Self::PairingCode | Self::WrongSignature { .. } | Self::OtherKey { .. } | Self::Forbidden { .. } => {
                FailureKind::Forbidden
            }
            Self::NotFound { .. } => FailureKind::NotFound,
            Self::Unauthenticated => FailureKind::Unauthenticated,
            Self::Problem(problem) => problem.kind,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Listening(error) => error.remedy(),
            Self::StateFile { .. } => Some("check that the service's user may read and write the state folder"),
            Self::Sealing(error) => error.remedy(),
            Self::Peer { .. } => Some("check the addresses in the configuration"),
            Self::Client(_) | Self::Randomness => None,
            Self::Store(error) => error.remedy(),
            Self::Proof(error) => error.remedy(),
            Self::Cloud(error) => error.remedy(),
            Self::Jobs(error) => error.remedy(),
            Self::Tunnel(error) => error.remedy(),
            Self::AgentNotConnected { .. } => {
                Some("check that the agent runs and reaches the hub on port 443; `migratekit agent list` shows it")
            }
            Self::AgentRefused { refusal, .. } => Some(refusal.remedy()),
            Self::AgentSilent { .. } => Some("look at the agent's log; restart it if that lasts"),
            Self::NoAgent => Some("pair an agent (`migratekit agent pair`), or start the one that is paired"),
            Self::SeveralAgents { .. } => Some("name one of them in the credential or the request"),
            Self::PairingCode => Some(NEW_CODE),
            Self::TooManyAttempts { .. } => Some("wait for the time in Retry-After and try again"),
            Self::WrongSignature { attempts_left: 0 } => Some(NEW_CODE),
            Self::WrongSignature { .. } => Some("sign the nonce with the key of the certificate request"),
            Self::KeyInUse { .. } => Some("remove the agent's enrolment.key or agent.pem and pair it with a fresh key"),
            Self::EnrollmentState { .. } => {
                Some("look at `migratekit agent list`; pair the agent anew if it is to be used")
            }
            Self::OtherKey { .. } => Some("renew with the agent's own key, or pair the agent anew"),
            Self::Invalid { .. } | Self::NotFound { .. } => None,
            Self::Unauthenticated => Some(
                "send `Authorization: Bearer <token>`; the first token is in operator.token in the hub's state folder",
            ),
            Self::Forbidden { .. } => Some("use a token with a higher role"),
            Self::Problem(problem) => problem.remedy.as_deref(),
        }
    }

    /// The error as it is told over HTTP.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            Self::Client(error) => error.into_problem(),
            other => {
                let mut problem = Problem::from_error(other.kind(), &other);
                problem.remedy = other.remedy().map(str::to_owned);
                if let Self::TooManyAttempts { .. } = other {
                    problem.status = TOO_MANY_REQUESTS;
                }
                problem
            }
        }
    }
}

impl From<Problem> for OmaError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl IntoResponse for OmaError {
    fn into_response(self) -> Response {
        use axum::http::{HeaderValue, header};
        let retry_after = match &self {
            Self::TooManyAttempts { retry_after_seconds } => Some(*retry_after_seconds),
            _ => None,
        };
        if self.kind() == FailureKind::Internal {
            tracing::error!(error = &self as &dyn std::error::Error, "a request failed");
        }
        let asks_for_token = matches!(self, Self::Unauthenticated);
        let mut response = self.into_problem().into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if asks_for_token {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
