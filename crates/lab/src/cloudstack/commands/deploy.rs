//! deployVirtualMachine: a VM from a template, started or left as a shell whose root is only a row.

use std::collections::BTreeMap;

use super::super::catalogue::{ServiceOffering, Template, random_id};
use super::super::entities::{Attachment, Nic, Vm, VmState, Volume, VolumeState, VolumeType};
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::{GIB_BYTES, boot_detail, check_host_name, volume_size};
use super::super::world::{Caller, World, now};
use super::check_zone;
use super::nics::{self, NicWish};
use super::power::{begin_start, settle_start, shown};
use super::volumes::check_volume_limit;

/// Limits of custom offerings.
const CPU_NUMBERS: std::ops::RangeInclusive<u32> = 1..=16;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 256..=65_536;
/// Clock of a custom offering when none is given, MHz.
const DEFAULT_CLOCK_MHZ: u32 = 1000;

/// The row of the VM is made at once; the job starts it unless `startvm=false`.
pub(super) fn deploy(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    params.required("zoneid")?;
    check_zone(world, params)?;
    let offering_id = params.required("serviceofferingid")?;
    let offering =
        world.catalogue.service_offering(offering_id).ok_or_else(|| params.no_such("serviceofferingid"))?.clone();
    let template = template_of(world, params)?;
    let account_id = world.owner_of_new(caller, params)?;
    check_volume_limit(world, &account_id)?;
    let mut details = params.map_entry("details", 0);
    if let Some(mode) = boot_detail(params.text("boottype"), params.text("bootmode"))? {
        details.insert("UEFI".to_owned(), mode);
    }
    let (cpu_number, cpu_speed_mhz, memory_mib) = shape(&offering, &details)?;
    let root_bytes = root_size(&template, params, &mut details)?;
    let id = world.id_of_new(caller, params)?;
    let name = vm_name(world, params, &id)?;
    let nics = wished_nics(world, params)?;
    world.inventory.instances_made += 1;
    let vm = Vm {
        id: id.clone(),
        display_name: params.text("displayname").unwrap_or(&name).to_owned(),
        name,
        instance_name: format!("i-2-{}-VM", world.inventory.instances_made),
        account_id: account_id.clone(),
        state: VmState::Stopped,
        service_offering_id: offering.id.clone(),
        template_id: template.id.clone(),
        os_type_id: template.os_type_id.clone(),
        ha_enabled: false,
        details,
        cpu_number,
        cpu_speed_mhz,
        memory_mib,
        nics,
        created: now(),
        last_updated: now(),
        was_started: false,
        tags: BTreeMap::new(),
    };
    let data_volume = data_volume(world, params, &vm)?;
    let root_name = format!("ROOT-{}", world.inventory.instances_made);
    world.inventory.volumes.push(Volume {
        service_offering_id: Some(offering.id),
        template_id: Some(template.id),
        volume_type: VolumeType::Root,
        ..fresh_volume(&vm, root_name, root_bytes, 0)
    });
    world.inventory.volumes.extend(data_volume);
    world.inventory.vms.push(vm);
    let start = params.flag("startvm").unwrap_or(true);
    Ok(submission(id, start).creating())
}

/// A VM that cannot be started stays behind in state `Error`.
fn submission(id: String, start: bool) -> Submission {
    let queue = id.clone();
    let mut submission = Submission::new("VirtualMachine", &id.clone(), &queue, |_, _| Ok(Object::new()));
    if start {
        let begin_id = id.clone();
        submission.prepare = Some(Box::new(move |world| begin_start(world, &begin_id)));
    }
    submission.act = Box::new(move |world, caller, done| {
        settle_start(world, &id, done, VmState::Error)?;
        shown(world, caller, &id)
    });
    submission
}

fn template_of(world: &World, params: &Params) -> Result<Template, Refusal> {
    let sources =
        ["templateid", "volumeid", "snapshotid"].into_iter().filter(|name| params.text(name).is_some()).count();
    if sources > 1 {
        return Err(Refusal::invalid(
            "Please provide only one of the following parameters - template ID, volume ID or snapshot ID",
        ));
    }
    if sources == 1 && params.text("templateid").is_none() {
        return Err(Refusal::invalid("Deployment of virtual machine is supported only for Zone-wide storage pools"));
    }
    let id = params.required("templateid")?;
    world.catalogue.template(id).cloned().ok_or_else(|| params.no_such("templateid"))
}

