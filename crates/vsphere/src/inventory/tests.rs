//! Whole VMs as servers describe them, read into values.

use std::collections::BTreeSet;

use model::status::Firmware;

use super::machine::Draft;
use super::names::{Names, escaped_name, plain_name};
use super::*;
use crate::properties::ObjectContent;
use crate::soap::parse;

fn object(text: &str) -> ObjectContent {
    let text = text.replacen("<objects>", r#"<objects xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">"#, 1);
    ObjectContent::read(parse(text.as_bytes()).unwrap()).unwrap()
}

fn named(kind: &str, id: &str, name: &str, more: &str) -> ObjectContent {
    object(&format!(
        "<objects><obj type=\"{kind}\">{id}</obj><propSet><name>name</name><val>{name}</val></propSet>{more}</objects>"
    ))
}

fn parent(kind: &str, id: &str) -> String {
    format!("<propSet><name>parent</name><val type=\"{kind}\">{id}</val></propSet>")
}

fn surroundings() -> Names {
    let mut names = Names::default();
    let key = "<propSet><name>key</name><val>dvportgroup-9</val></propSet>";
    let opaque = "<propSet><name>summary</name><val xsi:type=\"OpaqueNetworkSummary\"><name>seg</name>\
                  <opaqueNetworkId>6f2b</opaqueNetworkId><opaqueNetworkType>nsx.LogicalSwitch</opaqueNetworkType></val></propSet>";
    for content in [
        named("Folder", "group-d1", "Datacenters", ""),
        named("Folder", "group-d2", "EU", &parent("Folder", "group-d1")),
        named("Datacenter", "datacenter-3", "DC%2f0", &parent("Folder", "group-d2")),
        named("Folder", "group-v4", "vm", &parent("Datacenter", "datacenter-3")),
        named("Folder", "group-v5", "web servers", &parent("Folder", "group-v4")),
        named("HostSystem", "host-7", "esx1.example.org", ""),
        named("Network", "network-8", "VM Network", ""),
        named("DistributedVirtualPortgroup", "dvportgroup-9", "VLAN 10%2f20", key),
        named("OpaqueNetwork", "network-o10", "nsx-segment", opaque),
    ] {
        names.learn(&content);
    }
    names
}

const DEVICES: &str = r#"
<VirtualDevice xsi:type="VirtualIDEController"><key>200</key><busNumber>0</busNumber></VirtualDevice>
<VirtualDevice xsi:type="VirtualPCIController"><key>100</key><busNumber>0</busNumber><device>1000</device></VirtualDevice>
<VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key><deviceInfo><label>SCSI controller 0</label></deviceInfo>
 <busNumber>0</busNumber><device>2000</device><device>2001</device><hotAddRemove>true</hotAddRemove><sharedBus>noSharing</sharedBus></VirtualDevice>
<VirtualDevice xsi:type="VirtualLsiLogicSASController"><key>1001</key><busNumber>1</busNumber><device>2016</device>
 <sharedBus>physicalSharing</sharedBus></VirtualDevice>
<VirtualDevice xsi:type="VirtualNVMEController"><key>31000</key><busNumber>0</busNumber><device>32000</device></VirtualDevice>
<VirtualDevice xsi:type="VirtualCdrom"><key>3000</key><controllerKey>200</controllerKey><unitNumber>0</unitNumber></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2000</key><deviceInfo><label>Hard disk 1</label><summary>16 GB</summary></deviceInfo>
 <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds 1] web/web-000001.vmdk</fileName><datastore type="Datastore">datastore-5</datastore>
  <diskMode>persistent</diskMode><thinProvisioned>true</thinProvisioned><uuid>6000C29f-aaaa</uuid>
  <changeId>52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81</changeId>
  <parent xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds 1] web/web.vmdk</fileName><diskMode>persistent</diskMode></parent>
  <sharing>sharingNone</sharing></backing>
 <controllerKey>1000</controllerKey><unitNumber>0</unitNumber><capacityInKB>16777216</capacityInKB>
 <capacityInBytes>17179869184</capacityInBytes><diskObjectId>52-2000</diskObjectId></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2001</key><deviceInfo><label>Hard disk 2</label></deviceInfo>
 <backing xsi:type="VirtualDiskRawDiskMappingVer1BackingInfo"><fileName>[ds 1] web/rdm.vmdk</fileName>
  <compatibilityMode>physicalMode</compatibilityMode><diskMode>independent_persistent</diskMode><uuid>6000C29f-bbbb</uuid></backing>
 <controllerKey>1000</controllerKey><unitNumber>1</unitNumber><capacityInKB>1024</capacityInKB></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>2016</key><deviceInfo><label>Hard disk 3</label></deviceInfo>
 <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[ds2] q/q.vmdk</fileName><diskMode>persistent</diskMode>
  <eagerlyScrub>true</eagerlyScrub><uuid>6000C29f-cccc</uuid><changeId>garbage</changeId><sharing>sharingMultiWriter</sharing>
  <keyId><keyId>key-1</keyId></keyId></backing>
 <controllerKey>1001</controllerKey><unitNumber>0</unitNumber><capacityInKB>1024</capacityInKB></VirtualDevice>
