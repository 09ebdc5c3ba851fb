//! Runs of an agent: what the hub asks for, and how far it is.

use model::status::{ChangeSource, ReaderKind};
use model::{ChangeId, CompressionMode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{RunLimits, VcenterConnection};
use crate::problem::Problem;
use crate::progress::TimeSpent;

/// How a disk is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ReaderSpec {
    /// The frozen disk is added to the agent's own VM and read as a block device.
    Hotadd,
    /// HTTPS ranges of the frozen disk's files.
    Folder,
    /// An NBD server that shows the frozen disk.
    Nbd {
        /// `nbd://…` or `nbd+unix://…`; may hold `{vmdk_path}`, `{moref}`, `{vm_snapshot}`, `{disk_id}`. A Unix socket
        /// must lie under a folder the agent's configuration allows.
        uri: String,
    },
    /// A program that serves the frozen disk as NBD on the Unix socket `{socket}`; named in the agent's own
    /// configuration, so that the hub can choose it but never write a command line.
    NbdCommand {
        /// Name of the command in the agent's configuration.
        name: String,
    },
    /// A raw file the agent can see.
    File {
        /// Its path, with the places of [`ReaderSpec::Nbd`]; must lie under a folder the agent's configuration allows.
        path: String,
    },
}

impl ReaderSpec {
    /// The kind, as stored.
    #[must_use]
    pub fn kind(&self) -> ReaderKind {
        match self {
            Self::Hotadd => ReaderKind::Hotadd,
            Self::Folder => ReaderKind::Folder,
            Self::Nbd { .. } | Self::NbdCommand { .. } => ReaderKind::Nbd,
            Self::File { .. } => ReaderKind::File,
        }
    }
}

/// One disk of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The VMDK's uuid: must match what the vm_snapshot shows.
    pub disk_uuid: String,
    /// Size in bytes: must match too.
    pub capacity_bytes: u64,
    /// The NBD export to write to.
    pub export_name: String,
    /// The last committed change id; none for a first copy.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub previous_change_id: Option<ChangeId>,
    /// How to read it.
    pub reader: ReaderSpec,
    /// Why like this, for people.
    #[serde(default)]
    pub reader_reason: Option<String>,
    /// Where the list of bytes comes from.
    pub change_source: ChangeSource,
    /// Read this stretch, too, where change tracking names nothing in it: an increment proves what is unchanged there.
    #[serde(default)]
    pub scrub: Option<Stretch>,
}

/// A stretch of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stretch {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Starts a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StartRun {
    /// The replication.
    pub job_id: String,
    /// The VM's managed object id.
    pub moref: String,
    /// The VM's instance uuid: must match.
    pub instance_uuid: String,
    /// Where.
    pub vcenter: VcenterConnection,
    /// Whether the guest's file systems are to be quiesced (crash-consistent otherwise).
    pub quiesce: bool,
    /// NBD connections per disk.
    pub connections_per_disk: u32,
    /// The disks, all of one vm_snapshot.
    pub disks: Vec<RunDisk>,
    /// Whether what is sent is compressed; as the agent's configuration says when absent.
    #[serde(default)]
    pub compression: Option<CompressionMode>,
    /// How much may be sent.
    #[serde(default)]
    pub limits: RunLimits,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Old vm_snapshots are removed, change tracking is switched on.
    Preparing,
    /// The vm_snapshot is being taken.
    Snapshotting,
    /// Bytes move.
    Copying,
    /// Everything was sent; the replica is being flushed.
    Flushing,
    /// Everything is durable on the hub; the vm_snapshot waits for the commit.
    Copied,
    /// Committed; the vm_snapshot is removed.
    Released,
    /// Ended in an error; the vm_snapshot is removed.
    Failed,
    /// Stopped on request; the vm_snapshot is removed.
    Cancelled,
}

/// What a run really did to find the bytes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// Everything allocated was read; all else is zero on the replica too.
    Full,
    /// Only what changed since the previous change id.
    Incremental,
    /// Everything was read and compared with the replica.
    Compare,
}

/// One disk of a run, live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunDiskView {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// What is done to find the bytes.
    pub sync_mode: Option<SyncMode>,
    /// Why this reader and change source.
    pub reason: Option<String>,
    /// The change id of this run's vm_snapshot.
    #[schema(value_type = Option<String>)]
    pub change_id: Option<ChangeId>,
    /// Bytes to look at.
    pub bytes_total: u64,
    /// Bytes looked at so far.
    pub bytes_done: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of data sent.
    pub bytes_sent: u64,
    /// Bytes that were zero and sent as such.
    pub bytes_zero: u64,
    /// Bytes to read only to prove that they are unchanged; part of `bytes_total`.
    #[serde(default)]
    pub bytes_to_scrub: u64,
    /// Extents the change source named.
    pub extents: u64,
    /// Bytes per second over the last seconds.
    pub speed_bps: u64,
    /// Seconds left at that speed.
    pub eta_seconds: Option<u64>,
    /// Bytes per second since its copy began.
    #[serde(default)]
    pub average_bps: u64,
    /// Where the time of its threads went.
    #[serde(default)]
    pub time: TimeSpent,
    /// Whether all of it is durable on the hub.
    pub durable: bool,
    /// Bytes that were durable when the copy last went on after an interruption, and were not sent again.
    #[serde(default)]
    pub bytes_kept: u64,
    /// Bytes given to TCP: compressed, encrypted, with everything around them.
    #[serde(default)]
    pub bytes_on_wire: u64,
    /// How much of what was sent went compressed, in percent; absent where the hub cannot take it or it is off.
    #[serde(default)]
    pub compressed_share_percent: Option<u32>,
    /// What was left of what was compressed, in percent; absent where nothing was.
    #[serde(default)]
    pub compression_ratio_percent: Option<u32>,
}

/// A run, live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunView {
    /// The replication.
    pub job_id: String,
    /// How far it is.
    pub phase: RunPhase,
    /// Managed object id of the vm_snapshot.
    pub vm_snapshot: Option<String>,
    /// Whether the vm_snapshot was quiesced.
    pub quiesced: bool,
    /// Its disks.
    pub disks: Vec<RunDiskView>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// How often it went on after an interruption: a lost link, or a restart of the hub or the agent.
    #[serde(default)]
    pub resumed: u32,
    /// Bytes that were durable when it last went on, and were not sent again.
    #[serde(default)]
    pub bytes_kept: u64,
    /// Whether it stands still because the hub cannot be reached, or does not take the data at the moment.
    #[serde(default)]
    pub waiting_for_hub: bool,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When it ended (released, failed, cancelled).
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
}
