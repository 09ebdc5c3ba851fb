//! The lists of VMs and updateVirtualMachine.

use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::check_host_name;
use super::super::views::vm as view;
use super::super::world::{Caller, World, now};
use super::power::shown;
use super::{Answer, carries, check_zone, paged, passes, vm_of};

pub(super) fn list(world: &World, caller: &Caller, params: &Params, with_metrics: bool) -> Answer {
    check_zone(world, params)?;
    let rows = world
        .inventory
        .vms
        .iter()
        .filter(|vm| world.lists(caller, params, &vm.account_id))
        .filter(|vm| passes(params, &vm.id, params.text("name").unwrap_or(&vm.name)))
        // A name finds every VM that has it in its own.
        .filter(|vm| params.text("name").is_none_or(|part| vm.name.contains(part)))
        .filter(|vm| carries(params, &vm.tags))
        .filter(|vm| caller.root_admin || !vm.state.is_gone())
        .filter(|vm| match params.text("state") {
            None => true,
            Some("Present") => !vm.state.is_gone(),
            Some(state) => vm.state.as_str() == state,
        })
        .filter(|vm| params.text("networkid").is_none_or(|wanted| vm.nics.iter().any(|nic| nic.network_id == wanted)))
        .map(|vm| {
            let row = view::vm(world, caller, vm);
            if with_metrics { row.merge(view::metrics(vm)) } else { row }
        })
        .collect();
    paged(world, params, "virtualmachine", rows)
}

/// Settings only a root administrator may change; `readonlydetails` shows them.
const READ_ONLY_DETAILS: [&str; 2] = ["dataDiskController", "rootDiskController"];

/// Details replace the whole set; only index 0 of the map is read.
pub(super) fn update(world: &mut World, caller: &Caller, params: &Params) -> Answer {
    let vm = vm_of(world, caller, params, "id")?;
    let (id, vm_details) = (vm.id.clone(), vm.details.clone());
    if let Some(name) = params.text("name") {
        check_host_name(name)?;
        if world.inventory.vms.iter().any(|other| other.id != id && other.name == name) {
            return Err(Refusal::invalid(format!(
                "The vm with hostName {name} already exists in the network domain: lab.simulator"
            )));
        }
    }
    let os_type_id = params.text("ostypeid");
    if os_type_id.is_some_and(|os_type_id| world.catalogue.os_type_name(os_type_id).is_none()) {
        return Err(params.no_such("ostypeid"));
    }
    let details = params.map_entry("details", 0);
    let read_only = READ_ONLY_DETAILS
        .iter()
        .find(|name| details.contains_key(**name) && vm_details.get(**name) != details.get(**name));
    if let Some(name) = read_only.filter(|_| !caller.root_admin) {
        return Err(Refusal::invalid(format!("You're not allowed to add or edit the read-only setting: {name}")));
    }
    if let Some(vm) = world.inventory.vm_mut(&id) {
        if let Some(name) = params.text("name") {
            vm.name = name.to_owned();
        }
        if let Some(name) = params.text("displayname") {
            vm.display_name = name.to_owned();
        }
        if let Some(enabled) = params.flag("haenable") {
            vm.ha_enabled = enabled;
        }
        if let Some(os_type_id) = os_type_id {
            vm.os_type_id = os_type_id.to_owned();
        }
        if params.flag("cleanupdetails") == Some(true) {
            vm.details.clear();
        } else if !details.is_empty() {
            vm.details = details;
        }
        vm.last_updated = now();
    }
    shown(world, caller, &id)
}
