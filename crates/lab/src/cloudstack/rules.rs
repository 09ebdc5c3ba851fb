//! The server's rules as pure functions: device ids, sizes, names, when a root may leave its VM.
//!
//! Each returns the refusal the real server would give; nothing here changes anything.

use super::config::Limits;
use super::entities::{Inventory, Vm, VmState, Volume, VolumeState, VolumeType};
use super::refusal::Refusal;

/// One GiB; CloudStack's sizes are whole multiples of it.
pub(crate) const GIB_BYTES: u64 = 1 << 30;
/// Data volumes of one KVM VM (`hypervisor_capabilities.max_data_volumes_limit`).
pub(crate) const MAX_DATA_VOLUMES: u32 = 32;
/// The CD-ROM's device id.
const CDROM_DEVICE: u32 = 3;
/// The highest device id: one is lost to the CD-ROM.
const HIGHEST_DEVICE: u32 = MAX_DATA_VOLUMES + 1;
/// Snapshots of one VM (`vmsnapshot.max`).
pub(crate) const MAX_VM_SNAPSHOTS: usize = 10;
/// Longest host name of RFC 1123.
const HOST_NAME_MAX: usize = 63;
/// Characters of the volume's UUID that KVM gives the disk as serial number.
const SERIAL_LENGTH: usize = 20;

/// The serial number a volume shows inside its VM: the first 20 characters of its UUID without dashes.
#[must_use]
pub fn disk_serial(volume_id: &str) -> String {
    volume_id.chars().filter(|character| *character != '-').take(SERIAL_LENGTH).collect()
}

/// The device id an attach gets: the wanted one if it is legal and free, else the lowest free one from 1.
pub(crate) fn choose_device_id(wanted: Option<u32>, taken: &[u32], vm_name: &str) -> Result<u32, Refusal> {
    match wanted {
        Some(id) if id == CDROM_DEVICE || id > HIGHEST_DEVICE => {
            Err(Refusal::runtime(format!("deviceId should be 0,1,2,4-{HIGHEST_DEVICE}")))
        }
        Some(id) if taken.contains(&id) => {
            Err(Refusal::runtime(format!("deviceId {id} is used by vol on vm {vm_name}")))
        }
        Some(id) => Ok(id),
        None => (1..=HIGHEST_DEVICE)
            .find(|id| *id != CDROM_DEVICE && !taken.contains(id))
            .ok_or_else(|| Refusal::runtime(format!("All device Ids are used by vm {vm_name}"))),
    }
}

/// Whether a volume may be attached to a VM; the device id is chosen apart.
pub(crate) fn may_attach(
    inventory: &Inventory,
    volume: &Volume,
    vm: &Vm,
    device_id: Option<u32>,
) -> Result<(), Refusal> {
    if volume.attachment.is_some() {
        return Err(Refusal::invalid("Please specify a volume that is not attached to any VM."));
    }
    if volume.state == VolumeState::Destroy {
        return Err(Refusal::invalid("Please specify a volume that is not destroyed."));
    }
    if !vm.state.is_settled() {
        return Err(Refusal::invalid("Please specify a VM that is either running or stopped."));
    }
    let attached = inventory.volumes_of(&vm.id);
    if device_id == Some(0) {
        root_may_change(vm)?;
        if attached.iter().any(|volume| device_of(volume) == Some(0)) {
            return Err(Refusal::invalid("Vm already has root volume attached to it"));
        }
    }
    let data_volumes = attached.iter().filter(|volume| volume.volume_type == VolumeType::Datadisk).count();
    if device_id != Some(0) && data_volumes >= MAX_DATA_VOLUMES as usize {
        return Err(Refusal::invalid(format!(
            "The specified VM already has the maximum number of data disks ({MAX_DATA_VOLUMES}) attached. Please specify \
             another VM."
        )));
    }
    if !matches!(volume.state, VolumeState::Allocated | VolumeState::Ready) {
        return Err(Refusal::invalid("Volume state must be in Allocated, Ready or in Uploaded state"));
    }
    if inventory.has_vm_snapshots(&vm.id) {
        return Err(Refusal::invalid(format!(
            "Unable to attach volume to VM {}/{}, please specify a VM that does not have VM snapshots",
            vm.name, vm.id
        )));
    }
    Ok(())
}

