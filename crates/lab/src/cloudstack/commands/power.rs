//! startVirtualMachine, stopVirtualMachine, rebootVirtualMachine, destroyVirtualMachine.
//!
//! Each job first checks and shows the state in between, then powers a machine (if the cloud boots), then settles.

use super::super::entities::{VmState, Volume, VolumeState, VolumeType};
use super::super::errands::{Errands, Power};
use super::super::hypervisor::{End, plan};
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::views::vm as view;
use super::super::world::{Caller, World, now};
use super::volume_snapshots::is_active;
use super::volumes::expunge;
use super::{Answer, gone, vm_of};

/// The VM as a job's result.
pub(super) fn shown(world: &World, caller: &Caller, id: &str) -> Answer {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    Ok(Object::new().put("virtualmachine", view::vm(world, caller, vm)))
}

/// The end of a job on a VM; gets how its machine did.
type Settle = fn(&mut World, &str, Result<u64, Refusal>) -> Result<(), Refusal>;

/// A job on the VM the parameter `id` names: `begin` checks and marks, `settle` gets how the machine did.
fn job(
    world: &World,
    caller: &Caller,
    params: &Params,
    begin: impl FnOnce(&mut World, &str) -> Result<Errands, Refusal> + Send + 'static,
    settle: Settle,
) -> Result<Submission, Refusal> {
    let id = vm_of(world, caller, params, "id")?.id.clone();
    let begin_id = id.clone();
    Ok(Submission {
        instance_type: "VirtualMachine",
        instance_id: Some(id.clone()),
        is_create: false,
        queue: id.clone(),
        prepare: Some(Box::new(move |world| begin(world, &begin_id))),
        act: Box::new(move |world, caller, done| {
            settle(world, &id, done)?;
            shown(world, caller, &id)
        }),
    })
}

pub(super) fn start(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    job(world, caller, params, begin_start, |world, id, done| settle_start(world, id, done, VmState::Stopped))
}

pub(super) fn stop(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let how = if params.flag("forced") == Some(true) { End::Cut } else { End::Asked };
    job(world, caller, params, move |world, id| begin_stop(world, id, how), settle_stop)
}

pub(super) fn reboot(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let begin = |world: &mut World, id: &str| {
        let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
        if vm.state != VmState::Running {
            return Err(Refusal::runtime(format!("Failed to reboot vm instance: the VM {} is not running", vm.id)));
        }
        let mut errands = power_off(world, id, End::Asked);
        errands.power.extend(power_on(world, id).power);
        Ok(errands)
    };
    job(world, caller, params, begin, |world, id, done| {
        let is_running = world.inventory.vm(id).is_some_and(|vm| vm.state == VmState::Running);
        match done {
            Err(refusal) if is_running && world.boots_machine(id) => {
                set_state(world, id, VmState::Stopped)?;
                Err(refusal)
            }
            done => done.map(drop),
        }
    })
}

/// Power on, where machines are booted.
fn power_on(world: &World, id: &str) -> Errands {
    let machine = plan(world, id).filter(|_| world.boots_machine(id));
    Errands::power(machine.map(|plan| Power::On(Box::new(plan))).into_iter().collect())
}

/// Power off, where machines are booted.
fn power_off(world: &World, id: &str, how: End) -> Errands {
    let off = world.boots_machine(id).then(|| Power::Off(id.to_owned(), how));
    Errands::power(off.into_iter().collect())
}

/// Checks that a VM can be powered on; every attached volume gets its file.
pub(super) fn begin_start(world: &mut World, id: &str) -> Result<Errands, Refusal> {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    match vm.state {
        VmState::Running => {
            return Err(Refusal::invalid(format!("The virtual machine {} ({}) is already running", vm.id, vm.name)));
        }
        VmState::Stopped => {}
        state => return Err(wrong_state("start", id, state)),
    }
    let volumes = world.inventory.volumes_of(id);
    if !volumes.iter().any(|volume| volume.volume_type == VolumeType::Root) {
        return Err(Refusal::runtime(format!("Unable to deploy VM [{}] because the ROOT volume is missing.", vm.id)));
    }
    let busy = volumes.iter().find(|volume| !matches!(volume.state, VolumeState::Allocated | VolumeState::Ready));
    if let Some(volume) = busy {
        let (name, state) = (&volume.name, volume.state.as_str());
        return Err(Refusal::runtime(format!("Unable to start VM [{}]: its volume {name} is {state}", vm.id)));
    }
    let volume_ids: Vec<String> = volumes.into_iter().map(|volume| volume.id.clone()).collect();
    for volume_id in volume_ids {
        world.materialise(&volume_id).map_err(|error| Refusal::runtime(error.to_string()))?;
    }
    set_state(world, id, VmState::Starting)?;
    Ok(power_on(world, id))
}

