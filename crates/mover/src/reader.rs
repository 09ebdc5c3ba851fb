//! How a frozen disk is read: by the thread that needs the bytes, or from afar by tasks that keep many reads under way.

mod folder;
mod nbd;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use block::{BlockDevice, FileDevice, RegionState};
use model::Extent;

pub use folder::{ChainReader, FolderReader, ReadBudget};
pub use nbd::{NbdReader, ServedDisk, fill};

use crate::error::MoverError;

/// Longest stretch of a disk asked about at a time, in bytes.
const MAP_BYTES: u64 = 64 << 30;

/// A disk that does not change while it is read.
#[derive(Clone)]
pub enum Source {
    /// On this machine: reading it is a system call.
    Local(Arc<dyn BlockDevice>),
    /// Elsewhere: an answer takes a while, so many are waited for at once.
    Remote(Arc<dyn Reader>),
}

impl Source {
    /// An image by its name: `.vmdk` and `.ova` are what they say, everything else is raw or a block device. The content is
    /// never asked: a guest writes what it likes at the beginning of its raw disk.
    ///
    /// # Errors
    /// When it cannot be opened, or is damaged.
    pub fn file(path: &Path) -> Result<Self, MoverError> {
        if is_vmware_image(path) {
            let opened = vmdk::open(path, &vmdk::OpenOptions::default());
            let device = opened.map_err(|source| MoverError::OpenImage { source })?;
            for note in device.notes() {
                tracing::warn!(path = %path.display(), note, "the image can be read, with something to know about it");
            }
            return Ok(Self::Local(Arc::new(device)));
        }
        let device = FileDevice::open(path, true).map_err(|source| MoverError::OpenSource { source })?;
        Ok(Self::Local(Arc::new(device)))
    }

    /// A disk that was added to this machine: a block device whose bytes are read once.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn device(path: &Path) -> Result<Self, MoverError> {
        let device = FileDevice::open(path, true).map_err(|source| MoverError::OpenSource { source })?;
        Ok(Self::Local(Arc::new(device.read_once())))
    }

    /// A disk read by `reader`.
    #[must_use]
    pub fn remote(reader: impl Reader + 'static) -> Self {
        Self::Remote(Arc::new(reader))
    }

    /// Size of the disk in bytes, as this way of reading sees it.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        match self {
            Self::Local(device) => device.size_bytes(),
            Self::Remote(reader) => reader.capacity_bytes(),
        }
    }

    /// Where the first `capacity_bytes` may hold something else than zeroes, where this is known without reading.
    /// It may take a while: call it on a thread that may wait.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub fn allocated(&self, capacity_bytes: u64) -> Result<Option<Vec<Extent>>, MoverError> {
        match self {
            Self::Local(device) => allocated_of(&**device, capacity_bytes).map(Some),
            Self::Remote(reader) => reader.allocated(capacity_bytes),
        }
    }
}

/// Where the first `capacity_bytes` of a device may hold something else than zeroes.
fn allocated_of(device: &dyn BlockDevice, capacity_bytes: u64) -> Result<Vec<Extent>, MoverError> {
    let mut allocated: Vec<Extent> = Vec::new();
    let mut offset = 0;
    while let Some(stretch) = Extent::new(offset, MAP_BYTES).clamp_to(capacity_bytes) {
        let regions = device.map(stretch).map_err(|source| MoverError::ReadSource { source })?;
        allocated.extend(regions.iter().filter(|r| r.state == RegionState::Data).map(|region| region.extent));
        offset = stretch.end();
    }
    Ok(allocated)
}

/// Whether a file is a VMDK with its descriptor, or an archive; a flat extent is the disk's bytes and nothing else.
fn is_vmware_image(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let is_flat = name.ends_with("-flat.vmdk");
    let kind = Path::new(&name).extension().and_then(|kind| kind.to_str());
    matches!(kind, Some("vmdk" | "ova")) && !is_flat
}

/// Reads a disk from afar.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Size of the disk in bytes, as this way of reading sees it.
    fn capacity_bytes(&self) -> u64;

    /// How many reads may be under way at once.
    fn parallelism(&self) -> usize;

    /// Fills all of `buffer` (its length says how much) from `offset` and gives it back; the range lies within the
    /// disk.
    ///
    /// # Errors
    /// When the source cannot be read.
    async fn read_into(&self, offset: u64, buffer: Vec<u8>) -> Result<Vec<u8>, MoverError>;

    /// Where the first `capacity_bytes` may hold something else than zeroes, if that is known. It may block.
    ///
    /// # Errors
    /// When the source cannot be asked.
    fn allocated(&self, capacity_bytes: u64) -> Result<Option<Vec<Extent>>, MoverError> {
        let _ = capacity_bytes;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_says_what_a_file_is() {
        for (name, expected) in [
            ("web1.vmdk", true),
            ("WEB1.VMDK", true),
            ("web1-000001.vmdk", true),
            ("web1.ova", true),
            ("web1-flat.vmdk", false),
            ("web1.raw", false),
            ("vmdk", false),
            ("sdb", false),
        ] {
            assert_eq!(is_vmware_image(Path::new("/images").join(name).as_path()), expected, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("disk.raw");
        std::fs::write(&raw, b"KDMV and whatever a guest likes").unwrap();
        assert_eq!(Source::file(&raw).unwrap().capacity_bytes(), 31);
        let image = folder.path().join("disk.vmdk");
        std::fs::write(&image, b"KDMV and nothing that could be an image").unwrap();
        let error = Source::file(&image).err().unwrap();
        assert!(matches!(error, MoverError::OpenImage { .. }), "{error:?}");
        assert!(error.remedy().is_some());
    }
}
