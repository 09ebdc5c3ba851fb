//! Re-reads stretches of a device from its medium on several threads and compares them, leaf by leaf. What was expected
//! and what to do about a difference is the caller's.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use block::digest::{LeafDigest, leaf_digest};
use block::{BlockDevice, BlockError, PageBuffer};
use model::{Extent, LEAF_SIZE_BYTES};
use parking_lot::Mutex;

/// Largest single re-read, in leaves (1 MiB).
pub(super) const LEAVES_PER_READ: u64 = 16;
/// Most threads of one verification: it shares the machine with the transfers.
const MAX_THREADS: usize = 4;

/// Neighbouring leaves to be read together, at most [`LEAVES_PER_READ`].
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) first_leaf: u64,
    /// Whether change tracking calls all of them unchanged.
    pub(super) is_scrubbed: bool,
    pub(super) expected: Vec<LeafDigest>,
}

/// A leaf that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) leaf: u64,
    pub(super) expected: LeafDigest,
    pub(super) found: LeafDigest,
    pub(super) is_scrubbed: bool,
}

/// What a look at stretches yielded.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) bytes_read: u64,
    /// In order of leaves.
    pub(super) differences: Vec<Difference>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.bytes_read += other.bytes_read;
        self.differences.extend(other.differences);
    }
}

/// Reads and compares all stretches; leaves beyond `capacity_bytes` are not looked at.
///
/// # Errors
/// When the medium cannot be read: then nothing is known.
pub(super) fn compare_all(
    device: &dyn BlockDevice,
    capacity_bytes: u64,
    stretches: &[Stretch],
) -> Result<Seen, BlockError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(MAX_THREADS).min(stretches.len());
    let (next, outcome) = (AtomicUsize::new(0), Mutex::new(Ok(Seen::default())));
    let work = || {
        let mine = compare_some(device, capacity_bytes, || stretches.get(next.fetch_add(1, Relaxed)));
        let mut outcome = outcome.lock();
        match (&mut *outcome, mine) {
            (Ok(all), Ok(mine)) => all.add(mine),
            (Ok(_), Err(error)) => *outcome = Err(error),
            (Err(_), _) => {}
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut seen = outcome.into_inner()?;
    seen.differences.sort_unstable_by_key(|difference| difference.leaf);
    Ok(seen)
}

fn compare_some<'a>(
    device: &dyn BlockDevice,
    capacity_bytes: u64,
    next: impl Fn() -> Option<&'a Stretch>,
) -> Result<Seen, BlockError> {
    let (mut seen, mut buffer) = (Seen::default(), PageBuffer::new());
    while let Some(Stretch { first_leaf, is_scrubbed, expected }) = next() {
        let extent = Extent::new(first_leaf * LEAF_SIZE_BYTES, expected.len() as u64 * LEAF_SIZE_BYTES);
        let Some(extent) = extent.clamp_to(capacity_bytes) else { continue };
        buffer.set_length(usize::try_from(extent.length).unwrap_or(usize::MAX));
        device.read_from_medium(&mut buffer, extent.offset)?;
        seen.bytes_read += extent.length;
        for ((leaf, bytes), &expected) in (*first_leaf..).zip(buffer.chunks(LEAF_SIZE_BYTES as usize)).zip(expected) {
            let found = leaf_digest(bytes);
            if found != expected {
                seen.differences.push(Difference { leaf, expected, found, is_scrubbed: *is_scrubbed });
            }
        }
    }
    Ok(seen)
}
