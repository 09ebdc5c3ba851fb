//! createSnapshot, listSnapshots, revertSnapshot, deleteSnapshot: copies of one volume's file.

use std::collections::BTreeMap;

use super::super::catalogue::random_id;
use super::super::entities::{VmState, Volume, VolumeSnapshot, VolumeSnapshotState, VolumeState};
use super::super::errands::Errands;
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::storage::CopyPlan;
use super::super::views::{date, snapshots as view};
use super::super::world::{Caller, World, now};
use super::{Answer, carries, check_zone, gone, paged, passes, volume_of, volume_snapshot_of};

pub(super) fn list(world: &World, caller: &Caller, params: &Params) -> Answer {
    check_zone(world, params)?;
    let rows = world
        .inventory
        .volume_snapshots
        .iter()
        .filter(|snapshot| world.lists(caller, params, &snapshot.account_id))
        .filter(|snapshot| passes(params, &snapshot.id, &snapshot.name))
        .filter(|snapshot| carries(params, &snapshot.tags))
        .filter(|snapshot| params.text("volumeid").is_none_or(|wanted| wanted == snapshot.volume_id))
        .map(|snapshot| view::volume_snapshot(world, snapshot))
        .collect();
    paged(world, params, "snapshot", rows)
}

fn queue_of(volume: &Volume) -> String {
    volume.attachment.as_ref().map_or_else(|| volume.id.clone(), |attachment| attachment.vm_id.clone())
}

/// The row is made at once; the job copies the file, without the server's lock.
pub(super) fn create(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let volume = volume_of(world, caller, params, "volumeid")?.clone();
    if volume.state != VolumeState::Ready {
        return Err(Refusal::invalid(format!(
            "VolumeId: {} is not in Ready state but {}. Cannot take snapshot.",
            volume.id,
            volume.state.as_str()
        )));
    }
    let is_blocked = another_is_active(world, &volume);
    let id = random_id();
    let name = params.text("name").map_or_else(|| format!("{}_{}", volume.name, date(now())), str::to_owned);
    let tags = params.tags().into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
    world.inventory.volume_snapshots.push(VolumeSnapshot {
        id: id.clone(),
        name,
        account_id: volume.account_id.clone(),
        volume_id: volume.id.clone(),
        volume_name: volume.name.clone(),
        volume_type: volume.volume_type,
        size_bytes: volume.size_bytes,
        physical_bytes: 0,
        state: VolumeSnapshotState::Allocated,
        created: now(),
        tags: tags.collect::<BTreeMap<_, _>>(),
    });
    let (prepare_id, act_id, volume_id) = (id.clone(), id.clone(), volume.id.clone());
    Ok(Submission {
        instance_type: "Snapshot",
        instance_id: Some(id),
        is_create: true,
        queue: queue_of(&volume),
        prepare: Some(Box::new(move |world| match is_blocked {
            true => Err(Refusal::invalid(ANOTHER_IS_ACTIVE)),
            false => begin(world, &prepare_id, &volume_id),
        })),
        act: Box::new(move |world, _, copied| {
            finish(world, &act_id, copied)?;
            shown(world, &act_id)
        }),
    })
}

/// What a second snapshot on the same VM is refused with.
const ANOTHER_IS_ACTIVE: &str =
    "There is other active snapshot tasks on the instance to which the volume is attached, please try again later";

/// Whether a snapshot is being made. One whose job was lost before it began is not.
pub(super) fn is_active(world: &World, snapshot: &VolumeSnapshot) -> bool {
    match snapshot.state {
        VolumeSnapshotState::Creating => true,
        VolumeSnapshotState::Allocated => world.pending_job_of(&snapshot.id).is_some(),
        VolumeSnapshotState::BackedUp | VolumeSnapshotState::Error => false,
    }
}

/// Whether a snapshot of this volume's VM is being made at this moment.
fn another_is_active(world: &World, volume: &Volume) -> bool {
    let Some(attachment) = &volume.attachment else { return false };
    let on_this_vm = world.inventory.volumes_of(&attachment.vm_id);
    let mut snapshots = world.inventory.volume_snapshots.iter();
    snapshots
        .any(|snapshot| is_active(world, snapshot) && on_this_vm.iter().any(|volume| volume.id == snapshot.volume_id))
}

fn begin(world: &mut World, id: &str, volume_id: &str) -> Result<Errands, Refusal> {
    let volume = world.inventory.volume_mut(volume_id).ok_or_else(|| gone("volume", volume_id))?;
    if volume.state != VolumeState::Ready {
        return Err(Refusal::invalid(format!("VolumeId: {volume_id} is not in Ready state. Cannot take snapshot.")));
    }
    volume.state = VolumeState::Snapshotting;
    let volume = volume.clone();
    if let Some(snapshot) = world.inventory.volume_snapshot_mut(id) {
        snapshot.state = VolumeSnapshotState::Creating;
    }
    let to = world.storage.copy_file(id, None);
    let copies = world.storage.file_of(&volume).map(|from| CopyPlan { from, to }).into_iter().collect();
    Ok(Errands::copies(copies).holding(volume.attachment.map(|attachment| attachment.vm_id)))
}

