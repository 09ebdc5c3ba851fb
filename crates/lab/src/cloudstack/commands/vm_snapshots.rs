//! createVMSnapshot, listVMSnapshot, revertToVMSnapshot, deleteVMSnapshot: copies of all disks of a VM.

use std::collections::BTreeMap;

use super::super::catalogue::random_id;
use super::super::entities::{VmSnapshot, VmSnapshotState, VmState};
use super::super::errands::Errands;
use super::super::jobs::Submission;
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::rules::MAX_VM_SNAPSHOTS;
use super::super::storage::CopyPlan;
use super::super::views::snapshots as view;
use super::super::world::{Caller, World, now};
use super::{Answer, carries, gone, paged, vm_of, vm_snapshot_of};

pub(super) fn list(world: &World, caller: &Caller, params: &Params) -> Answer {
    let ids = params.list("vmsnapshotids");
    let same = |name: &str, found: &str| params.text(name).is_none_or(|wanted| wanted == found);
    let rows = world
        .inventory
        .vm_snapshots
        .iter()
        .filter(|snapshot| world.lists(caller, params, &snapshot.account_id))
        .filter(|snapshot| same("vmsnapshotid", &snapshot.id) && same("virtualmachineid", &snapshot.vm_id))
        .filter(|snapshot| same("state", snapshot.state.as_str()) && same("name", &snapshot.display_name))
        .filter(|snapshot| carries(params, &snapshot.tags))
        .filter(|snapshot| ids.is_empty() || ids.contains(&snapshot.id))
        .map(|snapshot| view::vm_snapshot(world, snapshot))
        .collect();
    paged(world, params, "vmSnapshot", rows)
}

pub(super) fn create(world: &mut World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let vm = vm_of(world, caller, params, "virtualmachineid")?.clone();
    let with_memory = params.flag("snapshotmemory") == Some(true);
    if !vm.state.is_settled() {
        return Err(Refusal::invalid(format!(
            "Creating vm snapshot failed due to VM:{} is not in the running or Stopped state",
            vm.id
        )));
    }
    if with_memory && vm.state != VmState::Running {
        return Err(Refusal::invalid("Can not snapshot memory when VM is not in Running state"));
    }
    let existing = world.inventory.vm_snapshots.iter().filter(|snapshot| snapshot.vm_id == vm.id);
    if existing.clone().count() >= MAX_VM_SNAPSHOTS {
        return Err(Refusal::runtime(format!(
            "Creating vm snapshot failed due to a VM can just have : {MAX_VM_SNAPSHOTS} VM snapshots. Please delete old ones"
        )));
    }
    let parent_id = existing.clone().find(|snapshot| snapshot.is_current).map(|snapshot| snapshot.id.clone());
    let id = random_id();
    let name = format!("{}_VS_{}", vm.instance_name, now());
    world.inventory.vm_snapshots.push(VmSnapshot {
        id: id.clone(),
        display_name: params.text("name").unwrap_or(&name).to_owned(),
        name,
        description: params.text("description").map(str::to_owned),
        account_id: vm.account_id.clone(),
        vm_id: vm.id.clone(),
        parent_id,
        is_current: false,
        with_memory,
        state: VmSnapshotState::Allocated,
        created: now(),
        tags: BTreeMap::new(),
    });
    let (prepare_id, act_id) = (id.clone(), id.clone());
    Ok(Submission {
        instance_type: "VmSnapshot",
        instance_id: Some(id),
        is_create: true,
        queue: vm.id,
        prepare: Some(Box::new(move |world| {
            mark(world, &prepare_id, VmSnapshotState::Creating)?;
            let held_vm = world.inventory.vm_snapshot(&prepare_id).map(|snapshot| snapshot.vm_id.clone());
            Ok(Errands::copies(plans(world, &prepare_id, Direction::Take)).holding(held_vm))
        })),
        act: Box::new(move |world, _, copied| {
            let failed = copied.is_err();
            mark(world, &act_id, if failed { VmSnapshotState::Error } else { VmSnapshotState::Ready })?;
            copied?;
            make_current(world, &act_id);
            shown(world, &act_id)
        }),
    })
}

