//! Changing a VM: change tracking on, disks of others added and removed.
//!
//! Existing files are only ever attached and detached here, never made or deleted.

use std::collections::HashSet;

use crate::error::VsphereError;
use crate::inventory::{Controller, VirtualMachine};
use crate::moref::MoRef;
use crate::session::VimSession;
use crate::snapshot::VmSnapshotSpec;
use crate::soap::Request;
use crate::task::Task;

const METHOD: &str = "ReconfigVM_Task";
/// Mode of an attached disk: what is written to it is thrown away, and vm_snapshots leave it out.
pub const NONPERSISTENT: &str = "independent_nonpersistent";

/// Units of a SCSI controller, the controller's own included.
const SCSI_UNITS: i32 = 16;
/// Units of a paravirtual controller from [`MANY_UNITS_HARDWARE_VERSION`] on.
const PARAVIRTUAL_UNITS: i32 = 65;
/// First virtual hardware version whose paravirtual controllers take 64 disks.
const MANY_UNITS_HARDWARE_VERSION: u32 = 14;
/// The unit a SCSI controller occupies itself.
const SCSI_CONTROLLER_UNIT: i32 = 7;
/// SCSI controllers a VM may have.
const SCSI_CONTROLLERS: i32 = 4;
/// Key of a controller that does not exist yet, by which its disk names it.
const NEW_CONTROLLER_KEY: i32 = -102;
/// Key of a device that does not exist yet; the server gives it a real one.
const NEW_DEVICE_KEY: i32 = -101;

/// An existing disk file to attach, read from and detach again: what is written to it is thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDisk {
    /// `[datastore] folder/file.vmdk`: the frozen link of another VM's disk.
    pub vmdk_path: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Where it goes.
    pub slot: DiskSlot,
}

/// A place for one more disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSlot {
    /// On a controller the VM has.
    Unit {
        /// Device key of the controller.
        controller_key: i32,
        /// Free unit on it.
        unit_number: i32,
    },
    /// On a paravirtual controller that is added with the disk.
    NewController {
        /// Its free bus number.
        bus: i32,
    },
}

impl VimSession {
    /// Starts switching change tracking on. It takes effect with the next vm_snapshot taken *and removed* (or power
    /// cycle), and should be done while there is no vm_snapshot: [`Self::activate_change_tracking`] does all of it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn start_enabling_change_tracking(&self, vm: &MoRef) -> Result<Task, VsphereError> {
        self.reconfigure(change_tracking_request(vm)).await
    }

    /// Switches change tracking on and makes it effective by taking and removing a vm_snapshot of that name.
    ///
    /// # Errors
    /// When any of the three steps fails; the vm_snapshot then may be left and is found by its name.
    pub async fn activate_change_tracking(&self, vm: &MoRef, vm_snapshot_name: &str) -> Result<(), VsphereError> {
        let enabling = self.start_enabling_change_tracking(vm).await?;
        self.wait_for_task(&enabling, |_| {}).await?;
        let spec = VmSnapshotSpec {
            name: vm_snapshot_name.to_owned(),
            description: "makes change tracking effective; removed at once".to_owned(),
            quiesce: false,
        };
        let vm_snapshot = self.create_vm_snapshot(vm, &spec).await?;
        self.remove_vm_snapshot(&vm_snapshot).await
    }

    /// Starts attaching an existing disk as `independent_nonpersistent`.
    ///
    /// # Errors
    /// `SessionExpired` when the session had ended: look whether it is attached before repeating.
    pub async fn start_attaching_disk(&self, vm: &MoRef, disk: &AttachDisk) -> Result<Task, VsphereError> {
        self.reconfigure(attach_request(vm, disk)).await
    }

    /// Starts detaching a disk; its files stay.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn start_detaching_disk(&self, vm: &MoRef, device_key: i32) -> Result<Task, VsphereError> {
        self.reconfigure(detach_request(vm, device_key)).await
    }

    async fn reconfigure(&self, request: Request) -> Result<Task, VsphereError> {
        Task::from_response(METHOD, &self.call(request).await?)
    }
}

/// A free place for one more disk of `vm`: on a paravirtual controller, else on another SCSI controller that nobody
/// shares, else on a new one; `None` when there is no room for that either. `only` leaves just that SCSI bus.
#[must_use]
pub fn free_disk_slot(vm: &VirtualMachine, only: Option<i32>) -> Option<DiskSlot> {
    let usable = |controller: &&Controller| {
        let kind = controller.controller_type.as_str();
        matches!(kind, "pvscsi" | "lsilogic" | "lsilogic_sas")
            && !controller.is_shared()
            && only.is_none_or(|bus| bus == controller.bus)
    };
    let mut usable: Vec<&Controller> = vm.controllers.iter().filter(usable).collect();
    usable.sort_by_key(|controller| (controller.controller_type != "pvscsi", controller.bus));
    usable.into_iter().find_map(|controller| free_unit(vm, controller)).or_else(|| new_controller(vm, only))
}

fn free_unit(vm: &VirtualMachine, controller: &Controller) -> Option<DiskSlot> {
    let disks = vm.disks.iter().filter(|disk| disk.controller_key == controller.key);
    let taken: HashSet<i32> = disks.map(|disk| disk.unit_number).collect();
    // Attached devices that are no disks (a SCSI CD drive) have units this crate does not read.
    if controller.device_keys.len() > taken.len() {
        return None;
    }
    let takes_many = controller.controller_type == "pvscsi"
        && vm.hardware_version.is_some_and(|version| version >= MANY_UNITS_HARDWARE_VERSION);
    let units = if takes_many { PARAVIRTUAL_UNITS } else { SCSI_UNITS };
    let is_free = |unit: &i32| *unit != SCSI_CONTROLLER_UNIT && !taken.contains(unit);
    let unit_number = (0..units).find(is_free)?;
    Some(DiskSlot::Unit { controller_key: controller.key, unit_number })
}

