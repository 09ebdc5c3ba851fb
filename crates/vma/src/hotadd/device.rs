//! The block device of an added disk: named by the disk's uuid, waited for, opened, and proven by its size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mover::reader::Source;
use tokio::time::Instant;

use super::HotAddError;

/// How long a device may take to appear; the kernel needs a second or two.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);
/// How long one of an earlier run may take to vanish.
const VANISHES_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Hexadecimal digits of a uuid.
const UUID_DIGITS: usize = 32;

/// Where the device of a disk appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    names: [PathBuf; 2],
    appears_within: Duration,
    vanishes_within: Duration,
}

impl Device {
    /// The device of the disk with that uuid. Nothing but digits of it become a part of a path.
    pub(super) fn of(folder: &Path, disk_uuid: &str) -> Result<Self, HotAddError> {
        let hex: String = disk_uuid.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if hex.len() != UUID_DIGITS || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HotAddError::DiskUuid { disk_uuid: disk_uuid.chars().take(80).collect() });
        }
        let names = ["wwn-0x", "scsi-3"].map(|kind| folder.join(format!("{kind}{hex}")));
        Ok(Self { names, appears_within: APPEARS_WITHIN, vanishes_within: VANISHES_WITHIN })
    }

    fn found(&self) -> Option<&PathBuf> {
        self.names.iter().find(|name| name.exists())
    }

    /// Makes sure that no disk with this uuid is here already: it could not be told from the one that is added.
    pub(super) async fn is_free(&self) -> Result<(), HotAddError> {
        let given_up_at = Instant::now() + self.vanishes_within;
        while let Some(device) = self.found() {
            if Instant::now() >= given_up_at {
                return Err(HotAddError::AlreadyHere { device: device.clone() });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits for the device and opens it.
    pub(super) async fn open(&self, capacity_bytes: u64) -> Result<Source, HotAddError> {
        let given_up_at = Instant::now() + self.appears_within;
        let device = loop {
            match self.found() {
                Some(device) => break device.clone(),
                None if Instant::now() >= given_up_at => {
                    return Err(HotAddError::NoDevice { device: self.names[0].clone() });
                }
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        };
        let path = device.clone();
        let opened = tokio::task::spawn_blocking(move || Source::device(&path)).await;
        let opened = opened.map_err(|source| HotAddError::Interrupted { source })?;
        let source = opened.map_err(|source| HotAddError::Open { device: device.clone(), source })?;
        let found_bytes = source.capacity_bytes();
        if found_bytes != capacity_bytes {
            return Err(HotAddError::OtherSize { device, found_bytes, capacity_bytes });
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6000C298-1f40-0d3a-8f4b-2b8c43b9d7f0";

    #[tokio::test]
    async fn a_device_is_found_by_the_uuid_and_must_have_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::of(folder.path(), UUID).unwrap();
        device.is_free().await.unwrap();
        std::fs::write(folder.path().join("scsi-36000c2981f400d3a8f4b2b8c43b9d7f0"), [7; 1024]).unwrap();
        let source = device.open(1024).await.unwrap();
        assert_eq!(source.capacity_bytes(), 1024);
        let error = device.open(2048).await.err().unwrap();
        assert!(matches!(error, HotAddError::OtherSize { found_bytes: 1024, .. }), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_here_before_or_never_appears_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at_once = Duration::ZERO;
        let device = Device::of(folder.path(), UUID).unwrap();
        let device = Device { appears_within: at_once, vanishes_within: at_once, ..device };
        assert!(matches!(device.open(1024).await, Err(HotAddError::NoDevice { .. })));
        std::fs::write(folder.path().join("wwn-0x6000c2981f400d3a8f4b2b8c43b9d7f0"), [7; 1024]).unwrap();
        assert!(matches!(device.is_free().await, Err(HotAddError::AlreadyHere { .. })));
    }

    #[test]
    fn only_a_uuid_becomes_a_name() {
        for text in ["", "../../sda", "6000C298-1f40-0d3a-8f4b-2b8c43b9d7f", "6000C298-1f40-0d3a-8f4b-2b8c43b9d7f/"] {
            assert!(matches!(Device::of(Path::new("/dev"), text), Err(HotAddError::DiskUuid { .. })), "{text}");
        }
    }
}
