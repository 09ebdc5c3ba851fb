//! The source digests of one disk: an append-only file of records, so that memory stays flat whatever the disk's size, and
//! its mirror, which says how much of it can be trusted after a crash.
//!
//! The file holds nothing but records, as the hub reads them. Nothing is called proven here that a checkpoint does not
//! cover.

mod mirror;
mod proven;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use api::gateway::DigestRecord;
use model::LEAF_SIZE_BYTES;
use parking_lot::Mutex;

use crate::error::MoverError;
use crate::progress::Moved;
use mirror::{Entry, Mirror};
pub use proven::{Proven, proven};

/// Bytes collected before they go to the file.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of the disk between two checkpoints. A cut-off run sends again at most what the hub had not made durable (32 MiB
/// and what was under way) or what no checkpoint covers; both are the last that was read, so they are not added up.
const CHECKPOINT_BYTES: u64 = 24 * 1024 * 1024;

/// Collects [`DigestRecord`]s of a disk while it is read; the order does not matter, each leaf is named once.
pub struct DigestFile {
    path: PathBuf,
    writer: Mutex<Writer>,
    /// Another handle on the file: it is synced while others append.
    file: File,
    mirror: Mutex<Mirror>,
}

/// What is appended, and what no checkpoint covers of it.
struct Writer {
    file: BufWriter<File>,
    /// Bytes appended in all.
    end: u64,
    /// Over the bytes since the last checkpoint.
    hasher: blake3::Hasher,
    /// Bytes of the disk since then.
    uncovered_bytes: u64,
}

impl DigestFile {
    /// Begins an empty file at `path`, and its mirror beside it.
    ///
    /// # Errors
    /// When they cannot be created.
    pub fn create(path: &Path) -> Result<Self, MoverError> {
        let failed = |source| MoverError::digests(path, source);
        let mirror = Mirror::new(File::create(mirror::path_of(path)).map_err(failed)?, 0);
        Self::over(path, File::create(path).map_err(failed)?, mirror)
    }

    /// Goes on at the end of `file`, all of which `mirror` covers.
    fn over(path: &Path, file: File, mirror: Mirror) -> Result<Self, MoverError> {
        let other = file.try_clone().map_err(|source| MoverError::digests(path, source))?;
        let writer = Writer {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            end: mirror.end(),
            hasher: blake3::Hasher::new(),
            uncovered_bytes: 0,
        };
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), file: other, mirror: Mutex::new(mirror) })
    }

    /// Appends the digests of a chunk, runs of equal leaves as one record; `is_scrubbed` says that nothing of it was sent.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&self, first_leaf: u64, digests: &[[u8; 32]], is_scrubbed: bool) -> Result<(), MoverError> {
        let mut wire = Vec::with_capacity(digests.len() * api::gateway::DIGEST_RECORD_BYTES);
        let mut leaf = first_leaf;
        for run in digests.chunk_by(|a, b| a == b) {
            let leaf_count = u32::try_from(run.len()).unwrap_or(u32::MAX);
            DigestRecord { first_leaf: leaf, leaf_count, is_scrubbed, digest: run[0] }.encode(&mut wire);
            leaf += u64::from(leaf_count);
        }
        let mut writer = self.writer.lock();
        writer.hasher.update(&wire);
        writer.end += wire.len() as u64;
        writer.uncovered_bytes += digests.len() as u64 * LEAF_SIZE_BYTES;
        writer.file.write_all(&wire).map_err(|source| MoverError::digests(&self.path, source))
    }

    /// Whether so much was appended that a checkpoint should follow.
    #[must_use]
    pub fn is_checkpoint_due(&self) -> bool {
        self.writer.lock().uncovered_bytes >= CHECKPOINT_BYTES
    }

    /// Makes what was appended durable, unless somebody else is at it; others may append meanwhile.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn checkpoint(&self, moved: Moved) -> Result<(), MoverError> {
        self.mirror.try_lock().map_or(Ok(()), |mut mirror| self.cover(&mut mirror, moved))
    }

    /// Everything appended is in the file, durable and covered.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn finish(&self, moved: Moved) -> Result<(), MoverError> {
        self.cover(&mut self.mirror.lock(), moved)
    }

    fn cover(&self, mirror: &mut Mirror, moved: Moved) -> Result<(), MoverError> {
        let failed = |source| MoverError::digests(&self.path, source);
        let entry = {
            let mut writer = self.writer.lock();
            writer.file.flush().map_err(failed)?;
            let entry = Entry::new(writer.end, &writer.hasher, moved);
            writer.hasher.reset();
            writer.uncovered_bytes = 0;
            entry
        };
        if entry.end == mirror.end() {
            return Ok(());
        }
        // In any order: an entry counts only with the bytes it was made of.
        mirror.append(&entry).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        mirror.sync().map_err(failed)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
