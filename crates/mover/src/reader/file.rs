//! Reads a raw image the agent can see as a file (or a block device).

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use block::{BlockDevice, FileDevice};

use super::Reader;
use crate::error::MoverError;

/// Reads under way at once: enough to keep a disk's queue filled.
const PARALLELISM: usize = 8;

/// A raw image.
pub struct FileReader {
    device: Arc<FileDevice>,
}

impl FileReader {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, MoverError> {
        let device = FileDevice::open(path, true).map_err(|source| MoverError::OpenSource { source })?;
        Ok(Self { device: Arc::new(device) })
    }
}

#[async_trait]
impl Reader for FileReader {
    fn capacity_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn parallelism(&self) -> usize {
        PARALLELISM
    }

    async fn read_into(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, MoverError> {
        let device = Arc::clone(&self.device);
        let reading = tokio::task::spawn_blocking(move || device.read_at(&mut buffer, offset).map(|()| buffer));
        let read = reading.await.map_err(|source| MoverError::Worker { source })?;
        read.map_err(|source| MoverError::ReadSource { source })
    }
}
