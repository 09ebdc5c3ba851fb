//! Reads a disk's frozen flat file over HTTPS ranges of its datastore: no VMware library, no second VM.

use async_trait::async_trait;
use vsphere::FolderFile;

use super::Reader;
use crate::error::MoverError;

/// Requests under way at once per disk: vCenter passes each on to a host, and a host takes 32 of 1 MiB.
const PARALLELISM: usize = 8;

/// A flat file on a datastore.
pub struct FolderReader {
    file: FolderFile,
}

impl FolderReader {
    /// Reads from an open file.
    #[must_use]
    pub fn new(file: FolderFile) -> Self {
        Self { file }
    }
}

#[async_trait]
impl Reader for FolderReader {
    fn capacity_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn parallelism(&self) -> usize {
        PARALLELISM
    }

    async fn read_into(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, MoverError> {
        let read = self.file.read_at(offset, &mut buffer).await;
        read.map_err(|source| MoverError::Datastore { source }).map(|()| buffer)
    }
}
