//! `/ghosts`: what carries our marks in CloudStack and vCenter and belongs to no live job.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What a ghost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GhostKind {
    /// A VM in CloudStack that a failover made.
    Vm,
    /// A volume in CloudStack.
    Volume,
    /// A volume_snapshot in CloudStack.
    VolumeSnapshot,
    /// The vm_snapshots of ours on one VM in vCenter: they are removed together.
    VmSnapshot,
}

impl GhostKind {
    /// The kind as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Volume => "volume",
            Self::VolumeSnapshot => "volume_snapshot",
            Self::VmSnapshot => "vm_snapshot",
        }
    }
}

/// Something of ours that nothing needs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GhostView {
    /// What it is called here; the same as long as it exists.
    pub id: String,
    /// What it is.
    pub kind: GhostKind,
    /// Its id in CloudStack; of vm_snapshots the VM's managed object id.
    pub resource_id: String,
    /// Its name.
    pub name: String,
    /// The CloudStack target it is in; none in vCenter.
    pub target: Option<String>,
    /// The VM context its marks name, whether this hub knows it or not.
    pub vm_context_id: Option<String>,
    /// The name of that VM, when this hub knows it.
    pub vm_name: Option<String>,
    /// The job that made it, as far as its marks say.
    pub job_id: Option<String>,
    /// When it was made, as CloudStack says.
    #[serde(with = "time::serde::rfc3339::option")]
    pub created: Option<OffsetDateTime>,
    /// When this process saw it first.
    #[serde(with = "time::serde::rfc3339")]
    pub seen_since: OffsetDateTime,
    /// What it is and why nothing needs it.
    pub reason: String,
    /// Whether it may be removed as it is now.
    pub removable: bool,
    /// Why it may not.
    pub obstacle: Option<String>,
    /// What to do about it.
    pub remedy: String,
}

/// `GET /api/v1/ghosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GhostList {
    /// The ghosts, sorted by id.
    pub items: Vec<GhostView>,
    /// When it was looked.
    #[serde(with = "time::serde::rfc3339")]
    pub looked_at: OffsetDateTime,
    /// What could not be looked at, and why; empty when everything was.
    pub notes: Vec<String>,
}
