//! `/points`: the recovery points of a VM, each a committed replication that can be failed over to or read.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Query of `GET /api/v1/points`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PointQuery {
    /// The VM: name or context id.
    pub vm: String,
}

/// The recovery points of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PointList {
    /// The VM.
    pub vm_context_id: String,
    /// How many committed increments are kept beside the volumes.
    pub keep_points: u32,
    /// Newest first.
    pub points: Vec<PointView>,
}

/// A point in time of all disks of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PointView {
    /// The replication that was committed there (`job-…`).
    pub id: String,
    /// When it was committed.
    #[serde(with = "time::serde::rfc3339")]
    pub committed_at: OffsetDateTime,
    /// Whether it is what the volumes themselves hold: the oldest.
    pub in_volume: bool,
    /// Its disks.
    pub disks: Vec<PointDisk>,
}

/// One disk at a point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PointDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The change id at which it was equal to the source.
    pub change_id: Option<String>,
    /// Bytes its journal holds on the hub; none where nothing is kept beside the volume.
    pub journal_bytes: Option<u64>,
    /// NBD export of the hub's local port that shows it, for reading.
    pub export_name: Option<String>,
}
