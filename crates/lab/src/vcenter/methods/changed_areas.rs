//! `QueryChangedDiskAreas`.

use std::sync::Arc;

use super::{Answer, Context};
use crate::vcenter::block_set::Area;
use crate::vcenter::change_tracking::{AREAS_PER_ANSWER, TrackedPoint, TrackingRefusal, page};
use crate::vcenter::devices::AttachedDisk;
use crate::vcenter::disk::Disk;
use crate::vcenter::fault::Fault;
use crate::vcenter::value::{MoRef, Object, Value};
use crate::vcenter::vm::Vm;

/// A disk at the moment asked about.
struct Asked {
    disk: Arc<Disk>,
    /// Id of the VM snapshot; none = the present of a VM that is off.
    vm_snapshot: Option<String>,
    point: Option<TrackedPoint>,
}

/// Answers `QueryChangedDiskAreas`.
pub(crate) async fn query(context: &Context<'_>) -> Result<Answer, Fault> {
    let call = context.call;
    let vm = context.lab.inventory.vm(&call.this).ok_or_else(|| Fault::not_found_reference(&call.this))?;
    let key = i32::try_from(call.number("deviceKey")?).map_err(|_| Fault::invalid_argument("deviceKey"))?;
    let vm_snapshot = call.body.child("snapshot").map(|_| call.reference("snapshot")).transpose()?;
    let asked = find(vm, vm_snapshot.as_ref(), key)?;
    let start = u64::try_from(call.number("startOffset")?).map_err(|_| Fault::invalid_argument("startOffset"))?;
    let capacity = asked.disk.capacity;
    if start >= capacity {
        return Err(Fault::invalid_argument("startOffset"));
    }
    let change_id = call.text("changeId")?.to_owned();
    let areas = tokio::task::spawn_blocking(move || areas(&asked, &change_id))
        .await
        .map_err(|error| Fault::system_error(error.to_string()))??;
    let answer = page(&areas, start, capacity, AREAS_PER_ANSWER);
    Ok(context.returns("DiskChangeInfo", to_object(start, answer.length, &answer.areas)))
}

fn find(vm: &Vm, vm_snapshot: Option<&MoRef>, key: i32) -> Result<Asked, Fault> {
    let state = vm.state.lock();
    let own = |device: &AttachedDisk| device.own().map(Arc::clone).ok_or_else(|| Fault::invalid_argument("deviceKey"));
    let Some(reference) = vm_snapshot else {
        if state.powered_on {
            return Err(Fault::new("InvalidState", "Without a snapshot the virtual machine must be powered off."));
        }
        let device = state.disks.iter().find(|device| device.key == key);
        let disk = own(device.ok_or_else(|| Fault::invalid_argument("deviceKey"))?)?;
        return Ok(Asked { disk, vm_snapshot: None, point: None });
    };
    let Some(snapshot) = state.vm_snapshot(&reference.id) else {
        return Err(if state.removed_vm_snapshots.contains(&reference.id) {
            Fault::new("NotFound", "The object or item referred to could not be found.")
        } else {
            Fault::not_found_reference(reference)
        });
    };
    let recorded = snapshot.disks.iter().find(|recorded| recorded.device.key == key);
    let recorded = recorded.ok_or_else(|| Fault::invalid_argument("deviceKey"))?;
    let disk = own(&recorded.device)?;
    if recorded.point.is_none() {
        return Err(not_tracked(&disk));
    }
    Ok(Asked { disk, vm_snapshot: Some(reference.id.clone()), point: recorded.point })
}

/// The tracking file cannot serve the question, which hosts report as a fault of the file.
fn not_tracked(disk: &Disk) -> Fault {
    Fault::file_fault(&format!("[{}] {}/{}-ctk.vmdk", disk.datastore, disk.folder, disk.stem))
}

fn areas(asked: &Asked, change_id: &str) -> Result<Vec<Area>, Fault> {
    let disk = &asked.disk;
    if change_id == "*" {
        let allocated = disk.allocated(asked.vm_snapshot.as_deref()).ok_or_else(|| not_tracked(disk))?;
        return allocated.map_err(|error| Fault::system_error(error.to_string()));
    }
    let from = TrackedPoint::parse(change_id).ok_or_else(|| Fault::invalid_argument("changeId"))?;
    let changed = disk.changed(from, asked.point).ok_or_else(|| not_tracked(disk))?;
    changed.map_err(|refusal| match refusal {
        TrackingRefusal::OtherEpoch => not_tracked(disk),
        TrackingRefusal::Later => Fault::invalid_argument("changeId"),
    })
}

fn to_object(start: u64, length: u64, areas: &[Area]) -> Object {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let extents = areas.iter().map(|area| {
        Object::new("DiskChangeExtent").with("start", number(area.start)).with("length", number(area.length))
    });
    Object::new("DiskChangeInfo")
        .with("startOffset", number(start))
        .with("length", number(length))
        .with("changedArea", Value::objects("DiskChangeExtent", extents))
}
