//! Copies one disk: workers take chunks of the plan, read, digest and test for zero leaf by leaf, write, count.
//!
//! Bytes in flight are bounded by the number of workers times [`crate::plan::MAX_CHUNK_BYTES`] (twice that in a comparison); a
//! buffer goes from the read to the write without a copy. Nothing here knows vSphere or TLS.

use std::sync::Arc;

use api::vma::SyncMode;
use block::digest::leaf_digest;
use block::zero::is_zero;
use model::{Extent, LEAF_SIZE_BYTES};
use nbd::client::Client;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::digest_file::DigestFile;
use crate::error::MoverError;
use crate::plan::{Cursor, Plan};
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
    /// Runs to the end: [`transfer`](Self::transfer), then [`make_durable`](Self::make_durable).
    ///
    /// # Errors
    /// As for both.
    pub async fn run(self, cancel: &CancellationToken) -> Result<(), MoverError> {
        let copy = Arc::new(self);
        copy.transfer(cancel).await?;
        copy.make_durable().await
    }

    /// Reads and writes all of the plan. Nothing of it may be called done before [`make_durable`](Self::make_durable).
    ///
    /// # Errors
    /// The first error of any worker, or `Cancelled`; the other workers are stopped. The replica is then incomplete.
    pub async fn transfer(self: &Arc<Self>, cancel: &CancellationToken) -> Result<(), MoverError> {
        self.progress.begin(self.plan.bytes_total);
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(MoverError::Cancelled),
            transferred = self.move_everything() => transferred,
        }
    }

    /// All that was transferred is durable on the hub, and every digest is in its file, when this returns `Ok`.
    ///
    /// # Errors
    /// The hub cannot make it durable, or the digests cannot be written.
    pub async fn make_durable(&self) -> Result<(), MoverError> {
        self.target.flush().await?;
        self.digests.finish()
    }

    async fn move_everything(self: &Arc<Self>) -> Result<(), MoverError> {
        for extent in &self.plan.zeroes {
            self.target.zero(*extent).await?;
        }
        let workers = (self.target.connections() * CHUNKS_PER_CONNECTION).min(self.reader.parallelism()).max(1);
        let cursor = Arc::new(Mutex::new(Cursor::default()));
        // The set stops its workers when it is dropped: at the first error, and when this future is given up.
        let mut working = JoinSet::new();
        for worker in 0..workers {
            let (copy, cursor) = (Arc::clone(self), Arc::clone(&cursor));
            working.spawn(async move { copy.work(worker, &cursor).await });
        }
        while let Some(ended) = working.join_next().await {
            ended.map_err(|source| MoverError::Worker { source })??;
        }
        Ok(())
    }

    async fn work(&self, worker: usize, cursor: &Mutex<Cursor>) -> Result<(), MoverError> {
        let connection = self.target.connection(worker);
        let (mut source, mut replica) = (Vec::new(), Vec::new());
        loop {
            let Some(chunk) = cursor.lock().next(&self.plan) else { return Ok(()) };
            source.resize(length_of(chunk), 0);
            source = self.reader.read_into(chunk.offset, source).await?;
            self.progress.add_read(chunk.length);
            let digests: Vec<[u8; 32]> = source.chunks(LEAF).map(leaf_digest).collect();
            self.digests.append(chunk.offset / LEAF_SIZE_BYTES, &digests)?;
            let compared = if self.mode == SyncMode::Compare {
                replica.resize(length_of(chunk), 0);
                let read = connection.read_into(chunk.offset, replica).await;
                replica = read.map_err(|error| MoverError::read_target(chunk.offset, error))?;
                Some(replica.as_slice())
            } else {
                None
            };
            let (sent, zero) = write_chunk(connection, chunk, &source, compared).await?;
            self.progress.add_done(chunk.length, sent, zero);
        }
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
        let expected = [
            (Piece::Same, Extent::new(0, LEAF_SIZE_BYTES)),
            (Piece::Zero, Extent::new(LEAF_SIZE_BYTES, LEAF_SIZE_BYTES)),
        ];
        assert_eq!(runs, expected);
    }
}
