//! Reads a disk's frozen files over HTTPS ranges of its datastore: no VMware library, no second VM.

mod chain;
mod requests;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use vsphere::{FolderFile, VsphereError};

pub use chain::ChainReader;

use super::Reader;
use crate::error::MoverError;

/// Requests under way at once per disk: vCenter passes each on to a host.
const PARALLELISM: usize = 8;
/// Bytes under way at once from one ESXi host: what it can buffer for all its readers together.
const HOST_MIB: usize = 32;
const MIB: usize = 1 << 20;

/// What all readers of one ESXi host may have under way together: 32 MiB. Clones share it.
#[derive(Debug, Clone)]
pub struct ReadBudget {
    mib: Arc<Semaphore>,
}

impl Default for ReadBudget {
    fn default() -> Self {
        Self { mib: Arc::new(Semaphore::new(HOST_MIB)) }
    }
}

impl ReadBudget {
    /// Reads within it.
    async fn read(&self, file: &FolderFile, offset: u64, buffer: &mut [u8]) -> Result<(), VsphereError> {
        let mib = buffer.len().div_ceil(MIB).clamp(1, HOST_MIB);
        // Nobody closes the semaphore.
        let _under_way = self.mib.acquire_many(u32::try_from(mib).unwrap_or(1)).await.ok();
        file.read_at(offset, buffer).await
    }
}

/// A disk in one flat file.
pub struct FolderReader {
    file: FolderFile,
    budget: ReadBudget,
}

impl FolderReader {
    /// Reads from an open file.
    #[must_use]
    pub fn new(file: FolderFile, budget: ReadBudget) -> Self {
        Self { file, budget }
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
        let read = self.budget.read(&self.file, offset, &mut buffer).await;
        read.map_err(|source| MoverError::Datastore { source }).map(|()| buffer)
    }
}
