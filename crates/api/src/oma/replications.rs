//! `/replications`: starting, watching and cancelling them; change ids.

use std::num::NonZeroU32;

use model::status::{ReplicationStatus, ReplicationType};
use model::{ChangeId, CompressionMode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::gateway::VerifyReport;
use crate::oma::certificates::CertificateView;
use crate::oma::progress::JobProgress;
use crate::problem::Problem;
use crate::vma::{ReaderSpec, RunView, Stretch};

/// What an operator asks for; `auto` chooses from what is known of the disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestedType {
    /// Incremental where every disk has a committed change id, otherwise initial.
    #[default]
    Auto,
    /// Copy everything allocated, again.
    Initial,
    /// Copy what changed; refused without committed change ids.
    Incremental,
    /// Read everything and write what differs.
    Compare,
}

/// How much of a disk an increment reads again although change tracking calls it unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScrubRequest {
    /// So much that the whole disk is read within 15 days.
    #[default]
    Auto,
    /// All of it: before a cutover.
    Full,
    /// Nothing.
    Off,
}

/// `POST /api/v1/replications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartReplication {
    /// The VM.
    pub vm_context_id: String,
    /// What to copy.
    #[serde(default)]
    pub replication_type: RequestedType,
    /// Whether to quiesce the guest's file systems; where tools do not run it is crash-consistent and said so.
    #[serde(default)]
    pub quiesce: bool,
    /// How the agent reads all disks; when absent, preflight chooses for each.
    #[serde(default)]
    pub reader: Option<ReaderSpec>,
    /// How much is read beside what change tracking names, to catch it lying.
    #[serde(default)]
    pub scrub: ScrubRequest,
    /// From now on this many committed increments of the VM are kept beside its volumes, each a recovery point.
    #[serde(default)]
    pub keep_points: Option<u32>,
    /// Write into the volumes at once instead of a journal beside them: needs no room on the hub, and until the commit the
    /// replicas are between two points in time.
    #[serde(default)]
    pub in_place: bool,
    /// Whether the agent compresses what it sends; as its configuration says when absent.
    #[serde(default)]
    pub compression: Option<CompressionMode>,
    /// Most MiB per second this replication may send, beside what its agent may in all.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub limit_mib_per_s: Option<NonZeroU32>,
}

/// 202: long work was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accepted {
    /// Id of the domain job (`job-…`): see `Location`.
    pub job_id: String,
    /// Id of the job in the JobLog.
    pub tracking_id: String,
}

/// What `?dry_run=true` answers: what would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicationPlan {
    /// What would be copied.
    pub replication_type: ReplicationType,
    /// Per disk: what and why.
    pub disks: Vec<PlannedDisk>,
    /// What stands in the way; empty when it could start.
    pub blockers: Vec<Problem>,
}

/// One disk of a [`ReplicationPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// The volume to be used; a new one when absent.
    pub volume_uuid: Option<String>,
    /// The change id to start from.
    #[schema(value_type = Option<String>)]
    pub previous_change_id: Option<ChangeId>,
    /// What is read beside what change tracking names.
    #[serde(default)]
    pub scrub: Option<Stretch>,
    /// Why it is done like this.
    pub reason: String,
    /// How it is read; absent when the VM could not be looked at.
    #[serde(default)]
    pub reader: Option<ReaderSpec>,
    /// Why it is read like this.
    #[serde(default)]
    pub reader_reason: Option<String>,
}

/// A replication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicationView {
    /// Job id.
    pub id: String,
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub source_vm_name: String,
    /// What is copied.
    pub replication_type: ReplicationType,
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
    /// Seconds left.
    pub eta_seconds: Option<u64>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// Id of the job in the JobLog.
    pub tracking_id: Option<String>,
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

/// `GET /api/v1/replications/{job_id}/progress`: the replication with its disks, live or as it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplicationProgress {
    /// The replication.
    pub replication: ReplicationView,
    /// The agent's last report.
    pub run: Option<RunView>,
    /// What the gateway found per disk, once verified.
    pub verification: Vec<DiskVerification>,
    /// What each disk's equality was certified with, once committed.
    #[serde(default)]
    pub certificates: Vec<CertificateView>,
    /// How far it is; once it has ended, how far it was when it was verified.
    #[serde(default)]
    pub work: Option<JobProgress>,
}

/// The proof of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiskVerification {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The gateway's report.
    pub report: VerifyReport,
}

/// Query of `GET /api/v1/replications/changeid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChangeIdQuery {
    /// Inventory path of the VM.
    pub vm_path: String,
    /// `disk-<device key>`.
    pub disk_id: String,
}

/// The newest committed change id of a disk; an empty one means: copy everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChangeIdView {
    /// Inventory path of the VM.
    pub vm_path: String,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The change id, or an empty text.
    pub change_id: String,
}

/// `POST /api/v1/replications/{job_id}/changeid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreChangeId {
    /// The change id reached.
    #[schema(value_type = String)]
    pub change_id: ChangeId,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The one before.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub previous_change_id: Option<ChangeId>,
}
