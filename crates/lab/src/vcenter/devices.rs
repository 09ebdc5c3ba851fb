//! The virtual hardware of a VM: controllers, attached disks and network cards with their device keys.
//!
//! Pure layout from a specification, and the vim25 objects for it.

use std::sync::Arc;

use super::disk::Disk;
use super::spec::{ControllerKind, NetworkKind, NicKind, NicSpec, VmSpec};
use super::value::{MoRef, Object, Value};

/// SCSI targets 0–15 without 7, which is the controller itself.
const SCSI_CONTROLLER_UNIT: i32 = 7;
/// Key of the virtual PCI controller every other controller hangs on.
const PCI_KEY: i32 = 100;
/// Key of the first network card.
const FIRST_NIC_KEY: i32 = 4000;

/// A storage controller.
#[derive(Debug, Clone)]
pub(crate) struct Controller {
    pub(crate) key: i32,
    pub(crate) kind: ControllerKind,
    pub(crate) bus: i32,
    pub(crate) shared_bus: String,
}

/// What stands behind an attached disk.
#[derive(Debug, Clone)]
pub(crate) enum DiskFile {
    /// A disk of the laboratory the VM writes.
    Own(Arc<Disk>),
    /// A link of another VM's disk, attached by file name (hot-add).
    Foreign {
        /// `[datastore] folder/name.vmdk`
        path: String,
        /// Size in bytes.
        capacity: u64,
        /// `backing.uuid` of that disk.
        uuid: String,
    },
}

/// A disk as a device of a VM.
#[derive(Debug, Clone)]
pub(crate) struct AttachedDisk {
    pub(crate) key: i32,
    pub(crate) controller_key: i32,
    pub(crate) unit: i32,
    pub(crate) label: String,
    pub(crate) mode: String,
    pub(crate) sharing: String,
    pub(crate) thin: bool,
    pub(crate) raw_device_mode: Option<String>,
    pub(crate) datastore: String,
    pub(crate) file: DiskFile,
}

impl AttachedDisk {
    /// The laboratory disk, unless it is another VM's.
    pub(crate) fn own(&self) -> Option<&Arc<Disk>> {
        match &self.file {
            DiskFile::Own(disk) => Some(disk),
            DiskFile::Foreign { .. } => None,
        }
    }

    /// Whether VM snapshots include the disk.
    pub(crate) fn is_in_vm_snapshots(&self) -> bool {
        !self.mode.starts_with("independent") && self.raw_device_mode.as_deref() != Some("physicalMode")
    }

    fn capacity(&self) -> u64 {
        match &self.file {
            DiskFile::Own(disk) => disk.capacity,
            DiskFile::Foreign { capacity, .. } => *capacity,
        }
    }
}

/// A network card.
#[derive(Debug, Clone)]
pub(crate) struct Nic {
    pub(crate) key: i32,
    pub(crate) unit: i32,
    pub(crate) label: String,
    pub(crate) mac_address: String,
    pub(crate) assigned: bool,
    pub(crate) spec: NicSpec,
}

/// What a NIC's backing needs to know of its network.
#[derive(Debug, Clone)]
pub(crate) struct NetworkBinding {
    pub(crate) moref: MoRef,
    pub(crate) name: String,
    pub(crate) kind: NetworkKind,
    /// Uuid of the distributed switch, empty for other kinds.
    pub(crate) switch_uuid: String,
}

/// Key of a controller.
pub(crate) fn controller_key(kind: ControllerKind, bus: i32) -> i32 {
    match kind {
        ControllerKind::Ide => 200 + bus,
        ControllerKind::Sata => 15_000 + bus,
        ControllerKind::Nvme => 31_000 + bus,
        ControllerKind::ParaVirtual | ControllerKind::LsiLogic | ControllerKind::LsiLogicSas => 1000 + bus,
    }
}

/// What the configuration file calls the bus of such a controller: `scsi0:0`, `sata0:1`.
pub(crate) fn bus_prefix(kind: ControllerKind) -> &'static str {
    match kind {
        ControllerKind::Ide => "ide",
        ControllerKind::Sata => "sata",
        ControllerKind::Nvme => "nvme",
        ControllerKind::ParaVirtual | ControllerKind::LsiLogic | ControllerKind::LsiLogicSas => "scsi",
    }
}

/// Key of a disk on a controller.
pub(crate) fn disk_key(kind: ControllerKind, bus: i32, unit: i32) -> i32 {
    match kind {
        ControllerKind::Ide => 3000 + bus * 2 + unit,
        ControllerKind::Sata => 16_000 + bus * 30 + unit,
        ControllerKind::Nvme => 32_000 + bus * 15 + unit,
        ControllerKind::ParaVirtual | ControllerKind::LsiLogic | ControllerKind::LsiLogicSas => 2000 + bus * 16 + unit,
    }
}

/// The `index`th usable unit number on a controller of that kind.
pub(crate) fn unit_number(kind: ControllerKind, index: i32) -> i32 {
    let scsi = matches!(kind, ControllerKind::ParaVirtual | ControllerKind::LsiLogic | ControllerKind::LsiLogicSas);
    if scsi && index >= SCSI_CONTROLLER_UNIT { index + 1 } else { index }
}

