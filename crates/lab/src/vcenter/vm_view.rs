//! The properties of a VM and of its VM snapshots as vim25 values.
//!
//! Reads state, changes nothing.

use time::OffsetDateTime;

use super::devices::{self, AttachedDisk};
use super::inventory::Inventory;
use super::spec::{Firmware, Tools};
use super::value::{MoRef, Object, Value};
use super::vm::{Vm, VmSnapshot, VmState, power_text};

/// Tools version reported by guests that have them.
const TOOLS_VERSION: i32 = 12_352;

/// A property of the VM by its first path part; `None` = not set.
pub(crate) fn property(vm: &Vm, inventory: &Inventory, name: &str) -> Option<Value> {
    let state = vm.state.lock();
    let value = match name {
        "name" => super::inventory::encoded_name(&vm.spec.name).into(),
        "parent" => (&vm.parent).into(),
        "overallStatus" | "configStatus" => Value::Enum("ManagedEntityStatus", "green".into()),
        "guestHeartbeatStatus" => {
            let status = if vm.tools_running(&state) { "green" } else { "gray" };
            Value::Enum("ManagedEntityStatus", status.into())
        }
        "alarmActionsEnabled" => true.into(),
        "effectiveRole" => Value::List("int", vec![(-1).into()]),
        "recentTask" => Value::refs(state.busy.clone()),
        "disabledMethod" => disabled_methods(vm, &state),
        "capability" => capability(vm).into(),
        "config" => config(vm, &state, inventory, None).into(),
        "layoutEx" => layout(vm, &state).into(),
        "storage" => storage(&state, inventory, vm.created).into(),
        "resourcePool" => (&vm.resource_pool).into(),
        "runtime" => runtime(vm, &state).into(),
        "guest" => guest(vm, &state).into(),
        "summary" => summary(vm, &state).into(),
        "datastore" => Value::refs(datastores(&state, inventory)),
        "network" => Value::refs(networks(vm, inventory)),
        "snapshot" => snapshot_info(vm, &state)?.into(),
        "rootSnapshot" => Value::refs(state.vm_snapshots.first().map(|first| first.moref.clone())),
        _ => return None,
    };
    Some(value)
}

/// A property of a VM snapshot by its first path part.
pub(crate) fn vm_snapshot_property(vm: &Vm, inventory: &Inventory, id: &str, name: &str) -> Option<Value> {
    let state = vm.state.lock();
    let snapshot = state.vm_snapshot(id)?;
    match name {
        "config" => Some(config(vm, &state, inventory, Some(snapshot)).into()),
        "vm" => Some((&vm.moref).into()),
        "childSnapshot" => {
            let next = state.vm_snapshots.iter().skip_while(|other| other.moref.id != id).nth(1);
            Some(Value::refs(next.map(|child| child.moref.clone())))
        }
        _ => None,
    }
}

fn disabled_methods(vm: &Vm, state: &VmState) -> Value {
    let methods: &[&str] = match (vm.spec.template, state.powered_on) {
        (true, _) => &["PowerOnVM_Task", "PowerOffVM_Task", "CreateSnapshot_Task", "ShutdownGuest"],
        (false, true) => &["PowerOnVM_Task", "MarkAsTemplate", "Destroy_Task"],
        (false, false) => &["PowerOffVM_Task", "ShutdownGuest", "ResetVM_Task"],
    };
    Value::texts(methods.iter().map(|method| (*method).to_owned()))
}

fn capability(vm: &Vm) -> Object {
    Object::new("VirtualMachineCapability")
        .with("snapshotOperationsSupported", !vm.spec.fault_tolerant)
        .with("multipleSnapshotsSupported", true)
        .with("snapshotConfigSupported", true)
        .with("poweredOffSnapshotsSupported", true)
        .with("memorySnapshotsSupported", true)
        .with("revertToSnapshotSupported", true)
        .with("quiescedSnapshotsSupported", vm.spec.tools != Tools::Absent)
        .with("changeTrackingSupported", vm.spec.change_tracking_supported)
        .with("secureBootSupported", vm.spec.firmware == Firmware::Efi)
}

