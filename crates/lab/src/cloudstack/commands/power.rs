//! startVirtualMachine, stopVirtualMachine, rebootVirtualMachine, destroyVirtualMachine.

use super::super::entities::{VmState, Volume, VolumeState, VolumeType};
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::views::vm as view;
use super::super::world::{Caller, World, now};
use super::volumes::expunge;
use super::{Answer, gone, vm_of};

/// The VM as a job's result.
pub(super) fn shown(world: &World, caller: &Caller, id: &str) -> Answer {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    Ok(Object::new().put("virtualmachine", view::vm(world, caller, vm)))
}

fn job(
    world: &World,
    caller: &Caller,
    params: &Params,
    change: fn(&mut World, &str) -> Result<(), Refusal>,
) -> Result<Submission, Refusal> {
    let id = vm_of(world, caller, params, "id")?.id.clone();
    let queue = id.clone();
    Ok(Submission::new("VirtualMachine", &id.clone(), &queue, move |world, caller| {
        change(world, &id)?;
        shown(world, caller, &id)
    }))
}

pub(super) fn start(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    job(world, caller, params, start_now)
}

pub(super) fn stop(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    job(world, caller, params, stop_now)
}

pub(super) fn reboot(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    job(world, caller, params, |world, id| {
        let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
        if vm.state == VmState::Running {
            return Ok(());
        }
        Err(Refusal::runtime(format!("Failed to reboot vm instance: the VM {} is not running", vm.id)))
    })
}

/// Powers a VM on; every attached volume gets its file.
pub(super) fn start_now(world: &mut World, id: &str) -> Result<(), Refusal> {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    match vm.state {
        VmState::Running => {
            return Err(Refusal::invalid(format!("The virtual machine {} ({}) is already running", vm.id, vm.name)));
        }
        VmState::Destroyed => return Err(Refusal::runtime(format!("VM {} is destroyed", vm.id))),
        VmState::Stopped => {}
    }
    let volumes = world.inventory.volumes_of(id);
    if !volumes.iter().any(|volume| volume.volume_type == VolumeType::Root) {
        return Err(Refusal::runtime(format!("Unable to deploy VM [{}] because the ROOT volume is missing.", vm.id)));
    }
    let volume_ids: Vec<String> = volumes.into_iter().map(|volume| volume.id.clone()).collect();
    for volume_id in volume_ids {
        world.materialise(&volume_id).map_err(|error| Refusal::runtime(error.to_string()))?;
    }
    set_state(world, id, VmState::Running)
}

/// Powers a VM off; a stopped one stays so.
pub(super) fn stop_now(world: &mut World, id: &str) -> Result<(), Refusal> {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    match vm.state {
        VmState::Running => set_state(world, id, VmState::Stopped),
        VmState::Stopped => Ok(()),
        VmState::Destroyed => Err(Refusal::runtime(format!("VM {} is destroyed", vm.id))),
    }
}

fn set_state(world: &mut World, id: &str, state: VmState) -> Result<(), Refusal> {
    if let Some(vm) = world.inventory.vm_mut(id) {
        vm.state = state;
        vm.was_started |= state == VmState::Running;
        vm.last_updated = now();
    }
    world.replug(id).map_err(|error| Refusal::runtime(error.to_string()))
}

pub(super) fn destroy(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let id = vm_of(world, caller, params, "id")?.id.clone();
    let expunge = params.flag("expunge") == Some(true);
    if expunge && !caller.root_admin {
        return Err(Refusal::denied(
            "Parameter expunge can be passed by Admin only. Or when the allow.user.expunge.recover.vm key is set.",
        ));
    }
    let doomed = params.list("volumeids");
    for volume_id in &doomed {
        if world.inventory.volume(volume_id).is_none() {
            return Err(Refusal::no_such_entity(params.command(), "volumeids", volume_id));
        }
    }
    let queue = id.clone();
    Ok(Submission::new("VirtualMachine", &id.clone(), &queue, move |world, caller| {
        if id == world.oma_vm_id {
            return Err(Refusal::runtime("The worker VM of this laboratory cannot be destroyed"));
        }
        destroy_now(world, &id, expunge, &doomed, caller)
    }))
}

/// Data disks leave the VM and stay; whatever is ROOT goes with it.
fn destroy_now(world: &mut World, id: &str, expunged: bool, doomed: &[String], caller: &Caller) -> Answer {
    if world.inventory.vm(id).is_some_and(|vm| vm.state == VmState::Running) {
        stop_now(world, id)?;
    }
    let volumes: Vec<Volume> = world.inventory.volumes_of(id).into_iter().cloned().collect();
    for volume in volumes {
        let is_root = volume.volume_type == VolumeType::Root;
        if !is_root && let Some(stored) = world.inventory.volume_mut(&volume.id) {
            stored.attachment = None;
        }
        if (is_root && expunged) || doomed.contains(&volume.id) {
            expunge(world, &volume)?;
        } else if is_root && let Some(stored) = world.inventory.volume_mut(&volume.id) {
            stored.state = VolumeState::Destroy;
        }
    }
    if let Some(vm) = world.inventory.vm_mut(id) {
        vm.state = VmState::Destroyed;
        vm.last_updated = now();
    }
    let answer = shown(world, caller, id)?;
    if expunged {
        for snapshot in world.inventory.vm_snapshots.clone().iter().filter(|snapshot| snapshot.vm_id == id) {
            super::vm_snapshots::remove(world, snapshot)?;
        }
        world.inventory.vms.retain(|vm| vm.id != id);
    }
    Ok(answer)
}
