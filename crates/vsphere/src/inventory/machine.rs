//! From the properties of a VM to the value that describes it. Pure: names of other objects come in from outside.

use std::collections::BTreeSet;

use model::status::Firmware;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::devices::{self, Plug};
use super::names::{Names, plain_name};
use super::{HostRef, PowerState, Tools, VirtualMachine, VmSnapshot};
use crate::moref::MoRef;
use crate::properties::ObjectContent;
use crate::soap::Element;

/// What is read of every VM.
pub(crate) const VM_PATHS: &[&str] = &[
    "name",
    "parent",
    "parentVApp",
    "network",
    "snapshot",
    "config.uuid",
    "config.instanceUuid",
    "config.template",
    "config.version",
    "config.guestId",
    "config.guestFullName",
    "config.firmware",
    "config.bootOptions",
    "config.extraConfig",
    "config.changeTrackingEnabled",
    "config.keyId",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "capability.changeTrackingSupported",
    "capability.snapshotOperationsSupported",
    "runtime.host",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.question",
    "runtime.faultToleranceState",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    "guest.toolsVersion",
];

/// A VM whose references are not resolved to names yet.
#[derive(Debug)]
pub(crate) struct Draft {
    machine: VirtualMachine,
    escaped_name: String,
    parent: Option<MoRef>,
    host: Option<MoRef>,
    networks: Vec<MoRef>,
    plugs: Vec<Plug>,
}

impl Draft {
    /// Reads one VM.
    pub(crate) fn read(content: &ObjectContent) -> Self {
        let escaped_name = content.text("name").unwrap_or_default().to_owned();
        let machine = read_machine(content, &escaped_name);
        let is_powered_on = machine.power_state == PowerState::PoweredOn;
        let (nics, plugs) =
            devices::read_nics(content.items("config.hardware.device"), is_powered_on).into_iter().unzip();
        Self {
            machine: VirtualMachine { nics, ..machine },
            escaped_name,
            parent: content.reference("parentVApp").or_else(|| content.reference("parent")),
            host: content.reference("runtime.host"),
            networks: content.items("network").iter().filter_map(Element::reference).collect(),
            plugs,
        }
    }

    /// The objects whose names it needs.
    pub(crate) fn references(&self, into: &mut BTreeSet<MoRef>) {
        into.extend(self.parent.iter().chain(&self.host).chain(&self.networks).cloned());
        for plug in &self.plugs {
            match plug {
                Plug::Standard { network: Some(network), .. } => {
                    into.insert(network.clone());
                }
                // The key of a port group is its id; asked for by itself in case the VM does not list it.
                Plug::Distributed { portgroup_key, .. } if !portgroup_key.is_empty() => {
                    into.insert(MoRef::new("DistributedVirtualPortgroup", portgroup_key.as_str()));
                }
                _ => {}
            }
        }
    }

    /// The VM with all names.
    pub(crate) fn resolve(self, names: &Names) -> VirtualMachine {
        let place = names.place(self.parent.as_ref(), &self.escaped_name);
        let mut machine = self.machine;
        machine.inventory_path = place.path;
        machine.datacenter = place.datacenter;
        machine.datacenter_path = place.datacenter_path;
        machine.host = self.host.map(|moref| HostRef { name: names.plain(&moref).unwrap_or_default(), moref });
        for (nic, plug) in machine.nics.iter_mut().zip(&self.plugs) {
            nic.network_name = network_name(plug, &self.networks, names, &nic.label);
        }
        machine
    }
}

fn network_name(plug: &Plug, networks: &[MoRef], names: &Names, label: &str) -> String {
    let name = match plug {
        Plug::Standard { network, name } => {
            let resolved = network.as_ref().and_then(|network| names.plain(network));
            resolved
                .or_else(|| Some(plain_name(name)))
                .filter(|name| !name.is_empty())
                .or_else(|| network.as_ref().map(|network| network.id().to_owned()))
        }
        Plug::Distributed { portgroup_key, port } => {
            let resolved = names.portgroup(portgroup_key, networks);
            resolved
                .or_else(|| Some(portgroup_key.clone()).filter(|key| !key.is_empty()))
                .or_else(|| Some(port.clone()))
        }
        Plug::Opaque { id } => names.opaque(id, networks).or_else(|| Some(id.clone())),
        Plug::Other { text } => Some(text.clone()),
    };
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| label.to_owned())
}

