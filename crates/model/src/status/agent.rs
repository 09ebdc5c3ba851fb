//! Statuses of agents and what is recorded about them.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::Transitions;

/// State of an agent's enrolment (`vma_enrollments.status`).
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
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EnrollmentStatus {
    /// Its key is not proven.
    PendingVerification,
    /// Proven; an operator must approve.
    AwaitingApproval,
    /// May connect.
    Approved,
    /// Refused.
    Rejected,
    /// Took too long.
    Expired,
    /// Was approved, is not now.
    Revoked,
}

impl Transitions for EnrollmentStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::PendingVerification => &[Self::AwaitingApproval, Self::Expired, Self::Rejected],
            Self::AwaitingApproval => &[Self::Approved, Self::Rejected, Self::Expired],
            Self::Approved => &[Self::Revoked, Self::Expired],
            Self::Rejected => &[],
            Self::Expired => &[],
            Self::Revoked => &[],
        }
    }
}

/// State of an agent's control connection (`vma_active_connections.connection_status`).
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
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ConnectionStatus {
    /// Open.
    Connected,
    /// Closed.
    Disconnected,
    /// Closed for good.
    Revoked,
}

impl Transitions for ConnectionStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Connected => &[Self::Connected, Self::Disconnected, Self::Revoked],
            Self::Disconnected => &[Self::Connected, Self::Revoked],
            Self::Revoked => &[],
        }
    }
}

/// What happened to an agent (`vma_connection_audit.event_type`).
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
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AuditEvent {
    /// Asked to enrol.
    Enrollment,
    /// Proved its key.
    Verification,
    /// Was approved.
    Approval,
    /// Was rejected.
    Rejection,
    /// Connected.
    Connection,
    /// Disconnected.
    Disconnection,
    /// Got a new certificate.
    Renewal,
    /// Was revoked.
    Revocation,
}
