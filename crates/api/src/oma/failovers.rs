//! `/failovers`: live and test failovers, what they would do, how far they are, and how they are taken back.

use std::collections::BTreeMap;

use model::status::{FailoverStatus, FailoverType, Firmware, JobStatus};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::probes::{ProbeResult, ProbeSpec};
use super::replications::ScrubRequest;
use crate::problem::Problem;

/// How long probes are repeated when nothing is said, in seconds.
pub const DEFAULT_PROBE_SECONDS: u32 = 300;
/// How long a guest is given to shut down when nothing is said, in seconds.
pub const DEFAULT_SHUTDOWN_SECONDS: u32 = 600;

/// Whether the guest's drivers are adapted before it boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversionPolicy {
    /// Where the guest is known to need it.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Not at all: the VM gets hardware that needs no drivers.
    Never,
}

/// How the source is switched off before a live failover.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerOff {
    /// It is left alone.
    #[default]
    No,
    /// The guest is asked to shut down; one that does not is left running and the failover fails.
    Graceful,
    /// The guest is asked to shut down; after its time the power is cut.
    Forced,
}

/// `POST /api/v1/failovers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartFailover {
    /// The VM (context id); exactly one of this and `group`.
    #[serde(default)]
    pub vm_context_id: Option<String>,
    /// The group (name or id).
    #[serde(default)]
    pub group: Option<String>,
    /// Live or test.
    #[serde(rename = "type")]
    pub failover_type: FailoverType,
    /// How the source is switched off (live only).
    #[serde(default)]
    pub power_off_source: PowerOff,
    /// How long its guest may take to shut down, in seconds.
    #[serde(default)]
    pub shutdown_seconds: Option<u32>,
    /// Whether the source is copied once more before (live only).
    #[serde(default)]
    pub final_sync: bool,
    /// How much the final copy reads beside what change tracking names (live only).
    #[serde(default)]
    pub scrub: ScrubRequest,
    /// The recovery point the VM begins at (`job-…`); the newest when absent.
    #[serde(default)]
    pub point: Option<String>,
    /// Whether the guest's drivers are adapted.
    #[serde(default)]
    pub guest_conversion: ConversionPolicy,
    /// After how many seconds a test ends by itself.
    #[serde(default)]
    pub test_duration_seconds: Option<u64>,
    /// Name of the VM to be made: the source's (live), or that with `-test` (test), when absent.
    #[serde(default)]
    pub destination_name: Option<String>,
    /// What is tried once it runs.
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
    /// How long the probes are repeated, in seconds.
    #[serde(default)]
    pub probe_seconds: Option<u32>,
    /// For a group: whether members of later orders are begun although one failed.
    #[serde(default)]
    pub go_on_after_failure: bool,
}

/// A VM to be made in the target cloud, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DestinationVm {
    /// Host name there.
    pub name: String,
    /// Name people see.
    pub display_name: String,
    /// Zone (id).
    pub zone_id: String,
    /// Template it is made of; its disk is thrown away.
    pub template_id: String,
    /// Service offering (id).
    pub service_offering_id: String,
    /// CPUs it will have.
    pub cpu_count: u32,
    /// Memory it will have, MiB.
    pub memory_mib: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// Whether Secure Boot is on.
    pub secure_boot: bool,
    /// Settings (`rootDiskController`, `nicAdapter`, `cpuNumber`, …).
    pub details: BTreeMap<String, String>,
    /// Network cards in order; the first is the default one.
    pub nics: Vec<DestinationNic>,
    /// Disks in order; the first is the root.
    pub disks: Vec<DestinationDisk>,
    /// The id it gets, where the account may choose one.
    pub custom_id: Option<String>,
}

/// A network card of a [`DestinationVm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DestinationNic {
    /// `Network adapter 1`, as in vCenter.
    pub label: String,
    /// MAC address of the source's card.
    pub source_mac: String,
    /// Network it is on there.
    pub source_network: String,
    /// Network (id) it goes to.
    pub network_id: String,
    /// That network's name.
    pub network_name: String,
    /// MAC address asked for; a new one when absent.
    pub mac_address: Option<String>,
    /// IP address asked for; the network's choice when absent.
    pub ip_address: Option<String>,
}

