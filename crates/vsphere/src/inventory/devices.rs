//! From `config.hardware.device` to disks, controllers and network cards. Pure.

use std::collections::HashMap;

use model::ChangeId;

use super::{Controller, Nic, ProvisioningType, RdmMode, VirtualDisk};
use crate::moref::MoRef;
use crate::soap::Element;

/// What a network card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plug {
    /// A standard port group.
    Standard { network: Option<MoRef>, name: String },
    /// A port of a distributed switch.
    Distributed { portgroup_key: String, port: String },
    /// An NSX network.
    Opaque { id: String },
    /// Something without a network of its own.
    Other { text: String },
}

/// The controllers among `devices`.
pub(crate) fn read_controllers(devices: &[Element]) -> Vec<Controller> {
    let is_controller = |device: &&Element| {
        let kind = device.xsi_type.as_deref().unwrap_or_default();
        device.child("busNumber").is_some() && kind.ends_with("Controller") && !is_bridge(kind)
    };
    let read = |device: &Element| Controller {
        key: device.number_of("key").unwrap_or_default(),
        controller_type: controller_type(device.xsi_type.as_deref().unwrap_or_default()),
        bus: device.number_of("busNumber").unwrap_or_default(),
        shared_bus: device.text_of("sharedBus").map(str::to_owned),
        device_keys: device.all("device").filter_map(Element::number).collect(),
    };
    devices.iter().filter(is_controller).map(read).collect()
}

fn is_bridge(kind: &str) -> bool {
    matches!(kind, "VirtualPCIController" | "VirtualPS2Controller" | "VirtualSIOController" | "VirtualUSBController")
        || kind == "VirtualUSBXHCIController"
}

fn controller_type(kind: &str) -> String {
    let known = match kind {
        "ParaVirtualSCSIController" => "pvscsi",
        "VirtualLsiLogicController" => "lsilogic",
        "VirtualLsiLogicSASController" => "lsilogic_sas",
        "VirtualBusLogicController" => "buslogic",
        "VirtualAHCIController" | "VirtualSATAController" => "ahci",
        "VirtualIDEController" => "ide",
        "VirtualNVMEController" => "nvme",
        other => other,
    };
    known.to_owned()
}

/// The disks among `devices`, with what `extra_config` and the boot order say about them.
pub(crate) fn read_disks(devices: &[Element], extra_config: &[Element], boot_order: &[Element]) -> Vec<VirtualDisk> {
    let controllers: HashMap<i32, Controller> =
        read_controllers(devices).into_iter().map(|controller| (controller.key, controller)).collect();
    let options: HashMap<String, &str> = extra_config
        .iter()
        .filter_map(|option| Some((option.text_of("key")?.to_ascii_lowercase(), option.text_of("value")?)))
        .collect();
    let is_disk = |device: &&Element| device.xsi_type.as_deref() == Some("VirtualDisk");
    let mut disks: Vec<VirtualDisk> = devices
        .iter()
        .filter(is_disk)
        .map(|device| {
            let mut disk = read_disk(device, &controllers);
            let setting = options.get(&format!("{}.ctkenabled", slot_name(&disk)));
            disk.is_change_tracking_set = setting.map(|value| value.trim().eq_ignore_ascii_case("true"));
            disk
        })
        .collect();
    if let Some(boot) = boot_disk(&disks, boot_order) {
        disks[boot].is_boot_disk = true;
    }
    disks
}

fn read_disk(device: &Element, controllers: &HashMap<i32, Controller>) -> VirtualDisk {
    let backing = device.child("backing");
    let text = |name: &str| backing.and_then(|backing| backing.text_of(name)).unwrap_or_default().to_owned();
    let flag = |name: &str| backing.and_then(|backing| backing.flag_of(name)).unwrap_or(false);
    let controller_key = device.number_of("controllerKey").unwrap_or_default();
    let controller = controllers.get(&controller_key);
    let capacity_kb = device.number_of::<u64>("capacityInKB").unwrap_or_default();
    let vmdk_path = text("fileName");
    let change_id = text("changeId");
    VirtualDisk {
        device_key: device.number_of("key").unwrap_or_default(),
        label: label(device),
        disk_uuid: text("uuid"),
        disk_object_id: device.text_of("diskObjectId").map(str::to_owned),
        datastore: datastore_of(&vmdk_path).to_owned(),
        vmdk_path,
        capacity_bytes: device.number_of("capacityInBytes").unwrap_or_else(|| capacity_kb.saturating_mul(1024)),
        controller_key,
        controller_type: controller.map(|controller| controller.controller_type.clone()).unwrap_or_default(),
        controller_bus: controller.map(|controller| controller.bus).unwrap_or_default(),
        unit_number: device.number_of("unitNumber").unwrap_or_default(),
        controller_shared_bus: controller.and_then(|controller| controller.shared_bus.clone()),
        backing: backing.and_then(|backing| backing.xsi_type.as_deref()).map(backing_name).unwrap_or_default(),
        disk_mode: text("diskMode"),
        sharing: Some(text("sharing")).filter(|mode| !mode.is_empty()).unwrap_or_else(|| "sharingNone".to_owned()),
        provisioning_type: match (flag("thinProvisioned"), flag("eagerlyScrub")) {
            (true, _) => ProvisioningType::Thin,
            (false, true) => ProvisioningType::EagerZeroedThick,
            (false, false) => ProvisioningType::Thick,
        },
        rdm_mode: match text("compatibilityMode").as_str() {
            "physicalMode" => Some(RdmMode::Physical),
            "virtualMode" => Some(RdmMode::Virtual),
            _ => None,
        },
        has_parent: backing.and_then(|backing| backing.child("parent")).is_some(),
        change_id: change_id_of(&change_id),
        is_change_tracking_set: None,
        key_id: backing.and_then(|backing| key_id(backing.child("keyId"))),
        is_boot_disk: false,
    }
}

