//! Statuses of volumes, devices, exports and the operations on them.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::Transitions;

/// CloudStack's kind of volume (`ossea_volumes.volume_type`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub enum VolumeType {
    /// Boot volume.
    Root,
    /// Any other.
    Datadisk,
}

/// State of a replica volume (`ossea_volumes.state`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VolumeState {
    /// Asked for.
    Creating,
    /// Exists, attached to nothing.
    Available,
    /// Attached to a VM.
    Attached,
    /// Was attached, is not now.
    Detached,
    /// Being deleted.
    Deleting,
    /// Gone.
    Deleted,
    /// CloudStack failed.
    Error,
}

impl Transitions for VolumeState {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Creating => &[Self::Available, Self::Error, Self::Deleted],
            Self::Available => &[Self::Attached, Self::Deleting, Self::Error],
            Self::Attached => &[Self::Detached, Self::Error],
            Self::Detached => &[Self::Attached, Self::Deleting, Self::Available, Self::Error],
            Self::Deleting => &[Self::Deleted, Self::Error, Self::Available, Self::Detached],
            Self::Deleted => &[],
            Self::Error => &[Self::Available, Self::Attached, Self::Detached, Self::Deleting, Self::Deleted],
        }
    }
}

/// State of a volume's snapshot (`ossea_volumes.snapshot_status`, `device_mappings.snapshot_status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VolumeSnapshotStatus {
    /// There is none.
    None,
    /// Being taken.
    Creating,
    /// Can be reverted to.
    Ready,
    /// Being reverted.
    Reverting,
    /// Unusable.
    Failed,
}

impl Transitions for VolumeSnapshotStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::None => &[Self::Creating],
            Self::Creating => &[Self::Ready, Self::Failed, Self::None],
            Self::Ready => &[Self::Reverting, Self::None],
            Self::Reverting => &[Self::Ready, Self::Failed, Self::None],
            Self::Failed => &[Self::None, Self::Creating],
        }
    }
}

/// Which VM holds a volume (`device_mappings.operation_mode`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperationMode {
    /// The hub's own VM: the device is here.
    Oma,
    /// Another VM.
    Failover,
}

/// What Linux shows of a device (`device_mappings.linux_state`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LinuxState {
    /// Not expected here.
    Absent,
    /// Attached, not seen yet.
    Appearing,
    /// Seen, serial and size right.
    Present,
    /// Was here, is gone.
    Vanished,
}

impl Transitions for LinuxState {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Absent => &[Self::Appearing, Self::Present],
            Self::Appearing => &[Self::Present, Self::Absent, Self::Vanished],
            Self::Present => &[Self::Vanished, Self::Absent],
            Self::Vanished => &[Self::Present, Self::Absent, Self::Appearing],
        }
    }
}

/// What is behind an NBD export (`nbd_exports.kind`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ExportKind {
    /// A replica volume.
    Volume,
    /// An increment not yet merged.
    Journal,
    /// A committed point, read only.
    RestorePoint,
    /// A backup being written.
    BackupSink,
}

/// State of an NBD export (`nbd_exports.status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ExportStatus {
    /// Made, not open.
    Pending,
    /// May be opened.
    Active,
    /// May not be opened any more.
    Closed,
    /// Its device is gone.
    Failed,
}

impl Transitions for ExportStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Active, Self::Closed, Self::Failed],
            Self::Active => &[Self::Closed, Self::Failed],
            Self::Closed => &[Self::Active],
            Self::Failed => &[Self::Active, Self::Closed],
        }
    }
}

/// State of a recovery point (`recovery_points.state`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PointState {
    /// Committed; its journal lies beside the volume.
    Kept,
    /// Its journal was written into the volume.
    Merged,
    /// Given up: the volume no longer continues into it.
    Discarded,
}

impl Transitions for PointState {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Kept => &[Self::Merged, Self::Discarded],
            Self::Merged | Self::Discarded => &[],
        }
    }
}

/// A volume operation (`volume_operations.type`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperationType {
    /// Make a volume.
    Create,
    /// Attach as data disk.
    Attach,
    /// Attach as root disk.
    AttachRoot,
    /// Detach.
    Detach,
    /// Delete.
    Delete,
    /// Grow.
    Resize,
    /// Snapshot.
    Snapshot,
    /// Go back to a snapshot.
    RevertSnapshot,
    /// Delete a snapshot.
    DeleteSnapshot,
    /// Remove leftovers.
    Cleanup,
}

/// State of a volume operation (`volume_operations.status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum OperationStatus {
    /// Accepted.
    Pending,
    /// Under way.
    Executing,
    /// Done.
    Completed,
    /// Ended in an error.
    Failed,
    /// Stopped.
    Cancelled,
}

impl Transitions for OperationStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Executing, Self::Cancelled, Self::Failed],
            Self::Executing => &[Self::Executing, Self::Completed, Self::Failed, Self::Cancelled],
            Self::Completed => &[],
            Self::Failed => &[],
            Self::Cancelled => &[],
        }
    }
}