fn new_controller(vm: &VirtualMachine, only: Option<i32>) -> Option<DiskSlot> {
    let is_scsi = |controller: &&Controller| {
        let kind = controller.controller_type.as_str();
        matches!(kind, "pvscsi" | "lsilogic" | "lsilogic_sas" | "buslogic")
    };
    let taken: HashSet<i32> = vm.controllers.iter().filter(is_scsi).map(|controller| controller.bus).collect();
    let is_free = |bus: &i32| only.is_none_or(|only| only == *bus) && !taken.contains(bus);
    (0..SCSI_CONTROLLERS).find(is_free).map(|bus| DiskSlot::NewController { bus })
}

fn change_tracking_request(vm: &MoRef) -> Request {
    Request::new(METHOD, vm).open("spec").flag("changeTrackingEnabled", true).close()
}

fn attach_request(vm: &MoRef, disk: &AttachDisk) -> Request {
    let capacity_kb = i64::try_from(disk.capacity_bytes / 1024).unwrap_or(i64::MAX);
    let spec = Request::new(METHOD, vm).open("spec");
    let (spec, controller_key, unit_number) = match disk.slot {
        DiskSlot::Unit { controller_key, unit_number } => (spec, controller_key, unit_number),
        DiskSlot::NewController { bus } => {
            let spec = spec
                .open("deviceChange")
                .text("operation", "add")
                .open_as("device", "ParaVirtualSCSIController")
                .number("key", NEW_CONTROLLER_KEY)
                .number("busNumber", bus)
                .text("sharedBus", "noSharing")
                .close()
                .close();
            (spec, NEW_CONTROLLER_KEY, 0)
        }
    };
    spec.open("deviceChange")
        .text("operation", "add")
        .open_as("device", "VirtualDisk")
        .number("key", NEW_DEVICE_KEY)
        .open_as("backing", "VirtualDiskFlatVer2BackingInfo")
        .text("fileName", &disk.vmdk_path)
        .text("diskMode", NONPERSISTENT)
        .close()
        .number("controllerKey", controller_key)
        .number("unitNumber", unit_number)
        .number("capacityInKB", capacity_kb)
        .close()
        .close()
        .close()
        .once_only()
}

fn detach_request(vm: &MoRef, device_key: i32) -> Request {
    Request::new(METHOD, vm)
        .open("spec")
        .open("deviceChange")
        .text("operation", "remove")
        .open_as("device", "VirtualDisk")
        .number("key", device_key)
        .number("capacityInKB", 0)
        .close()
        .close()
        .close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soap::{Element, parse};

    fn call(request: &Request) -> Element {
        parse(request.envelope().as_bytes()).unwrap().children.remove(0).children.remove(0)
    }

    fn names(element: &Element) -> Vec<&str> {
        element.children.iter().map(|child| child.name.as_str()).collect()
    }

    #[test]
    fn an_attached_disk_is_written_base_class_first() {
        let disk = AttachDisk {
            vmdk_path: "[ds & co] a/b.vmdk".to_owned(),
            capacity_bytes: 3 << 30,
            slot: DiskSlot::Unit { controller_key: 1000, unit_number: 3 },
        };
        let request = attach_request(&MoRef::vm("vm-9"), &disk);
        let call = call(&request);
        let change = call.at(&["spec", "deviceChange"]).unwrap();
        assert_eq!(names(change), ["operation", "device"]);
        let device = change.child("device").unwrap();
        assert_eq!(names(device), ["key", "backing", "controllerKey", "unitNumber", "capacityInKB"]);
        assert_eq!(device.xsi_type.as_deref(), Some("VirtualDisk"));
        let backing = device.child("backing").unwrap();
        assert_eq!(names(backing), ["fileName", "diskMode"]);
        assert_eq!(backing.text_of("fileName"), Some("[ds & co] a/b.vmdk"));
        assert_eq!(backing.text_of("diskMode"), Some("independent_nonpersistent"));
        assert!(!request.is_repeatable());

        let disk = AttachDisk { slot: DiskSlot::NewController { bus: 2 }, ..disk };
        let call = super::tests::call(&attach_request(&MoRef::vm("vm-9"), &disk));
        let changes: Vec<&Element> = call.child("spec").unwrap().all("deviceChange").collect();
        let controller = changes[0].child("device").unwrap();
        assert_eq!(controller.xsi_type.as_deref(), Some("ParaVirtualSCSIController"));
        assert_eq!(names(controller), ["key", "busNumber", "sharedBus"]);
        let disk = changes[1].child("device").unwrap();
        assert_eq!(disk.text_of("controllerKey"), controller.text_of("key"), "they are tied by the controller's key");
    }

    #[test]
    fn detaching_keeps_the_files_and_tracking_is_one_flag() {
        let detach = call(&detach_request(&MoRef::vm("vm-9"), 2003));
        let change = detach.at(&["spec", "deviceChange"]).unwrap();
        assert_eq!(names(change), ["operation", "device"], "a fileOperation would delete the file");
        assert_eq!(names(change.child("device").unwrap()), ["key", "capacityInKB"]);
        let tracking = call(&change_tracking_request(&MoRef::vm("vm-9")));
        assert_eq!(tracking.at(&["spec", "changeTrackingEnabled"]).unwrap().flag(), Some(true));
    }
}