fn shown(world: &World, id: &str) -> Answer {
    let snapshot = world.inventory.vm_snapshot(id).ok_or_else(|| gone("vm snapshot", id))?;
    Ok(Object::new().put("vmsnapshot", view::vm_snapshot(world, snapshot)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Take,
    Restore,
}

/// One copy per disk that has a file.
fn plans(world: &World, id: &str, direction: Direction) -> Vec<CopyPlan> {
    let Some(snapshot) = world.inventory.vm_snapshot(id) else { return Vec::new() };
    let files = world.inventory.volumes_of(&snapshot.vm_id).into_iter().filter_map(|volume| {
        let file = world.storage.file_of(volume)?;
        let copy = world.storage.copy_file(id, Some(&volume.id));
        let plan = match direction {
            Direction::Take => CopyPlan { from: file, to: copy },
            Direction::Restore => CopyPlan { from: copy, to: file },
        };
        plan.from.exists().then_some(plan)
    });
    files.collect()
}

fn mark(world: &mut World, id: &str, state: VmSnapshotState) -> Result<(), Refusal> {
    let snapshot = world.inventory.vm_snapshot_mut(id).ok_or_else(|| gone("vm snapshot", id))?;
    snapshot.state = state;
    Ok(())
}

fn make_current(world: &mut World, id: &str) {
    let Some(vm_id) = world.inventory.vm_snapshot(id).map(|snapshot| snapshot.vm_id.clone()) else { return };
    for snapshot in world.inventory.vm_snapshots.iter_mut().filter(|snapshot| snapshot.vm_id == vm_id) {
        snapshot.is_current = snapshot.id == id;
    }
}

pub(super) fn revert(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let snapshot = vm_snapshot_of(world, caller, params, "vmsnapshotid")?;
    let (id, vm_id) = (snapshot.id.clone(), snapshot.vm_id.clone());
    let prepare_id = id.clone();
    Ok(Submission {
        instance_type: "VmSnapshot",
        instance_id: Some(id.clone()),
        is_create: false,
        queue: vm_id.clone(),
        prepare: Some(Box::new(move |world| {
            power_state_must_fit(world, &prepare_id)?;
            mark(world, &prepare_id, VmSnapshotState::Reverting)?;
            Ok(Errands::copies(plans(world, &prepare_id, Direction::Restore)))
        })),
        act: Box::new(move |world, caller, copied| {
            if world.inventory.vm_snapshot(&id).is_some_and(|snapshot| snapshot.state == VmSnapshotState::Reverting) {
                mark(world, &id, VmSnapshotState::Ready)?;
            }
            copied?;
            make_current(world, &id);
            super::power::shown(world, caller, &vm_id)
        }),
    })
}

/// Memory snapshots go back to running VMs, disk snapshots to stopped ones.
fn power_state_must_fit(world: &World, id: &str) -> Result<(), Refusal> {
    let snapshot = world.inventory.vm_snapshot(id).ok_or_else(|| gone("vm snapshot", id))?;
    let vm = world.inventory.vm(&snapshot.vm_id).ok_or_else(|| gone("vm", &snapshot.vm_id))?;
    if snapshot.with_memory && world.boots_machine(&vm.id) {
        return Err(Refusal::runtime("Machines of this laboratory keep no memory: take a snapshot without it"));
    }
    let wanted = if snapshot.with_memory { VmState::Running } else { VmState::Stopped };
    if vm.state == wanted {
        return Ok(());
    }
    Err(Refusal::invalid(
        "VM Snapshot revert not allowed. This will result in VM state change. You can revert running VM to disk and memory \
         type snapshot and stopped VM to disk type snapshot",
    ))
}

pub(super) fn delete(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let snapshot = vm_snapshot_of(world, caller, params, "vmsnapshotid")?.clone();
    let queue = snapshot.vm_id.clone();
    Ok(Submission::new("VmSnapshot", &snapshot.id.clone(), &queue, move |world, _| {
        let snapshot =
            world.inventory.vm_snapshot(&snapshot.id).ok_or_else(|| gone("vm snapshot", &snapshot.id))?.clone();
        remove(world, &snapshot)?;
        Ok(Object::new().put("success", true))
    }))
}

/// Removes a VM snapshot with its files; its children hang on its parent.
pub(super) fn remove(world: &mut World, snapshot: &VmSnapshot) -> Result<(), Refusal> {
    let volume_ids: Vec<String> = world.inventory.volumes.iter().map(|volume| volume.id.clone()).collect();
    for volume_id in volume_ids {
        let file = world.storage.copy_file(&snapshot.id, Some(&volume_id));
        world.storage.remove_file(&file).map_err(|error| Refusal::runtime(error.to_string()))?;
    }
    world.inventory.vm_snapshots.retain(|other| other.id != snapshot.id);
    for other in &mut world.inventory.vm_snapshots {
        if other.parent_id.as_deref() == Some(snapshot.id.as_str()) {
            other.parent_id.clone_from(&snapshot.parent_id);
        }
        if snapshot.is_current && Some(&other.id) == snapshot.parent_id.as_ref() {
            other.is_current = true;
        }
    }
    Ok(())
}
