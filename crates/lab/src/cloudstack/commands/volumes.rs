//! createVolume, deleteVolume, resizeVolume and the lists of volumes.

use std::collections::BTreeMap;

use super::super::entities::{VmState, Volume, VolumeSnapshot, VolumeState, VolumeType};
use super::super::errands::Errands;
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::{GIB_BYTES, volume_size};
use super::super::storage::CopyPlan;
use super::super::views::volume as view;
use super::super::world::{Caller, World, now};
use super::volume_snapshots::is_active;
use super::{Answer, carries, check_zone, gone, paged, passes, volume_of, volume_snapshot_of};

pub(super) fn list(world: &World, caller: &Caller, params: &Params) -> Answer {
    check_zone(world, params)?;
    let same = |name: &str, found: Option<&str>| params.text(name).is_none_or(|wanted| found == Some(wanted));
    let rows = world
        .inventory
        .volumes
        .iter()
        .filter(|volume| world.lists(caller, params, &volume.account_id))
        .filter(|volume| passes(params, &volume.id, &volume.name))
        .filter(|volume| same("type", Some(volume.volume_type.as_str())))
        .filter(|volume| same("state", Some(volume.state.as_str())))
        .filter(|volume| same("diskofferingid", volume.disk_offering_id.as_deref()))
        .filter(|volume| {
            same("virtualmachineid", volume.attachment.as_ref().map(|attachment| attachment.vm_id.as_str()))
        })
        .filter(|volume| carries(params, &volume.tags))
        .map(|volume| view::volume(world, caller, volume))
        .collect();
    paged(world, params, "volume", rows)
}

/// Allocates the row at once; the job then has nothing left to do but to finish, or to copy the snapshot.
pub(super) fn create(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let account_id = world.owner_of_new(caller, params)?;
    let origin = match params.text("snapshotid") {
        Some(_) => Some(volume_snapshot_of(world, caller, params, "snapshotid")?.clone()),
        None => None,
    };
    let (disk_offering_id, size_bytes) = offering_and_size(world, params, origin.as_ref())?;
    if origin.is_none() {
        params.required("zoneid")?;
    }
    check_zone(world, params)?;
    check_iops(params)?;
    check_volume_limit(world, &account_id)?;
    let id = world.id_of_new(caller, params)?;
    world.inventory.volumes.push(Volume {
        id: id.clone(),
        name: params.text("name").map_or_else(|| format!("volume-{id}"), str::to_owned),
        account_id,
        volume_type: VolumeType::Datadisk,
        state: if origin.is_some() { VolumeState::Creating } else { VolumeState::Allocated },
        size_bytes,
        disk_offering_id,
        service_offering_id: None,
        template_id: None,
        volume_snapshot_id: origin.as_ref().map(|snapshot| snapshot.id.clone()),
        path: None,
        placed_in: None,
        device_size_bytes: None,
        attachment: None,
        created: now(),
        displayed: params.flag("displayvolume").unwrap_or(true),
        tags: BTreeMap::new(),
    });
    let finish = {
        let id = id.clone();
        move |world: &mut World, caller: &Caller| shown(world, caller, &id)
    };
    let submission = Submission::new("Volume", &id, &id, finish).creating();
    Ok(match origin {
        Some(snapshot) => with_copy(submission, id, snapshot),
        None => submission,
    })
}

/// A volume from a snapshot: the file is copied by the job.
fn with_copy(mut submission: Submission, id: String, snapshot: VolumeSnapshot) -> Submission {
    let volume_id = id.clone();
    submission.prepare = Some(Box::new(move |world| {
        world.materialise(&volume_id).map_err(|error| Refusal::runtime(error.to_string()))?;
        let volume = world.inventory.volume_mut(&volume_id).ok_or_else(|| gone("volume", &volume_id))?;
        volume.state = VolumeState::Creating;
        let to = world.inventory.volume(&volume_id).and_then(|volume| world.storage.file_of(volume));
        let from = world.storage.copy_file(&snapshot.id, None);
        Ok(Errands::copies(to.map(|to| CopyPlan { from, to }).into_iter().collect()))
    }));
    submission.act = Box::new(move |world, caller, copied| {
        let volume = world.inventory.volume_mut(&id).ok_or_else(|| gone("volume", &id))?;
        copied?;
        volume.state = VolumeState::Ready;
        let volume = volume.clone();
        world.storage.size_file(&volume).map_err(|error| Refusal::runtime(error.to_string()))?;
        shown(world, caller, &id)
    });
    submission
}

fn offering_and_size(
    world: &World,
    params: &Params,
    origin: Option<&VolumeSnapshot>,
) -> Result<(Option<String>, u64), Refusal> {
    let wanted_gib = params.integer("size")?;
    let Some(offering_id) = params.text("diskofferingid") else {
        let snapshot = origin.ok_or_else(|| {
            Refusal::invalid("At least one of disk Offering ID or snapshot ID must be passed whilst creating volume")
        })?;
        return Ok((None, snapshot.size_bytes));
    };
    let offering = world.catalogue.disk_offering(offering_id).ok_or_else(|| params.no_such("diskofferingid"))?;
    let wanted_gib = match (wanted_gib, origin) {
        (None, Some(snapshot)) if offering.is_custom => i64::try_from(snapshot.size_bytes / GIB_BYTES).ok(),
        (wanted, _) => wanted,
    };
    let size_bytes = volume_size(offering.is_custom, offering.size_gib, wanted_gib, &world.config.limits)?;
    if origin.is_some_and(|snapshot| snapshot.size_bytes > size_bytes) {
        return Err(Refusal::invalid("Invalid size for volume creation: it is smaller than the snapshot's volume"));
    }
    Ok((Some(offering.id.clone()), size_bytes))
}

