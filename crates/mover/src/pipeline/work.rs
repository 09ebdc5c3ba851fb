//! What a thread of a copy does with each chunk: digest, find out what has to be sent, send.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::vma::SyncMode;
use block::PageBuffer;
use block::digest::{leaf_digest, zero_leaf_digest};
use block::zero::is_zero;
use model::{Extent, LEAF_SIZE_BYTES};
use nbd::Lane;

use super::DiskCopy;
use super::feed::{Feed, Room, length_of};
use crate::digest_file::DigestFile;
use crate::error::MoverError;
use crate::plan::Chunk;
use crate::progress::Spent;

/// [`LEAF_SIZE_BYTES`] as a length in memory.
const LEAF: usize = LEAF_SIZE_BYTES as usize;

/// Works until there is nothing left, somebody asked to stop, or something fails; what was sent is then answered.
pub(super) fn work(copy: &DiskCopy, feed: &Feed, lane: &mut Lane, stop: &AtomicBool) -> Result<(), MoverError> {
    let refused = |offset| move |source| MoverError::WriteTarget { offset, source };
    let mut clock = Lap::start();
    while let Some(extent) = feed.next_zeroes(&copy.plan) {
        lane.write_zeroes(extent).map_err(refused(extent.offset))?;
    }
    let mut spent = Spent { deliver: clock.lap(), ..Spent::default() };
    let (mut room, mut replica, mut zeroes) = (Room::default(), PageBuffer::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        // A source that hangs must not hide what the hub has to say.
        let mut heard = Duration::ZERO;
        let hear = || {
            let mut clock = Lap::start();
            let settled = lane.settle().map_err(refused_earlier);
            heard = clock.lap();
            settled
        };
        let Some((next, source)) = feed.next_chunk(&copy.plan, &copy.progress, &mut room, hear)? else { break };
        let chunk = next.extent;
        spent.source_read = clock.lap().saturating_sub(heard);
        zeroes.clear();
        zeroes.extend(source.chunks(LEAF).map(is_zero));
        if let Some(digests) = &copy.digests {
            note(digests, next, source, &zeroes)?;
        }
        spent.hash = clock.lap();
        if next.is_scrubbed {
            spent.deliver += heard;
            copy.progress.add_spent(std::mem::take(&mut spent));
            copy.progress.add_done(chunk.length, 0, 0);
            keep_digests_if_due(copy)?;
            continue;
        }
        let compared = if copy.mode == SyncMode::Compare {
            replica.set_length(length_of(chunk));
            let read = lane.read(chunk.offset, &mut replica);
            read.map_err(|source| MoverError::ReadTarget { offset: chunk.offset, source })?;
            Some(&*replica)
        } else {
            None
        };
        let (sent, zero) = send(lane, chunk, source, &zeroes, compared)?;
        spent.deliver += clock.lap() + heard;
        copy.progress.add_spent(std::mem::take(&mut spent));
        copy.progress.add_done(chunk.length, sent, zero);
        keep_digests_if_due(copy)?;
    }
    let settled = lane.settle().map_err(refused_earlier);
    copy.progress.add_spent(Spent { deliver: spent.deliver + clock.lap(), ..Spent::default() });
    settled
}

/// A clock that is read three times for a chunk: what a copy is bound by is known without slowing it.
struct Lap(Instant);

impl Lap {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it was asked last.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}

/// From time to time what was digested is made durable, so that a run that is cut off need not read it again.
fn keep_digests_if_due(copy: &DiskCopy) -> Result<(), MoverError> {
    match copy.digests.as_ref().filter(|digests| digests.is_checkpoint_due()) {
        Some(digests) => digests.checkpoint(copy.progress.moved()),
        None => Ok(()),
    }
}

/// An answer that came late still says which request it was about.
fn refused_earlier(source: nbd::NbdError) -> MoverError {
    let offset = if let nbd::NbdError::Remote { offset, .. } = &source { *offset } else { 0 };
    MoverError::WriteTarget { offset, source }
}

fn note(digests: &DigestFile, chunk: Chunk, source: &[u8], zeroes: &[bool]) -> Result<(), MoverError> {
    let digest = |(leaf, &zero): (&[u8], &bool)| match zero {
        true => zero_leaf_digest(leaf.len() as u64),
        false => leaf_digest(leaf),
    };
    let all: Vec<[u8; 32]> = source.chunks(LEAF).zip(zeroes).map(digest).collect();
    digests.append(chunk.extent.offset / LEAF_SIZE_BYTES, &all, chunk.is_scrubbed)
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

/// Sends one chunk as few commands; answers with the bytes sent as data and as zeroes.
fn send(
    lane: &mut Lane,
    chunk: Extent,
    source: &[u8],
    zeroes: &[bool],
    replica: Option<&[u8]>,
) -> Result<(u64, u64), MoverError> {
    let (mut sent, mut zero) = (0, 0);
    for (piece, extent) in pieces(chunk, source, zeroes, replica) {
        let outcome = match piece {
            Piece::Same => continue,
            Piece::Zero => {
                zero += extent.length;
                lane.write_zeroes(extent)
            }
            Piece::Data => {
                sent += extent.length;
                let from = usize::try_from(extent.offset - chunk.offset).unwrap_or(usize::MAX);
                lane.write(extent.offset, &source[from..from + length_of(extent)])
            }
        };
        outcome.map_err(|source| MoverError::WriteTarget { offset: extent.offset, source })?;
    }
    Ok((sent, zero))
}

/// Cuts a chunk into runs of leaves that are treated alike.
fn pieces(chunk: Extent, source: &[u8], zeroes: &[bool], replica: Option<&[u8]>) -> Vec<(Piece, Extent)> {
    let mut runs: Vec<(Piece, Extent)> = Vec::new();
    let mut offset = chunk.offset;
    for (index, (leaf, &zero)) in source.chunks(LEAF).zip(zeroes).enumerate() {
        let theirs = replica.and_then(|replica| replica.get(index * LEAF..index * LEAF + leaf.len()));
        let piece = if theirs == Some(leaf) {
            Piece::Same
        } else if zero {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of(chunk: Extent, source: &[u8], replica: Option<&[u8]>) -> Vec<(Piece, Extent)> {
        let zeroes: Vec<bool> = source.chunks(LEAF).map(is_zero).collect();
        pieces(chunk, source, &zeroes, replica)
    }

    #[test]
    fn a_chunk_is_cut_where_its_leaves_change_kind() {
        let mut source = vec![0u8; 5 * LEAF + 10];
        source[LEAF + 3] = 1;
        source[2 * LEAF] = 1;
        source[5 * LEAF + 9] = 7;
        let chunk = Extent::new(LEAF_SIZE_BYTES * 4, source.len() as u64);
        let runs = runs_of(chunk, &source, None);
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
        let runs = runs_of(Extent::new(0, source.len() as u64), &source, Some(&replica));
        let expected = [
            (Piece::Same, Extent::new(0, LEAF_SIZE_BYTES)),
            (Piece::Zero, Extent::new(LEAF_SIZE_BYTES, LEAF_SIZE_BYTES)),
        ];
        assert_eq!(runs, expected);
    }
}
