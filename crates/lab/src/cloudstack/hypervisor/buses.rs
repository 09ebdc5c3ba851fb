//! Which bus a disk and which model an interface gets in a KVM guest: VM details first, then the guest OS.
//!
//! Pure; the rules are those of CloudStack's KVM agent.

use std::collections::BTreeMap;

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// virtio-blk.
    Virtio,
    /// A disk on a virtio-scsi controller.
    Scsi,
    /// AHCI.
    Sata,
    /// The two old channels with two disks each.
    Ide,
}

/// What a machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
    /// UEFI that starts only what is signed.
    UefiSecure,
}

/// Beginnings of the names of guest systems that have virtio drivers.
const PARAVIRTUAL_SYSTEMS: [&str; 10] = [
    "Other PV",
    "Ubuntu",
    "Fedora",
    "CentOS",
    "Red Hat Enterprise Linux",
    "Debian",
    "FreeBSD",
    "Oracle",
    "Rocky",
    "Alma",
];

impl Firmware {
    /// The firmware the detail `UEFI` asks for.
    pub(crate) fn of(details: &BTreeMap<String, String>) -> Self {
        match details.get("UEFI") {
            None => Self::Bios,
            Some(mode) if mode.eq_ignore_ascii_case("SECURE") => Self::UefiSecure,
            Some(_) => Self::Uefi,
        }
    }
}

fn is_paravirtual(os_name: &str) -> bool {
    PARAVIRTUAL_SYSTEMS.iter().any(|known| os_name.starts_with(known))
}

fn is_windows(os_name: &str) -> bool {
    os_name.starts_with("Windows")
}

/// A controller named in the details; a name KVM does not know counts as none.
fn named(details: &BTreeMap<String, String>, key: &str) -> Option<Bus> {
    match details.get(key)?.to_ascii_lowercase().as_str() {
        "virtio" | "virtio-blk" => Some(Bus::Virtio),
        "scsi" => Some(Bus::Scsi),
        "sata" => Some(Bus::Sata),
        "ide" => Some(Bus::Ide),
        _ => None,
    }
}

/// The bus of the root disk.
pub(crate) fn root_bus(details: &BTreeMap<String, String>, os_name: &str) -> Bus {
    if let Some(bus) = named(details, "rootDiskController") {
        return bus;
    }
    match Firmware::of(details) {
        Firmware::UefiSecure if is_windows(os_name) => Bus::Sata,
        Firmware::UefiSecure => Bus::Virtio,
        _ if os_name.starts_with("Other PV Virtio-SCSI") => Bus::Scsi,
        _ if is_paravirtual(os_name) => Bus::Virtio,
        Firmware::Uefi if is_windows(os_name) || os_name.starts_with("Other") => Bus::Sata,
        Firmware::Uefi | Firmware::Bios => Bus::Ide,
    }
}

/// The bus of data disks.
pub(crate) fn data_bus(details: &BTreeMap<String, String>, os_name: &str) -> Bus {
    if let Some(bus) = named(details, "dataDiskController") {
        return bus;
    }
    let root = root_bus(details, os_name);
    let follows_root = root == Bus::Scsi || (is_windows(os_name) && Firmware::of(details) != Firmware::Bios);
    if follows_root { root } else { Bus::Virtio }
}

/// The QEMU device behind an interface.
pub(crate) fn nic_model(details: &BTreeMap<String, String>, os_name: &str) -> &'static str {
    let wanted = details.get("nicAdapter").map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    match wanted.as_str() {
        "virtio" => "virtio-net-pci",
        "e1000" => "e1000",
        "rtl8139" => "rtl8139",
        "vmxnet3" => "vmxnet3",
        "pcnet32" => "pcnet",
        "ne2k_pci" => "ne2k_pci",
        _ if is_paravirtual(os_name) => "virtio-net-pci",
        _ => "e1000",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn buses_follow_details_then_the_guest_system() {
        let none = details(&[]);
        let uefi = details(&[("UEFI", "LEGACY")]);
        let secure = details(&[("UEFI", "SECURE")]);
        let scsi = details(&[("rootDiskController", "SCSI")]);
        let both = details(&[("rootDiskController", "sata"), ("dataDiskController", "ide")]);
        let unknown = details(&[("rootDiskController", "osdefault")]);
        let (windows, debian) = ("Windows Server 2022 (64-bit)", "Debian GNU/Linux 12 (64-bit)");
        let cases = [
            (&none, "Other PV (64-bit)", Bus::Virtio, Bus::Virtio),
            (&none, "Other PV Virtio-SCSI (64-bit)", Bus::Scsi, Bus::Scsi),
            (&none, debian, Bus::Virtio, Bus::Virtio),
            (&none, "Other (64-bit)", Bus::Ide, Bus::Virtio),
            (&none, windows, Bus::Ide, Bus::Virtio),
            (&uefi, windows, Bus::Sata, Bus::Sata),
            (&uefi, "Other (64-bit)", Bus::Sata, Bus::Virtio),
            (&uefi, debian, Bus::Virtio, Bus::Virtio),
            (&secure, windows, Bus::Sata, Bus::Sata),
            (&secure, "Other (64-bit)", Bus::Virtio, Bus::Virtio),
            (&scsi, windows, Bus::Scsi, Bus::Scsi),
            (&both, debian, Bus::Sata, Bus::Ide),
            (&unknown, "Rocky Linux 9", Bus::Virtio, Bus::Virtio),
        ];
        for (details, os_name, root, data) in cases {
            assert_eq!((root_bus(details, os_name), data_bus(details, os_name)), (root, data), "{os_name} {details:?}");
        }
    }

    #[test]
    fn interfaces_follow_details_then_the_guest_system() {
        assert_eq!(nic_model(&details(&[]), "Rocky Linux 9"), "virtio-net-pci");
        assert_eq!(nic_model(&details(&[]), "Windows Server 2022 (64-bit)"), "e1000");
        assert_eq!(nic_model(&details(&[("nicAdapter", "Vmxnet3")]), "Rocky Linux 9"), "vmxnet3");
        assert_eq!(nic_model(&details(&[("nicAdapter", "virtio")]), "Windows Server 2022 (64-bit)"), "virtio-net-pci");
    }
}