fn finish(world: &mut World, id: &str, copied: Result<u64, Refusal>) -> Result<(), Refusal> {
    let snapshot = world.inventory.volume_snapshot_mut(id).ok_or_else(|| gone("snapshot", id))?;
    let volume_id = snapshot.volume_id.clone();
    let failed = copied.as_ref().err().map(|refusal| refusal.text.clone());
    match copied {
        Ok(bytes) => {
            snapshot.state = VolumeSnapshotState::BackedUp;
            snapshot.physical_bytes = bytes;
        }
        Err(_) => snapshot.state = VolumeSnapshotState::Error,
    }
    if let Some(volume) = world.inventory.volume_mut(&volume_id)
        && volume.state == VolumeState::Snapshotting
    {
        volume.state = VolumeState::Ready;
    }
    let Some(reason) = failed else { return Ok(()) };
    if reason == ANOTHER_IS_ACTIVE {
        return Err(Refusal::invalid(reason));
    }
    tracing::warn!(volume_id, reason, "a volume snapshot failed");
    Err(Refusal::runtime(format!(
        "Failed to create snapshot due to an internal error creating snapshot for volume {volume_id}"
    )))
}

fn shown(world: &World, id: &str) -> Answer {
    let snapshot = world.inventory.volume_snapshot(id).ok_or_else(|| gone("snapshot", id))?;
    Ok(Object::new().put("snapshot", view::volume_snapshot(world, snapshot)))
}

pub(super) fn revert(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let snapshot = volume_snapshot_of(world, caller, params, "id")?;
    let (id, volume_id) = (snapshot.id.clone(), snapshot.volume_id.clone());
    let volume = world.inventory.volume(&volume_id).ok_or_else(|| gone("volume", &volume_id))?;
    let queue = queue_of(volume);
    let (prepare_id, prepare_volume_id, act_id) = (id.clone(), volume_id.clone(), id.clone());
    Ok(Submission {
        instance_type: "Snapshot",
        instance_id: Some(id),
        is_create: false,
        queue,
        prepare: Some(Box::new(move |world| begin_revert(world, &prepare_id, &prepare_volume_id))),
        act: Box::new(move |world, _, copied| {
            let mut restored = None;
            if let Some(volume) = world.inventory.volume_mut(&volume_id)
                && volume.state == VolumeState::RevertSnapshotting
            {
                volume.state = VolumeState::Ready;
                restored = Some(volume.clone());
            }
            copied?;
            if let Some(volume) = restored {
                world.storage.size_file(&volume).map_err(|error| Refusal::runtime(error.to_string()))?;
            }
            shown(world, &act_id)
        }),
    })
}

fn begin_revert(world: &mut World, id: &str, volume_id: &str) -> Result<Errands, Refusal> {
    let volume = world.inventory.volume(volume_id).ok_or_else(|| gone("volume", volume_id))?;
    let vm = volume.attachment.as_ref().and_then(|attachment| world.inventory.vm(&attachment.vm_id));
    if volume.state != VolumeState::Ready {
        return Err(Refusal::invalid("The volume is not in Ready state."));
    }
    if let Some(vm) = vm {
        if vm.state != VmState::Stopped {
            return Err(Refusal::invalid("The VM the specified disk is attached to is not in the shutdown state."));
        }
        if world.inventory.has_vm_snapshots(&vm.id) {
            return Err(Refusal::invalid("The specified disk's VM has VM snapshots; revert is not allowed"));
        }
    }
    let from = world.storage.copy_file(id, None);
    let to = world.storage.file_of(volume);
    if let Some(volume) = world.inventory.volume_mut(volume_id) {
        volume.state = VolumeState::RevertSnapshotting;
    }
    Ok(Errands::copies(to.map(|to| CopyPlan { from, to }).into_iter().collect()))
}

pub(super) fn delete(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let id = volume_snapshot_of(world, caller, params, "id")?.id.clone();
    Ok(Submission::new("Snapshot", &id.clone(), &id.clone(), move |world, _| {
        let file = world.storage.copy_file(&id, None);
        world.storage.remove_file(&file).map_err(|error| Refusal::runtime(error.to_string()))?;
        world.inventory.volume_snapshots.retain(|snapshot| snapshot.id != id);
        Ok(Object::new().put("success", true))
    }))
}
