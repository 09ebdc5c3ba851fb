//! The digests a replication has proven and not committed yet: beside the committed file, which they do not touch.

use block::digest::LeafDigest;

use crate::error::ProofError;
use crate::header::{Coverage, ENTRY_BYTES};
use crate::leaves::{CHUNK_LEAVES, LeafFile};

/// Collects the digests of a replication in a file, in any order.
#[derive(Debug)]
pub struct StagedWriter {
    file: LeafFile,
    first_leaf: u64,
    run: Vec<u8>,
    leaves: u64,
}

impl StagedWriter {
    pub(crate) fn new(file: LeafFile) -> Self {
        Self { file, first_leaf: 0, run: Vec::new(), leaves: 0 }
    }

    /// These `count` leaves each have this digest.
    ///
    /// # Errors
    /// They reach past the disk's end, or the digest is one no leaf can have; the file cannot be written.
    pub fn add(&mut self, first_leaf: u64, count: u64, digest: &LeafDigest) -> Result<(), ProofError> {
        let leaves_total = self.file.leaves_total();
        let end = first_leaf.saturating_add(count);
        if end > leaves_total || count == 0 {
            let reason = format!("leaves {first_leaf} to {end} of a disk that has {leaves_total}");
            return Err(ProofError::Digests { reason });
        }
        if digest == &[0; 32] {
            return Err(ProofError::Digests { reason: format!("leaf {first_leaf} has no digest") });
        }
        self.leaves = self.leaves.saturating_add(count);
        let mut leaf = first_leaf;
        while leaf < end {
            // Where everything is known, a leaf without an entry is zero: nothing has to be written.
            let implied = self.file.coverage() == Coverage::Full && *digest == self.file.zero_digest(leaf);
            // All leaves but the last have one size, and with it one digest of zeroes.
            let next = if leaf < leaves_total - 1 { end.min(leaves_total - 1) } else { end };
            if !implied {
                self.extend(leaf, next - leaf, digest)?;
            }
            leaf = next;
        }
        Ok(())
    }

    fn extend(&mut self, first_leaf: u64, count: u64, digest: &LeafDigest) -> Result<(), ProofError> {
        for leaf in first_leaf..first_leaf + count {
            let held = self.run.len() as u64 / ENTRY_BYTES;
            if held == CHUNK_LEAVES || self.first_leaf + held != leaf {
                self.flush()?;
                self.first_leaf = leaf;
            }
            self.run.extend_from_slice(digest);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ProofError> {
        if !self.run.is_empty() {
            self.file.write(self.first_leaf, &self.run)?;
            self.run.clear();
        }
        Ok(())
    }

    /// Makes everything durable; answers with the number of leaves that were named.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<u64, ProofError> {
        self.flush()?;
        self.file.sync()?;
        Ok(self.leaves)
    }
}
