//! The `volume` object.

use super::super::catalogue::{CLUSTER_NAME, POD_NAME, POOL_NAME, ZONE_NAME};
use super::super::entities::Volume;
use super::super::json::{Json, Object};
use super::super::world::{Caller, World};
use super::{closing, date, owner, tags};

/// A volume as the caller sees it; administrators also see where it lies.
pub(crate) fn volume(world: &World, caller: &Caller, volume: &Volume) -> Object {
    let has_file = volume.path.is_some();
    let admin = caller.root_admin;
    let catalogue = &world.catalogue;
    Object::new()
        .put("id", &volume.id)
        .put("name", &volume.name)
        .put("zoneid", &catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("type", volume.volume_type.as_str())
        .merge(attachment(world, volume))
        .put("provisioningtype", "thin")
        .put("size", volume.size_bytes)
        .put("created", date(volume.created))
        .put("state", volume.state.as_str())
        .merge(owner(world, &volume.account_id))
        .put_if(admin, "storagetype", "shared")
        .merge(statistics(volume))
        .put_if(admin, "hypervisor", if has_file { "KVM" } else { "None" })
        .merge(disk_offering(world, volume))
        .put_if(admin, "storage", if has_file { POOL_NAME } else { "none" })
        .maybe("snapshotid", volume.volume_snapshot_id.as_ref())
        .maybe("attached", volume.attachment.as_ref().map(|attachment| date(attachment.since)))
        .put("destroyed", false)
        .merge(service_offering(world, volume))
        .put("isextractable", true)
        .put("displayvolume", volume.displayed)
        .maybe("path", volume.path.as_ref().filter(|_| admin))
        .put_if(admin && has_file, "storageid", &catalogue.pool_id)
        .put("quiescevm", false)
        .put("supportsstoragesnapshot", false)
        .put("deleteprotection", false)
        .put_if(has_file, "physicalsize", volume.size_bytes)
        .put_if(has_file, "virtualsize", volume.size_bytes)
        .put_if(admin && has_file, "clusterid", &catalogue.cluster_id)
        .put_if(admin && has_file, "clustername", CLUSTER_NAME)
        .put_if(admin && has_file, "podid", &catalogue.pod_id)
        .put_if(admin && has_file, "podname", POD_NAME)
        .put("tags", Json::List(tags(world, &volume.account_id, "Volume", &volume.id, &volume.tags)))
        .merge(closing(world, &volume.id))
}

fn attachment(world: &World, volume: &Volume) -> Object {
    let template = volume.template_id.as_ref().and_then(|id| world.catalogue.template(id));
    let vm = volume.attachment.as_ref().and_then(|attachment| world.inventory.vm(&attachment.vm_id));
    Object::new()
        .maybe("deviceid", volume.attachment.as_ref().map(|attachment| attachment.device_id))
        .maybe("virtualmachineid", vm.map(|vm| &vm.id))
        .maybe("templateid", template.map(|template| &template.id))
        .maybe("templatename", template.map(|template| template.name))
        .maybe("templatedisplaytext", template.map(|template| template.name))
        .maybe("vmname", vm.map(|vm| &vm.name))
        .maybe("vmdisplayname", vm.map(|vm| &vm.display_name))
        .maybe("vmstate", vm.map(|vm| vm.state.as_str()))
        .maybe("vmtype", vm.map(|_| "User"))
}

fn statistics(volume: &Volume) -> Object {
    let mut object = Object::new();
    if volume.attachment.is_some() {
        for key in ["diskkbsread", "diskkbswrite", "diskioread", "diskiowrite"] {
            object = object.put(key, 0_u32);
        }
    }
    object
}

fn disk_offering(world: &World, volume: &Volume) -> Object {
    let offering = volume.disk_offering_id.as_ref().and_then(|id| world.catalogue.disk_offering(id));
    Object::new()
        .maybe("diskofferingid", offering.map(|offering| &offering.id))
        .maybe("diskofferingname", offering.map(|offering| offering.name))
        .maybe("diskofferingdisplaytext", offering.map(|offering| offering.display_text))
}

/// A ROOT volume shows the offering's internal number, as the real server does.
fn service_offering(world: &World, volume: &Volume) -> Object {
    let offering = volume.service_offering_id.as_ref().and_then(|id| world.catalogue.service_offering(id));
    Object::new()
        .maybe("serviceofferingid", offering.map(|offering| offering.internal_id))
        .maybe("serviceofferingname", offering.map(|offering| offering.name))
        .maybe("serviceofferingdisplaytext", offering.map(|offering| offering.name))
}
