//! The exact VM a failover makes: source facts, mappings and the target's offers in, one [`DestinationVm`] or every
//! problem out. Pure; the dry run shows what this answers and the saga does it.

use api::Problem;
use api::oma::failovers::{DestinationDisk, DestinationNic, DestinationVm, StartFailover};
use api::oma::networks::MappedNic;
use cloudstack::{BootFirmware, NewNic, NewVirtualMachine, ServiceOffering};
use model::FailureKind;
use model::status::{FailoverType, Firmware};

use super::facts::{Facts, TargetFacts};
use super::hardware::{details, device_id};
use super::preflight::{Conversion, MAX_NAME_CHARS, name_trouble};
use crate::networks::map::{self, Placement};

/// Hypervisor the template must be for.
const HYPERVISOR: &str = "KVM";
/// Clock of a CPU of a custom offering that does not fix one, MHz: what CloudStack's own offerings have.
const DEFAULT_CLOCK_MHZ: u64 = 1000;

/// What distinguishes this failover's VM from others of the same source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `failover-…`, shown in the VM's display name.
    pub(crate) job_id: String,
    /// The id the VM gets where it may be chosen: a lower-case UUID.
    pub(crate) custom_id: String,
}

/// The VM, or everything that is in its way.
pub(crate) fn spec(
    facts: &Facts,
    request: &StartFailover,
    conversion: &Conversion,
    identity: &Identity,
) -> Result<DestinationVm, Vec<Problem>> {
    // Why nothing is known of the target is told by `preflight`.
    let Ok(target) = &facts.target else { return Err(Vec::new()) };
    let mut problems = Vec::new();
    let name = name(&facts.vm.name, request, identity, target).map_err(|problem| problems.push(problem)).ok();
    let offering = offering(target, facts).map_err(|problem| problems.push(problem)).ok();
    let template = template(target).map_err(|problem| problems.push(problem)).ok();
    let placement = Placement {
        vm_name: &facts.vm.name,
        nics: &facts.vm.nics,
        mappings: &facts.mappings,
        purpose: request.failover_type,
        target: &target.networks,
    };
    let nics = map::map(&placement).map_err(|more| problems.extend(more)).ok();
    let (Some(name), Some(offering), Some(template), Some(nics)) = (name, offering, template, nics) else {
        return Err(problems);
    };
    let mut details = details(conversion.drivers, facts.vm.firmware);
    let (cpu_count, memory_mib) = shape(offering, facts);
    if offering.is_customized {
        details.insert("cpuNumber".to_owned(), cpu_count.to_string());
        details.insert("memory".to_owned(), memory_mib.to_string());
        if offering.cpu_speed_mhz.is_none() {
            details.insert("cpuSpeed".to_owned(), DEFAULT_CLOCK_MHZ.to_string());
        }
    }
    Ok(DestinationVm {
        display_name: match request.failover_type {
            FailoverType::Live => facts.vm.name.clone(),
            FailoverType::Test => format!("{} ({})", facts.vm.name, identity.job_id),
        },
        name,
        zone_id: target.networks.zone_id.clone(),
        template_id: template,
        service_offering_id: offering.id.clone(),
        cpu_count,
        memory_mib,
        firmware: facts.vm.firmware,
        secure_boot: facts.vm.secure_boot,
        details,
        nics: nics.into_iter().map(destination_nic).collect(),
        disks: disks(facts),
        custom_id: target.is_root_admin.then(|| identity.custom_id.clone()),
    })
}

fn destination_nic(nic: MappedNic) -> DestinationNic {
    DestinationNic {
        label: nic.label,
        source_mac: nic.source_mac,
        source_network: nic.source_network,
        network_id: nic.network_id,
        network_name: nic.network_name,
        mac_address: nic.mac,
        ip_address: nic.ip,
    }
}

/// The disks with device ids: the boot disk is the root, the others follow in the source's order.
fn disks(facts: &Facts) -> Vec<DestinationDisk> {
    let root = facts.disks.iter().position(|disk| disk.is_boot_disk).unwrap_or(0);
    let (before, from_root) = facts.disks.split_at(root);
    let others = from_root.iter().skip(1);
    let ordered = from_root.iter().take(1).chain(before).chain(others);
    let complete = ordered.filter_map(|disk| Some((disk, disk.volume.as_ref()?, disk.committed.as_ref()?)));
    complete
        .enumerate()
        .map(|(index, (disk, volume, change_id))| DestinationDisk {
            disk_id: disk.disk_id.clone(),
            volume_uuid: volume.volume_uuid.clone(),
            device_id: device_id(index),
            size_bytes: volume.size_bytes,
            change_id: change_id.to_string(),
        })
        .collect()
}

/// The name asked for, or one made of the source's. A test's carries the failover's last digits, because the name of a
/// VM that was destroyed and not yet expunged stays taken.
fn name(source: &str, request: &StartFailover, identity: &Identity, target: &TargetFacts) -> Result<String, Problem> {
    let name = match (&request.destination_name, request.failover_type) {
        (Some(name), _) => name.clone(),
        (None, FailoverType::Live) => source.to_owned(),
        (None, FailoverType::Test) => {
            let suffix = format!("-test-{}", identity.job_id.rsplit('-').next().unwrap_or_default());
            let kept: String = source.chars().take(MAX_NAME_CHARS - suffix.len()).collect();
            format!("{kept}{suffix}")
        }
    };
    let remedy = "give the VM another name: --name web-1";
    if let Some(trouble) = name_trouble(&name) {
        let detail = format!("{name:?} cannot be the name of a VM in CloudStack");
        return Err(Problem::new(FailureKind::Invalid, detail).evidence(trouble.to_owned()).remedy(remedy));
    }
    if target.taken_names.iter().any(|taken| taken.eq_ignore_ascii_case(&name)) {
        let detail = format!("there is a VM named {name} in {} already", target.name);
        return Err(Problem::new(FailureKind::Conflict, detail).remedy(remedy));
    }
    Ok(name)
}