/// The controllers a specification needs, each once.
pub(crate) fn controllers(spec: &VmSpec) -> Vec<Controller> {
    let mut found: Vec<Controller> = Vec::new();
    for disk in &spec.disks {
        let key = controller_key(disk.controller, disk.bus);
        if found.iter().all(|controller| controller.key != key) {
            let shared_bus = disk.shared_bus.clone();
            found.push(Controller { key, kind: disk.controller, bus: disk.bus, shared_bus });
        }
    }
    found
}

/// The network cards of a specification; `vm_number` makes generated MAC addresses distinct.
pub(crate) fn nics(spec: &VmSpec, vm_number: u32) -> Vec<Nic> {
    let [_, _, high, low] = vm_number.to_be_bytes();
    (0_i32..)
        .zip(&spec.nics)
        .map(|(index, nic)| Nic {
            key: FIRST_NIC_KEY + index,
            unit: SCSI_CONTROLLER_UNIT + index,
            label: format!("Network adapter {}", index + 1),
            mac_address: nic
                .mac_address
                .clone()
                .unwrap_or_else(|| format!("00:50:56:{:02x}:{low:02x}:{index:02x}", 0x80 | (high & 0x3f))),
            assigned: nic.mac_address.is_none(),
            spec: nic.clone(),
        })
        .collect()
}

fn description(label: &str, summary: String) -> Object {
    Object::new("Description").with("label", label).with("summary", summary)
}

/// The PCI controller and the storage controllers, with the keys of the disks on each.
pub(crate) fn controller_objects(controllers: &[Controller], disks: &[AttachedDisk]) -> Vec<Object> {
    let pci = Object::new("VirtualPCIController")
        .with("key", PCI_KEY)
        .with("deviceInfo", description("PCI controller 0", "PCI controller 0".to_owned()))
        .with("busNumber", 0)
        .with("device", Value::List("int", controllers.iter().map(|controller| controller.key.into()).collect()));
    let storage = controllers.iter().map(|controller| {
        let on_it = disks.iter().filter(|disk| disk.controller_key == controller.key).map(|disk| disk.key.into());
        controller_object(controller, Value::List("int", on_it.collect()))
    });
    std::iter::once(pci).chain(storage).collect()
}

fn controller_object(controller: &Controller, devices: Value) -> Object {
    let (type_name, label) = match controller.kind {
        ControllerKind::ParaVirtual => ("ParaVirtualSCSIController", "SCSI"),
        ControllerKind::LsiLogic => ("VirtualLsiLogicController", "SCSI"),
        ControllerKind::LsiLogicSas => ("VirtualLsiLogicSASController", "SCSI"),
        ControllerKind::Sata => ("VirtualAHCIController", "SATA"),
        ControllerKind::Nvme => ("VirtualNVMEController", "NVME"),
        ControllerKind::Ide => ("VirtualIDEController", "IDE"),
    };
    let label = format!("{label} controller {}", controller.bus);
    let object = Object::new(type_name)
        .with("key", controller.key)
        .with("deviceInfo", description(&label, label.clone()))
        .with("busNumber", controller.bus)
        .with("device", devices);
    let object = if controller.kind == ControllerKind::Ide {
        object
    } else {
        object.with("controllerKey", PCI_KEY).with("unitNumber", 3)
    };
    match controller.kind {
        ControllerKind::ParaVirtual | ControllerKind::LsiLogic | ControllerKind::LsiLogicSas => object
            .with("hotAddRemove", true)
            .with("sharedBus", Value::Enum("VirtualSCSISharing", controller.shared_bus.clone().into()))
            .with("scsiCtlrUnitNumber", SCSI_CONTROLLER_UNIT),
        ControllerKind::Nvme => object.with("sharedBus", controller.shared_bus.clone()),
        ControllerKind::Sata | ControllerKind::Ide => object,
    }
}

/// A disk as the VM has it now (`vm_snapshot` `None`) or as a VM snapshot recorded it.
pub(crate) fn disk_object(
    disk: &AttachedDisk,
    vm_moid: &str,
    datastore: Option<&MoRef>,
    vm_snapshot: Option<&str>,
    change_id: Option<String>,
) -> Object {
    let (links, uuid) = match &disk.file {
        DiskFile::Own(own) => (own.links_as_of(vm_snapshot), own.uuid.clone()),
        DiskFile::Foreign { path, uuid, .. } => (vec![path.clone()], uuid.clone()),
    };
    let backing = links
        .into_iter()
        .fold(None, |parent: Option<Object>, path| Some(backing_object(disk, path, &uuid, datastore, parent)));
    let backing = match (backing, change_id) {
        (Some(backing), Some(change_id)) => Some(backing.with("changeId", change_id)),
        (backing, _) => backing,
    };
    let capacity = i64::try_from(disk.capacity()).unwrap_or(i64::MAX);
    let grouped = (disk.capacity() / 1024).to_string();
    Object::new("VirtualDisk")
        .with("key", disk.key)
        .with("deviceInfo", description(&disk.label, format!("{grouped} KB")))
        .with_some("backing", backing)
        .with("controllerKey", disk.controller_key)
        .with("unitNumber", disk.unit)
        .with("capacityInKB", capacity / 1024)
        .with("capacityInBytes", capacity)
        .with("diskObjectId", format!("{}-{}", vm_moid.trim_start_matches("vm-"), disk.key))
        .with("nativeUnmanagedLinkedClone", false)
}

