//! Why an operation of a failover is refused: what was seen forbids it, now or for good.

use cloudstack::{CloudstackError, VmState, VolumeSnapshotState};
use model::FailureKind;
use model::status::{OperationType, VolumeState};

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another operation on the root of the VM is under way.
    #[error("the root of VM {vm_id} is busy: operation {operation_id} ({operation_type}) is under way")]
    VmBusy {
        /// The VM.
        vm_id: String,
        /// The other operation.
        operation_id: String,
        /// What it does.
        operation_type: OperationType,
    },
    /// CloudStack does not show the VM to this account.
    #[error("CloudStack target {target} does not show VM {vm_id}")]
    VmNotVisible {
        /// The VM.
        vm_id: String,
        /// The target.
        target: String,
    },
    /// The VM is the one the hub runs in.
    #[error("VM {vm_id} is the hub's own")]
    OwnVm {
        /// The VM.
        vm_id: String,
    },
    /// Roots change only while their VM is stopped.
    #[error("VM {vm_id} is {state}, not Stopped")]
    VmNotStopped {
        /// The VM.
        vm_id: String,
        /// Its state.
        state: VmState,
    },
    /// The VM has a root already.
    #[error("VM {vm_id} has a root already: volume {volume_uuid}")]
    HasRoot {
        /// The VM.
        vm_id: String,
        /// Its root.
        volume_uuid: String,
    },
    /// Two lists of CloudStack contradict each other, which passes.
    #[error("CloudStack says two things about the root of VM {vm_id}")]
    RootUnclear {
        /// The VM.
        vm_id: String,
    },
    /// The volume is attached with another device id than asked for.
    #[error("volume {volume_uuid} is attached to VM {vm_id} as device {found}, not as {wanted}")]
    OtherDevice {
        /// The volume.
        volume_uuid: String,
        /// The VM.
        vm_id: String,
        /// The device id it has.
        found: u64,
        /// The device id asked for.
        wanted: u32,
    },
    /// The VM does not carry our tags, or those of something else.
    #[error("VM {vm_id} is not known to be ours: {reason}")]
    VmNotOurs {
        /// The VM.
        vm_id: String,
        /// What is missing or differs.
        reason: String,
    },
    /// The root is a replica.
    #[error("the root of VM {vm_id}, volume {volume_uuid}, is a replica")]
    RootIsReplica {
        /// The VM.
        vm_id: String,
        /// Its root.
        volume_uuid: String,
    },
    /// The root has a disk: the VM ran, or something was put there.
    #[error("the root of VM {vm_id}, volume {volume_uuid}, is {state}: only one that never came into being is removed")]
    RootWasUsed {
        /// The VM.
        vm_id: String,
        /// Its root.
        volume_uuid: String,
        /// Its state.
        state: cloudstack::VolumeState,
    },
    /// The volume has no disk yet.
    #[error("volume {volume_uuid} was never attached and has nothing in it")]
    NeverUsed {
        /// The volume.
        volume_uuid: String,
    },
    /// The volume is in the middle of something else.
    #[error("volume {volume_uuid} is {state}, not Ready")]
    NotReady {
        /// The volume.
        volume_uuid: String,
        /// Its state.
        state: cloudstack::VolumeState,
    },
    /// The volume has one of ours already.
    #[error("volume {volume_uuid} has a volume_snapshot already: {snapshot_id}")]
    HasSnapshot {
        /// The volume.
        volume_uuid: String,
        /// The volume_snapshot.
        snapshot_id: String,
    },
    /// One that an earlier attempt asked for is still being taken.
    #[error("volume_snapshot {snapshot_id} is {state}, which is not the end of it")]
    SnapshotUnderWay {
        /// The volume_snapshot.
        snapshot_id: String,
        /// Its state.
        state: VolumeSnapshotState,
    },
    /// CloudStack does not show it to this account.
    #[error("CloudStack target {target} does not show volume_snapshot {snapshot_id}")]
    SnapshotNotVisible {
        /// The volume_snapshot.
        snapshot_id: String,
        /// The target.
        target: String,
    },
    /// It is of another volume.
    #[error("volume_snapshot {snapshot_id} belongs to volume {owner}, not to {volume_uuid}")]
    ForeignSnapshot {
        /// The volume_snapshot.
        snapshot_id: String,
        /// The volume it belongs to.
        owner: String,
        /// The volume asked about.
        volume_uuid: String,
    },
    /// It cannot be gone back to.
    #[error("volume_snapshot {snapshot_id} is {state}, not BackedUp")]
    SnapshotUnusable {
        /// The volume_snapshot.
        snapshot_id: String,
        /// Its state.
        state: VolumeSnapshotState,
    },
    /// A job that failed for a reason that may pass; the change is asked for again.
    #[error("the attempt failed")]
    AttemptFailed(#[source] CloudstackError),
    /// What is to be deleted as a stray does not carry our tag.
    #[error("{what} {id} does not carry our tag")]
    Untagged {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A row knows the volume.
    #[error("volume {volume_uuid} is no stray: it belongs to VM context {vm_context_id} and is {state}")]
    KnownVolume {
        /// The volume.
        volume_uuid: String,
        /// The context.
        vm_context_id: String,
        /// State of the row.
        state: VolumeState,
    },
    /// A disk is linked to the volume: it may be its only replica.
    #[error("volume {volume_uuid} is no stray: it is the replica of {disk_id} of VM context {vm_context_id}")]
    ReplicaOf {
        /// The volume.
        volume_uuid: String,
        /// The disk.
        disk_id: String,
        /// The context.
        vm_context_id: String,
    },
    /// A row names the volume_snapshot.
    #[error("volume_snapshot {snapshot_id} is no stray: it is that of volume {volume_uuid}")]
    KnownSnapshot {
        /// The volume_snapshot.
        snapshot_id: String,
        /// The volume.
        volume_uuid: String,
    },
}

impl Refusal {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::VmNotVisible { .. } | Self::SnapshotNotVisible { .. } => FailureKind::NotFound,
            // Whatever is under way ends by itself: the same request may work then.
            Self::VmBusy { .. }
            | Self::RootUnclear { .. }
            | Self::NotReady { .. }
            | Self::SnapshotUnderWay { .. }
            | Self::AttemptFailed(_) => FailureKind::Unavailable,
            _ => FailureKind::Conflict,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        Some(match self {
            Self::VmBusy { .. } => "wait for that operation to end, then repeat",
            Self::VmNotVisible { .. } | Self::SnapshotNotVisible { .. } => {
                "check that it exists and that the target's keys are those of the account that owns it"
            }
            Self::OwnVm { .. } => "name the VM of the failover; the hub's own VM keeps its root",
            Self::VmNotStopped { .. } => "stop the VM first",
            Self::HasRoot { .. } => "remove the VM's root first",
            Self::RootUnclear { .. } | Self::NotReady { .. } | Self::SnapshotUnderWay { .. } => {
                "wait until CloudStack has finished with it, then repeat"
            }
            Self::OtherDevice { .. } => "detach the volume first",
            Self::VmNotOurs { .. } => "only VMs that a failover made are touched; tag the VM if it is one",
            Self::RootIsReplica { .. } => "detach the replica instead",
            Self::RootWasUsed { .. } => "look at what is on it; then detach and delete it in CloudStack by hand",
            Self::NeverUsed { .. } => "replicate the VM first",
            Self::HasSnapshot { .. } => "clean up the failover it was taken for, or delete it, then repeat",
            Self::ForeignSnapshot { .. } => "name a volume_snapshot of that volume",
            Self::SnapshotUnusable { .. } => "wait until it is complete, or use another",
            Self::AttemptFailed(error) => return error.remedy(),
            Self::Untagged { .. } => "delete it in CloudStack by hand if it is not needed",
            Self::KnownVolume { .. } | Self::ReplicaOf { .. } => "drop the VM's replica instead",
            Self::KnownSnapshot { .. } => "clean up the failover it was taken for, or delete it as that volume's",
        })
    }
}