/// The target's own offering, else the one that fits the source exactly, else a custom one, else the smallest that holds
/// it.
fn offering<'a>(target: &'a TargetFacts, facts: &Facts) -> Result<&'a ServiceOffering, Problem> {
    let (cpus, memory) = (u64::from(facts.vm.cpu_count), facts.vm.memory_mib);
    let usable = |offering: &&ServiceOffering| offering.is_active() && takes(offering, cpus, memory);
    let wanted = format!("{cpus} CPUs and {memory} MiB");
    if let Some(id) = &target.wanted_offering_id {
        let found = target.offerings.iter().find(|offering| offering.id == *id);
        return found.filter(usable).ok_or_else(|| {
            let why = if found.is_some() { "is inactive or too small" } else { "is not in the zone" };
            Problem::new(FailureKind::Conflict, format!("the service offering of {} {why}", target.name))
                .evidence(format!("offering {id}, the VM has {wanted}"))
                .remedy("name another one in the target's settings, or none: a fitting one is chosen then")
        });
    }
    let shape = |offering: &ServiceOffering| (offering.cpu_count.unwrap_or(0), offering.memory_mib.unwrap_or(0));
    let mut fitting: Vec<&ServiceOffering> = target.offerings.iter().filter(usable).collect();
    fitting.sort_by_key(|offering| (offering.is_customized, shape(offering), offering.name.clone()));
    let exact = fitting.iter().find(|offering| !offering.is_customized && shape(offering) == (cpus, memory));
    let custom = fitting.iter().find(|offering| offering.is_customized);
    exact.or(custom).or(fitting.first()).copied().ok_or_else(|| {
        Problem::new(FailureKind::Conflict, format!("no service offering of {} holds the VM", target.name))
            .evidence(format!("it has {wanted}"))
            .remedy("make an offering with custom CPU and memory, or one that is large enough, in CloudStack")
    })
}

/// Whether an offering can give what the source has.
fn takes(offering: &ServiceOffering, cpus: u64, memory_mib: u64) -> bool {
    if !offering.is_customized {
        return offering.cpu_count.is_some_and(|has| has >= cpus)
            && offering.memory_mib.is_some_and(|has| has >= memory_mib);
    }
    let bound = |name: &str| offering.bounds.get(name).and_then(|text| text.parse::<u64>().ok());
    let within = |low: Option<u64>, high: Option<u64>, value: u64| {
        low.is_none_or(|low| value >= low) && high.is_none_or(|high| value <= high)
    };
    within(bound("mincpunumber"), bound("maxcpunumber"), cpus)
        && within(bound("minmemory"), bound("maxmemory"), memory_mib)
}

/// CPUs and memory the VM will have.
fn shape(offering: &ServiceOffering, facts: &Facts) -> (u32, u64) {
    if offering.is_customized {
        return (facts.vm.cpu_count, facts.vm.memory_mib);
    }
    let cpus = offering.cpu_count.and_then(|count| u32::try_from(count).ok());
    (cpus.unwrap_or(facts.vm.cpu_count), offering.memory_mib.unwrap_or(facts.vm.memory_mib))
}

/// The target's own template, else any that is ready in the zone: its disk is thrown away, so the smallest is best.
fn template(target: &TargetFacts) -> Result<String, Problem> {
    let usable = target.templates.iter().filter(|template| {
        template.is_ready
            && template.zone_id.as_ref().is_none_or(|zone| *zone == target.networks.zone_id)
            && template.hypervisor.as_deref().is_none_or(|name| !name.eq_ignore_ascii_case("vmware"))
    });
    let wanted = &target.wanted_template_id;
    let mut usable: Vec<_> = usable.filter(|template| wanted.as_ref().is_none_or(|id| template.id == *id)).collect();
    let is_kvm = |name: Option<&str>| name.is_some_and(|name| name.eq_ignore_ascii_case(HYPERVISOR));
    usable.sort_by_key(|template| {
        (!is_kvm(template.hypervisor.as_deref()), template.password_enabled, template.size_bytes.unwrap_or(u64::MAX))
    });
    usable.first().map(|template| template.id.clone()).ok_or_else(|| {
        let detail = match wanted {
            Some(id) => format!("template {id} is not ready in the zone of {}", target.name),
            None => format!("{} has no template that is ready", target.name),
        };
        Problem::new(FailureKind::Conflict, detail)
            .remedy("register any small KVM template in CloudStack: a VM is made of it and its disk thrown away")
    })
}

/// The order CloudStack gets.
#[must_use]
pub(crate) fn order(vm: &DestinationVm) -> NewVirtualMachine {
    NewVirtualMachine {
        zone_id: vm.zone_id.clone(),
        service_offering_id: vm.service_offering_id.clone(),
        template_id: vm.template_id.clone(),
        name: vm.name.clone(),
        display_name: Some(vm.display_name.clone()),
        nics: vm
            .nics
            .iter()
            .map(|nic| NewNic {
                network_id: nic.network_id.clone(),
                ip_address: nic.ip_address.clone(),
                mac_address: nic.mac_address.clone(),
            })
            .collect(),
        start: false,
        firmware: Some(match (vm.firmware, vm.secure_boot) {
            (Firmware::Bios, _) => BootFirmware::Bios,
            (Firmware::Efi, false) => BootFirmware::Uefi,
            (Firmware::Efi, true) => BootFirmware::UefiSecure,
        }),
        details: vm.details.clone(),
        custom_id: vm.custom_id.clone(),
        owner: None,
    }
}

#[cfg(test)]
mod tests;
