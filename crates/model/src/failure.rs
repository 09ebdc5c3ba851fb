//! What kind of failure an error is, for everyone above: it alone decides the HTTP status and whether a step retries.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// The kind of a failure. Every crate's error maps to exactly one of these.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureKind {
    /// The thing asked for does not exist.
    NotFound,
    /// The request contradicts the present state (already running, already used, in use).
    Conflict,
    /// The request itself is wrong and will be wrong again.
    Invalid,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller is known but may not do this.
    Forbidden,
    /// The other side cannot be reached or is busy; the same request may work later.
    Unavailable,
    /// A limit, a quota or a disk is full.
    Exhausted,
    /// A defect or something nobody foresaw.
    Internal,
}

impl FailureKind {
    /// Whether repeating the same request unchanged can succeed without anybody acting.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self == Self::Unavailable
    }

    /// The HTTP status code (RFC 9110 §15) this kind is reported with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Invalid => 422,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::Unavailable => 503,
            Self::Exhausted => 507,
            Self::Internal => 500,
        }
    }
}
