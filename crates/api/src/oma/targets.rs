//! `/ossea-configs`: the CloudStack targets. Keys go in and never come out.

use model::Secret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `POST` and `PUT /api/v1/ossea-configs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRequest {
    /// Unique name.
    pub name: String,
    /// `https://host:8443/client/api`.
    pub api_url: String,
    /// API key.
    pub api_key: Secret,
    /// Secret key.
    pub secret_key: Secret,
    /// Domain path.
    #[serde(default)]
    pub domain: Option<String>,
    /// Zone: name or id.
    pub zone: String,
    /// Template of the VMs to be made.
    #[serde(default)]
    pub template_id: Option<String>,
    /// Network of the VMs to be made.
    #[serde(default)]
    pub network_id: Option<String>,
    /// Service offering of the VMs to be made.
    #[serde(default)]
    pub service_offering_id: Option<String>,
    /// Disk offering of the replica volumes; the first custom-size one when absent.
    #[serde(default)]
    pub disk_offering_id: Option<String>,
    /// The hub's own VM; found by its network cards when absent.
    #[serde(default)]
    pub oma_vm_id: Option<String>,
    /// SHA-256 of the server's certificate.
    #[serde(default)]
    pub tls_fingerprint: Option<String>,
    /// Whether it is the one used when none is named.
    #[serde(default = "active")]
    pub is_active: bool,
}

fn active() -> bool {
    true
}

/// A target without its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetView {
    /// Row id.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// API endpoint.
    pub api_url: String,
    /// Domain path.
    pub domain: Option<String>,
    /// Zone.
    pub zone: String,
    /// Template.
    pub template_id: Option<String>,
    /// Network.
    pub network_id: Option<String>,
    /// Service offering.
    pub service_offering_id: Option<String>,
    /// Disk offering.
    pub disk_offering_id: Option<String>,
    /// The hub's own VM.
    pub oma_vm_id: Option<String>,
    /// Pinned certificate.
    pub tls_fingerprint: Option<String>,
    /// Whether it is active.
    pub is_active: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// How one prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// As it should be.
    Passed,
    /// Works, with a consequence.
    Warning,
    /// Replication cannot work.
    Failed,
}

/// One prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PrerequisiteCheck {
    /// Stable name.
    pub code: String,
    /// In words.
    pub title: String,
    /// How it stands.
    pub outcome: CheckOutcome,
    /// What was seen.
    pub evidence: String,
    /// What to do; empty when it passed.
    pub remedy: String,
}

/// `POST /api/v1/ossea-configs/{id}/validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetReport {
    /// Whether nothing failed.
    pub usable: bool,
    /// The hub's own VM as found.
    pub oma_vm_id: Option<String>,
    /// Every check.
    pub checks: Vec<PrerequisiteCheck>,
}