<VirtualDevice xsi:type="VirtualDisk"><key>32000</key><deviceInfo><label>Hard disk 4</label></deviceInfo>
 <backing xsi:type="VirtualDiskSeSparseBackingInfo"><fileName>[ds2] n/n.vmdk</fileName><diskMode>persistent</diskMode><uuid>6000C29f-dddd</uuid></backing>
 <controllerKey>31000</controllerKey><unitNumber>0</unitNumber><capacityInKB>2048</capacityInKB></VirtualDevice>
<VirtualDevice xsi:type="VirtualVmxnet3"><key>4000</key><deviceInfo><label>Network adapter 1</label></deviceInfo>
 <backing xsi:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>old name</deviceName><network type="Network">network-8</network></backing>
 <connectable><startConnected>true</startConnected><allowGuestControl>true</allowGuestControl><connected>true</connected></connectable>
 <addressType>assigned</addressType><macAddress>00:50:56:AB:CD:EF</macAddress></VirtualDevice>
<VirtualDevice xsi:type="VirtualE1000e"><key>4001</key><deviceInfo><label>Network adapter 2</label></deviceInfo>
 <backing xsi:type="VirtualEthernetCardDistributedVirtualPortBackingInfo"><port><switchUuid>50 1a</switchUuid>
  <portgroupKey>dvportgroup-9</portgroupKey><portKey>12</portKey></port></backing>
 <connectable><startConnected>true</startConnected><connected>false</connected></connectable><macAddress>00:50:56:00:00:02</macAddress></VirtualDevice>
<VirtualDevice xsi:type="VirtualSriovEthernetCard"><key>4002</key><deviceInfo><label>Network adapter 3</label></deviceInfo>
 <backing xsi:type="VirtualEthernetCardOpaqueNetworkBackingInfo"><opaqueNetworkId>6f2b</opaqueNetworkId>
  <opaqueNetworkType>nsx.LogicalSwitch</opaqueNetworkType></backing><macAddress>00:50:56:00:00:03</macAddress></VirtualDevice>
<VirtualDevice xsi:type="VirtualE1000"><key>4003</key><deviceInfo><label>Network adapter 4</label></deviceInfo>
 <backing xsi:type="VirtualEthernetCardDistributedVirtualPortBackingInfo"><port><portgroupKey>dvportgroup-404</portgroupKey></port></backing>
 <macAddress>00:50:56:00:00:04</macAddress></VirtualDevice>
<VirtualDevice xsi:type="VirtualFutureCard"><key>4004</key><deviceInfo><label>Network adapter 5</label><summary>none</summary></deviceInfo>
 <macAddress>00:50:56:00:00:05</macAddress></VirtualDevice>"#;