fn config(vm: &Vm, state: &VmState, inventory: &Inventory, at: Option<&VmSnapshot>) -> Object {
    let spec = &vm.spec;
    let firmware = match spec.firmware {
        Firmware::Bios => "bios",
        Firmware::Efi => "efi",
    };
    let key_id = Object::new("CryptoKeyId").with("keyId", "8f5a1c1e-key");
    Object::new("VirtualMachineConfigInfo")
        .with("changeVersion", "2026-01-01T00:00:00.000000Z")
        .with("modified", vm.created)
        .with("name", super::inventory::encoded_name(&spec.name))
        .with("guestFullName", spec.guest_full_name.clone())
        .with("version", format!("vmx-{:02}", spec.hardware_version))
        .with("uuid", vm.uuid.clone())
        .with("createDate", vm.created)
        .with("instanceUuid", vm.instance_uuid.clone())
        .with("template", spec.template)
        .with("guestId", spec.guest_id.clone())
        .with("alternateGuestName", "")
        .with("annotation", state.annotation.clone())
        .with("files", files(state, spec))
        .with("hardware", hardware(vm, state, inventory, at))
        .with("extraConfig", extra_config(state))
        .with("bootOptions", boot_options(spec.secure_boot && spec.firmware == Firmware::Efi))
        .with_some("changeTrackingEnabled", state.change_tracking)
        .with("firmware", firmware)
        .with_some("keyId", spec.encrypted.then_some(key_id))
}

fn files(state: &VmState, spec: &super::spec::VmSpec) -> Object {
    let datastore = state.disks.first().map_or("datastore1", |disk| disk.datastore.as_str());
    let folder = format!("[{datastore}] {}", spec.name);
    Object::new("VirtualMachineFileInfo")
        .with("vmPathName", format!("{folder}/{}.vmx", spec.name))
        .with("snapshotDirectory", format!("{folder}/"))
        .with("suspendDirectory", format!("{folder}/"))
        .with("logDirectory", format!("{folder}/"))
}

fn boot_options(secure: bool) -> Object {
    Object::new("VirtualMachineBootOptions")
        .with("bootDelay", 0_i64)
        .with("enterBIOSSetup", false)
        .with("efiSecureBootEnabled", secure)
        .with("bootRetryEnabled", false)
        .with("bootRetryDelay", 10_000_i64)
}

/// Options by key. With tracking configured, the VM and each disk that can be tracked has its `ctkEnabled`.
fn extra_config(state: &VmState) -> Value {
    let tracked = state.change_tracking.map(|on| ("ctkEnabled".to_owned(), on.to_string()));
    let per_disk = state.disks.iter().filter(|disk| disk.is_in_vm_snapshots()).filter_map(|disk| {
        let controller = state.controllers.iter().find(|controller| controller.key == disk.controller_key)?;
        let name = format!("{}{}:{}.ctkEnabled", devices::bus_prefix(controller.kind), controller.bus, disk.unit);
        Some((name, state.change_tracking?.to_string()))
    });
    let options = state.extra_config.iter().cloned().chain(tracked).chain(per_disk);
    let options = options.map(|(key, value)| Object::new("OptionValue").with("key", key).with("value", value));
    Value::objects("OptionValue", options)
}

fn hardware(vm: &Vm, state: &VmState, inventory: &Inventory, at: Option<&VmSnapshot>) -> Object {
    let disks: Vec<AttachedDisk> = match at {
        Some(snapshot) => snapshot.disks.iter().map(|recorded| recorded.device.clone()).collect(),
        None => state.disks.clone(),
    };
    let powered_on = at.map_or(state.powered_on, |snapshot| snapshot.powered_on);
    let mut all = devices::controller_objects(&state.controllers, &disks);
    all.extend(disks.iter().map(|disk| disk_device(vm, disk, inventory, at)));
    all.extend(
        vm.nics.iter().map(|nic| devices::nic_object(nic, inventory.network_named(&nic.spec.network), powered_on)),
    );
    Object::new("VirtualHardware")
        .with("numCPU", vm.spec.cpu_count)
        .with("numCoresPerSocket", 1)
        .with("memoryMB", vm.spec.memory_mib)
        .with("virtualICH7MPresent", false)
        .with("virtualSMCPresent", false)
        .with("device", Value::objects("VirtualDevice", all))
}

/// The change id is shown only in a VM snapshot's own list: the live list is no base for a later question.
fn disk_device(vm: &Vm, disk: &AttachedDisk, inventory: &Inventory, at: Option<&VmSnapshot>) -> Object {
    let datastore = inventory.datastore_named(&disk.datastore);
    let recorded = at.and_then(|snapshot| snapshot.disks.iter().find(|recorded| recorded.device.key == disk.key));
    let change_id = recorded.and_then(|recorded| recorded.point).map(|point| point.to_string());
    let vm_snapshot = at.filter(|_| disk.is_in_vm_snapshots()).map(|snapshot| snapshot.moref.id.as_str());
    devices::disk_object(disk, &vm.moref.id, datastore, vm_snapshot, change_id)
}

