//! Disks of one VM on another: the devices its guest sees, and what their host refuses meanwhile.
//!
//! A device is a raw file in the VM's folder of devices, named as udev names it by the disk's uuid.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::devices::{AttachedDisk, DiskFile};
use super::fault::Fault;
use super::state::Lab;
use super::vm::Vm;

/// The folder of the devices a VM's guest sees of other VMs' disks.
#[must_use]
pub fn device_dir(state_dir: &Path, vm_name: &str) -> PathBuf {
    state_dir.join("devices").join(vm_name.replace('/', "_"))
}

/// Shows the guest what was attached and takes away what was detached.
pub(crate) fn show_devices(lab: &Lab, vm: &Vm, before: &[AttachedDisk], after: &[AttachedDisk]) -> io::Result<()> {
    let folder = device_dir(&lab.config.state_dir, &vm.spec.name);
    let (before, after) = (foreign(before), foreign(after));
    for (uuid, path) in &after {
        if before.get(uuid) != Some(path) {
            std::fs::create_dir_all(&folder)?;
            let device = folder.join(device_name(uuid));
            let growing = device.with_extension("growing");
            let disk = lab.inventory.disks.iter().find(|disk| disk.uuid == *uuid);
            let disk = disk.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            disk.copy_link(&growing, path)?;
            std::fs::rename(growing, device)?;
        }
    }
    for uuid in before.keys().filter(|uuid| !after.contains_key(*uuid)) {
        std::fs::remove_file(folder.join(device_name(uuid)))?;
    }
    Ok(())
}

/// The name udev gives a disk.
fn device_name(uuid: &str) -> String {
    format!("wwn-0x{}", uuid.replace('-', "").to_ascii_lowercase())
}

/// Disks of other VMs, uuid to path.
fn foreign(disks: &[AttachedDisk]) -> HashMap<&str, &str> {
    let foreign = disks.iter().filter_map(|disk| match &disk.file {
        DiskFile::Foreign { path, uuid, .. } => Some((uuid.as_str(), path.as_str())),
        DiskFile::Own(_) => None,
    });
    foreign.collect()
}

/// A VM snapshot cannot be merged while another VM has a link it froze open.
pub(crate) fn refuse_removal(lab: &Lab, vm: &Vm, vm_snapshot: &str) -> Result<(), Fault> {
    let open_elsewhere: Vec<String> = lab
        .inventory
        .vms
        .values()
        .filter(|other| other.moref != vm.moref)
        .flat_map(|other| foreign(&other.state.lock().disks).into_values().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let state = vm.state.lock();
    let own = state.disks.iter().filter_map(AttachedDisk::own);
    let mut frozen = own.flat_map(|disk| disk.links_as_of(Some(vm_snapshot)));
    match frozen.find(|path| open_elsewhere.contains(path)) {
        Some(path) => Err(Fault::new("FileLocked", format!("Unable to access file {path} since it is locked"))),
        None => Ok(()),
    }
}
