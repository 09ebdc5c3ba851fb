//! Whether a guest finds its disks under KVM as it is. Pure: decided from what VMware says of it.
//!
//! Windows has no virtio driver that starts at boot. Distributions with dracut put into the initial RAM disk only what
//! the present hardware needs, so theirs has VMware's drivers and not virtio's. Debian and Ubuntu put in most drivers.

/// Whether a conversion is needed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It will hardly boot without.
    Needed(&'static str),
    /// It boots as it is.
    NotNeeded(&'static str),
    /// Nothing is known of it.
    Unknown(&'static str),
}

const WINDOWS: Need = Need::Needed("Windows has no virtio drivers that start at boot");
const HOST_ONLY: Need =
    Need::Needed("its initial RAM disk has only the drivers of the hardware it was made on, so virtio's are missing");
const COMPLETE: Need = Need::NotNeeded("its initial RAM disk has the virtio drivers");
const FOREIGN: Need =
    Need::Unknown("virt-v2v cannot convert this system; whether it has virtio drivers is its own matter");
const UNSAID: Need = Need::Unknown("VMware does not say what system it is");

/// Beginnings of VMware's guest ids (`VirtualMachineGuestOsIdentifier`), in lower case.
const IDS: [(&str, Need); 31] = [
    ("win", WINDOWS),
    ("rhel", HOST_ONLY),
    ("redhat", HOST_ONLY),
    ("centos", HOST_ONLY),
    ("rockylinux", HOST_ONLY),
    ("almalinux", HOST_ONLY),
    ("oraclelinux", HOST_ONLY),
    ("fedora", HOST_ONLY),
    ("amazonlinux", HOST_ONLY),
    ("asianux", HOST_ONLY),
    ("miraclelinux", HOST_ONLY),
    ("pardus", COMPLETE),
    ("sles", HOST_ONLY),
    ("sld", HOST_ONLY),
    ("suse", HOST_ONLY),
    ("opensuse", HOST_ONLY),
    ("nld", HOST_ONLY),
    ("oes", HOST_ONLY),
    ("debian", COMPLETE),
    ("ubuntu", COMPLETE),
    ("freebsd", FOREIGN),
    ("netware", FOREIGN),
    ("solaris", FOREIGN),
    ("darwin", FOREIGN),
    ("os2", FOREIGN),
    ("dos", FOREIGN),
    ("unixware", FOREIGN),
    ("openserver", FOREIGN),
    ("vmkernel", FOREIGN),
    ("vmwarephoton", FOREIGN),
    ("coreos", FOREIGN),
];

/// Parts of the names of systems, in lower case: for ids that only say `other`, where the guest's tools may know better.
const NAMES: [(&str, Need); 16] = [
    ("windows", WINDOWS),
    ("red hat", HOST_ONLY),
    ("rhel", HOST_ONLY),
    ("centos", HOST_ONLY),
    ("rocky", HOST_ONLY),
    ("almalinux", HOST_ONLY),
    ("oracle linux", HOST_ONLY),
    ("fedora", HOST_ONLY),
    ("amazon linux", HOST_ONLY),
    ("suse", HOST_ONLY),
    ("debian", COMPLETE),
    ("ubuntu", COMPLETE),
    ("freebsd", FOREIGN),
    ("solaris", FOREIGN),
    ("macos", FOREIGN),
    ("photon", FOREIGN),
];

/// Decides from VMware's guest id and the name of the system in words; either may be empty.
pub(crate) fn needs_conversion(guest_id: &str, os_type: &str) -> Need {
    let (id, name) = (guest_id.to_lowercase(), os_type.to_lowercase());
    let by_id = IDS.iter().find(|(beginning, _)| id.starts_with(beginning));
    let by_name = || NAMES.iter().find(|(part, _)| name.contains(part));
    by_id.or_else(by_name).map_or(UNSAID, |(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_told_by_its_id() {
        let cases = [
            ("windows9Server64Guest", WINDOWS),
            ("windows2019srv_64Guest", WINDOWS),
            ("winXPProGuest", WINDOWS),
            ("rhel9_64Guest", HOST_ONLY),
            ("redhatGuest", HOST_ONLY),
            ("centos7_64Guest", HOST_ONLY),
            ("rockylinux_64Guest", HOST_ONLY),
            ("almalinux_64Guest", HOST_ONLY),
            ("oracleLinux8_64Guest", HOST_ONLY),
            ("sles15_64Guest", HOST_ONLY),
            ("opensuse64Guest", HOST_ONLY),
            ("fedora64Guest", HOST_ONLY),
            ("debian12_64Guest", COMPLETE),
            ("ubuntu64Guest", COMPLETE),
            ("freebsd14_64Guest", FOREIGN),
            ("vmwarePhoton64Guest", FOREIGN),
        ];
        for (id, need) in cases {
            assert_eq!(needs_conversion(id, ""), need, "{id}");
        }
        // The id was chosen by whoever made the VM, but it is what VMware gave the hardware for.
        assert_eq!(needs_conversion("rhel8_64Guest", "Ubuntu Linux (64-bit)"), HOST_ONLY);
    }

    #[test]
    fn an_id_that_says_nothing_leaves_it_to_the_name() {
        for id in ["otherLinux64Guest", "other5xLinux64Guest", "otherGuest64", ""] {
            assert_eq!(needs_conversion(id, "Rocky Linux (64-bit)"), HOST_ONLY, "{id}");
            assert_eq!(needs_conversion(id, "Microsoft Windows Server 2022 (64-bit)"), WINDOWS);
            assert_eq!(needs_conversion(id, "Debian GNU/Linux 12 (64-bit)"), COMPLETE);
            assert_eq!(needs_conversion(id, "Other 5.x or later Linux (64-bit)"), UNSAID);
            assert_eq!(needs_conversion(id, ""), UNSAID);
        }
    }

    #[test]
    fn every_answer_has_a_reason() {
        for (_, need) in IDS.iter().chain(&NAMES) {
            let (Need::Needed(reason) | Need::NotNeeded(reason) | Need::Unknown(reason)) = need;
            assert!(reason.len() > 20);
        }
    }
}
