//! What a server has: virtual machines with everything that is stored about them.
//!
//! The values and the questions are here; how an answer becomes a value is in the pure files below.

mod devices;
mod list;
mod machine;
mod names;

use model::ChangeId;
use model::status::Firmware;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::moref::MoRef;

pub(crate) use devices::read_disks;
pub(crate) use machine::{power_state, snapshot_tree};
pub(crate) use names::{escaped_name, plain_name};

/// Power state of a VM (vim25 `VirtualMachinePowerState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerState {
    /// Running.
    PoweredOn,
    /// Off.
    PoweredOff,
    /// Suspended.
    Suspended,
    /// The server does not tell, because it has lost the VM.
    Unknown,
}

impl PowerState {
    /// VMware's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoweredOn => "poweredOn",
            Self::PoweredOff => "poweredOff",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
        }
    }
}

/// How the blocks of a disk come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvisioningType {
    /// Allocated when written.
    Thin,
    /// Allocated at once, zeroed when written.
    Thick,
    /// Allocated and zeroed at once.
    EagerZeroedThick,
}

impl ProvisioningType {
    /// The stored text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "thick",
            Self::EagerZeroedThick => "eager_zeroed_thick",
        }
    }
}

/// How a raw device mapping is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RdmMode {
    /// `virtualMode`: vm_snapshots and change tracking work.
    Virtual,
    /// `physicalMode`: neither works.
    Physical,
}

/// A host as known to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRef {
    /// Its reference; changes with a migration of the VM.
    pub moref: MoRef,
    /// Name: a DNS name or an address; empty when the user may not see it.
    pub name: String,
}

/// VMware Tools of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tools {
    /// `guestToolsRunning` and the like; empty when unknown.
    pub running_status: String,
    /// `guestToolsCurrent` and the like; empty when unknown.
    pub version_status: String,
    /// Version number as text; empty when there are none.
    pub version: String,
}

impl Tools {
    /// Whether they run, so that the guest can be quiesced or shut down.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running_status == "guestToolsRunning"
    }
}

/// A vm_snapshot of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSnapshot {
    /// Its reference.
    pub moref: MoRef,
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// When it was taken.
    #[serde(with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
    /// Whether the guest's file systems were quiesced.
    pub is_quiesced: bool,
    /// The vm_snapshot it was taken after.
    pub parent: Option<MoRef>,
}

/// A disk controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Device key.
    pub key: i32,
    /// `pvscsi`, `lsilogic`, `lsilogic_sas`, `buslogic`, `ahci`, `ide`, `nvme`, else the vim25 type.
    pub controller_type: String,
    /// Bus number.
    pub bus: i32,
    /// `noSharing`, `virtualSharing` or `physicalSharing`.
    pub shared_bus: Option<String>,
    /// Device keys attached to it.
    pub device_keys: Vec<i32>,
}

impl Controller {
    /// Whether other VMs may use the same disks through it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared_bus.as_deref().is_some_and(|mode| mode != "noSharing")
    }
}

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualDisk {
    /// VMware's device key.
    pub device_key: i32,
    /// `Hard disk 1`.
    pub label: String,
    /// The VMDK's uuid; the same along a chain of vm_snapshots.
    pub disk_uuid: String,
    /// Id that is stable across vm_snapshots of the VM (`<instance>-<key>`).
    pub disk_object_id: Option<String>,
    /// `[datastore] folder/file.vmdk` of the link this configuration uses.
    pub vmdk_path: String,
    /// Datastore name.
    pub datastore: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Device key of its controller.
    pub controller_key: i32,
    /// Kind of its controller.
    pub controller_type: String,
    /// Bus number of its controller.
    pub controller_bus: i32,
    /// Unit on its controller.
    pub unit_number: i32,
    /// Bus sharing of its controller.
    pub controller_shared_bus: Option<String>,
    /// vim25 type of the backing, without the common parts: `FlatVer2`, `SeSparse`, `RawDiskMappingVer1`, …
    pub backing: String,
    /// `persistent`, `independent_persistent`, …
    pub disk_mode: String,
    /// `sharingNone` or `sharingMultiWriter`.
    pub sharing: String,
    /// How its blocks come to be.
    pub provisioning_type: ProvisioningType,
    /// Set when it is a raw device mapping.
    pub rdm_mode: Option<RdmMode>,
    /// Whether it is a delta over another file.
    pub has_parent: bool,
    /// Change id of this state; only a vm_snapshot's configuration has a meaningful one.
    pub change_id: Option<ChangeId>,
    /// The VM's `ctkEnabled` setting of this disk.
    pub is_change_tracking_set: Option<bool>,
    /// Id of the encryption key.
    pub key_id: Option<String>,
    /// Whether the VM boots from it: from the boot order when there is one, else the first disk.
    pub is_boot_disk: bool,
}