fn vm_object() -> ObjectContent {
    let plain = |name: &str, value: &str| {
        format!("<propSet><name>{name}</name><val xsi:type=\"xsd:string\">{value}</val></propSet>")
    };
    let text = [
        plain("name", "web%2f01 %25"),
        parent("Folder", "group-v5"),
        plain("config.uuid", "4210-bios"),
        plain("config.instanceUuid", "5010-instance"),
        plain("config.template", "false"),
        plain("config.version", "vmx-19"),
        plain("config.guestId", "debian12_64Guest"),
        plain("config.guestFullName", "Debian GNU/Linux 12 (64-bit)"),
        plain("config.firmware", "efi"),
        plain("config.changeTrackingEnabled", "true"),
        plain("config.hardware.numCPU", "4"),
        plain("config.hardware.memoryMB", "8192"),
        plain("capability.changeTrackingSupported", "true"),
        plain("runtime.powerState", "poweredOn"),
        plain("runtime.connectionState", "connected"),
        plain("runtime.consolidationNeeded", "true"),
        plain("runtime.faultToleranceState", "notConfigured"),
        plain("guest.toolsRunningStatus", "guestToolsRunning"),
        plain("guest.toolsVersion", "12389"),
        "<propSet><name>runtime.host</name><val type=\"HostSystem\">host-7</val></propSet>".to_owned(),
        "<propSet><name>runtime.question</name><val><id>1</id><text>Moved or copied?</text></val></propSet>".to_owned(),
        "<propSet><name>network</name><val><ManagedObjectReference type=\"Network\">network-8</ManagedObjectReference>\
         <ManagedObjectReference type=\"OpaqueNetwork\">network-o10</ManagedObjectReference></val></propSet>".to_owned(),
        "<propSet><name>config.bootOptions</name><val><efiSecureBootEnabled>true</efiSecureBootEnabled>\
         <bootOrder xsi:type=\"VirtualMachineBootOptionsBootableCdromDevice\"/>\
         <bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\"><deviceKey>32000</deviceKey></bootOrder></val></propSet>".to_owned(),
        "<propSet><name>config.extraConfig</name><val><OptionValue xsi:type=\"OptionValue\"><key>scsi0:0.ctkEnabled</key><value>TRUE</value></OptionValue>\
         <OptionValue><key>scsi0:1.ctkEnabled</key><value>false</value></OptionValue></val></propSet>".to_owned(),
        "<propSet><name>snapshot</name><val><currentSnapshot type=\"VirtualMachineSnapshot\">snapshot-3</currentSnapshot>\
         <rootSnapshotList><snapshot type=\"VirtualMachineSnapshot\">snapshot-1</snapshot><name>before%2fupgrade</name><description>d</description>\
         <createTime>2024-05-06T07:08:09.123Z</createTime><quiesced>true</quiesced>\
         <childSnapshotList><snapshot type=\"VirtualMachineSnapshot\">snapshot-2</snapshot><name>a</name></childSnapshotList>\
         <childSnapshotList><snapshot type=\"VirtualMachineSnapshot\">snapshot-3</snapshot><name>migratekit-job-1</name></childSnapshotList>\
         </rootSnapshotList></val></propSet>".to_owned(),
        format!("<propSet><name>config.hardware.device</name><val xsi:type=\"ArrayOfVirtualDevice\">{DEVICES}</val></propSet>"),
    ];
    object(&format!("<objects><obj type=\"VirtualMachine\">vm-62</obj>{}</objects>", text.concat()))
}

/// A VM with which nothing is wrong.
pub(crate) fn sound_vm() -> VirtualMachine {
    let mut vm = Draft::read(&vm_object()).resolve(&surroundings());
    vm.vm_snapshots.clear();
    vm.question = None;
    vm.consolidation_needed = false;
    vm.disks.truncate(1);
    vm
}

#[test]
fn a_vm_is_read_with_everything_that_is_stored() {
    let draft = Draft::read(&vm_object());
    let mut asked = BTreeSet::new();
    draft.references(&mut asked);
    assert!(asked.contains(&MoRef::new("DistributedVirtualPortgroup", "dvportgroup-404")));
    let vm = draft.resolve(&surroundings());
    assert_eq!(vm.name, "web/01 %");
    assert_eq!(vm.inventory_path, "/EU/DC%2f0/vm/web servers/web%2f01 %25");
    assert_eq!((vm.datacenter.as_str(), vm.datacenter_path.as_str()), ("DC/0", "EU/DC%2f0"));
    assert_eq!((vm.instance_uuid.as_str(), vm.bios_uuid.as_str()), ("5010-instance", "4210-bios"));
    assert_eq!((vm.cpu_count, vm.memory_mb, vm.hardware_version), (4, 8192, Some(19)));
    assert_eq!((vm.firmware, vm.secure_boot, vm.power_state), (Firmware::Efi, true, PowerState::PoweredOn));
    assert_eq!(vm.os_type, "Debian GNU/Linux 12 (64-bit)");
    assert_eq!(vm.host.as_ref().unwrap().name, "esx1.example.org");
    assert!(vm.tools.is_running() && vm.change_tracking_enabled && vm.consolidation_needed && !vm.is_template);
    assert_eq!(vm.question.as_deref(), Some("Moved or copied?"));
}

