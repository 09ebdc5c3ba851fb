//! attachVolume and detachVolume: where device ids, volume types and the worker's devices change.

use super::super::entities::{Attachment, Vm, VmState, Volume, VolumeType};
use super::super::jobs::Submission;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::{choose_device_id, device_of, may_attach, may_detach};
use super::super::world::Caller;
use super::super::world::{World, now};
use super::volumes::shown;
use super::{gone, vm_of, volume_of};

/// Checks only ids and permissions; everything else fails in the job, as on a real server.
pub(super) fn attach(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let volume_id = volume_of(world, caller, params, "id")?.id.clone();
    let vm_id = vm_of(world, caller, params, "virtualmachineid")?.id.clone();
    let device_id = device_id(params)?;
    let queue = vm_id.clone();
    Ok(Submission::new("Volume", &volume_id.clone(), &queue, move |world, caller| {
        attach_now(world, &volume_id, &vm_id, device_id)?;
        shown(world, caller, &volume_id)
    }))
}

fn device_id(params: &Params) -> Result<Option<u32>, Refusal> {
    let Some(wanted) = params.integer("deviceid")? else { return Ok(None) };
    let refused = || Refusal::bad_value(params.command(), "deviceid", &wanted.to_string());
    u32::try_from(wanted).map(Some).map_err(|_| refused())
}

/// Plugs a volume into a VM; a file comes into being the first time.
pub(super) fn attach_now(world: &mut World, volume_id: &str, vm_id: &str, wanted: Option<u32>) -> Result<(), Refusal> {
    let volume = world.inventory.volume(volume_id).ok_or_else(|| gone("volume", volume_id))?;
    let vm = world.inventory.vm(vm_id).ok_or_else(|| Refusal::invalid("Please specify a valid User VM."))?;
    may_attach(&world.inventory, volume, vm, wanted)?;
    machine_must_be_off(world, vm, "attach", "to", volume)?;
    let taken: Vec<u32> = world.inventory.volumes_of(vm_id).into_iter().filter_map(device_of).collect();
    let device_id = choose_device_id(wanted, &taken, &vm.name)?;
    let failed = format!("Failed to attach volume {} to VM {}", volume.name, vm.name);
    world.materialise(volume_id).map_err(|error| Refusal::runtime(format!("{failed}; {}", chain(&error))))?;
    let stored = world.inventory.volume_mut(volume_id).ok_or_else(|| gone("volume", volume_id))?;
    stored.attachment = Some(Attachment { vm_id: vm_id.to_owned(), device_id, since: now() });
    stored.volume_type = if device_id == 0 { VolumeType::Root } else { VolumeType::Datadisk };
    if let Err(error) = world.plug(volume_id) {
        if let Some(stored) = world.inventory.volume_mut(volume_id) {
            stored.attachment = None;
        }
        return Err(Refusal::runtime(format!("{failed}; {}", chain(&error))));
    }
    Ok(())
}

pub(super) fn detach(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let volume_id = detached_volume_id(world, caller, params)?;
    let attached_to = world.inventory.volume(&volume_id).and_then(|volume| volume.attachment.as_ref());
    let queue = attached_to.map_or_else(|| volume_id.clone(), |attachment| attachment.vm_id.clone());
    Ok(Submission::new("Volume", &volume_id.clone(), &queue, move |world, caller| {
        detach_now(world, &volume_id)?;
        shown(world, caller, &volume_id)
    }))
}

fn detached_volume_id(world: &World, caller: &Caller, params: &Params) -> Result<String, Refusal> {
    let pair = (params.text("virtualmachineid"), params.integer("deviceid")?);
    match (params.text("id"), pair) {
        (Some(_), (None, None)) => Ok(volume_of(world, caller, params, "id")?.id.clone()),
        (None, (Some(_), Some(device_id))) => {
            let vm = vm_of(world, caller, params, "virtualmachineid")?;
            let volumes = world.inventory.volumes_of(&vm.id);
            let found = volumes.into_iter().find(|volume| device_of(volume).map(i64::from) == Some(device_id));
            found
                .map(|volume| volume.id.clone())
                .ok_or_else(|| Refusal::invalid("The specified volume is not attached to a VM."))
        }
        _ => Err(Refusal::invalid("Please provide either a volume id, or a tuple(device id, instance id)")),
    }
}

/// Unplugs a volume; a former root becomes a data disk.
pub(super) fn detach_now(world: &mut World, volume_id: &str) -> Result<(), Refusal> {
    let volume = world.inventory.volume(volume_id).ok_or_else(|| gone("volume", volume_id))?.clone();
    let vm_id = may_detach(&world.inventory, &volume)?;
    if let Some(vm) = world.inventory.vm(&vm_id) {
        machine_must_be_off(world, vm, "detach", "from", &volume)?;
    }
    world.unplug(&volume).map_err(|error| {
        let vm_name = world.inventory.vm(&vm_id).map_or("", |vm| vm.name.as_str());
        Refusal::runtime(format!("Failed to detach volume {} from VM {vm_name}; {}", volume.name, chain(&error)))
    })?;
    if let Some(stored) = world.inventory.volume_mut(volume_id) {
        stored.attachment = None;
        stored.volume_type = VolumeType::Datadisk;
    }
    Ok(())
}

/// The laboratory's machines take and give no disks while they run: a disk they still write to must not go elsewhere.
fn machine_must_be_off(world: &World, vm: &Vm, doing: &str, where_to: &str, volume: &Volume) -> Result<(), Refusal> {
    if !world.boots_machine(&vm.id) || vm.state != VmState::Running {
        return Ok(());
    }
    Err(Refusal::runtime(format!(
        "Failed to {doing} volume {} {where_to} VM {}; the laboratory's machines change no disks while they run",
        volume.name, vm.name
    )))
}

/// An error with its causes, as an agent's detail.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
