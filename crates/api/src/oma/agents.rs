//! `/agents` and `/enroll`: pairing, approval, connections, audit.

use model::status::{AuditEvent, EnrollmentStatus};
use model::{BandwidthLimit, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// How long a pairing code is good for, in minutes.
pub const PAIRING_CODE_MINUTES: i64 = 10;

/// `POST /api/v1/agents/pairing-codes`: the code is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PairingCode {
    /// What the agent's operator types.
    pub code: Secret,
    /// When it stops working.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// SHA-256 of the hub's CA certificate, hex: the code carries its beginning.
    pub ca_fingerprint: String,
}

/// `POST /api/v1/enroll`: an agent asks to belong to this hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The pairing code's secret part.
    pub pairing_code: Secret,
    /// What the agent calls itself; shown to the operator, never trusted.
    pub vma_name: String,
    /// The agent's version.
    pub vma_version: String,
    /// Certificate signing request, PEM; only its key counts.
    pub csr_pem: String,
}

/// The challenge an agent must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollChallenge {
    /// The enrolment.
    pub enrollment_id: String,
    /// 64 hexadecimal digits: random bytes that the agent's key signs together with the enrolment's id.
    pub challenge_nonce: String,
    /// Fingerprint of the agent's public key: the operator compares it before approving.
    pub fingerprint: String,
}

/// `POST /api/v1/enroll/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollVerify {
    /// The enrolment.
    pub enrollment_id: String,
    /// The Ed25519 signature of the challenge, hexadecimal.
    pub signature: String,
}

/// `GET /api/v1/enroll/{id}`: how far an enrolment is; once approved, with the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentState {
    /// The enrolment.
    pub enrollment_id: String,
    /// How far.
    pub status: EnrollmentStatus,
    /// The agent's certificate, PEM.
    pub certificate_pem: Option<String>,
    /// The hub's CA certificate, PEM.
    pub ca_pem: Option<String>,
}

/// `POST /api/v1/enroll/{id}/renew`: an approved agent asks for a fresh certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewCertificate {
    /// Certificate signing request, PEM, made with the key that is enrolled.
    pub csr_pem: String,
}

/// The answer to [`RenewCertificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenewedCertificate {
    /// The new certificate, PEM.
    pub certificate_pem: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// An agent as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    /// The enrolment.
    pub enrollment_id: String,
    /// Its name.
    pub vma_name: String,
    /// Its version.
    pub vma_version: String,
    /// Fingerprint of its key.
    pub fingerprint: String,
    /// Status.
    pub status: EnrollmentStatus,
    /// Where it called from.
    pub remote_address: Option<String>,
    /// Whether its control connection is open.
    pub connected: bool,
    /// When it was last heard of.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_seen_at: Option<OffsetDateTime>,
    /// When its certificate ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub certificate_expires_at: Option<OffsetDateTime>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// When it asked.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// `/api/v1/agents/{id}/limits`: how much an agent may send, by its own clock; the lowest in force counts, that of its
/// configuration included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentLimits {
    /// 32 at most; none is no limit.
    pub limits: Vec<BandwidthLimit>,
}

/// A line of the agents' audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentAuditEntry {
    /// Row id.
    pub id: String,
    /// The enrolment, unless it is gone.
    pub enrollment_id: Option<String>,
    /// What happened.
    pub event_type: AuditEvent,
    /// Fingerprint of the key.
    pub vma_fingerprint: Option<String>,
    /// Where from.
    pub source_ip: String,
    /// Who approved.
    pub approved_by: Option<String>,
    /// Details.
    #[schema(value_type = Object)]
    pub event_details: Value,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}
