//! `/discovery`: looking at a vCenter through an agent, and adding VMs from what was seen.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::vma::SourceVm;

/// `POST /api/v1/discovery/scan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanRequest {
    /// The vCenter; the default one when absent.
    #[serde(default)]
    pub credential_id: Option<String>,
    /// The agent to look through; the only connected one when absent.
    #[serde(default)]
    pub enrollment_id: Option<String>,
    /// Part of a name or path.
    #[serde(default)]
    pub filter: Option<String>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScanResult {
    /// The vCenter's name for itself.
    pub vcenter_name: String,
    /// The credential used.
    pub credential_id: String,
    /// The agent used.
    pub enrollment_id: String,
    /// The VMs.
    pub vms: Vec<ScannedVm>,
}

/// A VM that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScannedVm {
    /// The context, when it is already added.
    pub context_id: Option<String>,
    /// The VM.
    pub vm: SourceVm,
}

/// `POST /api/v1/discovery/add`: uses the last scan, no second inventory walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRequest {
    /// The vCenter; the default one when absent.
    #[serde(default)]
    pub credential_id: Option<String>,
    /// The agent; the only connected one when absent.
    #[serde(default)]
    pub enrollment_id: Option<String>,
    /// Managed object ids, inventory paths or unique names.
    pub vms: Vec<String>,
    /// The target they go to; the active one when absent.
    #[serde(default)]
    pub ossea_config_id: Option<String>,
}

/// What was added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddResult {
    /// Added or refreshed.
    pub added: Vec<AddedVm>,
    /// Not added, each with its reason.
    pub refused: Vec<RefusedVm>,
}

/// A VM that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AddedVm {
    /// The context.
    pub context_id: String,
    /// Its name.
    pub vm_name: String,
    /// Whether it is new.
    pub created: bool,
}

/// A VM that was not added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefusedVm {
    /// As it was asked for.
    pub vm: String,
    /// Why.
    pub problem: Problem,
}
