//! `ReconfigVM_Task`: change tracking, texts, and attaching or detaching disks that exist.

use std::sync::Arc;

use crate::vcenter::devices::{AttachedDisk, DiskFile, disk_key};
use crate::vcenter::disk::Disk;
use crate::vcenter::fault::Fault;
use crate::vcenter::state::Lab;
use crate::vcenter::vm::Vm;
use crate::vcenter::xml::Element;

/// Fields of a `VirtualMachineConfigSpec` that are understood; others are refused rather than ignored.
const UNDERSTOOD: [&str; 5] = ["changeVersion", "changeTrackingEnabled", "annotation", "extraConfig", "deviceChange"];

/// A device change that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeviceChange {
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
        let disks = self.devices.iter().try_fold(state.disks.clone(), |disks, change| match change {
            DeviceChange::Detach { key } => detach(disks, *key),
            DeviceChange::Attach { .. } => attach(lab, vm, &elsewhere, disks, change),
        })?;
        state.disks = disks;
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
    if device.xsi_type.as_deref() != Some("VirtualDisk") || change.child("fileOperation").is_some() {
        return Err(Fault::not_supported());
    }
    let number = |name: &str| device.number(name).and_then(|number| i32::try_from(number).ok());
    match change.text_of("operation") {
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

fn detach(mut disks: Vec<AttachedDisk>, key: i32) -> Result<Vec<AttachedDisk>, Fault> {
    let before = disks.len();
    disks.retain(|disk| disk.key != key);
    if disks.len() == before {
        return Err(Fault::new("InvalidDeviceSpec", "Invalid configuration for device '0'."));
    }
    Ok(disks)
}

fn attach(
    lab: &Lab,
    vm: &Vm,
    elsewhere: &[Arc<Disk>],
    mut disks: Vec<AttachedDisk>,
    change: &DeviceChange,
) -> Result<Vec<AttachedDisk>, Fault> {
    let DeviceChange::Attach { path, mode, controller_key, unit } = change else { return Ok(disks) };
    let controller = vm.controllers.iter().find(|controller| controller.key == *controller_key);
    let controller = controller.ok_or_else(|| Fault::invalid_argument("configSpec.deviceChange"))?;
    let taken = |unit: i32| disks.iter().any(|disk| disk.controller_key == *controller_key && disk.unit == unit);
    let unit = match unit {
        Some(unit) if taken(*unit) => return Err(Fault::invalid_argument("configSpec.deviceChange")),
        Some(unit) => *unit,
        None => (0..).find(|unit| *unit != 7 && !taken(*unit)).unwrap_or_default(),
    };
    let disk = lab.inventory.disks.iter().find(|disk| disk.link_paths().contains(path));
    let disk = disk.ok_or_else(|| Fault::new("FileNotFound", format!("File {path} was not found")))?;
    let file = file_of(disk, path, elsewhere, &disks)?;
    let key = disk_key(controller.kind, controller.bus, unit);
    disks.push(AttachedDisk {
        key,
        controller_key: *controller_key,
        unit,
        label: format!("Hard disk {}", disks.len() + 1),
        mode: mode.clone(),
        sharing: "sharingNone".to_owned(),
        thin: true,
        raw_device_mode: None,
        datastore: disk.datastore.clone(),
        file,
    });
    Ok(disks)
}

/// A link nobody has becomes the VM's own; a frozen link of another VM is only read; an active one is locked.
fn file_of(disk: &Arc<Disk>, path: &str, elsewhere: &[Arc<Disk>], own: &[AttachedDisk]) -> Result<DiskFile, Fault> {
    let is_active = disk.link_paths().last().is_some_and(|active| active == path);
    let mut users = elsewhere.iter().chain(own.iter().filter_map(AttachedDisk::own));
    let in_use = users.any(|used| Arc::ptr_eq(used, disk));
    match (is_active, in_use) {
        (true, true) => Err(Fault::new("FileLocked", format!("Unable to access file {path} since it is locked"))),
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