/// Whether a volume may be detached from the VM it is on.
pub(crate) fn may_detach(inventory: &Inventory, volume: &Volume) -> Result<String, Refusal> {
    let vm = volume
        .attachment
        .as_ref()
        .and_then(|attachment| inventory.vm(&attachment.vm_id))
        .ok_or_else(|| Refusal::invalid("The specified volume is not attached to a VM."))?;
    if !vm.state.is_settled() {
        return Err(Refusal::invalid("Please specify a VM that is either running or stopped."));
    }
    if volume.volume_type == VolumeType::Root {
        root_may_change(vm)?;
    }
    if inventory.has_vm_snapshots(&vm.id) {
        return Err(Refusal::invalid("Unable to detach volume, please specify a VM that does not have VM snapshots"));
    }
    Ok(vm.id.clone())
}

fn root_may_change(vm: &Vm) -> Result<(), Refusal> {
    if vm.state == VmState::Stopped {
        return Ok(());
    }
    Err(Refusal::invalid("Root volume detach can happen only when vm is in states: Stopped or Destroyed"))
}

/// The device id of an attached volume.
pub(crate) fn device_of(volume: &Volume) -> Option<u32> {
    volume.attachment.as_ref().map(|attachment| attachment.device_id)
}

/// The bytes of a new or resized volume on an offering, whole GiB within the limits.
pub(crate) fn volume_size(
    offering_is_custom: bool,
    offering_gib: u64,
    wanted_gib: Option<i64>,
    limits: &Limits,
) -> Result<u64, Refusal> {
    let gib = match (offering_is_custom, wanted_gib) {
        (_, Some(size)) if size <= 0 => return Err(Refusal::invalid("Disk size must be larger than 0")),
        (true, None) => return Err(Refusal::invalid("This disk offering requires a custom size specified")),
        (false, Some(_)) => return Err(Refusal::invalid("This disk offering does not allow custom size")),
        (true, Some(size)) => size.unsigned_abs(),
        (false, None) => offering_gib,
    };
    if offering_is_custom && (gib < limits.custom_size_min_gib || gib > limits.custom_size_max_gib) {
        return Err(Refusal::invalid(format!(
            "Volume size: {gib} GB is out of allowed range. Min: {}. Max: {}",
            limits.custom_size_min_gib, limits.custom_size_max_gib
        )));
    }
    if gib > limits.volume_size_max_gib {
        return Err(Refusal::invalid(format!(
            "Please specify a volume size less than {} GB.",
            limits.volume_size_max_gib
        )));
    }
    Ok(gib * GIB_BYTES)
}

/// Checks a VM's host name: an RFC 1123 label that does not start with a digit or hyphen.
pub(crate) fn check_host_name(name: &str) -> Result<(), Refusal> {
    let starts_well = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    let characters_ok = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
    if starts_well && characters_ok && name.len() <= HOST_NAME_MAX && !name.ends_with('-') {
        return Ok(());
    }
    Err(Refusal::invalid(
        "Invalid name. Vm name can contain ASCII letters 'a' through 'z', the digits '0' through '9', and the hyphen \
         ('-'), must be between 1 and 63 characters long, and can't start or end with \"-\" and can't start with digit",
    ))
}

/// The `boottype`/`bootmode` pair of a deploy, as the detail it is stored in.
pub(crate) fn boot_detail(boot_type: Option<&str>, boot_mode: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(boot_type) = boot_type else { return Ok(None) };
    match (boot_type.to_ascii_uppercase().as_str(), boot_mode.map(str::to_ascii_uppercase).as_deref()) {
        ("UEFI", Some(mode @ ("LEGACY" | "SECURE"))) => Ok(Some(mode.to_owned())),
        ("UEFI", _) => Err(Refusal::parameter(
            "bootmode must be specified for the VM with boot type: UEFI. Valid values are: [LEGACY, SECURE]",
        )),
        ("BIOS", Some("LEGACY")) => Ok(None),
        ("BIOS", Some(_)) => Err(Refusal::parameter("Invalid bootMode for BIOS. Valid values are: [LEGACY]")),
        ("BIOS", None) => {
            Err(Refusal::runtime("Internal error executing command, please contact your system administrator"))
        }
        _ => Err(Refusal::parameter("Invalid bootType. Valid values are: [UEFI, BIOS]")),
    }
}

/// Whether the text is a MAC address; CloudStack silently replaces one that is not.
pub(crate) fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
