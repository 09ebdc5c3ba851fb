//! Why a disk could not be added to the agent's own VM or taken off it, and what the operator does about it.

use std::path::PathBuf;

use model::FailureKind;
use mover::MoverError;
use vsphere::VsphereError;

/// An error of the hot-add reader.
#[derive(Debug, thiserror::Error)]
pub enum HotAddError {
    /// The configuration says no.
    #[error("this agent's configuration does not allow disks to be added to its VM")]
    Disabled,
    /// The agent does not know which VM it is.
    #[error("the VM this agent runs in is not known: {reason}")]
    OwnVm {
        /// Why not.
        reason: String,
    },
    /// vCenter could not be asked.
    #[error("{doing} failed")]
    Vsphere {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        #[source]
        source: VsphereError,
    },
    /// The run was stopped before the disk's turn came.
    #[error("the disk is not wanted any more")]
    Withdrawn,
    /// The disk is one of the agent's own VM.
    #[error("the agent cannot add disks of its own VM to itself")]
    Itself,
    /// The two VMs are in different datacenters.
    #[error("the agent's VM is in datacenter {own}, the disk in {other}")]
    OtherDatacenter {
        /// Inventory path of the agent's.
        own: String,
        /// Inventory path of the disk's.
        other: String,
    },
    /// No controller has a place.
    #[error("the agent's VM has no free place for one more SCSI disk")]
    NoSlot,
    /// vCenter did not add the disk.
    #[error("{vmdk_path} could not be added to the agent's VM")]
    Attach {
        /// The disk.
        vmdk_path: String,
        /// What it said.
        #[source]
        source: VsphereError,
    },
    /// vCenter did not remove the disk.
    #[error("{vmdk_path} could not be removed from the agent's VM")]
    Detach {
        /// The disk.
        vmdk_path: String,
        /// What it said.
        #[source]
        source: VsphereError,
    },
    /// The disk has no usable uuid.
    #[error("{disk_uuid:?} is not the uuid of a disk")]
    DiskUuid {
        /// What was given.
        disk_uuid: String,
    },
    /// Another disk with that uuid is here.
    #[error("{} is here before the disk was added", device.display())]
    AlreadyHere {
        /// Its device.
        device: PathBuf,
    },
    /// The disk was added, and no device appeared.
    #[error("{} did not appear after the disk was added", device.display())]
    NoDevice {
        /// The name looked for.
        device: PathBuf,
    },
    /// The device cannot be opened.
    #[error("{} cannot be used", device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// What the system said.
        #[source]
        source: MoverError,
    },
    /// The device has another size than the disk.
    #[error("{} has {found_bytes} bytes, the disk has {capacity_bytes}", device.display())]
    OtherSize {
        /// The device.
        device: PathBuf,
        /// Size found, in bytes.
        found_bytes: u64,
        /// Size expected, in bytes.
        capacity_bytes: u64,
    },
    /// What was added cannot be written down.
    #[error("cannot use {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A part of the agent ended without a result.
    #[error("adding the disk ended unexpectedly")]
    Interrupted {
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
}

impl HotAddError {
    /// The kind that decides on retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Vsphere { source, .. } | Self::Attach { source, .. } | Self::Detach { source, .. } => source.kind(),
            Self::Open { source, .. } => source.kind(),
            Self::NoSlot => FailureKind::Exhausted,
            Self::NoDevice { .. } => FailureKind::Unavailable,
            Self::DiskUuid { .. } => FailureKind::Invalid,
            Self::Disabled
            | Self::OwnVm { .. }
            | Self::Withdrawn
            | Self::Itself
            | Self::OtherDatacenter { .. }
            | Self::AlreadyHere { .. }
            | Self::OtherSize { .. } => FailureKind::Conflict,
            Self::Record { .. } | Self::Interrupted { .. } => FailureKind::Internal,
        }
    }

    /// What the operator does.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        Some(match self {
            Self::Disabled => {
                "set `enabled = true` under [hotadd] in the agent's configuration, or choose another reader"
            }
            Self::OwnVm { .. } => {
                "set `vm_uuid` under [hotadd] in the agent's configuration to the VM's config.uuid, or choose another reader"
            }
            Self::Itself => "choose the folder reader for this VM, or replicate it through another agent",
            Self::OtherDatacenter { .. } => {
                "run an agent in the disk's datacenter, or choose the folder or an nbd reader for this VM"
            }
            Self::NoSlot => {
                "remove disks from the agent's VM, free the configured controller, or choose another reader: a VM has four SCSI controllers"
            }
            Self::Attach { source, .. } => return attach_remedy(source),
            Self::Detach { .. } => {
                "remove the disk from the agent's VM by hand, without deleting its files; the next run tries again first"
            }
            Self::DiskUuid { .. } => "discover the VM again: its disk's files may be inaccessible",
            Self::AlreadyHere { .. } => {
                "find out why a disk with this uuid is on the agent's VM already: it may be left from another product"
            }
            Self::NoDevice { .. } => {
                "set disk.EnableUUID = TRUE in the settings of the agent's VM and switch it off and on; look at the kernel's log"
            }
            Self::Open { .. } => "let the agent's user read block devices: deploy/migratekit-vma-hotadd.conf does that",
            Self::OtherSize { .. } => "discover the VM again: the disk was resized or replaced",
            Self::Record { .. } => "check that the service's user may write the state folder, and its free space",
            Self::Vsphere { source, .. } => return source.remedy(),
            Self::Withdrawn => return None,
            Self::Interrupted { .. } => "the log has the details; start it again",
        })
    }
}

/// Faults of `ReconfigVM_Task` mean something of their own here.
fn attach_remedy(source: &VsphereError) -> Option<&'static str> {
    Some(match source.fault().map(|fault| fault.type_name.as_str()) {
        Some("FileNotFound" | "InvalidDatastore" | "InvalidDatastorePath" | "CannotAccessFile") => {
            "let the host of the agent's VM see the disk's datastore, or choose the folder or an nbd reader"
        }
        Some("FileTooLarge" | "InvalidDeviceBacking" | "IncompatibleSetting") => {
            "the datastore of the agent's VM or its hardware version does not take a disk like this: move the agent's VM to a VMFS 6 datastore, upgrade its hardware, or choose another reader"
        }
        Some("LimitExceeded" | "TooManyDevices" | "InvalidController" | "InvalidDeviceSpec") => {
            "remove disks from the agent's VM, or set `controller` under [hotadd] to one that takes more"
        }
        Some("FileLocked") => "another backup product or task holds the disk: let it end, then replicate again",
        Some("TaskInProgress" | "ConcurrentAccess" | "MigrationInProgress") => {
            "let the vMotion or the other task of the agent's VM end, and keep it on its host while it reads (a DRS rule)"
        }
        Some("NoPermission") => {
            "give the user VirtualMachine.Config.AddExistingDisk and RemoveDisk on the agent's VM (docs/operations.md)"
        }
        _ => return source.remedy(),
    })
}
