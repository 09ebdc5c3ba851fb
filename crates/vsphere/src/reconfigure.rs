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

/// Units of a SCSI controller before vSphere 6.7; number 7 is the controller itself.
const SCSI_UNITS: i32 = 16;
/// The unit a SCSI controller occupies itself.
const SCSI_CONTROLLER_UNIT: i32 = 7;
/// Key of a device that does not exist yet; the server gives it a real one.
const NEW_DEVICE_KEY: i32 = -101;

/// An existing disk file to attach, read from and detach again: what is written to it is thrown away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachDisk {
    /// `[datastore] folder/file.vmdk`: the frozen link of another VM's disk.
    pub vmdk_path: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Device key of the controller to use.
    pub controller_key: i32,
    /// Free unit on it.
    pub unit_number: i32,
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

/// A free place for one more disk on a SCSI controller of `vm`: controller key and unit number.
#[must_use]
pub fn free_scsi_unit(vm: &VirtualMachine) -> Option<(i32, i32)> {
    let is_scsi = |controller: &&Controller| {
        matches!(controller.controller_type.as_str(), "pvscsi" | "lsilogic" | "lsilogic_sas" | "buslogic")
    };
    vm.controllers.iter().filter(is_scsi).find_map(|controller| {
        let disks = vm.disks.iter().filter(|disk| disk.controller_key == controller.key);
        let taken: HashSet<i32> = disks.map(|disk| disk.unit_number).collect();
        // Attached devices that are no disks (a SCSI CD drive) have units this crate does not read.
        if controller.device_keys.len() > taken.len() {
            return None;
        }
        let is_free = |unit: &i32| *unit != SCSI_CONTROLLER_UNIT && !taken.contains(unit);
        (0..SCSI_UNITS).find(is_free).map(|unit| (controller.key, unit))
    })
}

fn change_tracking_request(vm: &MoRef) -> Request {
    Request::new(METHOD, vm).open("spec").flag("changeTrackingEnabled", true).close()
}

fn attach_request(vm: &MoRef, disk: &AttachDisk) -> Request {
    let capacity_kb = i64::try_from(disk.capacity_bytes / 1024).unwrap_or(i64::MAX);
    Request::new(METHOD, vm)
        .open("spec")
        .open("deviceChange")
        .text("operation", "add")
        .open_as("device", "VirtualDisk")
        .number("key", NEW_DEVICE_KEY)
        .open_as("backing", "VirtualDiskFlatVer2BackingInfo")
        .text("fileName", &disk.vmdk_path)
        .text("diskMode", "independent_nonpersistent")
        .close()
        .number("controllerKey", disk.controller_key)
        .number("unitNumber", disk.unit_number)
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
            controller_key: 1000,
            unit_number: 3,
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