fn read_machine(content: &ObjectContent, escaped_name: &str) -> VirtualMachine {
    let text = |path: &str| content.text(path).unwrap_or_default().trim().to_owned();
    let items = content.items("config.hardware.device");
    let bios_uuid = text("config.uuid");
    let instance_uuid = Some(text("config.instanceUuid")).filter(|uuid| !uuid.is_empty());
    let boot_options = content.get("config.bootOptions");
    let boot_order: Vec<Element> =
        boot_options.map(|options| options.all("bootOrder").cloned().collect()).unwrap_or_default();
    VirtualMachine {
        moref: content.moref.clone(),
        name: plain_name(escaped_name),
        instance_uuid: instance_uuid.unwrap_or_else(|| bios_uuid.clone()),
        bios_uuid,
        inventory_path: String::new(),
        datacenter: String::new(),
        datacenter_path: String::new(),
        host: None,
        cpu_count: content.number("config.hardware.numCPU").unwrap_or_default(),
        memory_mb: content.number("config.hardware.memoryMB").unwrap_or_default(),
        guest_id: text("config.guestId"),
        os_type: text("config.guestFullName"),
        firmware: if text("config.firmware") == "efi" { Firmware::Efi } else { Firmware::Bios },
        secure_boot: boot_options.and_then(|options| options.flag_of("efiSecureBootEnabled")).unwrap_or(false),
        hardware_version: text("config.version").strip_prefix("vmx-").and_then(|version| version.parse().ok()),
        power_state: power_state(&text("runtime.powerState")),
        connection_state: text("runtime.connectionState"),
        tools: Tools {
            running_status: text("guest.toolsRunningStatus"),
            version_status: text("guest.toolsVersionStatus2"),
            version: Some(text("guest.toolsVersion")).filter(|version| version != "0").unwrap_or_default(),
        },
        is_template: content.flag("config.template").unwrap_or(false),
        key_id: devices::key_id(content.get("config.keyId")),
        change_tracking_supported: content.flag("capability.changeTrackingSupported").unwrap_or(false),
        change_tracking_enabled: content.flag("config.changeTrackingEnabled").unwrap_or(false),
        vm_snapshots_supported: content.flag("capability.snapshotOperationsSupported").unwrap_or(true),
        vm_snapshots: content.get("snapshot").map(snapshot_tree).unwrap_or_default(),
        consolidation_needed: content.flag("runtime.consolidationNeeded").unwrap_or(false),
        fault_tolerance_state: text("runtime.faultToleranceState"),
        question: content.get("runtime.question").map(question),
        nics: Vec::new(),
        controllers: devices::read_controllers(items),
        disks: devices::read_disks(items, content.items("config.extraConfig"), &boot_order),
    }
}

fn question(question: &Element) -> String {
    question.text_of("text").unwrap_or_default().trim().to_owned()
}

/// VMware's text as a power state.
pub(crate) fn power_state(text: &str) -> PowerState {
    match text {
        "poweredOn" => PowerState::PoweredOn,
        "poweredOff" => PowerState::PoweredOff,
        "suspended" => PowerState::Suspended,
        _ => PowerState::Unknown,
    }
}

/// A `VirtualMachineSnapshotInfo` as a list, parents before children.
pub(crate) fn snapshot_tree(info: &Element) -> Vec<VmSnapshot> {
    let mut list = Vec::new();
    let mut pending: Vec<(&Element, Option<MoRef>)> = info.all("rootSnapshotList").map(|root| (root, None)).collect();
    pending.reverse();
    while let Some((node, parent)) = pending.pop() {
        let Some(moref) = node.reference_of("snapshot") else { continue };
        let created = node.text_of("createTime").unwrap_or_default();
        let children: Vec<_> = node.all("childSnapshotList").map(|child| (child, Some(moref.clone()))).collect();
        pending.extend(children.into_iter().rev());
        list.push(VmSnapshot {
            moref,
            name: plain_name(node.text_of("name").unwrap_or_default()),
            description: node.text_of("description").unwrap_or_default().to_owned(),
            created_at: OffsetDateTime::parse(created.trim(), &Rfc3339).ok(),
            is_quiesced: node.flag_of("quiesced").unwrap_or(false),
            parent,
        });
    }
    list
}
