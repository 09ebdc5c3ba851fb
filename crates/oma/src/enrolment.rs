//! How an agent comes to belong to this hub, and stops to: pairing code, challenge, approval, certificate, revocation.
//!
//! | status | how it is left |
//! |---|---|
//! | pending_verification | the challenge is signed with the key ([`request`]); three wrong answers end it |
//! | awaiting_approval | an operator approves or rejects ([`decision`]); a day after the request it expires ([`sweep`]) |
//! | approved | certificates are issued and renewed ([`certificate`]) until it is revoked ([`decision`]) |
//!
//! Every step is written to `vma_connection_audit`. No HTTP here, and no TLS: see `http` and the `tunnel` crate.

pub mod certificate;
pub mod decision;
pub mod pairing;
pub mod request;
pub mod sweep;
pub mod view;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::enrolment::request::WrongSignatures;
use crate::error::OmaError;
use crate::throttle::Throttle;

/// Enrolments one address may begin within [`LIMIT_WINDOW`]: 60 bits of a code are never guessed at this pace.
const MAX_ENROLLMENTS: u32 = 10;
/// Other enrolment requests (verify, poll, renew) from one address within [`LIMIT_WINDOW`]: several agents behind one
/// address, each polling every two seconds.
const MAX_POLLS: u32 = 300;
/// See [`MAX_ENROLLMENTS`] and [`MAX_POLLS`].
const LIMIT_WINDOW: Duration = Duration::from_secs(60);

/// Limits on what anybody may send without a token.
pub(crate) struct EnrolmentLimits {
    enrollments: Throttle,
    polls: Throttle,
    wrong_signatures: WrongSignatures,
}

impl Default for EnrolmentLimits {
    fn default() -> Self {
        Self {
            enrollments: Throttle::new(MAX_ENROLLMENTS, LIMIT_WINDOW),
            polls: Throttle::new(MAX_POLLS, LIMIT_WINDOW),
            wrong_signatures: WrongSignatures::default(),
        }
    }
}

impl EnrolmentLimits {
    /// Counts the beginning of an enrolment.
    pub(crate) fn count_enrollment(&self, address: IpAddr) -> Result<(), OmaError> {
        self.enrollments.attempt(address, Instant::now()).map_err(too_many)
    }

    /// Counts any other request about an enrolment.
    pub(crate) fn count_poll(&self, address: IpAddr) -> Result<(), OmaError> {
        self.polls.attempt(address, Instant::now()).map_err(too_many)
    }
}

fn too_many(wait: Duration) -> OmaError {
    OmaError::TooManyAttempts { retry_after_seconds: wait.as_secs() + 1 }
}
