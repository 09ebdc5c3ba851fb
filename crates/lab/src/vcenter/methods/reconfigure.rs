//! `ReconfigVM_Task`: change tracking, texts, and attaching or detaching disks that exist.

use std::sync::Arc;

use crate::vcenter::devices::{AttachedDisk, Controller, DiskFile, controller_key, disk_key};
use crate::vcenter::disk::Disk;
use crate::vcenter::fault::Fault;
use crate::vcenter::hot_add;
use crate::vcenter::spec::ControllerKind;
use crate::vcenter::state::Lab;
use crate::vcenter::vm::Vm;
use crate::vcenter::xml::Element;

/// Fields of a `VirtualMachineConfigSpec` that are understood; others are refused rather than ignored.
const UNDERSTOOD: [&str; 5] = ["changeVersion", "changeTrackingEnabled", "annotation", "extraConfig", "deviceChange"];

/// A device change that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeviceChange {
    /// Add a SCSI controller; disks of the same call name it by its key.
    AddController { key: i32, kind: ControllerKind, bus: i32 },
    /// Attach the disk file of that name.
    Attach { path: String, mode: String, controller_key: i32, unit: Option<i32> },
    /// Detach the disk with that key; its file stays.
    Detach { key: i32 },
}

/// What a call asks to change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    change_tracking: Option<bool>,
    annotation: Option<String>,
    extra_config: Vec<(String, String)>,
    devices: Vec<DeviceChange>,
}

impl Changes {
    /// Reads the spec.
    ///
    /// # Errors
    /// `NotSupported` for anything the laboratory does not do, `InvalidArgument` for incomplete device changes.
    pub(crate) fn parse(body: &Element) -> Result<Self, Fault> {
        let spec = body.child("spec").ok_or_else(|| Fault::invalid_argument("spec"))?;
        if spec.children.iter().any(|child| !UNDERSTOOD.contains(&child.name.as_str())) {
            return Err(Fault::not_supported());
        }
        let text = |element: &Element, name: &str| element.text_of(name).unwrap_or_default().to_owned();
        Ok(Self {
            change_tracking: spec.child("changeTrackingEnabled").map(|_| spec.flag("changeTrackingEnabled")),
            annotation: spec.text_of("annotation").map(str::to_owned),
            extra_config: spec
                .children_named("extraConfig")
                .map(|option| (text(option, "key"), text(option, "value")))
                .collect(),
            devices: spec.children_named("deviceChange").map(device_change).collect::<Result<_, _>>()?,
        })
    }

    /// Applies everything or, when something does not fit, nothing.
    pub(crate) fn apply(&self, lab: &Lab, vm: &Vm) -> Result<(), Fault> {
        // Other VMs are looked at before this one is locked: two locks at once could wait for each other.
        let elsewhere = disks_of_others(lab, vm);
        let mut state = vm.state.lock();
        if self.change_tracking == Some(true) && !vm.spec.change_tracking_supported {
            return Err(Fault::not_supported());
        }
        let mut hardware =
            Hardware { controllers: state.controllers.clone(), disks: state.disks.clone(), new_keys: Vec::new() };
        for change in &self.devices {
            match change {
                DeviceChange::Detach { key } => hardware.detach(*key)?,
                DeviceChange::AddController { key, kind, bus } => hardware.add_controller(*key, *kind, *bus)?,
                DeviceChange::Attach { .. } => hardware.attach(lab, vm, &elsewhere, change)?,
            }
        }
        hot_add::show_devices(lab, vm, &state.disks, &hardware.disks)
            .map_err(|error| Fault::system_error(format!("a device cannot be shown: {error}")))?;
        state.controllers = hardware.controllers;
        state.disks = hardware.disks;
        if let Some(wanted) = self.change_tracking {
            state.change_tracking = Some(wanted);
        }
        if let Some(annotation) = &self.annotation {
            state.annotation.clone_from(annotation);
        }
        for (key, value) in &self.extra_config {
            state.extra_config.retain(|(known, _)| known != key);
            if !value.is_empty() {
                state.extra_config.push((key.clone(), value.clone()));
            }
        }
        Ok(())
    }
}

