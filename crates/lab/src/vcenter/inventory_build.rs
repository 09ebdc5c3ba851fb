//! Builds the inventory from the configuration, opening the disks on the way.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::devices::{self, AttachedDisk, DiskFile, NetworkBinding};
use super::disk::{Disk, DiskPlace};
use super::error::VcenterError;
use super::inventory::Inventory;
use super::spec::{DiskSpec, NetworkKind, VcenterConfig, VmSpec};
use super::value::{MoRef, Object, Value};
use super::vm::{NewVmSnapshot, Vm, VmState};

/// First number of generated object ids.
const FIRST_ID: u32 = 1;

struct Builder<'a> {
    config: &'a VcenterConfig,
    sha1_thumbprint: &'a str,
    inventory: Inventory,
    next_id: u32,
}

/// Where VMs are put.
struct Places {
    vm_folder: MoRef,
    host: MoRef,
    resource_pool: MoRef,
}

/// Builds everything the configuration names.
///
/// # Errors
/// When the configuration contradicts itself or a disk file cannot be opened.
pub(crate) fn build(
    config: &VcenterConfig,
    sha1_thumbprint: &str,
    now: OffsetDateTime,
) -> Result<Inventory, VcenterError> {
    let mut builder = Builder { config, sha1_thumbprint, inventory: Inventory::default(), next_id: FIRST_ID };
    let places = builder.skeleton()?;
    for (number, spec) in (1..).zip(&config.vms) {
        builder.vm(spec, number, &places, now)?;
    }
    builder.link_vms();
    Ok(builder.inventory)
}

fn folder_properties(child_types: &[&str], children: Vec<MoRef>) -> Vec<(&'static str, Value)> {
    vec![
        ("childType", Value::texts(child_types.iter().map(|name| (*name).to_owned()))),
        ("childEntity", Value::refs(children)),
    ]
}

