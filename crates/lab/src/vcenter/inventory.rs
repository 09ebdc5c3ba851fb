//! The inventory: folders, datacenter, hosts, datastores, networks and VMs, and finding things in it.
//!
//! Built once from the configuration; only VMs have state of their own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::devices::NetworkBinding;
use super::disk::Disk;
use super::value::{MoRef, Object, Value};
use super::vm::Vm;
use super::vm_view;

/// An object whose properties never change.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) name: String,
    pub(crate) parent: Option<MoRef>,
    pub(crate) properties: Vec<(&'static str, Value)>,
}

/// Everything a client can find.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) entities: BTreeMap<MoRef, Entity>,
    pub(crate) vms: BTreeMap<String, Arc<Vm>>,
    pub(crate) networks: HashMap<String, NetworkBinding>,
    pub(crate) datastores: HashMap<String, MoRef>,
    /// Every disk of the laboratory, attached or not.
    pub(crate) disks: Vec<Arc<Disk>>,
    pub(crate) root: Option<MoRef>,
    /// Inventory path of the datacenter, as `dcPath` wants it.
    pub(crate) datacenter_path: String,
}

/// Names as vCenter keeps them: `%`, `/` and `\` are escaped.
pub(crate) fn encoded_name(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c")
}

impl Inventory {
    /// Adds an entity and hands its reference back.
    pub(crate) fn add(
        &mut self,
        moref: &MoRef,
        name: &str,
        parent: Option<&MoRef>,
        properties: Vec<(&'static str, Value)>,
    ) {
        let entity = Entity { name: encoded_name(name), parent: parent.cloned(), properties };
        self.entities.insert(moref.clone(), entity);
    }

    /// The root folder.
    pub(crate) fn root(&self) -> MoRef {
        self.root.clone().unwrap_or_else(|| MoRef::new("Folder", "group-d1"))
    }

    /// A network by the name users know.
    pub(crate) fn network_named(&self, name: &str) -> Option<&NetworkBinding> {
        self.networks.get(name)
    }

    /// A datastore by name.
    pub(crate) fn datastore_named(&self, name: &str) -> Option<&MoRef> {
        self.datastores.get(name)
    }

    /// The VM with that reference.
    pub(crate) fn vm(&self, moref: &MoRef) -> Option<&Arc<Vm>> {
        self.vms.get(&moref.id).filter(|_| moref.kind == "VirtualMachine")
    }

    /// The VM with that inventory name.
    pub(crate) fn vm_named(&self, name: &str) -> Option<&Arc<Vm>> {
        self.vms.values().find(|vm| vm.spec.name == name)
    }

    /// The VM a VM snapshot belongs to.
    pub(crate) fn vm_of_snapshot(&self, moref: &MoRef) -> Option<&Arc<Vm>> {
        self.vms.values().find(|vm| vm.state.lock().vm_snapshot(&moref.id).is_some())
    }

    /// Whether the reference names something in the inventory.
    pub(crate) fn contains(&self, moref: &MoRef) -> bool {
        match moref.kind.as_str() {
            "VirtualMachine" => self.vm(moref).is_some(),
            "VirtualMachineSnapshot" => self.vm_of_snapshot(moref).is_some(),
            _ => self.entities.contains_key(moref),
        }
    }

    /// A property by its first path part; `None` = not set.
    pub(crate) fn property(&self, moref: &MoRef, name: &str) -> Option<Value> {
        if let Some(vm) = self.vm(moref) {
            return vm_view::property(vm, self, name);
        }
        if moref.kind == "VirtualMachineSnapshot" {
            return vm_view::vm_snapshot_property(self.vm_of_snapshot(moref)?, self, &moref.id, name);
        }
        let entity = self.entities.get(moref)?;
        match name {
            "name" => Some(entity.name.clone().into()),
            "parent" => entity.parent.as_ref().map(Value::from),
            "overallStatus" | "configStatus" => Some(Value::Enum("ManagedEntityStatus", "green".into())),
            "effectiveRole" => Some(Value::List("int", vec![(-1).into()])),
            _ => entity.properties.iter().find(|(property, _)| *property == name).map(|(_, value)| value.clone()),
        }
    }

    /// Children in the sense of inventory paths and container views.
    pub(crate) fn children(&self, moref: &MoRef) -> Vec<MoRef> {
        // Datastores and networks have a `host` list too; only a compute resource's is downwards.
        let is_compute = moref.kind.ends_with("ComputeResource");
        let leads_down = |name: &str| match name {
            "host" | "resourcePool" => is_compute,
            _ => matches!(name, "childEntity" | "vmFolder" | "hostFolder" | "datastoreFolder" | "networkFolder"),
        };
        let own = self.entities.get(moref).map(|entity| entity.properties.as_slice()).unwrap_or_default();
        own.iter().filter(|(name, _)| leads_down(name)).flat_map(|(_, value)| value.references()).collect()
    }

    /// Everything below a container, for a container view.
    pub(crate) fn descendants(&self, container: &MoRef, recursive: bool) -> Vec<MoRef> {
        let mut found = Vec::new();
        let mut open = self.children(container);
        while let Some(next) = open.pop() {
            if recursive {
                open.extend(self.children(&next));
            }
            found.push(next);
        }
        found.sort();
        found
    }

    /// `FindByInventoryPath`: names from the root down, `/` inside a name written `%2f`.
    pub(crate) fn by_path(&self, path: &str) -> Option<MoRef> {
        let mut current = self.root();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let matches =
                |child: &MoRef| matches!(self.property(child, "name"), Some(Value::Text(name)) if name == part);
            current = self.children(&current).into_iter().find(matches)?;
        }
        Some(current)
    }

    /// `FindByUuid` for VMs, by BIOS or instance uuid.
    pub(crate) fn by_uuid(&self, uuid: &str, instance: bool) -> Option<MoRef> {
        let matches = |vm: &&Arc<Vm>| {
            let own = if instance { &vm.instance_uuid } else { &vm.uuid };
            own.eq_ignore_ascii_case(uuid)
        };
        self.vms.values().find(matches).map(|vm| vm.moref.clone())
    }

    /// The summary every network type has.
    pub(crate) fn network_summary(type_name: &'static str, moref: &MoRef, name: &str) -> Object {
        Object::new(type_name).with("network", moref).with("name", name).with("accessible", true)
    }
}