fn backing_object(
    disk: &AttachedDisk,
    path: String,
    uuid: &str,
    datastore: Option<&MoRef>,
    parent: Option<Object>,
) -> Object {
    let is_delta = parent.is_some();
    if let Some(mode) = &disk.raw_device_mode {
        return Object::new("VirtualDiskRawDiskMappingVer1BackingInfo")
            .with("fileName", path)
            .with_some("datastore", datastore)
            .with("lunUuid", "0200000000600507680c808163d00000000000000a323134352020")
            .with("deviceName", "vml.0200000000600507680c808163d00000000000000a323134352020")
            .with("compatibilityMode", mode.clone())
            .with("diskMode", disk.mode.clone())
            .with("uuid", uuid)
            .with_some("parent", parent)
            .with("sharing", disk.sharing.clone());
    }
    Object::new("VirtualDiskFlatVer2BackingInfo")
        .with("fileName", path)
        .with_some("datastore", datastore)
        .with("diskMode", disk.mode.clone())
        .with("split", false)
        .with("writeThrough", false)
        .with("thinProvisioned", disk.thin)
        .with("uuid", uuid)
        .with("contentId", "fffffffefffffffefffffffefffffffe")
        .with_some("parent", parent)
        .with_some("deltaDiskFormat", is_delta.then_some("seSparseFormat"))
        .with("digestEnabled", false)
        .with("sharing", disk.sharing.clone())
}

/// A network card on its network.
pub(crate) fn nic_object(nic: &Nic, network: Option<&NetworkBinding>, powered_on: bool) -> Object {
    let type_name = match nic.spec.kind {
        NicKind::Vmxnet3 => "VirtualVmxnet3",
        NicKind::E1000 => "VirtualE1000",
        NicKind::E1000e => "VirtualE1000e",
    };
    let connectable = Object::new("VirtualDeviceConnectInfo")
        .with("startConnected", nic.spec.connected)
        .with("allowGuestControl", true)
        .with("connected", nic.spec.connected && powered_on)
        .with("status", if powered_on { "ok" } else { "untried" });
    Object::new(type_name)
        .with("key", nic.key)
        .with("deviceInfo", description(&nic.label, nic.spec.network.clone()))
        .with_some("backing", network.map(nic_backing))
        .with("connectable", connectable)
        .with("controllerKey", PCI_KEY)
        .with("unitNumber", nic.unit)
        .with("addressType", if nic.assigned { "assigned" } else { "manual" })
        .with("macAddress", nic.mac_address.clone())
        .with("wakeOnLanEnabled", true)
}

fn nic_backing(network: &NetworkBinding) -> Object {
    match &network.kind {
        NetworkKind::Standard => Object::new("VirtualEthernetCardNetworkBackingInfo")
            .with("deviceName", network.name.clone())
            .with("useAutoDetect", false)
            .with("network", &network.moref),
        NetworkKind::Distributed { .. } => Object::new("VirtualEthernetCardDistributedVirtualPortBackingInfo").with(
            "port",
            Object::new("DistributedVirtualSwitchPortConnection")
                .with("switchUuid", network.switch_uuid.clone())
                .with("portgroupKey", network.moref.id.clone())
                .with("portKey", "8"),
        ),
        NetworkKind::Opaque { id, network_type } => Object::new("VirtualEthernetCardOpaqueNetworkBackingInfo")
            .with("opaqueNetworkId", id.clone())
            .with("opaqueNetworkType", network_type.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_vmwares_numbering() {
        assert_eq!(disk_key(ControllerKind::ParaVirtual, 0, 0), 2000);
        assert_eq!(disk_key(ControllerKind::LsiLogic, 1, 3), 2019);
        assert_eq!(disk_key(ControllerKind::Sata, 0, 1), 16_001);
        assert_eq!(
            (0..9).map(|index| unit_number(ControllerKind::ParaVirtual, index)).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 6, 8, 9]
        );
        assert_eq!(unit_number(ControllerKind::Sata, 7), 7);
    }

    #[test]
    fn generated_mac_addresses_are_vmwares_and_distinct() {
        let spec = VmSpec::named("a").with_nic(NicSpec::default()).with_nic(NicSpec::default());
        let macs: Vec<_> = nics(&spec, 0x0102).into_iter().map(|nic| nic.mac_address).collect();
        assert_eq!(macs, ["00:50:56:81:02:00", "00:50:56:81:02:01"]);
    }
}
