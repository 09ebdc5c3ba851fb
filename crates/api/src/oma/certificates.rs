//! `/certificates`: certificates of equality, one for each disk and commit.

use model::status::ReplicationType;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Query of `GET /api/v1/certificates`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CertificateQuery {
    /// Only those of this VM: name or context id.
    #[serde(default)]
    pub vm: Option<String>,
}

/// A certificate, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateView {
    /// Id.
    pub id: String,
    /// The VM.
    pub vm_context_id: String,
    /// The replication it was issued for, while that is remembered.
    pub job_id: Option<String>,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The change id at which the replica was equal to the source.
    pub change_id: String,
    /// Size of the disk in bytes.
    pub capacity_bytes: u64,
    /// Leaves of the disk.
    pub leaves_total: u64,
    /// Leaves that were re-read from the replica in this replication.
    pub leaves_verified: u64,
    /// How it was found what to copy.
    pub sync_type: ReplicationType,
    /// The root over all leaves, hex.
    pub root: String,
    /// The one of the same disk before it.
    pub previous_certificate_id: Option<String>,
    /// The public key it is signed with, hex.
    pub public_key: String,
    /// When it was committed.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A certificate, whole: what is verified offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateFile {
    /// The document, JSON as a text: exactly these bytes are signed.
    pub document: String,
    /// Ed25519 signature (RFC 8032), hex.
    pub signature: String,
    /// The public key, hex.
    pub public_key: String,
}
