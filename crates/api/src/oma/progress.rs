//! How far a replication is: the one set of numbers that API, events, command line and metrics show.

use std::fmt;

use model::pace;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::progress::{Activity, TimeShares};

/// What a replication is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking at the VM, making volumes and exports, removing what earlier runs left.
    Preparing,
    /// Taking the vm_snapshot.
    Snapshotting,
    /// Bytes move.
    Copying,
    /// Everything was sent; the replica is being made durable.
    Flushing,
    /// The gateway re-reads what was written.
    Verifying,
    /// Change ids and certificates are stored.
    Committing,
    /// The vm_snapshot is removed.
    Releasing,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 7] = [
        Self::Preparing,
        Self::Snapshotting,
        Self::Copying,
        Self::Flushing,
        Self::Verifying,
        Self::Committing,
        Self::Releasing,
    ];

    /// As a word: in texts and as a label of metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Snapshotting => "snapshotting",
            Self::Copying => "copying",
            Self::Flushing => "flushing",
            Self::Verifying => "verifying",
            Self::Committing => "committing",
            Self::Releasing => "releasing",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Between so many seconds and so many it is done: see [`pace::Eta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EtaRange {
    /// At the higher of present and average speed.
    pub low_seconds: u64,
    /// At the lower of both; while disks are copied, with a verification that goes no slower.
    pub high_seconds: u64,
}

impl From<pace::Eta> for EtaRange {
    fn from(eta: pace::Eta) -> Self {
        Self { low_seconds: eta.low_seconds, high_seconds: eta.high_seconds }
    }
}

/// A replication under way. Work is what is allocated or changed, in bytes: once to be copied, once to be verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobProgress {
    /// `job-…`.
    pub job_id: String,
    /// Id of the job in the JobLog.
    pub tracking_id: String,
    /// The VM (context id).
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
    /// What it is at.
    pub phase: Phase,
    /// 0 to 100, of the whole job. It never falls; a copy that is begun anew lets it stand until it is passed.
    pub percent: f64,
    /// Bytes of work, copying and verifying; 0 while nobody knows.
    pub work_total: u64,
    /// Bytes of it that are done.
    pub work_done: u64,
    /// Bytes of data sent.
    pub bytes_sent: u64,
    /// Bytes per second over the last seconds, of what the phase does.
    pub speed_bps: u64,
    /// Bytes per second since the phase began.
    pub average_bps: u64,
    /// When it is done; none while nobody knows.
    #[serde(default)]
    pub eta: Option<EtaRange>,
    /// Since when nothing moves, once that is half a minute.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub stalled_since: Option<OffsetDateTime>,
    /// Where the time of copying went, all disks together.
    #[serde(default)]
    pub shares: Option<TimeShares>,
    /// The largest share.
    #[serde(default)]
    pub bound_by: Option<Activity>,
    /// Its disks.
    pub disks: Vec<DiskProgress>,
    /// When this was seen.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// One disk of a [`JobProgress`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiskProgress {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// Bytes to copy.
    pub copy_total: u64,
    /// Bytes copied.
    pub copy_done: u64,
    /// Bytes to verify.
    pub verify_total: u64,
    /// Bytes verified.
    pub verify_done: u64,
    /// Bytes of data sent.
    pub bytes_sent: u64,
    /// Bytes per second copied over the last seconds.
    pub speed_bps: u64,
    /// Where the time of copying went.
    #[serde(default)]
    pub shares: Option<TimeShares>,
    /// The largest share.
    #[serde(default)]
    pub bound_by: Option<Activity>,
}