/// Running, or the state a VM falls back to when it could not be started.
pub(super) fn settle_start(
    world: &mut World,
    id: &str,
    done: Result<u64, Refusal>,
    fallback: VmState,
) -> Result<(), Refusal> {
    let is_starting = world.inventory.vm(id).is_some_and(|vm| vm.state == VmState::Starting);
    if is_starting {
        set_state(world, id, if done.is_ok() { VmState::Running } else { fallback })?;
        if done.is_ok() && world.config.guests_scribble && id != world.oma_vm_id {
            let volumes: Vec<Volume> = world.inventory.volumes_of(id).into_iter().cloned().collect();
            for volume in volumes {
                world.storage.scribble(&volume).map_err(|error| Refusal::runtime(error.to_string()))?;
            }
        }
    }
    done.map(drop)
}

/// A stopped VM stays so, and the job succeeds.
fn begin_stop(world: &mut World, id: &str, how: End) -> Result<Errands, Refusal> {
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    match vm.state {
        VmState::Stopped => return Ok(Errands::default()),
        VmState::Running => {}
        state => return Err(wrong_state("stop", id, state)),
    }
    set_state(world, id, VmState::Stopping)?;
    Ok(power_off(world, id, how))
}

fn settle_stop(world: &mut World, id: &str, done: Result<u64, Refusal>) -> Result<(), Refusal> {
    if world.inventory.vm(id).is_some_and(|vm| vm.state == VmState::Stopping) {
        // Power is off even where a file could not be synced.
        set_state(world, id, VmState::Stopped)?;
    }
    done.map(drop)
}

fn wrong_state(doing: &str, id: &str, state: VmState) -> Refusal {
    Refusal::runtime(format!("Failed to {doing} vm: VM [{id}] is in state {}", state.as_str()))
}

/// Sets the state and brings the worker's devices in line with it.
pub(crate) fn set_state(world: &mut World, id: &str, state: VmState) -> Result<(), Refusal> {
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
    let begin_id = id.clone();
    Ok(Submission {
        instance_type: "VirtualMachine",
        instance_id: Some(id.clone()),
        is_create: false,
        queue: id.clone(),
        prepare: Some(Box::new(move |world| begin_destroy(world, &begin_id, expunge))),
        act: Box::new(move |world, caller, done| {
            settle_stop(world, &id, done)?;
            destroy_now(world, &id, expunge, &doomed, caller)
        }),
    })
}

/// Checks, and stops a running VM at once.
fn begin_destroy(world: &mut World, id: &str, expunged: bool) -> Result<Errands, Refusal> {
    if id == world.oma_vm_id {
        return Err(Refusal::runtime("The worker VM of this laboratory cannot be destroyed"));
    }
    let vm = world.inventory.vm(id).ok_or_else(|| gone("vm", id))?;
    let (vm_state, root) = (vm.state, root_of(world, id));
    let is_copied = |volume: &Volume| {
        let mut snapshots = world.inventory.volume_snapshots.iter();
        snapshots.any(|snapshot| snapshot.volume_id == volume.id && is_active(world, snapshot))
    };
    if root.is_some_and(is_copied) {
        return Err(Refusal::runtime(
            "There is/are unbacked up snapshot(s) on ROOT volume, vm destroy is not permitted, please try again later.",
        ));
    }
    if vm_state == VmState::Running {
        set_state(world, id, VmState::Stopping)?;
        return Ok(power_off(world, id, End::Cut));
    }
    if expunged {
        set_state(world, id, VmState::Expunging)?;
    }
    Ok(Errands::default())
}

fn root_of<'a>(world: &'a World, vm_id: &str) -> Option<&'a Volume> {
    world.inventory.volumes_of(vm_id).into_iter().find(|volume| volume.volume_type == VolumeType::Root)
}

/// Data disks leave the VM and stay; whatever is ROOT goes with it.
fn destroy_now(world: &mut World, id: &str, expunged: bool, doomed: &[String], caller: &Caller) -> Answer {
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
        world.inventory.used_ids.insert(id.to_owned());
    }
    Ok(answer)
}