/// A disk of a [`DestinationVm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DestinationDisk {
    /// `disk-<device key>`, as in vCenter.
    pub disk_id: String,
    /// The replica volume (CloudStack's uuid).
    pub volume_uuid: String,
    /// CloudStack device id; 0 is the root.
    pub device_id: u32,
    /// Size of the volume in bytes.
    pub size_bytes: u64,
    /// The committed point in time.
    pub change_id: String,
}

/// A call that would be made, as it would be sent but for its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedCall {
    /// Whom it goes to: `cloudstack` or `vcenter`.
    pub to: String,
    /// Command.
    pub command: String,
    /// Parameters by name.
    pub params: BTreeMap<String, String>,
}

/// A step that would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// `undoable`, `pivot` or `retried`.
    pub kind: String,
    /// What it changes.
    pub calls: Vec<PlannedCall>,
    /// Seconds such a step took in past runs (median); none without past runs.
    pub expected_seconds: Option<f64>,
    /// How many past runs that is from.
    pub past_runs: u32,
}

/// What `?dry_run=true` answers, and the readiness of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailoverPlan {
    /// Live or test.
    #[serde(rename = "type")]
    pub failover_type: FailoverType,
    /// The VM's name.
    pub vm_name: String,
    /// The VM to be made; none while something stands in its way.
    pub vm: Option<DestinationVm>,
    /// Whether the guest is converted, and why.
    pub conversion: String,
    /// The steps in order.
    pub steps: Vec<PlannedStep>,
    /// Everything that stands in the way.
    pub blockers: Vec<Problem>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

/// A volume's way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SafetySnapshot {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The volume (CloudStack's uuid).
    pub volume_uuid: String,
    /// The volume snapshot.
    pub ossea_snapshot_id: String,
    /// What the volume was equal to when it was taken.
    pub change_id: String,
}

/// A failover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailoverView {
    /// `failover-…`.
    pub job_id: String,
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub source_vm_name: String,
    /// Live or test.
    #[serde(rename = "type")]
    pub failover_type: FailoverType,
    /// Status.
    pub status: FailoverStatus,
    /// 0 to 100.
    pub progress_percent: f64,
    /// What is being done.
    pub current_step: String,
    /// The VM in the target cloud, once it may exist.
    pub destination_vm_id: Option<String>,
    /// Its name.
    pub destination_vm_name: Option<String>,
    /// The VM made, exactly; none before it is decided.
    pub vm: Option<DestinationVm>,
    /// What each volume can be put back to.
    pub snapshots: Vec<SafetySnapshot>,
    /// What the health probes found; none before they were tried.
    pub probes: Option<Vec<ProbeResult>>,
    /// When a test ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Why it failed, or waits for an operator.
    pub error: Option<Problem>,
    /// Its jobs in the JobLog, newest first: the failover itself, its cleanup or rollback.
    pub jobs: Vec<FailoverJobRef>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When the VM ran, or when it ended without.
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

/// A job of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailoverJobRef {
    /// Id in the JobLog.
    pub id: String,
    /// `failover_test`, `failover_cleanup`, …
    pub job_type: String,
    /// Its status.
    pub status: JobStatus,
}

/// `POST /api/v1/failovers/{job_id}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartRollback {
    /// Whether the source VM is switched on again.
    pub power_on_source: bool,
    /// Whether the VM in the target cloud may be switched off hard when its guest does not shut down.
    pub force: bool,
}

/// How a group's failover came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupVerdict {
    /// Whether every member runs and passed its probes.
    pub passed: bool,
    /// The members in the order they were begun.
    pub members: Vec<MemberVerdict>,
}

/// How one member came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberVerdict {
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
    /// When its turn was.
    pub boot_order: i64,
    /// Its failover; none when its turn did not come, or it could not be begun.
    pub job_id: Option<String>,
    /// Whether it runs and passed its probes.
    pub passed: bool,
    /// In words.
    pub message: String,
}
