//! The `snapshot` (of a volume) and `vmsnapshot` objects.

use super::super::catalogue::ZONE_NAME;
use super::super::entities::{VmSnapshot, VolumeSnapshot};
use super::super::json::{Json, Object};
use super::super::world::World;
use super::{closing, date, owner, tags};

/// A snapshot of a volume.
pub(crate) fn volume_snapshot(world: &World, snapshot: &VolumeSnapshot) -> Object {
    let volume = world.inventory.volume(&snapshot.volume_id);
    Object::new()
        .put("id", &snapshot.id)
        .merge(owner(world, &snapshot.account_id))
        .put("snapshottype", "MANUAL")
        .put("volumeid", &snapshot.volume_id)
        .put("volumename", &snapshot.volume_name)
        .put("volumetype", snapshot.volume_type.as_str())
        .maybe("volumestate", volume.map(|volume| volume.state.as_str()))
        .put("created", date(snapshot.created))
        .put("name", &snapshot.name)
        .put("intervaltype", "MANUAL")
        .put("locationtype", "SECONDARY")
        .put("state", snapshot.state.as_str())
        .put("physicalsize", snapshot.physical_bytes)
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("revertable", true)
        .put("virtualsize", snapshot.size_bytes)
        .put("tags", Json::List(tags(world, &snapshot.account_id, "Snapshot", &snapshot.id, &snapshot.tags)))
        .merge(closing(world, &snapshot.id))
}

/// A snapshot of a VM.
pub(crate) fn vm_snapshot(world: &World, snapshot: &VmSnapshot) -> Object {
    let parent = snapshot.parent_id.as_ref().and_then(|id| world.inventory.vm_snapshot(id));
    let vm = world.inventory.vm(&snapshot.vm_id);
    Object::new()
        .put("id", &snapshot.id)
        .put("name", &snapshot.name)
        .put("state", snapshot.state.as_str())
        .maybe("description", snapshot.description.as_ref())
        .put("displayname", &snapshot.display_name)
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("virtualmachineid", &snapshot.vm_id)
        .maybe("virtualmachinename", vm.map(|vm| &vm.name))
        .maybe("parent", parent.map(|parent| &parent.id))
        .maybe("parentName", parent.map(|parent| &parent.display_name))
        .put("current", snapshot.is_current)
        .put("type", if snapshot.with_memory { "DiskAndMemory" } else { "Disk" })
        .put("created", date(snapshot.created))
        .merge(owner(world, &snapshot.account_id))
        .put("hypervisor", "KVM")
        .put("tags", Json::List(tags(world, &snapshot.account_id, "VMSnapshot", &snapshot.id, &snapshot.tags)))
        .merge(closing(world, &snapshot.id))
}