/// Turns bits of a fixed name space and a name into a uuid, so that every start gives the same ids.
pub(super) fn stable_uuid(kind: &str, name: &str) -> String {
    let hash = blake3::hash(format!("{kind}/{name}").as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

impl Builder<'_> {
    fn id(&mut self, kind: &str, prefix: &str) -> MoRef {
        let id = format!("{prefix}{}", self.next_id);
        self.next_id += 1;
        MoRef::new(kind, id)
    }

    fn skeleton(&mut self) -> Result<Places, VcenterError> {
        let config = self.config;
        let root = self.id("Folder", "group-d");
        let datacenter = self.id("Datacenter", "datacenter-");
        let [vm_folder, host_folder, store_folder, network_folder] =
            ["group-v", "group-h", "group-s", "group-n"].map(|prefix| self.id("Folder", prefix));
        let kinds = ["Folder", "Datacenter"];
        let parent = match &config.datacenter_folder {
            Some(name) => {
                let folder = self.id("Folder", "group-d");
                self.inventory.add(&folder, name, Some(&root), folder_properties(&kinds, vec![datacenter.clone()]));
                self.inventory.datacenter_path = format!("{name}/{}", config.datacenter);
                folder
            }
            None => {
                self.inventory.datacenter_path = config.datacenter.clone();
                datacenter.clone()
            }
        };
        self.inventory.add(&root, "Datacenters", None, folder_properties(&kinds, vec![parent.clone()]));
        self.inventory.root = Some(root.clone());
        let datastores = self.datastores(&store_folder)?;
        let networks = self.networks(&network_folder);
        let (hosts, pool) = self.hosts(&host_folder, &datastores, &networks)?;
        let properties = vec![
            ("vmFolder", (&vm_folder).into()),
            ("hostFolder", (&host_folder).into()),
            ("datastoreFolder", (&store_folder).into()),
            ("networkFolder", (&network_folder).into()),
            ("datastore", Value::refs(datastores)),
            ("network", Value::refs(networks)),
        ];
        let above = if parent == datacenter { root } else { parent };
        self.inventory.add(&datacenter, &config.datacenter, Some(&above), properties);
        self.inventory.add(
            &vm_folder,
            "vm",
            Some(&datacenter),
            folder_properties(&["Folder", "VirtualMachine"], Vec::new()),
        );
        let host = hosts.first().cloned().ok_or_else(|| VcenterError::Config("there is no host".to_owned()))?;
        self.add_parent(&host_folder, &datacenter);
        self.add_parent(&store_folder, &datacenter);
        self.add_parent(&network_folder, &datacenter);
        Ok(Places { vm_folder, host, resource_pool: pool })
    }

    fn add_parent(&mut self, child: &MoRef, parent: &MoRef) {
        if let Some(entity) = self.inventory.entities.get_mut(child) {
            entity.parent = Some(parent.clone());
        }
    }

    fn datastores(&mut self, folder: &MoRef) -> Result<Vec<MoRef>, VcenterError> {
        let mut all = Vec::new();
        for spec in &self.config.datastores {
            let moref = self.id("Datastore", "datastore-");
            let url = format!("ds:///vmfs/volumes/{}/", stable_uuid("datastore", &spec.name));
            let summary = Object::new("DatastoreSummary")
                .with("datastore", &moref)
                .with("name", spec.name.clone())
                .with("url", url)
                .with("capacity", spec.capacity_bytes)
                .with("freeSpace", spec.capacity_bytes / 2)
                .with("accessible", true)
                .with("multipleHostAccess", true)
                .with("type", spec.kind.clone())
                .with("maintenanceMode", "normal");
            self.inventory.add(&moref, &spec.name, Some(folder), vec![("summary", summary.into())]);
            self.inventory.datastores.insert(spec.name.clone(), moref.clone());
            all.push(moref);
        }
        if all.is_empty() {
            return Err(VcenterError::Config("there is no datastore".to_owned()));
        }
        self.inventory.add(folder, "datastore", None, folder_properties(&["Folder", "Datastore"], all.clone()));
        Ok(all)
    }

    fn networks(&mut self, folder: &MoRef) -> Vec<MoRef> {
        let (mut all, mut in_folder) = (Vec::new(), Vec::new());
        for spec in &self.config.networks {
            let (kind, prefix) = match spec.kind {
                NetworkKind::Standard => ("Network", "network-"),
                NetworkKind::Distributed { .. } => ("DistributedVirtualPortgroup", "dvportgroup-"),
                NetworkKind::Opaque { .. } => ("OpaqueNetwork", "network-o"),
            };
            let moref = self.id(kind, prefix);
            let mut switch_uuid = String::new();
            let mut properties = Vec::new();
            match &spec.kind {
                NetworkKind::Standard => {
                    let summary = Inventory::network_summary("NetworkSummary", &moref, &spec.name);
                    properties.push(("summary", summary.into()));
                }
                NetworkKind::Distributed { switch } => {
                    switch_uuid = stable_uuid("switch", switch);
                    let switch = self.switch(switch, &switch_uuid, folder, &mut in_folder);
                    properties = portgroup_properties(&moref, &spec.name, &switch);
                }
                NetworkKind::Opaque { id, network_type } => {
                    let summary = Inventory::network_summary("OpaqueNetworkSummary", &moref, &spec.name)
                        .with("opaqueNetworkId", id.clone())
                        .with("opaqueNetworkType", network_type.clone());
                    properties.push(("summary", summary.into()));
                }
            }
            self.inventory.add(&moref, &spec.name, Some(folder), properties);
            let binding =
                NetworkBinding { moref: moref.clone(), name: spec.name.clone(), kind: spec.kind.clone(), switch_uuid };
            self.inventory.networks.insert(spec.name.clone(), binding);
            in_folder.push(moref.clone());
            all.push(moref);
        }
        let kinds = ["Folder", "Network", "DistributedVirtualSwitch"];
        self.inventory.add(folder, "network", None, folder_properties(&kinds, in_folder));
        all
    }

    fn switch(&mut self, name: &str, uuid: &str, folder: &MoRef, in_folder: &mut Vec<MoRef>) -> MoRef {
        let known = self
            .inventory
            .entities
            .iter()
            .find(|(moref, entity)| moref.kind == "VmwareDistributedVirtualSwitch" && entity.name == name)
            .map(|(moref, _)| moref.clone());
        if let Some(known) = known {
            return known;
        }
        let moref = self.id("VmwareDistributedVirtualSwitch", "dvs-");
        // Real switches write their uuid as spaced hex; it is compared as text only.
        let summary = Object::new("DVSSummary").with("name", name).with("uuid", uuid).with("numPorts", 16);
        let properties = vec![("uuid", uuid.into()), ("summary", summary.into())];
        self.inventory.add(&moref, name, Some(folder), properties);
        in_folder.push(moref.clone());
        moref
    }

    fn hosts(
        &mut self,
        folder: &MoRef,
        datastores: &[MoRef],
        networks: &[MoRef],
    ) -> Result<(Vec<MoRef>, MoRef), VcenterError> {
        let pool = self.id("ResourcePool", "resgroup-");
        let groups: Vec<(String, Vec<String>)> = match &self.config.cluster {
            Some(name) => vec![(name.clone(), self.config.hosts.clone())],
            None => self.config.hosts.iter().map(|host| (host.clone(), vec![host.clone()])).collect(),
        };
        let (kind, prefix) = match self.config.cluster {
            Some(_) => ("ClusterComputeResource", "domain-c"),
            None => ("ComputeResource", "domain-s"),
        };
        let (mut all, mut computes) = (Vec::new(), Vec::new());
        for (group_name, names) in groups {
            let compute = self.id(kind, prefix);
            let mut members = Vec::new();
            for name in names {
                let host = self.id("HostSystem", "host-");
                let properties = self.host_properties(&host, &name, datastores, networks);
                self.inventory.add(&host, &name, Some(&compute), properties);
                members.push(host);
            }
            let properties = vec![
                ("resourcePool", (&pool).into()),
                ("host", Value::refs(members.clone())),
                ("datastore", Value::refs(datastores.to_vec())),
                ("network", Value::refs(networks.to_vec())),
            ];
            self.inventory.add(&compute, &group_name, Some(folder), properties);
            all.extend(members);
            computes.push(compute);
        }
        let first = computes.first().cloned().ok_or_else(|| VcenterError::Config("there is no host".to_owned()))?;
        self.inventory.add(&pool, "Resources", Some(&first), vec![("owner", (&first).into())]);
        self.inventory.add(folder, "host", None, folder_properties(&["Folder", "ComputeResource"], computes));
        Ok((all, pool))
    }

    fn host_properties(
        &self,
        host: &MoRef,
        name: &str,
        datastores: &[MoRef],
        networks: &[MoRef],
    ) -> Vec<(&'static str, Value)> {
        let runtime = Object::new("HostRuntimeInfo")
            .with("connectionState", Value::Enum("HostSystemConnectionState", "connected".into()))
            .with("powerState", Value::Enum("HostSystemPowerState", "poweredOn".into()))
            .with("inMaintenanceMode", false);
        let config = Object::new("HostConfigSummary")
            .with("name", name)
            .with("port", 443)
            .with("sslThumbprint", self.sha1_thumbprint)
            .with("vmotionEnabled", false)
            .with("faultToleranceEnabled", false);
        let summary = Object::new("HostListSummary")
            .with("host", host)
            .with("runtime", runtime.clone())
            .with("config", config)
            .with("overallStatus", Value::Enum("ManagedEntityStatus", "green".into()))
            .with("rebootRequired", false);
        vec![
            ("runtime", runtime.into()),
            ("summary", summary.into()),
            ("datastore", Value::refs(datastores.to_vec())),
            ("network", Value::refs(networks.to_vec())),
        ]
    }

    fn vm(&mut self, spec: &VmSpec, number: u32, places: &Places, now: OffsetDateTime) -> Result<(), VcenterError> {
        if self.inventory.vm_named(&spec.name).is_some() {
            return Err(VcenterError::Config(format!("two VMs are called {}", spec.name)));
        }
        if let Some(nic) = spec.nics.iter().find(|nic| self.inventory.network_named(&nic.network).is_none()) {
            return Err(VcenterError::Config(format!("VM {} uses the unknown network {}", spec.name, nic.network)));
        }
        let parent = self.vm_folder(&places.vm_folder, &spec.folder);
        let moref = self.id("VirtualMachine", "vm-");
        let disks = self.disks(spec)?;
        self.inventory.disks.extend(disks.iter().filter_map(AttachedDisk::own).map(Arc::clone));
        let retained = self.config.retain_frozen.then(|| self.config.state_dir.join("retained"));
        if let Some(directory) = &retained {
            make_folder(directory)?;
        }
        let vm = Arc::new(Vm {
            spec: spec.clone(),
            moref: moref.clone(),
            parent: parent.clone(),
            host: places.host.clone(),
            resource_pool: places.resource_pool.clone(),
            uuid: stable_uuid("bios", &spec.name),
            instance_uuid: stable_uuid("instance", &spec.name),
            created: now,
            nics: devices::nics(spec, number),
            state: Mutex::new(VmState::new(spec, disks, now)),
            retained,
        });
        vm.settle_tracking_at_start();
        for (index, name) in spec.existing_vm_snapshots.iter().enumerate() {
            let wanted = NewVmSnapshot {
                id: format!("snapshot-{number}{index}"),
                name: name.clone(),
                description: String::new(),
                quiesce: false,
            };
            vm.create_vm_snapshot(&wanted, now)
                .map_err(|fault| VcenterError::Config(format!("VM {}: {}", spec.name, fault.message)))?;
        }
        self.append(&parent, "childEntity", &moref);
        self.inventory.vms.insert(moref.id, vm);
        Ok(())
    }

    /// The folder with that path under the VM root, made part by part.
    fn vm_folder(&mut self, root: &MoRef, path: &str) -> MoRef {
        let mut current = root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let known = self.inventory.children(&current).into_iter().find(|child| {
                child.kind == "Folder" && self.inventory.entities.get(child).is_some_and(|entity| entity.name == part)
            });
            current = known.unwrap_or_else(|| {
                let folder = self.id("Folder", "group-v");
                let properties = folder_properties(&["Folder", "VirtualMachine"], Vec::new());
                self.inventory.add(&folder, part, Some(&current), properties);
                self.append(&current, "childEntity", &folder);
                folder
            });
        }
        current
    }

    fn append(&mut self, owner: &MoRef, property: &'static str, item: &MoRef) {
        let Some(entity) = self.inventory.entities.get_mut(owner) else { return };
        match entity.properties.iter_mut().find(|(name, _)| *name == property) {
            Some((_, Value::List(_, items))) => items.push(item.into()),
            _ => entity.properties.push((property, Value::refs([item.clone()]))),
        }
    }

    fn disks(&self, spec: &VmSpec) -> Result<Vec<AttachedDisk>, VcenterError> {
        let mut on_controller: std::collections::HashMap<i32, i32> = std::collections::HashMap::new();
        let mut all = Vec::new();
        for (index, disk) in spec.disks.iter().enumerate() {
            let controller_key = devices::controller_key(disk.controller, disk.bus);
            let place = on_controller.entry(controller_key).or_insert(0);
            let unit = devices::unit_number(disk.controller, *place);
            *place += 1;
            let file = DiskFile::Own(Arc::new(self.open_disk(spec, disk, index)?));
            all.push(AttachedDisk {
                key: devices::disk_key(disk.controller, disk.bus, unit),
                controller_key,
                unit,
                label: format!("Hard disk {}", index + 1),
                mode: disk.mode.clone(),
                sharing: disk.sharing.clone(),
                thin: disk.thin,
                raw_device_mode: disk.raw_device_mode.clone(),
                datastore: self.datastore_of(disk)?.name.clone(),
                file,
            });
        }
        Ok(all)
    }

    fn datastore_of(&self, disk: &DiskSpec) -> Result<&super::spec::DatastoreSpec, VcenterError> {
        let stores = &self.config.datastores;
        match &disk.datastore {
            None => stores.first().ok_or_else(|| VcenterError::Config("there is no datastore".to_owned())),
            Some(name) => stores
                .iter()
                .find(|store| store.name == *name)
                .ok_or_else(|| VcenterError::Config(format!("there is no datastore {name}"))),
        }
    }

    fn open_disk(&self, spec: &VmSpec, disk: &DiskSpec, index: usize) -> Result<Disk, VcenterError> {
        let store = self.datastore_of(disk)?;
        let folder = spec.name.replace('/', "_");
        let stem = if index == 0 { folder.clone() } else { format!("{folder}_{index}") };
        let directory = self.config.state_dir.join("datastores").join(&store.name).join(&folder);
        make_folder(&directory)?;
        let base = disk.image.clone().unwrap_or_else(|| directory.join(format!("{stem}-flat.vmdk")));
        let place = DiskPlace {
            uuid: format!(
                "6000C29{}",
                stable_uuid("disk", &format!("{}/{index}", spec.name)).get(7..).unwrap_or_default()
            ),
            datastore: store.name.clone(),
            folder,
            stem,
            allocation_known: store.kind == "VMFS",
            marker_start: disk.marker_start_bytes,
            delta_format: disk.delta_format,
        };
        Disk::open(place, &base, &directory, disk.capacity_bytes)
            .map_err(VcenterError::file("open the disk file", base))
    }

    /// Tells hosts, pools, datastores and networks which VMs use them.
    fn link_vms(&mut self) {
        let vms: Vec<Arc<Vm>> = self.inventory.vms.values().map(Arc::clone).collect();
        for vm in vms {
            let mut users = vec![vm.host.clone(), vm.resource_pool.clone()];
            for property in ["datastore", "network"] {
                let value = super::vm_view::property(&vm, &self.inventory, property);
                users.extend(value.map(|value| value.references()).unwrap_or_default());
            }
            for owner in users {
                self.append(&owner, "vm", &vm.moref);
            }
        }
    }
}

fn portgroup_properties(moref: &MoRef, name: &str, switch: &MoRef) -> Vec<(&'static str, Value)> {
    let config = Object::new("DVPortgroupConfigInfo")
        .with("key", moref.id.clone())
        .with("name", name)
        .with("numPorts", 8)
        .with("distributedVirtualSwitch", switch)
        .with("type", "earlyBinding")
        .with("configVersion", "1");
    let summary = Inventory::network_summary("NetworkSummary", moref, name);
    vec![("key", moref.id.clone().into()), ("config", config.into()), ("summary", summary.into())]
}

fn make_folder(path: &Path) -> Result<(), VcenterError> {
    std::fs::create_dir_all(path).map_err(VcenterError::file("make the folder", path))
}
