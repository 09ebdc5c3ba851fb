//! Copies one disk: workers take chunks of the plan, read, digest and test for zero leaf by leaf, write, count.
//!
//! Bytes in flight are bounded by the number of workers times [`MAX_CHUNK_BYTES`]; a buffer goes from the read to
//! the write without a copy. Nothing here knows vSphere or TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::vma::SyncMode;
use block::digest::leaf_digest;
use block::zero::is_zero;
use futures::future::try_join_all;
use model::{Extent, LEAF_SIZE_BYTES};
use nbd::client::Client;
use tokio_util::sync::CancellationToken;

use crate::digest_file::DigestFile;
use crate::error::MoverError;
use crate::plan::{MAX_CHUNK_BYTES, Plan};
use crate::progress::DiskProgress;
use crate::reader::Reader;
use crate::target::Target;

/// Chunks each connection keeps under way: one on the wire, one being written, two being read.
const CHUNKS_PER_CONNECTION: usize = 4;
/// [`LEAF_SIZE_BYTES`] as a length in memory.
const LEAF: usize = LEAF_SIZE_BYTES as usize;

/// One disk's copy: where from, where to, what, and where it is noted.
pub struct DiskCopy {
    /// The frozen disk.
    pub reader: Arc<dyn Reader>,
    /// The replica.
    pub target: Target,
    /// What to do.
    pub plan: Plan,
    /// Full and incremental write everything they read; a comparison writes what differs.
    pub mode: SyncMode,
    /// Where the source's digests go.
    pub digests: DigestFile,
    /// Live counters.
    pub progress: Arc<DiskProgress>,
}

impl DiskCopy {
    /// Runs to the end: when this returns `Ok`, all of it is durable on the hub and every digest is in its file.
    ///
    /// # Errors
    /// The first error of any worker; the others stop. The replica is then incomplete.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<(), MoverError> {
        self.progress.begin(self.plan.bytes_total);
        for extent in &self.plan.zeroes {
            if cancel.is_cancelled() {
                return Err(MoverError::Cancelled);
            }
            self.target.zero(*extent).await?;
        }
        let next = AtomicUsize::new(0);
        let workers = (self.target.connections() * CHUNKS_PER_CONNECTION).min(self.reader.parallelism()).max(1);
        try_join_all((0..workers).map(|worker| self.work(worker, &next, cancel))).await?;
        self.target.flush().await?;
        self.digests.finish()
    }

    async fn work(&self, worker: usize, next: &AtomicUsize, cancel: &CancellationToken) -> Result<(), MoverError> {
        let connection = self.target.connection(worker);
        let mut buffer = vec![0u8; MAX_CHUNK_BYTES as usize];
        let mut replica = match self.mode {
            SyncMode::Compare => vec![0u8; MAX_CHUNK_BYTES as usize],
            SyncMode::Full | SyncMode::Incremental => Vec::new(),
        };
        while let Some(chunk) = self.plan.chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            if cancel.is_cancelled() {
                return Err(MoverError::Cancelled);
            }
            let source = &mut buffer[..length_of(*chunk)];
            self.reader.read_at(chunk.offset, source).await?;
            self.progress.add_read(chunk.length);
            let digests: Vec<[u8; 32]> = source.chunks(LEAF).map(leaf_digest).collect();
            self.digests.append(chunk.offset / LEAF_SIZE_BYTES, &digests)?;
            let replica = match self.mode {
                SyncMode::Compare => {
                    let replica = &mut replica[..source.len()];
                    let outcome = connection.read(chunk.offset, replica).await;
                    outcome.map_err(|error| MoverError::read_target(chunk.offset, error))?;
                    Some(&*replica)
                }
                SyncMode::Full | SyncMode::Incremental => None,
            };
            let (sent, zero) = write_chunk(connection, *chunk, source, replica).await?;
            self.progress.add_done(chunk.length, sent, zero);
        }
        Ok(())
    }
}

/// What is to be done with a run of leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// The replica has it already.
    Same,
    /// Send the bytes.
    Data,
    /// Only say that it is zero.
    Zero,
}

/// Writes one chunk as few commands; answers with the bytes sent as data and as zeroes.
async fn write_chunk(
    connection: &Client,
    chunk: Extent,
    source: &[u8],
    replica: Option<&[u8]>,
) -> Result<(u64, u64), MoverError> {
    let (mut sent, mut zero) = (0, 0);
    for (piece, extent) in pieces(chunk, source, replica) {
        let outcome = match piece {
            Piece::Same => continue,
            Piece::Zero => {
                zero += extent.length;
                connection.write_zeroes(extent, true).await
            }
            Piece::Data => {
                sent += extent.length;
                let from = usize::try_from(extent.offset - chunk.offset).unwrap_or(usize::MAX);
                connection.write(extent.offset, &source[from..from + length_of(extent)]).await
            }
        };
        outcome.map_err(|error| MoverError::write_target(extent.offset, error))?;
    }
    Ok((sent, zero))
}

/// Cuts a chunk into runs of leaves that are treated alike; the zero test looks at every byte.
fn pieces(chunk: Extent, source: &[u8], replica: Option<&[u8]>) -> Vec<(Piece, Extent)> {
    let mut runs: Vec<(Piece, Extent)> = Vec::new();
    let mut offset = chunk.offset;
    for (index, leaf) in source.chunks(LEAF).enumerate() {
        let theirs = replica.and_then(|replica| replica.chunks(LEAF).nth(index));
        let piece = if theirs == Some(leaf) {
            Piece::Same
        } else if is_zero(leaf) {
            Piece::Zero
        } else {
            Piece::Data
        };
        let length = leaf.len() as u64;
        match runs.last_mut() {
            Some((last, extent)) if *last == piece => extent.length += length,
            _ => runs.push((piece, Extent::new(offset, length))),
        }
        offset += length;
    }
    runs
}

fn length_of(extent: Extent) -> usize {
    usize::try_from(extent.length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_cut_where_its_leaves_change_kind() {
        let mut source = vec![0u8; 5 * LEAF + 10];
        source[LEAF + 3] = 1;
        source[2 * LEAF] = 1;
        source[5 * LEAF + 9] = 7;
        let chunk = Extent::new(LEAF_SIZE_BYTES * 4, source.len() as u64);
        let runs = pieces(chunk, &source, None);
        let at = |leaf: u64, length| Extent::new(LEAF_SIZE_BYTES * (4 + leaf), length);
        let expected = [
            (Piece::Zero, at(0, LEAF_SIZE_BYTES)),
            (Piece::Data, at(1, 2 * LEAF_SIZE_BYTES)),
            (Piece::Zero, at(3, 2 * LEAF_SIZE_BYTES)),
            (Piece::Data, at(5, 10)),
        ];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_comparison_leaves_equal_leaves_alone_and_zeroes_what_became_zero() {
        let source = vec![0u8; 2 * LEAF];
        let mut replica = source.clone();
        replica[LEAF] = 1;
        let runs = pieces(Extent::new(0, source.len() as u64), &source, Some(&replica));
        let expected =
            [(Piece::Same, Extent::new(0, LEAF_SIZE_BYTES)), (Piece::Zero, Extent::new(LEAF_SIZE_BYTES, LEAF_SIZE_BYTES))];
        assert_eq!(runs, expected);
    }
}
