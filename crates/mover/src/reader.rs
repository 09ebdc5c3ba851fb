//! How a frozen disk is read: by the thread that needs the bytes, or from afar by tasks that keep many reads under way.

mod folder;
mod nbd;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use block::{BlockDevice, FileDevice, RegionState};
use model::Extent;

pub use folder::FolderReader;
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
    /// A raw image or a block device.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn file(path: &Path) -> Result<Self, MoverError> {
        let device = FileDevice::open(path, true).map_err(|source| MoverError::OpenSource { source })?;
        Ok(Self::Local(Arc::new(device)))
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
        let Self::Local(device) = self else { return Ok(None) };
        let mut allocated: Vec<Extent> = Vec::new();
        let mut offset = 0;
        while let Some(stretch) = Extent::new(offset, MAP_BYTES).clamp_to(capacity_bytes) {
            let regions = device.map(stretch).map_err(|source| MoverError::ReadSource { source })?;
            allocated.extend(regions.iter().filter(|r| r.state == RegionState::Data).map(|region| region.extent));
            offset = stretch.end();
        }
        Ok(Some(allocated))
    }
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
}
