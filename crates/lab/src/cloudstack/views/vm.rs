//! The `virtualmachine` object, its interfaces, and what the metrics list adds.

use super::super::catalogue::{HOST_NAME, ZONE_NAME};
use super::super::entities::{Nic, Vm, VmState, VolumeType};
use super::super::json::{Json, Object};
use super::super::rules::device_of;
use super::super::world::{Caller, World};
use super::{closing, date, owner, tags};

/// A VM as the caller sees it.
pub(crate) fn vm(world: &World, caller: &Caller, vm: &Vm) -> Object {
    identity(world, caller, vm)
        .merge(shape(world, vm))
        .put("guestosid", &vm.os_type_id)
        .merge(root_device(world, vm))
        .put("securitygroup", Vec::<Json>::new())
        .merge(rest(world, caller, vm))
}

/// The VM as addNicToVirtualMachine's job returns it: without template, offering, shape and root device.
pub(crate) fn vm_after_nic_change(world: &World, caller: &Caller, vm: &Vm) -> Object {
    let account = world.catalogue.account(&vm.account_id);
    Object::new()
        .put("id", &vm.id)
        .put("name", &vm.name)
        .put("displayname", &vm.display_name)
        .maybe("userid", account.map(|account| &account.user_id))
        .merge(owner(world, &vm.account_id))
        .put("state", vm.state.as_str())
        .put("securitygroup", Vec::<Json>::new())
        .merge(rest(world, caller, vm))
}

/// What listVirtualMachinesMetrics adds.
pub(crate) fn metrics(vm: &Vm) -> Object {
    let ghz = f64::from(vm.cpu_number * vm.cpu_speed_mhz) / 1000.0;
    let gib = f64::from(vm.memory_mib) / 1024.0;
    Object::new()
        .maybe("ipaddress", default_nic(vm).and_then(|nic| nic.ip_address.as_ref()))
        .put("cputotal", format!("{ghz:.1} Ghz"))
        .put("memorytotal", format!("{gib:.2} GiB"))
        .put_if(vm.was_started, "networkread", "0.00 MiB")
        .put_if(vm.was_started, "networkwrite", "0.00 MiB")
        .put_if(vm.was_started, "diskiopstotal", 0_u32)
}

fn identity(world: &World, caller: &Caller, vm: &Vm) -> Object {
    let account = world.catalogue.account(&vm.account_id);
    let running = vm.state == VmState::Running && caller.root_admin;
    let template = world.catalogue.template(&vm.template_id);
    Object::new()
        .put("id", &vm.id)
        .put("name", &vm.name)
        .put("displayname", &vm.display_name)
        .maybe("account", account.map(|account| &account.name))
        .maybe("userid", account.map(|account| &account.user_id))
        .maybe("username", account.map(|account| &account.name))
        .put("domainid", &world.catalogue.domain_id)
        .put("domain", super::super::catalogue::DOMAIN_NAME)
        .put("domainpath", super::super::catalogue::DOMAIN_NAME)
        .put("created", date(vm.created))
        .put("lastupdated", date(vm.last_updated))
        .put("state", vm.state.as_str())
        .put("haenable", vm.ha_enabled)
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put_if(running, "hostid", &world.catalogue.host_id)
        .put_if(running, "hostname", HOST_NAME)
        .put_if(running, "hostcontrolstate", "Enabled")
        .put("templateid", &vm.template_id)
        .maybe("templatename", template.map(|template| template.name))
        .put("templatetype", "USER")
        .put("templateformat", "QCOW2")
        .maybe("templatedisplaytext", template.map(|template| template.name))
        .put("passwordenabled", false)
}