/// CPUs, MHz, MiB: from a fixed offering, or from the details of a custom one.
fn shape(offering: &ServiceOffering, details: &BTreeMap<String, String>) -> Result<(u32, u32, u32), Refusal> {
    let number = |name: &str| -> Result<Option<u32>, Refusal> {
        let read = |text: String| {
            text.parse().map_err(|_| Refusal::invalid(format!("Invalid value {text} for detail {name}")))
        };
        details.get(name).cloned().map(read).transpose()
    };
    let (cpus, mhz, mib) = (number("cpuNumber")?, number("cpuSpeed")?, number("memory")?);
    match offering.shape {
        Some(_) if cpus.is_some() || mhz.is_some() || mib.is_some() => {
            Err(Refusal::invalid("cpuNumber or cpuSpeed or memory should not be specified for static service offering"))
        }
        Some(shape) => Ok(shape),
        None => {
            let in_range = |value: Option<u32>, range: std::ops::RangeInclusive<u32>, what: &str| {
                value.filter(|value| range.contains(value)).ok_or_else(|| {
                    let (low, high) = (range.start(), range.end());
                    Refusal::invalid(format!("Invalid {what} value, specify a value between {low} and {high}"))
                })
            };
            let cpus = in_range(cpus, CPU_NUMBERS, "CPU cores")?;
            let mib = in_range(mib, MEMORY_MIB, "memory")?;
            Ok((cpus, mhz.unwrap_or(DEFAULT_CLOCK_MHZ), mib))
        }
    }
}

fn root_size(template: &Template, params: &Params, details: &mut BTreeMap<String, String>) -> Result<u64, Refusal> {
    let gib = match params.integer("rootdisksize")? {
        None => return Ok(template.size_gib * GIB_BYTES),
        Some(gib) if gib <= 0 => return Err(Refusal::invalid("Root disk size should be a positive number.")),
        Some(gib) => gib.unsigned_abs(),
    };
    if gib < template.size_gib {
        return Err(Refusal::invalid(format!(
            "Unsupported: rootdisksize override ({gib} GB) is smaller than template size {} GB",
            template.size_gib
        )));
    }
    details.insert("rootdisksize".to_owned(), gib.to_string());
    Ok(gib * GIB_BYTES)
}

fn vm_name(world: &World, params: &Params, id: &str) -> Result<String, Refusal> {
    let Some(name) = params.text("name") else { return Ok(format!("VM-{id}")) };
    check_host_name(name)?;
    if world.inventory.vms.iter().any(|vm| vm.name == name) {
        return Err(Refusal::invalid(format!(
            "The vm with hostName {name} already exists in the network domain: lab.simulator"
        )));
    }
    Ok(name.to_owned())
}

/// Interfaces in the order asked for; the first is the default one.
fn wished_nics(world: &World, params: &Params) -> Result<Vec<Nic>, Refusal> {
    let listed = params.list("networkids");
    let mapped = params.map_entries("iptonetworklist");
    if !mapped.is_empty() && (!listed.is_empty() || params.text("ipaddress").is_some()) {
        return Err(Refusal::invalid("ipToNetworkMap can't be specified along with networkIds or ipAddress"));
    }
    let mut wishes: Vec<NicWish> = listed
        .into_iter()
        .map(|network_id| NicWish { network_id, ..NicWish::default() })
        .chain(mapped.into_iter().map(|mut entry| NicWish {
            network_id: entry.remove("networkid").unwrap_or_default(),
            ip_address: entry.remove("ip"),
            mac: entry.remove("mac"),
        }))
        .collect();
    if wishes.is_empty() {
        let first = world.catalogue.networks.first();
        wishes.extend(first.map(|network| NicWish { network_id: network.id.clone(), ..NicWish::default() }));
    }
    if let Some(first) = wishes.first_mut() {
        first.ip_address = first.ip_address.take().or_else(|| params.text("ipaddress").map(str::to_owned));
        first.mac = first.mac.take().or_else(|| params.text("macaddress").map(str::to_owned));
    }
    let mut nics = Vec::new();
    for (device_id, wish) in (0_u32..).zip(&wishes) {
        let network = world
            .catalogue
            .network(&wish.network_id)
            .ok_or_else(|| Refusal::no_such_entity(params.command(), "networkids", &wish.network_id))?;
        nics.push(nics::make(&world.inventory, network, wish, device_id)?);
    }
    Ok(nics)
}

/// The one data disk that `diskofferingid` asks for.
fn data_volume(world: &World, params: &Params, vm: &Vm) -> Result<Option<Volume>, Refusal> {
    let Some(offering_id) = params.text("diskofferingid") else { return Ok(None) };
    let offering = world.catalogue.disk_offering(offering_id).ok_or_else(|| params.no_such("diskofferingid"))?;
    let wanted = params.integer("size")?;
    let size_bytes = volume_size(offering.is_custom, offering.size_gib, wanted, &world.config.limits)?;
    let name = format!("DATA-{}", world.inventory.instances_made);
    Ok(Some(Volume { disk_offering_id: Some(offering.id.clone()), ..fresh_volume(vm, name, size_bytes, 1) }))
}

fn fresh_volume(vm: &Vm, name: String, size_bytes: u64, device_id: u32) -> Volume {
    Volume {
        id: random_id(),
        name,
        account_id: vm.account_id.clone(),
        volume_type: VolumeType::Datadisk,
        state: VolumeState::Allocated,
        size_bytes,
        disk_offering_id: None,
        service_offering_id: None,
        template_id: None,
        volume_snapshot_id: None,
        path: None,
        placed_in: None,
        device_size_bytes: None,
        attachment: Some(Attachment { vm_id: vm.id.clone(), device_id, since: now() }),
        created: now(),
        displayed: true,
        tags: BTreeMap::new(),
    }
}