fn check_iops(params: &Params) -> Result<(), Refusal> {
    let (Some(min), max) = (params.integer("miniops")?, params.integer("maxiops")?) else { return Ok(()) };
    if min <= 0 {
        return Err(Refusal::invalid("The min IOPS must be greater than 0."));
    }
    if max.is_some_and(|max| min > max) {
        return Err(Refusal::invalid("The min IOPS must be less than or equal to the max IOPS."));
    }
    Ok(())
}

/// Refuses one volume more than the account may own.
pub(super) fn check_volume_limit(world: &World, account_id: &str) -> Result<(), Refusal> {
    let Some(limit) = world.config.limits.volumes_per_account else { return Ok(()) };
    let owned = world.inventory.volumes.iter().filter(|volume| volume.account_id == account_id).count() as u64;
    if owned < limit {
        return Ok(());
    }
    let name = world.account(account_id).map_or("", |account| account.name.as_str());
    Err(Refusal::allocation(format!(
        "Maximum amount of resources of Type = 'volume' for Account Name = {name} in Domain Id = {} is exceeded: Account \
         Resource Limit = {limit}, Current Account Resource Amount = {owned}, Requested Resource Amount = 1.",
        world.catalogue.domain_id
    )))
}

/// The volume as a job's result.
pub(super) fn shown(world: &World, caller: &Caller, id: &str) -> Answer {
    let volume = world.inventory.volume(id).ok_or_else(|| gone("volume", id))?;
    Ok(Object::new().put("volume", view::volume(world, caller, volume)))
}

/// Synchronous, and at once final.
pub(super) fn delete(world: &mut World, caller: &Caller, params: &Params) -> Answer {
    let volume = volume_of(world, caller, params, "id")?.clone();
    if volume.attachment.is_some() {
        return Err(Refusal::invalid("Please specify a volume that is not attached to any VM."));
    }
    let mut snapshots = world.inventory.volume_snapshots.iter();
    let being_copied = snapshots.any(|snapshot| snapshot.volume_id == volume.id && is_active(world, snapshot));
    if being_copied {
        return Err(Refusal::invalid("There are snapshot operations in progress on the volume, unable to delete it"));
    }
    expunge(world, &volume)?;
    Ok(Object::new().put("success", true))
}

/// Removes a volume, its device and its file.
pub(super) fn expunge(world: &mut World, volume: &Volume) -> Result<(), Refusal> {
    world.unplug(volume).map_err(|error| Refusal::runtime(error.to_string()))?;
    if let Some(file) = world.storage.file_of(volume) {
        world.storage.remove_file(&file).map_err(|error| Refusal::runtime(error.to_string()))?;
    }
    world.inventory.volumes.retain(|other| other.id != volume.id);
    world.inventory.used_ids.insert(volume.id.clone());
    Ok(())
}

pub(super) fn resize(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let volume = volume_of(world, caller, params, "id")?;
    let id = volume.id.clone();
    let queue = volume.attachment.as_ref().map_or_else(|| id.clone(), |attachment| attachment.vm_id.clone());
    let wanted_gib = params.integer("size")?;
    let new_offering_id = params.text("diskofferingid").map(str::to_owned);
    if let Some(offering_id) = &new_offering_id {
        world.catalogue.disk_offering(offering_id).ok_or_else(|| params.no_such("diskofferingid"))?;
    }
    let may_shrink = params.flag("shrinkok") == Some(true);
    let submission = Submission::new("Volume", &id.clone(), &queue, move |world, caller| {
        resize_now(world, &id, wanted_gib, new_offering_id.as_deref(), may_shrink)?;
        shown(world, caller, &id)
    });
    Ok(submission)
}

fn resize_now(
    world: &mut World,
    id: &str,
    wanted_gib: Option<i64>,
    new_offering_id: Option<&str>,
    may_shrink: bool,
) -> Result<(), Refusal> {
    let mut volume = world.inventory.volume(id).ok_or_else(|| gone("volume", id))?.clone();
    if !matches!(volume.state, VolumeState::Ready | VolumeState::Allocated) {
        return Err(Refusal::invalid("Volume should be in ready or allocated state before attempting a resize."));
    }
    let vm = volume.attachment.as_ref().and_then(|attachment| world.inventory.vm(&attachment.vm_id));
    if let Some(vm) = vm.filter(|vm| volume.volume_type == VolumeType::Root && vm.state != VmState::Stopped) {
        return Err(Refusal::invalid(format!(
            "Cannot resize ROOT volume [{}] when VM is not on Stopped State. VM {} is in state {}",
            volume.id,
            vm.name,
            vm.state.as_str()
        )));
    }
    let offering_id = new_offering_id.or(volume.disk_offering_id.as_deref());
    let offering = offering_id.and_then(|offering_id| world.catalogue.disk_offering(offering_id));
    let (is_custom, offering_gib) = offering.map_or((true, 0), |offering| (offering.is_custom, offering.size_gib));
    let size_bytes = volume_size(is_custom, offering_gib, wanted_gib, &world.config.limits)?;
    if size_bytes < volume.size_bytes && !may_shrink {
        return Err(Refusal::invalid(format!(
            "Going from existing size of {} to size of {size_bytes} would shrink the volume. Need to sign off by supplying \
             the shrinkok parameter with value of true.",
            volume.size_bytes
        )));
    }
    volume.size_bytes = size_bytes;
    volume.disk_offering_id = offering.map(|offering| offering.id.clone());
    world.storage.size_file(&volume).map_err(|error| Refusal::runtime(error.to_string()))?;
    if let Some(stored) = world.inventory.volume_mut(id) {
        *stored = volume;
    }
    Ok(())
}
