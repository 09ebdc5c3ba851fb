//! Statuses of VMs, their disks and their replications.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::Transitions;

/// Where a VM stands (`vm_replication_contexts.current_status`).
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
pub enum ContextStatus {
    /// Known, never copied.
    Discovered,
    /// A replication runs.
    Replicating,
    /// A committed replica exists.
    ReadyForFailover,
    /// A test failover of it runs.
    FailedOverTest,
    /// It lives in CloudStack now.
    FailedOverLive,
    /// The migration is finished.
    Completed,
    /// The last run failed and no committed replica exists.
    Failed,
    /// Something is left that an operator must look at.
    CleanupRequired,
}

impl Transitions for ContextStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Discovered => &[Self::Replicating, Self::Failed],
            Self::Replicating => &[Self::Discovered, Self::ReadyForFailover, Self::Failed, Self::CleanupRequired],
            Self::ReadyForFailover => &[
                Self::Discovered,
                Self::Replicating,
                Self::FailedOverTest,
                Self::FailedOverLive,
                Self::CleanupRequired,
                Self::Failed,
            ],
            Self::FailedOverTest => &[Self::ReadyForFailover, Self::CleanupRequired, Self::Failed],
            // Taken back, its disks were written to by the guest: there is no committed replica any more.
            Self::FailedOverLive => &[Self::Completed, Self::Discovered, Self::CleanupRequired],
            Self::Completed => &[],
            Self::Failed => &[Self::Discovered, Self::Replicating, Self::ReadyForFailover, Self::CleanupRequired],
            Self::CleanupRequired => &[Self::Discovered, Self::ReadyForFailover, Self::Failed, Self::Replicating],
        }
    }
}

/// State of a replication job (`replication_jobs.status`).
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
pub enum ReplicationStatus {
    /// Accepted, not begun.
    Pending,
    /// Volumes and exports are being made.
    Initializing,
    /// Bytes move.
    Replicating,
    /// Verification, commit and release.
    Finalizing,
    /// Committed.
    Completed,
    /// Ended without a commit.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl Transitions for ReplicationStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Initializing, Self::Failed, Self::Cancelled],
            Self::Initializing => &[Self::Replicating, Self::Failed, Self::Cancelled],
            Self::Replicating => &[Self::Initializing, Self::Finalizing, Self::Failed, Self::Cancelled],
            Self::Finalizing => {
                &[Self::Initializing, Self::Replicating, Self::Completed, Self::Failed, Self::Cancelled]
            }
            Self::Completed => &[],
            Self::Failed => &[],
            Self::Cancelled => &[],
        }
    }
}

/// What a replication copies (`replication_jobs.replication_type`).
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
pub enum ReplicationType {
    /// Everything that is allocated.
    Initial,
    /// What changed since the last committed change id.
    Incremental,
    /// Everything is read, what differs is written.
    Compare,
}

/// State of one disk's replica (`vm_disks.sync_status`).
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
pub enum DiskSyncStatus {
    /// Never copied.
    Pending,
    /// Being written: incomplete until committed.
    Syncing,
    /// Equal to its change id's point in time.
    Completed,
    /// Written to without a commit: incomplete.
    Failed,
    /// Written to by the guest of a failed-over VM: full of data, equal to no change id; to be compared.
    Diverged,
}

impl Transitions for DiskSyncStatus {
    fn next(self) -> &'static [Self] {
        match self {
            // Completed: a volume that was handed to another VM is reverted to its committed content.
            Self::Pending => &[Self::Syncing, Self::Completed, Self::Failed, Self::Diverged],
            Self::Syncing => &[Self::Completed, Self::Failed, Self::Pending],
            Self::Completed => &[Self::Syncing, Self::Failed, Self::Pending, Self::Diverged],
            Self::Failed => &[Self::Syncing, Self::Pending],
            Self::Diverged => &[Self::Syncing, Self::Pending],
        }
    }
}

/// A VM's firmware (`vm_replication_contexts.firmware`).
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
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Efi,
}

/// Where the list of bytes to read comes from.
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
pub enum ChangeSource {
    /// VMware's changed-block tracking.
    Cbt,
    /// Everything is read and compared.
    Compare,
}

/// How a disk is read.
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
pub enum ReaderKind {
    /// The frozen disk is added to the agent's own VM.
    Hotadd,
    /// HTTPS ranges from the datastore.
    Folder,
    /// An NBD server.
    Nbd,
    /// A local file.
    File,
}
