//! How a frozen disk is read: one trait, one file per way.

mod file;
mod folder;
mod nbd;

use async_trait::async_trait;

pub use file::FileReader;
pub use folder::FolderReader;
pub use nbd::{NbdReader, ServedDisk, fill};

use crate::error::MoverError;

/// Reads a disk that does not change while it is read.
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