fn runtime(vm: &Vm, state: &VmState) -> Object {
    let fault_tolerance = if vm.spec.fault_tolerant { "running" } else { "notConfigured" };
    Object::new("VirtualMachineRuntimeInfo")
        .with("host", &vm.host)
        .with("connectionState", Value::Enum("VirtualMachineConnectionState", "connected".into()))
        .with("powerState", Value::Enum("VirtualMachinePowerState", power_text(state.powered_on).into()))
        .with("faultToleranceState", Value::Enum("VirtualMachineFaultToleranceState", fault_tolerance.into()))
        .with("toolsInstallerMounted", false)
        .with_some("bootTime", state.booted)
        .with("numMksConnections", 0)
        .with("recordReplayState", Value::Enum("VirtualMachineRecordReplayState", "inactive".into()))
        .with("onlineStandby", false)
        .with("consolidationNeeded", state.consolidation_needed)
        .with_some("cryptoState", vm.spec.encrypted.then_some("safe"))
}

fn tools_words(vm: &Vm, state: &VmState) -> (&'static str, &'static str, &'static str) {
    match (vm.spec.tools, vm.tools_running(state)) {
        (Tools::Absent, _) => ("toolsNotInstalled", "guestToolsNotRunning", "guestToolsNotInstalled"),
        (_, true) => ("toolsOk", "guestToolsRunning", "guestToolsCurrent"),
        (_, false) => ("toolsNotRunning", "guestToolsNotRunning", "guestToolsCurrent"),
    }
}

fn guest(vm: &Vm, state: &VmState) -> Object {
    let (status, running, version) = tools_words(vm, state);
    let up = vm.tools_running(state);
    let first_address = vm.nics.iter().find_map(|nic| nic.spec.ip_addresses.first().cloned());
    let cards = vm.nics.iter().filter(|_| up).map(|nic| {
        Object::new("GuestNicInfo")
            .with("network", nic.spec.network.clone())
            .with("ipAddress", Value::texts(nic.spec.ip_addresses.clone()))
            .with("macAddress", nic.mac_address.clone())
            .with("connected", nic.spec.connected)
            .with("deviceConfigId", nic.key)
    });
    Object::new("GuestInfo")
        .with("toolsStatus", Value::Enum("VirtualMachineToolsStatus", status.into()))
        .with("toolsVersionStatus", version)
        .with("toolsVersionStatus2", version)
        .with("toolsRunningStatus", running)
        .with_some("toolsVersion", (vm.spec.tools != Tools::Absent).then(|| TOOLS_VERSION.to_string()))
        .with_some("guestId", up.then(|| vm.spec.guest_id.clone()))
        .with_some("guestFamily", up.then_some("linuxGuest"))
        .with_some("guestFullName", up.then(|| vm.spec.guest_full_name.clone()))
        .with_some("hostName", up.then(|| vm.spec.guest_host_name.clone()))
        .with_some("ipAddress", first_address.filter(|_| up))
        .with("net", Value::objects("GuestNicInfo", cards))
        .with("guestState", if up { "running" } else { "notRunning" })
        .with("guestOperationsReady", up)
        .with("guestStateChangeSupported", up)
}

fn summary(vm: &Vm, state: &VmState) -> Object {
    let spec = &vm.spec;
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let (status, running, version) = tools_words(vm, state);
    let config = Object::new("VirtualMachineConfigSummary")
        .with("name", super::inventory::encoded_name(&spec.name))
        .with("template", spec.template)
        .with_some("vmPathName", files(state, spec).get("vmPathName").cloned())
        .with("memorySizeMB", spec.memory_mib)
        .with("numCpu", spec.cpu_count)
        .with("numEthernetCards", count(vm.nics.len()))
        .with("numVirtualDisks", count(state.disks.len()))
        .with("uuid", vm.uuid.clone())
        .with("instanceUuid", vm.instance_uuid.clone())
        .with("guestId", spec.guest_id.clone())
        .with("guestFullName", spec.guest_full_name.clone())
        .with("annotation", state.annotation.clone());
    let guest = Object::new("VirtualMachineGuestSummary")
        .with("guestId", spec.guest_id.clone())
        .with("guestFullName", spec.guest_full_name.clone())
        .with("toolsStatus", Value::Enum("VirtualMachineToolsStatus", status.into()))
        .with("toolsVersionStatus2", version)
        .with("toolsRunningStatus", running)
        .with("hostName", spec.guest_host_name.clone());
    let quick = Object::new("VirtualMachineQuickStats")
        .with("guestHeartbeatStatus", Value::Enum("ManagedEntityStatus", "green".into()));
    Object::new("VirtualMachineSummary")
        .with("vm", &vm.moref)
        .with("runtime", runtime(vm, state))
        .with("guest", guest)
        .with("config", config)
        .with("quickStats", quick)
        .with("overallStatus", Value::Enum("ManagedEntityStatus", "green".into()))
}