impl VirtualDisk {
    /// `disk-<device key>`, the name used for it outside this crate.
    #[must_use]
    pub fn disk_id(&self) -> String {
        format!("disk-{}", self.device_key)
    }

    /// Whether vm_snapshots leave it out.
    #[must_use]
    pub fn is_independent(&self) -> bool {
        self.disk_mode.starts_with("independent") || self.disk_mode == "nonpersistent"
    }

    /// Whether several VMs may write it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let is_bus_shared = self.controller_shared_bus.as_deref().is_some_and(|mode| mode != "noSharing");
        is_bus_shared || self.sharing == "sharingMultiWriter"
    }
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Device key.
    pub device_key: i32,
    /// `Network adapter 1`.
    pub label: String,
    /// Name of the network; the key of the port group when the name cannot be read.
    pub network_name: String,
    /// MAC address, lower case with colons; empty when none was assigned yet.
    pub mac_address: String,
    /// `vmxnet3`, `e1000`, `e1000e`, …, else the vim25 type.
    pub adapter_type: String,
    /// Whether it is connected now, or at power-on when the VM is off.
    pub connected: bool,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualMachine {
    /// Its reference on this server.
    pub moref: MoRef,
    /// Name.
    pub name: String,
    /// Instance uuid, the stable key; the BIOS uuid on hosts that give none.
    pub instance_uuid: String,
    /// BIOS uuid.
    pub bios_uuid: String,
    /// `/Datacenter/vm/folder/name`; a `/` within a name is `%2f`.
    pub inventory_path: String,
    /// Datacenter name.
    pub datacenter: String,
    /// Inventory path of the datacenter without leading `/`, as datastore URLs want it.
    pub datacenter_path: String,
    /// Where it runs now.
    pub host: Option<HostRef>,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// VMware's guest id.
    pub guest_id: String,
    /// Guest OS in words.
    pub os_type: String,
    /// Firmware.
    pub firmware: Firmware,
    /// Whether secure boot is on.
    pub secure_boot: bool,
    /// Virtual hardware version, such as 19.
    pub hardware_version: Option<u32>,
    /// Power state.
    pub power_state: PowerState,
    /// `connected`, or what is wrong between the server and the VM.
    pub connection_state: String,
    /// VMware Tools.
    pub tools: Tools,
    /// Whether it is a template.
    pub is_template: bool,
    /// Id of the encryption key of its home files.
    pub key_id: Option<String>,
    /// Whether the platform can track changes.
    pub change_tracking_supported: bool,
    /// Whether change tracking is switched on.
    pub change_tracking_enabled: bool,
    /// Whether it can have vm_snapshots.
    pub vm_snapshots_supported: bool,
    /// Existing vm_snapshots, parents before children.
    pub vm_snapshots: Vec<VmSnapshot>,
    /// Whether files of removed vm_snapshots are still in use.
    pub consolidation_needed: bool,
    /// `notConfigured`, or how fault tolerance stands.
    pub fault_tolerance_state: String,
    /// Text of the question the VM waits for.
    pub question: Option<String>,
    /// Network cards, in the VM's order.
    pub nics: Vec<Nic>,
    /// Disk controllers, in the VM's order.
    pub controllers: Vec<Controller>,
    /// Disks, in the VM's order.
    pub disks: Vec<VirtualDisk>,
}

#[cfg(test)]
pub(crate) mod tests;
