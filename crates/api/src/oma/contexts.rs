//! `/vm-contexts`: the two answers a console depends on; fields may be added, none renamed.

use model::ChangeId;
use model::status::{ContextStatus, DiskSyncStatus, ReplicationStatus, ReplicationType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// Jobs shown with a context.
pub const JOB_HISTORY_LIMIT: u32 = 10;
/// CBT history rows shown with a context.
pub const CBT_HISTORY_LIMIT: u32 = 20;

/// `GET /api/v1/vm-contexts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContextList {
    /// Number of contexts.
    pub count: u64,
    /// The contexts, by name.
    pub vm_contexts: Vec<ContextView>,
}

/// A VM known to the platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContextView {
    /// Row id.
    pub context_id: String,
    /// Name in VMware.
    pub vm_name: String,
    /// Instance uuid.
    pub vmware_vm_id: String,
    /// Inventory path.
    pub vm_path: String,
    /// Host of the vCenter.
    pub vcenter_host: String,
    /// Datacenter.
    pub datacenter: String,
    /// Where it stands.
    pub current_status: ContextStatus,
    /// The replication that runs.
    pub current_job_id: Option<String>,
    /// Replications ever.
    pub total_jobs_run: u64,
    /// Of these, completed.
    pub successful_jobs: u64,
    /// Of these, failed.
    pub failed_jobs: u64,
    /// The last one that completed.
    pub last_successful_job_id: Option<String>,
    /// When the VM was added.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When the row changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// When its first replication began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub first_job_at: Option<OffsetDateTime>,
    /// When its last replication began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_job_at: Option<OffsetDateTime>,
    /// When the status changed last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_status_change: Option<OffsetDateTime>,
    /// Managed object id.
    pub vmware_moref: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Guest OS in words.
    pub os_type: String,
    /// Power state when last seen.
    pub power_state: String,
    /// The agent that reads it.
    pub enrollment_id: Option<String>,
    /// The vCenter credential it is read with.
    pub credential_id: Option<String>,
    /// The target it goes to.
    pub ossea_config_id: Option<String>,
}

/// `GET /api/v1/vm-contexts/{vm_name or id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContextDetail {
    /// The context.
    pub context: ContextView,
    /// The replication that runs.
    pub current_job: Option<CurrentJob>,
    /// The last [`JOB_HISTORY_LIMIT`] replications, newest first.
    pub job_history: Vec<JobHistoryEntry>,
    /// Its disks.
    pub disks: Vec<ContextDisk>,
    /// The last [`CBT_HISTORY_LIMIT`] rows, newest first.
    pub cbt_history: Vec<CbtHistoryEntry>,
    /// Summary of the last operation.
    #[schema(value_type = Option<Object>)]
    pub last_operation: Option<Value>,
}

/// The running replication, live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CurrentJob {
    /// Job id.
    pub id: String,
    /// Status.
    pub status: ReplicationStatus,
    /// 0 to 100.
    pub progress_percent: f64,
    /// What is being done.
    pub current_operation: String,
    /// Bytes of data sent.
    pub bytes_transferred: u64,
    /// Bytes to look at.
    pub total_bytes: u64,
    /// Bytes per second.
    pub transfer_speed_bps: u64,
    /// The same in MiB/s, as the agent measured it.
    pub vma_throughput_mbps: f64,
    /// Seconds left.
    pub vma_eta_seconds: Option<u64>,
}

/// A replication in a context's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobHistoryEntry {
    /// Job id.
    pub id: String,
    /// What it copied.
    pub replication_type: ReplicationType,
    /// How it ended.
    pub status: ReplicationStatus,
    /// 0 to 100.
    pub progress_percent: f64,
    /// Bytes of data sent.
    pub bytes_transferred: u64,
    /// Bytes looked at.
    pub total_bytes: u64,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

/// A disk of a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContextDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// Size in GiB, rounded up.
    pub size_gb: u64,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// The VM's virtual CPUs (kept for the existing console).
    pub cpu_count: u32,
    /// The VM's memory in MiB (kept for the existing console).
    pub memory_mb: u64,
    /// The VM's guest OS (kept for the existing console).
    pub os_type: String,
    /// The VM's network cards as JSON text (kept for the existing console).
    pub network_config: String,
    /// Row id.
    pub id: String,
    /// The VMDK's uuid.
    pub disk_uuid: String,
    /// `[datastore] dir/file.vmdk`.
    pub vmdk_path: String,
    /// `Hard disk 1`.
    pub label: String,
    /// State of the replica.
    pub sync_status: DiskSyncStatus,
    /// The replica volume.
    pub volume_uuid: Option<String>,
    /// The change id the replica is equal to.
    #[schema(value_type = Option<String>)]
    pub disk_change_id: Option<ChangeId>,
}

/// A row of a context's CBT history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CbtHistoryEntry {
    /// Row id.
    pub id: String,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The replication.
    pub job_id: Option<String>,
    /// The change id reached.
    pub change_id: String,
    /// The one before.
    pub previous_change_id: Option<String>,
    /// What was copied.
    pub sync_type: ReplicationType,
    /// 64 KiB blocks that changed.
    pub blocks_changed: u64,
    /// Bytes of data sent.
    pub bytes_transferred: u64,
    /// How long it took.
    pub sync_duration_seconds: u64,
    /// Whether it was committed.
    pub sync_success: bool,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}