fn device_change(change: &Element) -> Result<DeviceChange, Fault> {
    let wrong = || Fault::invalid_argument("configSpec.deviceChange");
    let device = change.child("device").ok_or_else(wrong)?;
    let number = |name: &str| device.number(name).and_then(|number| i32::try_from(number).ok());
    let operation = change.text_of("operation");
    if let (Some("ParaVirtualSCSIController"), Some("add")) = (device.xsi_type.as_deref(), operation) {
        let (key, bus) = (number("key").ok_or_else(wrong)?, number("busNumber").ok_or_else(wrong)?);
        return Ok(DeviceChange::AddController { key, kind: ControllerKind::ParaVirtual, bus });
    }
    if device.xsi_type.as_deref() != Some("VirtualDisk") || change.child("fileOperation").is_some() {
        return Err(Fault::not_supported());
    }
    match operation {
        Some("remove") => Ok(DeviceChange::Detach { key: number("key").ok_or_else(wrong)? }),
        Some("add") => {
            let backing = device.child("backing").ok_or_else(wrong)?;
            Ok(DeviceChange::Attach {
                path: backing.text_of("fileName").filter(|path| !path.is_empty()).ok_or_else(wrong)?.to_owned(),
                mode: backing.text_of("diskMode").unwrap_or("persistent").to_owned(),
                controller_key: number("controllerKey").ok_or_else(wrong)?,
                unit: number("unitNumber").filter(|unit| *unit >= 0),
            })
        }
        _ => Err(Fault::not_supported()),
    }
}

/// The devices while a call changes them.
struct Hardware {
    controllers: Vec<Controller>,
    disks: Vec<AttachedDisk>,
    /// Keys of the call, and those the server gave for them.
    new_keys: Vec<(i32, i32)>,
}

/// SCSI controllers a VM may have.
const SCSI_CONTROLLERS: i32 = 4;
/// The unit a SCSI controller occupies itself.
const SCSI_CONTROLLER_UNIT: i32 = 7;

impl Hardware {
    fn detach(&mut self, key: i32) -> Result<(), Fault> {
        let before = self.disks.len();
        self.disks.retain(|disk| disk.key != key);
        if self.disks.len() == before { Err(invalid_device()) } else { Ok(()) }
    }

    fn add_controller(&mut self, key: i32, kind: ControllerKind, bus: i32) -> Result<(), Fault> {
        let given = controller_key(kind, bus);
        if !(0..SCSI_CONTROLLERS).contains(&bus) {
            return Err(Fault::new("TooManyDevices", "The VM has too many devices of that kind."));
        }
        if self.controllers.iter().any(|controller| controller.key == given) {
            return Err(invalid_device());
        }
        self.controllers.push(Controller { key: given, kind, bus, shared_bus: "noSharing".to_owned() });
        self.new_keys.push((key, given));
        Ok(())
    }

    fn attach(&mut self, lab: &Lab, vm: &Vm, elsewhere: &[Arc<Disk>], change: &DeviceChange) -> Result<(), Fault> {
        let DeviceChange::Attach { path, mode, controller_key, unit } = change else { return Ok(()) };
        let given = self.new_keys.iter().find(|(asked, _)| asked == controller_key).map(|(_, given)| *given);
        let key = given.unwrap_or(*controller_key);
        let controller = self.controllers.iter().find(|controller| controller.key == key).ok_or_else(invalid_device)?;
        let units = match controller.kind {
            ControllerKind::ParaVirtual if vm.spec.hardware_version >= 14 => 65,
            _ => 16,
        };
        let taken = |unit: i32| self.disks.iter().any(|disk| disk.controller_key == key && disk.unit == unit);
        let is_free = |unit: i32| (0..units).contains(&unit) && unit != SCSI_CONTROLLER_UNIT && !taken(unit);
        let unit = match unit {
            Some(unit) => Some(*unit).filter(|unit| is_free(*unit)),
            None => (0..units).find(|unit| is_free(*unit)),
        };
        let unit = unit.ok_or_else(invalid_device)?;
        let disk = lab.inventory.disks.iter().find(|disk| disk.link_paths().contains(path));
        let disk = disk.ok_or_else(|| Fault::new("FileNotFound", format!("File {path} was not found")))?;
        let file = file_of(disk, path, mode, elsewhere, &self.disks)?;
        self.disks.push(AttachedDisk {
            key: disk_key(controller.kind, controller.bus, unit),
            controller_key: key,
            unit,
            label: format!("Hard disk {}", self.disks.len() + 1),
            mode: mode.clone(),
            sharing: "sharingNone".to_owned(),
            thin: true,
            raw_device_mode: None,
            datastore: disk.datastore.clone(),
            file,
        });
        Ok(())
    }
}

