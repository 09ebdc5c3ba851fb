//! The rows of the simulated server: what persists and what commands change.
//!
//! Data only. Rules are in `rules`, answers in `views`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Root or data disk; CloudStack flips it at attach and detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeType {
    /// Device 0 of a VM.
    Root,
    /// Everything else, also a detached former root.
    Datadisk,
}

impl VolumeType {
    /// The protocol's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "ROOT",
            Self::Datadisk => "DATADISK",
        }
    }
}

/// States of a volume that this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeState {
    /// A row without a file.
    Allocated,
    /// Being made from a snapshot.
    Creating,
    /// Has a file.
    Ready,
    /// A snapshot of it is being copied.
    Snapshotting,
    /// Its content is being replaced by a snapshot's.
    RevertSnapshotting,
    /// Belongs to a destroyed VM.
    Destroy,
}

impl VolumeState {
    /// The protocol's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allocated => "Allocated",
            Self::Creating => "Creating",
            Self::Ready => "Ready",
            Self::Snapshotting => "Snapshotting",
            Self::RevertSnapshotting => "RevertSnapshotting",
            Self::Destroy => "Destroy",
        }
    }
}

/// States of a VM that this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmState {
    /// Being powered on.
    Starting,
    /// Powered on.
    Running,
    /// Being powered off.
    Stopping,
    /// Powered off.
    Stopped,
    /// Deleted but not expunged: its name and addresses stay taken.
    Destroyed,
    /// Being removed for good.
    Expunging,
    /// Could not be started when it was deployed.
    Error,
}

impl VmState {
    /// The protocol's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Destroyed => "Destroyed",
            Self::Expunging => "Expunging",
            Self::Error => "Error",
        }
    }

    /// Whether the VM is on its way out: `state=Present` in a list leaves it out, and users do not see it.
    pub(crate) fn is_gone(self) -> bool {
        matches!(self, Self::Destroyed | Self::Expunging)
    }

    /// Whether disks and interfaces may be changed.
    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::Running | Self::Stopped)
    }
}

/// Where a volume is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) vm_id: String,
    pub(crate) device_id: u32,
    /// Seconds since the epoch.
    pub(crate) since: i64,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) account_id: String,
    pub(crate) volume_type: VolumeType,
    pub(crate) state: VolumeState,
    pub(crate) size_bytes: u64,
    /// Set for volumes on a disk offering.
    pub(crate) disk_offering_id: Option<String>,
    /// Set for a VM's own root.
    pub(crate) service_offering_id: Option<String>,
    pub(crate) template_id: Option<String>,
    /// The snapshot it was made from.
    pub(crate) volume_snapshot_id: Option<String>,
    /// File name in the pool; none until the first attach.
    pub(crate) path: Option<String>,
    /// Folder of the file when it is not the pool's own.
    pub(crate) placed_in: Option<PathBuf>,
    /// Size of the device the worker sees when it is wrong on purpose.
    pub(crate) device_size_bytes: Option<u64>,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) created: i64,
    pub(crate) displayed: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

/// An interface of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Nic {
    pub(crate) id: String,
    pub(crate) network_id: String,
    pub(crate) mac: String,
    /// L2 networks give none.
    pub(crate) ip_address: Option<String>,
    pub(crate) device_id: u32,
    pub(crate) is_default: bool,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vm {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) instance_name: String,
    pub(crate) account_id: String,
    pub(crate) state: VmState,
    pub(crate) service_offering_id: String,
    pub(crate) template_id: String,
    pub(crate) os_type_id: String,
    pub(crate) ha_enabled: bool,
    pub(crate) details: BTreeMap<String, String>,
    /// CPU count, MHz and MiB, from the offering or the details.
    pub(crate) cpu_number: u32,
    pub(crate) cpu_speed_mhz: u32,
    pub(crate) memory_mib: u32,
    pub(crate) nics: Vec<Nic>,
    pub(crate) created: i64,
    pub(crate) last_updated: i64,
    pub(crate) was_started: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

/// States of a volume snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VolumeSnapshotState {
    Allocated,
    Creating,
    BackedUp,
    Error,
}

impl VolumeSnapshotState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allocated => "Allocated",
            Self::Creating => "Creating",
            Self::BackedUp => "BackedUp",
            Self::Error => "Error",
        }
    }
}

