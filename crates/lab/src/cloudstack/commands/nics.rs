//! addNicToVirtualMachine, and the making of interfaces for deploy.

use super::super::catalogue::{Network, ZONE_NAME, random_id};
use super::super::entities::{Inventory, Nic, VmState};
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::is_mac;
use super::super::views::vm as view;
use super::super::world::{Caller, World, now};
use super::{gone, vm_of};

/// Host numbers a /24 gives to VMs.
const HOST_NUMBERS: std::ops::RangeInclusive<u32> = 11..=254;

/// What is asked for one interface.
#[derive(Debug, Clone, Default)]
pub(super) struct NicWish {
    pub(super) network_id: String,
    pub(super) ip_address: Option<String>,
    pub(super) mac: Option<String>,
}

pub(super) fn add(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let vm_id = vm_of(world, caller, params, "virtualmachineid")?.id.clone();
    let network_id = params.required("networkid")?;
    let network = world.catalogue.network(network_id).ok_or_else(|| params.no_such("networkid"))?;
    let wish = NicWish {
        network_id: network.id.clone(),
        ip_address: params.text("ipaddress").map(str::to_owned),
        mac: params.text("macaddress").map(str::to_owned),
    };
    let queue = vm_id.clone();
    Ok(Submission::new("VirtualMachine", &vm_id.clone(), &queue, move |world, caller| {
        add_now(world, &vm_id, &wish)?;
        let vm = world.inventory.vm(&vm_id).ok_or_else(|| gone("vm", &vm_id))?;
        Ok(Object::new().put("virtualmachine", view::vm_after_nic_change(world, caller, vm)))
    }))
}

fn add_now(world: &mut World, vm_id: &str, wish: &NicWish) -> Result<(), Refusal> {
    let vm = world.inventory.vm(vm_id).ok_or_else(|| gone("vm", vm_id))?;
    if !vm.state.is_settled() {
        return Err(Refusal::invalid("Please specify a VM that is either running or stopped."));
    }
    if world.boots_machine(vm_id) && vm.state == VmState::Running {
        return Err(Refusal::runtime(format!(
            "Failed to add NIC to VM {}: the laboratory's machines take nothing while they run",
            vm.instance_name
        )));
    }
    if world.inventory.has_vm_snapshots(vm_id) {
        return Err(Refusal::runtime("NIC cannot be added to VM with VM Snapshots"));
    }
    let network = world.catalogue.network(&wish.network_id).ok_or_else(|| gone("network", &wish.network_id))?;
    if vm.nics.iter().any(|nic| nic.network_id == network.id) {
        return Err(Refusal::runtime(format!(
            "A NIC already exists for VM:{} in network: {}",
            vm.instance_name, network.id
        )));
    }
    let device_id = vm.nics.iter().map(|nic| nic.device_id + 1).max().unwrap_or(0);
    let nic = make(&world.inventory, network, wish, device_id)?;
    if let Some(vm) = world.inventory.vm_mut(vm_id) {
        vm.nics.push(nic);
        vm.last_updated = now();
    }
    Ok(())
}

/// An interface with the wished addresses when they are free; an invalid MAC is silently replaced.
pub(super) fn make(inventory: &Inventory, network: &Network, wish: &NicWish, device_id: u32) -> Result<Nic, Refusal> {
    if network.in_other_zone {
        return Err(Refusal::invalid(format!("Network id={} doesn't belong to zone {ZONE_NAME}", network.id)));
    }
    if !network.can_be_used {
        return Err(Refusal::runtime(format!("Unable to acquire Guest IP address for network {}", network.id)));
    }
    let others: Vec<&Nic> = inventory.vms.iter().flat_map(|vm| &vm.nics).collect();
    let mac = match wish.mac.as_deref().filter(|mac| is_mac(mac)).map(str::to_lowercase) {
        Some(mac) if others.iter().any(|nic| nic.network_id == network.id && nic.mac == mac) => {
            return Err(Refusal::invalid(format!("A NIC with this MAC address exists for network: {}", network.id)));
        }
        Some(mac) => mac,
        None => random_mac(),
    };
    Ok(Nic {
        id: random_id(),
        network_id: network.id.clone(),
        mac,
        ip_address: ip_address(&others, network, wish)?,
        device_id,
        is_default: device_id == 0,
    })
}

fn ip_address(others: &[&Nic], network: &Network, wish: &NicWish) -> Result<Option<String>, Refusal> {
    let Some(prefix) = &network.prefix else { return Ok(None) };
    let is_taken = |address: &str| {
        others.iter().any(|nic| nic.network_id == network.id && nic.ip_address.as_deref() == Some(address))
    };
    match &wish.ip_address {
        Some(address) if is_taken(address) || !address.starts_with(&format!("{prefix}.")) => {
            Err(Refusal::invalid(format!("Unable to acquire Guest IP address {address} for network {}", network.id)))
        }
        Some(address) => Ok(Some(address.clone())),
        None => {
            let mut free = HOST_NUMBERS.map(|number| format!("{prefix}.{number}")).filter(|address| !is_taken(address));
            free.next().map(Some).ok_or_else(|| Refusal::runtime("Unable to acquire Guest IP address"))
        }
    }
}

fn random_mac() -> String {
    let bytes: [u8; 4] = rand::random();
    format!("02:01:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3])
}