fn shape(world: &World, vm: &Vm) -> Object {
    let offering = world.catalogue.service_offering(&vm.service_offering_id);
    let started = vm.was_started;
    Object::new()
        .put("serviceofferingid", &vm.service_offering_id)
        .maybe("serviceofferingname", offering.map(|offering| offering.name))
        .put("cpunumber", vm.cpu_number)
        .put("cpuspeed", vm.cpu_speed_mhz)
        .put("memory", vm.memory_mib)
        .put_if(started, "cpuused", "10%")
        .put_if(started, "networkkbsread", 0_u32)
        .put_if(started, "networkkbswrite", 0_u32)
        .put_if(started, "memorykbs", 0_u32)
}

/// Absent while the root is detached.
fn root_device(world: &World, vm: &Vm) -> Object {
    let attached = world.inventory.volumes_of(&vm.id);
    let root = attached.iter().find(|volume| volume.volume_type == VolumeType::Root);
    Object::new()
        .maybe("rootdeviceid", root.and_then(|volume| device_of(volume)))
        .maybe("rootdevicetype", root.map(|_| "ROOT"))
}

fn rest(world: &World, caller: &Caller, vm: &Vm) -> Object {
    let nics: Vec<Object> = vm.nics.iter().map(|each| nic(world, vm, each)).collect();
    let details = vm.details.iter().fold(Object::new(), |object, (key, value)| object.put(key, value));
    let boot = boot(vm);
    Object::new()
        .put("nic", nics)
        .put("hypervisor", "KVM")
        .put_if(caller.root_admin, "instancename", &vm.instance_name)
        .put("details", details)
        .put("readonlydetails", "dataDiskController, rootDiskController")
        .put("affinitygroup", Vec::<Json>::new())
        .put("displayvm", true)
        .put("isdynamicallyscalable", false)
        .put("deleteprotection", false)
        .put("ostypeid", &vm.os_type_id)
        .maybe("osdisplayname", world.catalogue.os_type_name(&vm.os_type_id))
        .maybe("bootmode", boot.as_ref().map(|(_, mode)| mode.clone()))
        .maybe("boottype", boot.map(|(boot_type, _)| boot_type))
        .put("pooltype", "NetworkFilesystem")
        .put("receivedbytes", 0_u32)
        .put("sentbytes", 0_u32)
        .put("vmtype", "User")
        .put("arch", "x86_64")
        .put("tags", Json::List(tags(world, &vm.account_id, "UserVm", &vm.id, &vm.tags)))
        .merge(closing(world, &vm.id))
}

/// Bios only when the VM has no details at all; Uefi when that detail exists; otherwise nothing is said.
fn boot(vm: &Vm) -> Option<(&'static str, String)> {
    match vm.details.get("UEFI") {
        Some(mode) => Some(("Uefi", mode.to_lowercase())),
        None if vm.details.is_empty() => Some(("Bios", "legacy".to_owned())),
        None => None,
    }
}

fn default_nic(vm: &Vm) -> Option<&Nic> {
    vm.nics.iter().find(|nic| nic.is_default)
}

fn nic(world: &World, vm: &Vm, nic: &Nic) -> Object {
    let network = world.catalogue.network(&nic.network_id);
    let prefix = network.and_then(|network| network.prefix.as_deref());
    let uri = network.filter(|_| vm.state == VmState::Running).map(|network| format!("vlan://{}", network.vlan));
    Object::new()
        .put("id", &nic.id)
        .put("networkid", &nic.network_id)
        .maybe("networkname", network.map(|network| &network.name))
        .maybe("netmask", prefix.map(|_| "255.255.255.0"))
        .maybe("gateway", prefix.map(|prefix| format!("{prefix}.1")))
        .maybe("ipaddress", nic.ip_address.as_ref())
        .maybe("isolationuri", uri.clone())
        .maybe("broadcasturi", uri)
        .put("traffictype", "Guest")
        .maybe("type", network.map(|network| network.network_type))
        .put("isdefault", nic.is_default)
        .put("macaddress", &nic.mac)
        .put("secondaryip", Vec::<Json>::new())
        .put("extradhcpoption", Vec::<Json>::new())
        .put("deviceid", nic.device_id.to_string())
        .put("virtualmachineid", &vm.id)
        .put("mtu", 1500_u32)
}