#[test]
fn networks_have_names_or_at_least_keys() {
    let vm = Draft::read(&vm_object()).resolve(&surroundings());
    let found: Vec<_> = vm
        .nics
        .iter()
        .map(|nic| (nic.network_name.as_str(), nic.adapter_type.as_str(), nic.mac_address.as_str(), nic.connected))
        .collect();
    assert_eq!(
        found,
        [
            ("VM Network", "vmxnet3", "00:50:56:ab:cd:ef", true),
            ("VLAN 10/20", "e1000e", "00:50:56:00:00:02", false),
            ("nsx-segment", "sriov", "00:50:56:00:00:03", false),
            ("dvportgroup-404", "e1000", "00:50:56:00:00:04", false),
            ("none", "VirtualFutureCard", "00:50:56:00:00:05", false),
        ]
    );
    assert_eq!(vm.nics[0].label, "Network adapter 1");
    let blind = Draft::read(&vm_object()).resolve(&Names::default());
    let names: Vec<_> = blind.nics.iter().map(|nic| nic.network_name.as_str()).collect();
    assert_eq!(names, ["old name", "dvportgroup-9", "6f2b", "dvportgroup-404", "none"]);
    assert_eq!(blind.inventory_path, "/web%2f01 %25");
}

#[test]
fn disks_are_read_with_controller_backing_and_settings() {
    let vm = Draft::read(&vm_object()).resolve(&surroundings());
    let place = |disk: &VirtualDisk| format!("{} {}:{}", disk.controller_type, disk.controller_bus, disk.unit_number);
    let [first, rdm, shared, nvme] = vm.disks.as_slice() else { panic!("{} disks", vm.disks.len()) };
    assert_eq!((place(first).as_str(), first.disk_id().as_str()), ("pvscsi 0:0", "disk-2000"));
    assert_eq!((first.vmdk_path.as_str(), first.datastore.as_str()), ("[ds 1] web/web-000001.vmdk", "ds 1"));
    assert_eq!((first.capacity_bytes, first.disk_uuid.as_str()), (16 << 30, "6000C29f-aaaa"));
    assert_eq!((first.provisioning_type, first.has_parent), (ProvisioningType::Thin, true));
    assert_eq!(first.change_id.as_ref().unwrap().sequence(), 81);
    assert_eq!((first.is_change_tracking_set, first.disk_object_id.as_deref()), (Some(true), Some("52-2000")));
    assert_eq!((rdm.rdm_mode, rdm.is_independent(), rdm.capacity_bytes), (Some(RdmMode::Physical), true, 1 << 20));
    assert_eq!((rdm.backing.as_str(), rdm.is_change_tracking_set), ("RawDiskMappingVer1", Some(false)));
    assert_eq!(
        (place(shared).as_str(), shared.is_shared(), shared.sharing.as_str()),
        ("lsilogic_sas 1:0", true, "sharingMultiWriter")
    );
    assert_eq!((shared.provisioning_type, shared.change_id.as_ref()), (ProvisioningType::EagerZeroedThick, None));
    assert_eq!(shared.key_id.as_deref(), Some("key-1"));
    assert_eq!(
        (place(nvme).as_str(), nvme.backing.as_str(), nvme.sharing.as_str()),
        ("nvme 0:0", "SeSparse", "sharingNone")
    );
    let boot: Vec<_> = vm.disks.iter().map(|disk| disk.is_boot_disk).collect();
    assert_eq!(boot, [false, false, false, true], "the boot order names it");
    let types: Vec<_> = vm.controllers.iter().map(|controller| controller.controller_type.as_str()).collect();
    assert_eq!(types, ["ide", "pvscsi", "lsilogic_sas", "nvme"]);
}

