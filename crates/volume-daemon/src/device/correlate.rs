//! Which of the disks seen on this machine is a volume: by serial, and its size must agree. Pure.

use std::path::PathBuf;

use model::FailureKind;

/// How udev names the links of the disks of a KVM guest, up to the serial: virtio-blk, virtio-scsi, SATA and IDE.
const LINK_PREFIXES: [&str; 3] = ["virtio-", "scsi-0QEMU_QEMU_HARDDISK_", "ata-QEMU_HARDDISK_"];

/// A link under `/dev/disk/by-id` and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The stable link.
    pub(crate) link: PathBuf,
    /// What it resolves to.
    pub(crate) device: PathBuf,
    /// Size of that in bytes.
    pub(crate) size_bytes: u64,
}

/// The device a volume must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// First 20 hexadecimal digits of the volume's uuid.
    pub(crate) serial: String,
    /// Size of the volume as it was recorded, in bytes: the device must hold it.
    pub(crate) recorded_bytes: u64,
    /// Size of the volume as CloudStack tells it, in bytes: the device must have exactly this.
    pub(crate) reported_bytes: u64,
}

/// Why the device of a volume may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorrelateError {
    /// The serial is right and the size is not.
    #[error(
        "{device} has the serial {serial} of the volume but {found_bytes} bytes; the volume has {expected_bytes} bytes"
    )]
    WrongSize {
        /// The serial.
        serial: String,
        /// The device.
        device: PathBuf,
        /// Its size in bytes.
        found_bytes: u64,
        /// Size of the volume in bytes.
        expected_bytes: u64,
    },
    /// Two devices have the serial.
    #[error("both {first} and {second} have the serial {serial}")]
    Ambiguous {
        /// The serial.
        serial: String,
        /// One device.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
}

impl CorrelateError {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        FailureKind::Conflict
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::WrongSize { .. } => {
                "compare the volume's size in CloudStack with the device; nothing is written until they agree"
            }
            Self::Ambiguous { .. } => "detach one of the two disks from the hub's VM",
        }
    }
}

/// The serial in the name of a link, if it is that of a whole disk of a KVM guest.
pub(crate) fn serial_in(link_name: &str) -> Option<&str> {
    let serial = LINK_PREFIXES.iter().find_map(|prefix| link_name.strip_prefix(prefix))?;
    // Partitions end in `-part<n>`.
    (!serial.is_empty() && !serial.contains('-')).then_some(serial)
}

/// The candidate that is the volume; none when none has its serial. Candidates are those with the right serial.
pub(crate) fn choose(candidates: &[Candidate], expected: &Expected) -> Result<Option<Candidate>, CorrelateError> {
    let Some(first) = candidates.first() else { return Ok(None) };
    // One disk may have several links (udev names it by several rules).
    if let Some(other) = candidates.iter().find(|other| other.device != first.device) {
        return Err(CorrelateError::Ambiguous {
            serial: expected.serial.clone(),
            first: first.device.clone(),
            second: other.device.clone(),
        });
    }
    if first.size_bytes != expected.reported_bytes || first.size_bytes < expected.recorded_bytes {
        return Err(CorrelateError::WrongSize {
            serial: expected.serial.clone(),
            device: first.device.clone(),
            found_bytes: first.size_bytes,
            expected_bytes: expected.reported_bytes.max(expected.recorded_bytes),
        });
    }
    Ok(Some(first.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &str = "1d8d87d41425459c8d81";
    const GIB: u64 = 1 << 30;

    fn candidate(link: &str, device: &str, size_bytes: u64) -> Candidate {
        Candidate { link: PathBuf::from(link), device: PathBuf::from(device), size_bytes }
    }

    fn expected() -> Expected {
        Expected { serial: SERIAL.to_owned(), recorded_bytes: 2 * GIB, reported_bytes: 2 * GIB }
    }

    #[test]
    fn the_serial_is_read_from_every_bus_and_never_from_a_partition() {
        for prefix in LINK_PREFIXES {
            assert_eq!(serial_in(&format!("{prefix}{SERIAL}")), Some(SERIAL));
            assert_eq!(serial_in(&format!("{prefix}{SERIAL}-part1")), None);
        }
        for name in ["virtio-", "dm-name-vg-lv", SERIAL, "nvme-QEMU_NVMe_Ctrl_1"] {
            assert_eq!(serial_in(name), None, "{name}");
        }
    }

    #[test]
    fn a_disk_with_two_links_is_one_disk() {
        let links = [candidate("virtio-x", "/dev/vdb", 2 * GIB), candidate("scsi-x", "/dev/vdb", 2 * GIB)];
        assert_eq!(choose(&links, &expected()).unwrap().unwrap().device, PathBuf::from("/dev/vdb"));
        assert_eq!(choose(&[], &expected()), Ok(None));
    }

    #[test]
    fn two_disks_with_one_serial_are_refused() {
        let disks = [candidate("virtio-x", "/dev/vdb", 2 * GIB), candidate("scsi-x", "/dev/sda", 2 * GIB)];
        let error = choose(&disks, &expected()).unwrap_err();
        assert!(matches!(error, CorrelateError::Ambiguous { .. }));
        assert!(error.to_string().contains("/dev/vdb") && error.to_string().contains("/dev/sda"));
    }

    #[test]
    fn a_wrong_size_is_refused_with_both_sizes() {
        for found in [GIB, 3 * GIB, 2 * GIB - 512] {
            let error = choose(&[candidate("virtio-x", "/dev/vdb", found)], &expected()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&found.to_string()) && text.contains(&(2 * GIB).to_string()), "{text}");
        }
    }

    #[test]
    fn a_volume_that_shrank_in_cloudstack_is_refused_too() {
        let expected = Expected { reported_bytes: GIB, ..expected() };
        let error = choose(&[candidate("virtio-x", "/dev/vdb", GIB)], &expected).unwrap_err();
        assert!(matches!(error, CorrelateError::WrongSize { expected_bytes, .. } if expected_bytes == 2 * GIB));
    }
}