fn layout(vm: &Vm, state: &VmState) -> Object {
    let mut files: Vec<Object> = Vec::new();
    let mut add = |name: String, kind: &'static str, size: i64| {
        let key = i32::try_from(files.len()).unwrap_or_default();
        files.push(
            Object::new("VirtualMachineFileLayoutExFileInfo")
                .with("key", key)
                .with("name", name)
                .with("type", kind)
                .with("size", size)
                .with("accessible", true),
        );
        key
    };
    let mut disks = Vec::new();
    for device in &state.disks {
        let Some(own) = device.own() else { continue };
        let size = i64::try_from(own.capacity).unwrap_or(i64::MAX);
        let chain = own.link_paths().into_iter().map(|path| {
            let data = path.replace(".vmdk", "-flat.vmdk");
            let keys = vec![add(path, "diskDescriptor", 512).into(), add(data, "diskExtent", size).into()];
            Object::new("VirtualMachineFileLayoutExDiskUnit").with("fileKey", Value::List("int", keys))
        });
        let chain = Value::objects("VirtualMachineFileLayoutExDiskUnit", chain.collect::<Vec<_>>());
        disks.push(Object::new("VirtualMachineFileLayoutExDiskLayout").with("key", device.key).with("chain", chain));
    }
    Object::new("VirtualMachineFileLayoutEx")
        .with("file", Value::objects("VirtualMachineFileLayoutExFileInfo", files))
        .with("disk", Value::objects("VirtualMachineFileLayoutExDiskLayout", disks))
        .with("timestamp", vm.created)
}

fn storage(state: &VmState, inventory: &Inventory, time: OffsetDateTime) -> Object {
    let usage = datastores(state, inventory).into_iter().map(|datastore| {
        Object::new("VirtualMachineUsageOnDatastore")
            .with("datastore", datastore)
            .with("committed", 0_i64)
            .with("uncommitted", 0_i64)
            .with("unshared", 0_i64)
    });
    Object::new("VirtualMachineStorageInfo")
        .with("perDatastoreUsage", Value::objects("VirtualMachineUsageOnDatastore", usage.collect::<Vec<_>>()))
        .with("timestamp", time)
}

fn datastores(state: &VmState, inventory: &Inventory) -> Vec<MoRef> {
    let mut found: Vec<MoRef> =
        state.disks.iter().filter_map(|disk| inventory.datastore_named(&disk.datastore).cloned()).collect();
    found.dedup();
    found
}

fn networks(vm: &Vm, inventory: &Inventory) -> Vec<MoRef> {
    let mut found: Vec<MoRef> = vm
        .nics
        .iter()
        .filter_map(|nic| inventory.network_named(&nic.spec.network))
        .map(|network| network.moref.clone())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn snapshot_info(vm: &Vm, state: &VmState) -> Option<Object> {
    let current = state.vm_snapshots.last()?;
    let tree = state.vm_snapshots.iter().rev().fold(None, |child: Option<Object>, snapshot| {
        let power = power_text(snapshot.powered_on);
        let node = Object::new("VirtualMachineSnapshotTree")
            .with("snapshot", &snapshot.moref)
            .with("vm", &vm.moref)
            .with("name", snapshot.name.clone())
            .with("description", snapshot.description.clone())
            .with("id", snapshot.number)
            .with("createTime", snapshot.created)
            .with("state", Value::Enum("VirtualMachinePowerState", power.into()))
            .with("quiesced", snapshot.quiesced)
            .with("childSnapshotList", Value::objects("VirtualMachineSnapshotTree", child))
            .with("replaySupported", false);
        Some(node)
    });
    Some(
        Object::new("VirtualMachineSnapshotInfo")
            .with("currentSnapshot", &current.moref)
            .with("rootSnapshotList", Value::objects("VirtualMachineSnapshotTree", tree)),
    )
}
