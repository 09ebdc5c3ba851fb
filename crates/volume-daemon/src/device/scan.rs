//! Reads the links to this machine's disks. Waits for nothing and decides nothing.

use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::device::correlate::{Candidate, CorrelateError, Expected, choose, serial_in};
use crate::error::VolumeDaemonError;

/// The device that is the volume, if it is here now.
pub(crate) async fn find(directory: &Path, expected: &Expected) -> Result<Option<Candidate>, ScanError> {
    let unreadable = |source| VolumeDaemonError::Folder { path: directory.to_owned(), source };
    let (folder, serial) = (directory.to_owned(), expected.serial.clone());
    let read = tokio::task::spawn_blocking(move || candidates(&folder, &serial)).await;
    let candidates = read.map_err(|error| unreadable(io::Error::other(error)))?.map_err(unreadable)?;
    choose(&candidates, expected).map_err(ScanError::Correlate)
}

/// Why a scan gave no answer.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// The device may not be used.
    Correlate(CorrelateError),
    /// The folder cannot be read.
    Other(VolumeDaemonError),
}

impl From<VolumeDaemonError> for ScanError {
    fn from(error: VolumeDaemonError) -> Self {
        Self::Other(error)
    }
}

impl From<ScanError> for VolumeDaemonError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Correlate(error) => Self::Correlate(error),
            ScanError::Other(error) => error,
        }
    }
}

/// Every link with this serial. A folder that does not exist has none: udev makes it with the first link.
fn candidates(directory: &Path, serial: &str) -> io::Result<Vec<Candidate>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(serial_in) != Some(serial) {
            continue;
        }
        match resolved(entry.path()) {
            Ok(candidate) => found.push(candidate),
            // The device went away while its link was being followed.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.link.cmp(&b.link));
    Ok(found)
}

fn resolved(link: PathBuf) -> io::Result<Candidate> {
    let device = link.canonicalize()?;
    let size_bytes = end_of(&device)?;
    Ok(Candidate { link, device, size_bytes })
}

/// The end of a block device is its size, as that of a file is; metadata would say 0.
fn end_of(device: &Path) -> io::Result<u64> {
    std::fs::File::open(device)?.seek(SeekFrom::End(0))
}

/// Size in bytes of the device behind a link as it is now; none when it is gone.
pub(crate) async fn present_size(link: &Path) -> Result<Option<u64>, VolumeDaemonError> {
    let unreadable = |source| VolumeDaemonError::Folder { path: link.to_owned(), source };
    let device = link.to_owned();
    let measured = tokio::task::spawn_blocking(move || end_of(&device)).await;
    match measured.map_err(|error| unreadable(io::Error::other(error)))? {
        Ok(size_bytes) => Ok(Some(size_bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

/// ENOENT, and what opening a node gives whose disk has been unplugged: ENXIO or ENODEV.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NOENT, Errno::NXIO, Errno::NODEV];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SERIAL: &str = "1d8d87d41425459c8d81";

    #[test]
    fn links_of_the_serial_are_followed_and_others_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let (by_id, disk) = (folder.path().join("by-id"), folder.path().join("disk"));
        assert_eq!(candidates(&by_id, SERIAL).unwrap(), []);
        std::fs::create_dir(&by_id).unwrap();
        std::fs::File::create(&disk).unwrap().set_len(4096).unwrap();
        let link = by_id.join(format!("virtio-{SERIAL}"));
        symlink(&disk, &link).unwrap();
        symlink(&disk, by_id.join(format!("virtio-{SERIAL}-part1"))).unwrap();
        symlink(&disk, by_id.join("virtio-ffffffffffffffffffff")).unwrap();
        symlink(folder.path().join("unplugged"), by_id.join(format!("ata-QEMU_HARDDISK_{SERIAL}"))).unwrap();
        let device = disk.canonicalize().unwrap();
        assert_eq!(candidates(&by_id, SERIAL).unwrap(), [Candidate { link, device, size_bytes: 4096 }]);
    }
}
