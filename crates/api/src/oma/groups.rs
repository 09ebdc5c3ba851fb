//! `/machine-groups`: VMs that are handled together, and the order in which they are started.

use model::status::ContextStatus;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Longest name of a group, in characters.
pub const MAX_GROUP_NAME_CHARS: usize = 255;
/// Longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 2000;
/// Most VMs of a group that are worked on at once: every one of them is a saga with calls of its own.
pub const MAX_CONCURRENT_VMS: u32 = 64;
/// How many are unless said otherwise.
pub const DEFAULT_CONCURRENT_VMS: u32 = 4;
/// Highest boot order.
pub const MAX_BOOT_ORDER: u32 = 1000;
/// Longest wait before a VM is started, in seconds: a day.
pub const MAX_BOOT_DELAY_SECONDS: u32 = 86_400;
/// Highest priority; the lowest is its negative.
pub const MAX_PRIORITY: i32 = 1000;

/// `POST` and `PUT /api/v1/machine-groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// Unique name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How many of its VMs are worked on at once; 1 to 64.
    #[serde(default = "default_concurrent_vms")]
    pub max_concurrent_vms: u32,
    /// Higher ones come first where groups compete; -1000 to 1000.
    #[serde(default)]
    pub priority: i32,
}

fn default_concurrent_vms() -> u32 {
    DEFAULT_CONCURRENT_VMS
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupView {
    /// Row id.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How many of its VMs are worked on at once.
    pub max_concurrent_vms: u64,
    /// Higher ones come first where groups compete.
    pub priority: i64,
    /// How many VMs belong to it.
    pub member_count: u64,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// `GET /api/v1/machine-groups/{group}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupDetail {
    /// The group.
    pub group: GroupView,
    /// Its VMs in the order in which they are started.
    pub members: Vec<MemberView>,
}

/// `PUT /api/v1/machine-groups/{group}/members/{vm}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Lower ones are started first, equal ones together; 0 to 1000.
    #[serde(default)]
    pub boot_order: u32,
    /// How long to wait before it is started when its turn has come, in seconds; at most a day.
    #[serde(default)]
    pub boot_delay_seconds: u32,
    /// Higher ones come first among equals; -1000 to 1000.
    #[serde(default)]
    pub priority: i32,
    /// Whether it takes part.
    #[serde(default = "taking_part")]
    pub enabled: bool,
}

fn taking_part() -> bool {
    true
}

/// A VM of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberView {
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
    /// Where it stands.
    pub current_status: ContextStatus,
    /// Lower ones are started first, equal ones together.
    pub boot_order: i64,
    /// How long to wait before it is started when its turn has come, in seconds.
    pub boot_delay_seconds: u64,
    /// Higher ones come first among equals.
    pub priority: i64,
    /// Whether it takes part.
    pub enabled: bool,
    /// Who added it.
    pub added_by: String,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
}
