//! Which virtual hardware a guest is given, so that it finds its disks and network cards at the first boot. Pure.
//!
//! CloudStack on KVM chooses the root's bus by `rootDiskController`, the data disks' by `dataDiskController` and the
//! cards' model by `nicAdapter`; without them it guesses from the template's OS type, which is not the guest's.

use std::collections::BTreeMap;

use model::status::Firmware;

/// What the guest can drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drivers {
    /// Virtio, by itself or after a conversion.
    Virtio,
    /// Only what every operating system of the last twenty years brings along.
    Emulated,
}

/// The settings that say which hardware the VM has.
#[must_use]
pub(crate) fn details(drivers: Drivers, firmware: Firmware) -> BTreeMap<String, String> {
    // A UEFI guest has no IDE; a BIOS guest that drives no virtio may be older than AHCI.
    let (root, data, nic) = match (drivers, firmware) {
        (Drivers::Virtio, _) => ("virtio", "virtio", "virtio"),
        (Drivers::Emulated, Firmware::Efi) => ("sata", "sata", "e1000"),
        (Drivers::Emulated, Firmware::Bios) => ("ide", "ide", "e1000"),
    };
    [("rootDiskController", root), ("dataDiskController", data), ("nicAdapter", nic)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// CloudStack device id of the disk at `index` in the VM's order: 0 is the root and 3 the CD-ROM.
#[must_use]
pub(crate) fn device_id(index: usize) -> u32 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if index < CDROM_DEVICE_ID { index } else { index.saturating_add(1) }
}

/// The device id CloudStack keeps for the CD-ROM.
const CDROM_DEVICE_ID: u32 = 3;
/// Most disks of a VM, the root included: device ids 0, 1, 2 and 4 to 33.
pub(crate) const MAX_DISKS: usize = 33;
/// Most IDE disks of a VM: two channels with two each, one of them the CD-ROM's.
pub(crate) const MAX_IDE_DISKS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_leave_the_cd_rom_out() {
        let ids: Vec<u32> = (0..MAX_DISKS).map(device_id).collect();
        assert_eq!(ids[..6], [0, 1, 2, 4, 5, 6]);
        assert_eq!(ids.last(), Some(&33));
    }

    #[test]
    fn a_guest_without_virtio_gets_what_its_firmware_can_boot_from() {
        let root = |drivers, firmware| details(drivers, firmware)["rootDiskController"].clone();
        assert_eq!(root(Drivers::Virtio, Firmware::Bios), "virtio");
        assert_eq!(root(Drivers::Emulated, Firmware::Bios), "ide");
        assert_eq!(root(Drivers::Emulated, Firmware::Efi), "sata");
        assert_eq!(details(Drivers::Emulated, Firmware::Efi)["nicAdapter"], "e1000");
    }
}