fn invalid_device() -> Fault {
    Fault::new("InvalidDeviceSpec", "Invalid configuration for device '0'.")
}

/// A link nobody has becomes the VM's own; a frozen link of another VM can only be read; an active one is locked.
fn file_of(
    disk: &Arc<Disk>,
    path: &str,
    mode: &str,
    elsewhere: &[Arc<Disk>],
    own: &[AttachedDisk],
) -> Result<DiskFile, Fault> {
    let is_active = disk.link_paths().last().is_some_and(|active| active == path);
    let mut users = elsewhere.iter().chain(own.iter().filter_map(AttachedDisk::own));
    let in_use = users.any(|used| Arc::ptr_eq(used, disk));
    match (is_active, in_use) {
        (false, true) if mode == "independent_nonpersistent" => {
            Ok(DiskFile::Foreign { path: path.to_owned(), capacity: disk.capacity, uuid: disk.uuid.clone() })
        }
        (true | false, true) => {
            Err(Fault::new("FileLocked", format!("Unable to access file {path} since it is locked")))
        }
        (true, false) => Ok(DiskFile::Own(Arc::clone(disk))),
        (false, _) => Ok(DiskFile::Foreign { path: path.to_owned(), capacity: disk.capacity, uuid: disk.uuid.clone() }),
    }
}

fn disks_of_others(lab: &Lab, vm: &Vm) -> Vec<Arc<Disk>> {
    let others = lab.inventory.vms.values().filter(|other| other.moref != vm.moref);
    others
        .flat_map(|other| {
            let state = other.state.lock();
            state.disks.iter().filter_map(AttachedDisk::own).map(Arc::clone).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcenter::xml;

    fn parse(spec: &str) -> Result<Changes, Fault> {
        let text = format!(
            "<r xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><_this type=\"VirtualMachine\">vm-1</_this>\
             <spec>{spec}</spec></r>"
        );
        Changes::parse(&xml::parse(&text).unwrap())
    }

    #[test]
    fn tracking_and_disks_are_understood_and_the_rest_refused() {
        let changes = parse("<changeTrackingEnabled>true</changeTrackingEnabled>").unwrap();
        assert_eq!(changes.change_tracking, Some(true));
        let disk = |operation: &str| {
            format!(
                "<deviceChange><operation>{operation}</operation><device xsi:type=\"VirtualDisk\"><key>2001</key>\
                 <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] a/a.vmdk</fileName>\
                 <diskMode>persistent</diskMode></backing><controllerKey>1000</controllerKey></device></deviceChange>"
            )
        };
        assert_eq!(parse(&disk("remove")).unwrap().devices, [DeviceChange::Detach { key: 2001 }]);
        assert!(matches!(&parse(&disk("add")).unwrap().devices[..], [DeviceChange::Attach { unit: None, .. }]));
        assert_eq!(parse(&disk("edit")).unwrap_err().type_name, "NotSupported");
        assert_eq!(parse("<numCPUs>4</numCPUs>").unwrap_err().type_name, "NotSupported");
    }
}