/// A snapshot of one volume, kept as a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeSnapshot {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) account_id: String,
    pub(crate) volume_id: String,
    pub(crate) volume_name: String,
    pub(crate) volume_type: VolumeType,
    pub(crate) size_bytes: u64,
    pub(crate) physical_bytes: u64,
    pub(crate) state: VolumeSnapshotState,
    pub(crate) created: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

/// States of a VM snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VmSnapshotState {
    Allocated,
    Creating,
    Ready,
    Reverting,
    Error,
}

impl VmSnapshotState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allocated => "Allocated",
            Self::Creating => "Creating",
            Self::Ready => "Ready",
            Self::Reverting => "Reverting",
            Self::Error => "Error",
        }
    }
}

/// A snapshot of all disks of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VmSnapshot {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) description: Option<String>,
    pub(crate) account_id: String,
    pub(crate) vm_id: String,
    pub(crate) parent_id: Option<String>,
    pub(crate) is_current: bool,
    pub(crate) with_memory: bool,
    pub(crate) state: VmSnapshotState,
    pub(crate) created: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Everything commands change, apart from jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inventory {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) vms: Vec<Vm>,
    pub(crate) volume_snapshots: Vec<VolumeSnapshot>,
    pub(crate) vm_snapshots: Vec<VmSnapshot>,
    /// Counter behind instance names such as `i-2-17-VM`.
    pub(crate) instances_made: u64,
    /// Ids of VMs and volumes that are gone; the database keeps their rows, so that nothing can have them again.
    #[serde(default)]
    pub(crate) used_ids: BTreeSet<String>,
}

impl Inventory {
    pub(crate) fn volume(&self, id: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id == id)
    }

    pub(crate) fn volume_mut(&mut self, id: &str) -> Option<&mut Volume> {
        self.volumes.iter_mut().find(|volume| volume.id == id)
    }

    pub(crate) fn vm(&self, id: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.id == id)
    }

    pub(crate) fn vm_mut(&mut self, id: &str) -> Option<&mut Vm> {
        self.vms.iter_mut().find(|vm| vm.id == id)
    }

    pub(crate) fn volume_snapshot(&self, id: &str) -> Option<&VolumeSnapshot> {
        self.volume_snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    pub(crate) fn volume_snapshot_mut(&mut self, id: &str) -> Option<&mut VolumeSnapshot> {
        self.volume_snapshots.iter_mut().find(|snapshot| snapshot.id == id)
    }

    pub(crate) fn vm_snapshot(&self, id: &str) -> Option<&VmSnapshot> {
        self.vm_snapshots.iter().find(|snapshot| snapshot.id == id)
    }

    pub(crate) fn vm_snapshot_mut(&mut self, id: &str) -> Option<&mut VmSnapshot> {
        self.vm_snapshots.iter_mut().find(|snapshot| snapshot.id == id)
    }

    /// The volumes plugged into a VM, lowest device first.
    pub(crate) fn volumes_of(&self, vm_id: &str) -> Vec<&Volume> {
        let mut attached: Vec<(u32, &Volume)> = self
            .volumes
            .iter()
            .filter_map(|volume| {
                let attachment = volume.attachment.as_ref()?;
                (attachment.vm_id == vm_id).then_some((attachment.device_id, volume))
            })
            .collect();
        attached.sort_by_key(|(device_id, _)| *device_id);
        attached.into_iter().map(|(_, volume)| volume).collect()
    }

    /// Whether any VM snapshot of the VM exists: it then admits no attach, detach or new interface.
    pub(crate) fn has_vm_snapshots(&self, vm_id: &str) -> bool {
        self.vm_snapshots.iter().any(|snapshot| snapshot.vm_id == vm_id && snapshot.state != VmSnapshotState::Error)
    }
}

/// Outcome of an asynchronous job, as the protocol numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JobStatus {
    Pending,
    Succeeded,
    Failed,
}

impl JobStatus {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Pending => 0,
            Self::Succeeded => 1,
            Self::Failed => 2,
        }
    }
}

/// An asynchronous job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AsyncJob {
    pub(crate) id: String,
    pub(crate) account_id: String,
    pub(crate) command: String,
    pub(crate) instance_type: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) status: JobStatus,
    pub(crate) result_code: u16,
    /// JSON text of `jobresult`; may be absent although the job is over.
    pub(crate) result: Option<String>,
    pub(crate) created: i64,
    pub(crate) completed: Option<i64>,
    /// Answers still to be given as pending although the job is over.
    pub(crate) pending_polls_left: u32,
}