#[test]
fn one_more_disk_goes_to_the_first_free_unit_then_to_a_new_controller() {
    use crate::reconfigure::{DiskSlot, free_disk_slot};
    let mut vm = Draft::read(&vm_object()).resolve(&surroundings());
    let unit = |controller_key, unit_number| Some(DiskSlot::Unit { controller_key, unit_number });
    assert_eq!(free_disk_slot(&vm, None), unit(1000, 2));
    assert_eq!(free_disk_slot(&vm, Some(1)), None, "a shared controller is no place");
    let fill = |vm: &mut VirtualMachine, units: std::ops::Range<i32>| {
        for unit_number in units.filter(|unit| *unit != 7) {
            let disk = VirtualDisk { device_key: 2000 + unit_number, unit_number, ..vm.disks[0].clone() };
            vm.controllers[1].device_keys.push(disk.device_key);
            vm.disks.push(disk);
        }
    };
    fill(&mut vm, 2..7);
    assert_eq!(free_disk_slot(&vm, None), unit(1000, 8), "unit 7 is the controller's own");
    fill(&mut vm, 8..16);
    vm.hardware_version = Some(14);
    assert_eq!(free_disk_slot(&vm, None), unit(1000, 16));
    vm.hardware_version = Some(13);
    assert_eq!(free_disk_slot(&vm, None), Some(DiskSlot::NewController { bus: 2 }));
    assert_eq!(free_disk_slot(&vm, Some(0)), None, "only that controller was allowed");
    for bus in [2, 3] {
        let controller_type = "buslogic".to_owned();
        vm.controllers.push(Controller { key: 1000 + bus, bus, controller_type, ..vm.controllers[1].clone() });
    }
    assert_eq!(free_disk_slot(&vm, None), None, "there are four SCSI controllers");
}

#[test]
fn without_a_boot_order_the_first_scsi_disk_is_taken() {
    let devices = object(&format!(
        "<objects><obj type=\"VirtualMachine\">v</obj><propSet><name>d</name><val>{DEVICES}</val></propSet></objects>"
    ));
    let disks = read_disks(devices.items("d"), &[], &[]);
    assert_eq!(disks.iter().position(|disk| disk.is_boot_disk), Some(0));
    assert!(read_disks(&[], &[], &[]).is_empty());
}

#[test]
fn vm_snapshots_are_listed_parents_first() {
    let vm = Draft::read(&vm_object()).resolve(&surroundings());
    let list: Vec<_> =
        vm.vm_snapshots.iter().map(|s| (s.moref.id(), s.name.as_str(), s.parent.as_ref().map(MoRef::id))).collect();
    assert_eq!(
        list,
        [
            ("snapshot-1", "before/upgrade", None),
            ("snapshot-2", "a", Some("snapshot-1")),
            ("snapshot-3", "migratekit-job-1", Some("snapshot-1")),
        ]
    );
    assert!(vm.vm_snapshots[0].is_quiesced && !vm.vm_snapshots[1].is_quiesced);
    assert_eq!(vm.vm_snapshots[0].created_at.unwrap().unix_timestamp(), 1_714_979_289);
}

#[test]
fn a_vm_the_server_has_lost_is_still_a_value() {
    let lost = object(
        "<objects><obj type=\"VirtualMachine\">vm-1</obj><propSet><name>name</name><val>x</val></propSet></objects>",
    );
    let vm = Draft::read(&lost).resolve(&Names::default());
    assert_eq!((vm.name.as_str(), vm.power_state, vm.disks.len()), ("x", PowerState::Unknown, 0));
}

#[test]
fn a_vm_in_a_vapp_lies_in_the_folder_of_the_vapp() {
    let mut names = surroundings();
    let folder = "<propSet><name>parentFolder</name><val type=\"Folder\">group-v4</val></propSet>";
    let pool = parent("ResourcePool", "resgroup-1");
    names.learn(&named("VirtualApp", "resgroup-v11", "shop", &format!("{pool}{folder}")));
    let place = names.place(Some(&MoRef::new("VirtualApp", "resgroup-v11")), "db");
    assert_eq!(place.path, "/EU/DC%2f0/vm/shop/db");
}

#[test]
fn names_are_unescaped_only_where_vim_escapes() {
    for (escaped, plain) in [("a%2fb", "a/b"), ("%5C%25", "\\%"), ("100%", "100%"), ("%2", "%2"), ("%20ü%", "%20ü%")]
    {
        assert_eq!(plain_name(escaped), plain);
    }
    assert_eq!(plain_name(&escaped_name("a/b\\c%2fd")), "a/b\\c%2fd");
}
