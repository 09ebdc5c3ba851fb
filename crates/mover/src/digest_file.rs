//! The source digests of one disk: an append-only file of records, so that memory stays flat whatever the disk's size.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use api::gateway::DigestRecord;
use parking_lot::Mutex;

use crate::error::MoverError;

/// Bytes collected before they go to the file.
const BUFFER_BYTES: usize = 256 * 1024;

/// Collects [`DigestRecord`]s of a disk while it is read; the order does not matter, each leaf is named once.
pub struct DigestFile {
    path: PathBuf,
    writer: Mutex<BufWriter<File>>,
}

impl DigestFile {
    /// Begins an empty file at `path`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self, MoverError> {
        let file = File::create(path).map_err(|source| MoverError::digests(path, source))?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(BufWriter::with_capacity(BUFFER_BYTES, file)) })
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
        self.writer.lock().write_all(&wire).map_err(|source| MoverError::digests(&self.path, source))
    }

    /// Everything appended is in the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> Result<(), MoverError> {
        self.writer.lock().flush().map_err(|source| MoverError::digests(&self.path, source))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::gateway::DIGEST_RECORD_BYTES;

    #[test]
    fn runs_of_equal_leaves_become_one_record() {
        let folder = tempfile::tempdir().unwrap();
        let file = DigestFile::create(&folder.path().join("disk-2000.digests")).unwrap();
        file.append(16, &[[1; 32], [0; 32], [0; 32], [2; 32]], false).unwrap();
        file.finish().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let records: Vec<_> = bytes
            .chunks_exact(DIGEST_RECORD_BYTES)
            .map(|record| DigestRecord::decode(record.try_into().unwrap()).unwrap())
            .map(|record| (record.first_leaf, record.leaf_count, record.digest[0]))
            .collect();
        assert_eq!(records, [(16, 1, 1), (17, 2, 0), (19, 1, 2)]);
    }
}