/// The id within a `CryptoKeyId`.
pub(crate) fn key_id(element: Option<&Element>) -> Option<String> {
    element.and_then(|key| key.text_of("keyId")).map(str::to_owned)
}

fn change_id_of(text: &str) -> Option<ChangeId> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // A change id that cannot be compared is as good as none: the disk counts as untracked.
    text.parse::<ChangeId>().inspect_err(|error| tracing::warn!(%error, "ignoring a change id")).ok()
}

fn backing_name(kind: &str) -> String {
    let short = kind.strip_prefix("VirtualDisk").and_then(|kind| kind.strip_suffix("BackingInfo"));
    short.unwrap_or(kind).to_owned()
}

fn datastore_of(vmdk_path: &str) -> &str {
    vmdk_path
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(datastore, _)| datastore)
        .unwrap_or_default()
}

fn label(device: &Element) -> String {
    device.at(&["deviceInfo", "label"]).map(|label| label.text.clone()).unwrap_or_default()
}

/// The name of the disk's slot in the VM's settings, such as `scsi0:1`.
fn slot_name(disk: &VirtualDisk) -> String {
    let bus = match disk.controller_type.as_str() {
        "ahci" => "sata",
        "ide" => "ide",
        "nvme" => "nvme",
        _ => "scsi",
    };
    format!("{bus}{}:{}", disk.controller_bus, disk.unit_number)
}

fn boot_disk(disks: &[VirtualDisk], boot_order: &[Element]) -> Option<usize> {
    let ordered =
        boot_order.iter().find_map(|device| device.number_of::<i32>("deviceKey").filter(|_| is_disk_entry(device)));
    let by_key = ordered.and_then(|key| disks.iter().position(|disk| disk.device_key == key));
    by_key.or_else(|| {
        let rank = |disk: &VirtualDisk| match disk.controller_type.as_str() {
            "ide" => 3,
            "ahci" => 2,
            "nvme" => 1,
            _ => 0,
        };
        let first =
            disks.iter().enumerate().min_by_key(|(_, disk)| (rank(disk), disk.controller_bus, disk.unit_number));
        first.map(|(index, _)| index)
    })
}

fn is_disk_entry(device: &Element) -> bool {
    device.xsi_type.as_deref() == Some("VirtualMachineBootOptionsBootableDiskDevice")
}

/// The network cards among `devices`, each with what it is plugged into; `network_name` is still empty.
pub(crate) fn read_nics(devices: &[Element], is_powered_on: bool) -> Vec<(Nic, Plug)> {
    let is_nic = |device: &&Element| {
        let kind = device.xsi_type.as_deref().unwrap_or_default();
        device.child("macAddress").is_some() || device.child("addressType").is_some() || adapter_type(kind) != kind
    };
    let read = |device: &Element| {
        let connectable = device.child("connectable");
        let state = |name: &str| connectable.and_then(|state| state.flag_of(name)).unwrap_or(false);
        let nic = Nic {
            device_key: device.number_of("key").unwrap_or_default(),
            label: label(device),
            network_name: String::new(),
            mac_address: device.text_of("macAddress").unwrap_or_default().trim().to_ascii_lowercase(),
            adapter_type: adapter_type(device.xsi_type.as_deref().unwrap_or_default()).to_owned(),
            connected: state(if is_powered_on { "connected" } else { "startConnected" }),
        };
        (nic, plug(device))
    };
    devices.iter().filter(is_nic).map(read).collect()
}

fn adapter_type(kind: &str) -> &str {
    match kind {
        "VirtualVmxnet3" => "vmxnet3",
        "VirtualVmxnet3Vrdma" => "vmxnet3_vrdma",
        "VirtualVmxnet2" => "vmxnet2",
        "VirtualVmxnet" => "vmxnet",
        "VirtualE1000" => "e1000",
        "VirtualE1000e" => "e1000e",
        "VirtualPCNet32" => "pcnet32",
        "VirtualSriovEthernetCard" => "sriov",
        other => other,
    }
}

fn plug(device: &Element) -> Plug {
    let Some(backing) = device.child("backing") else {
        let summary = device.at(&["deviceInfo", "summary"]).map(|summary| summary.text.clone()).unwrap_or_default();
        return Plug::Other { text: if summary.is_empty() { label(device) } else { summary } };
    };
    let text = |name: &str| backing.text_of(name).unwrap_or_default().to_owned();
    if let Some(port) = backing.child("port") {
        let part = |name: &str| port.text_of(name).unwrap_or_default().to_owned();
        let switch_port = format!("{}@{}", part("portKey"), part("switchUuid"));
        return Plug::Distributed { portgroup_key: part("portgroupKey"), port: switch_port };
    }
    if backing.child("opaqueNetworkId").is_some() {
        return Plug::Opaque { id: text("opaqueNetworkId") };
    }
    Plug::Standard { network: backing.reference_of("network"), name: text("deviceName") }
}
