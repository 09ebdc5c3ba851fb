//! Barriers: what was written since the last one becomes durable, then the index says so. Shared by journals and ledgers;
//! how the bytes themselves become durable is theirs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use block::BlockError;
use model::Extent;
use parking_lot::Mutex;

use crate::error::is_full;
use crate::extents::ExtentSet;
use crate::index::{Entry, MAX_FRAME_ENTRIES, Run, Tail, encode_frame};
use crate::medium::Medium;

/// After this many bytes a barrier is made by itself. A run that is cut off sends what came after the last barrier again,
/// and a barrier costs two waits for the medium: at 1 GB/s of incoming data there are 30 of them in a second.
pub const BARRIER_BYTES: u64 = 32 << 20;
/// Writers wait for a barrier under way when this much is not durable: what a cut-off run sends again at most.
pub const MAX_UNSETTLED_BYTES: u64 = 2 * BARRIER_BYTES;
/// A barrier is also made after this many entries: runs of zeroes have many of them and hardly a byte.
const BARRIER_ENTRIES: usize = 16_384;

/// What the next barrier is about.
#[derive(Default)]
struct Pending {
    entries: Vec<Entry>,
    bytes: u64,
}

/// An index that is written.
pub(crate) struct Log {
    run: Run,
    index: Box<dyn Medium>,
    /// Held for the length of a barrier.
    tail: Mutex<Tail>,
    pending: Mutex<Pending>,
    durable: Mutex<ExtentSet>,
    /// Bytes written that no barrier has made durable yet, those of a barrier under way included.
    unsettled: AtomicU64,
    poisoned: AtomicBool,
    sealed: AtomicBool,
}

impl Log {
    /// Goes on after `tail`; `durable` is what is before it.
    pub(crate) fn new(run: Run, index: Box<dyn Medium>, tail: Tail, durable: ExtentSet) -> Self {
        Self {
            run,
            index,
            tail: Mutex::new(tail),
            pending: Mutex::default(),
            durable: Mutex::new(durable),
            unsettled: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        }
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Whether something may be written.
    pub(crate) fn check(&self) -> Result<(), BlockError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(BlockError::Poisoned);
        }
        if self.sealed.load(Ordering::Acquire) { Err(BlockError::ReadOnly) } else { Ok(()) }
    }

    /// Notes a change that the next barrier is to cover; `bytes` are those that would be sent again without it.
    pub(crate) fn note(&self, entry: Entry, bytes: u64) -> Result<(), BlockError> {
        let mut pending = self.pending.lock();
        self.check()?;
        pending.bytes += bytes;
        self.unsettled.fetch_add(bytes, Ordering::AcqRel);
        match pending.entries.last_mut() {
            // One that carries no bytes of its own grows with its neighbour.
            Some(last)
                if last.change == entry.change && entry.data_end() == 0 && touches(last.extent, entry.extent) =>
            {
                let start = last.extent.offset.min(entry.extent.offset);
                last.extent = Extent::new(start, last.extent.end().max(entry.extent.end()) - start);
            }
            _ => pending.entries.push(entry),
        }
        Ok(())
    }

    /// Makes a barrier when one is due, on the thread that finds out; others go on writing, up to a limit.
    pub(crate) fn barrier_if_due(&self, settle: impl FnOnce() -> Result<(), BlockError>) -> Result<(), BlockError> {
        if !self.is_due() {
            return Ok(());
        }
        let tail = if self.unsettled.load(Ordering::Acquire) >= MAX_UNSETTLED_BYTES {
            Some(self.tail.lock())
        } else {
            self.tail.try_lock()
        };
        match tail {
            Some(mut tail) if self.is_due() => self.barrier_at(&mut tail, settle),
            _ => Ok(()),
        }
    }

    fn is_due(&self) -> bool {
        let pending = self.pending.lock();
        pending.bytes >= BARRIER_BYTES || pending.entries.len() >= BARRIER_ENTRIES
    }

    /// Everything noted before is durable when it returns: `settle` makes the bytes so, then the index says it.
    pub(crate) fn barrier(&self, settle: impl FnOnce() -> Result<(), BlockError>) -> Result<(), BlockError> {
        self.barrier_at(&mut self.tail.lock(), settle)
    }

    fn barrier_at(&self, tail: &mut Tail, settle: impl FnOnce() -> Result<(), BlockError>) -> Result<(), BlockError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(BlockError::Poisoned);
        }
        let taken = std::mem::take(&mut *self.pending.lock());
        let done = settle().and_then(|()| self.append(tail, &taken.entries));
        if done.is_err() {
            // After a failed flush the kernel may have dropped what it could not write: only reading it all anew tells.
            self.poisoned.store(true, Ordering::Release);
        }
        self.unsettled.fetch_sub(taken.bytes, Ordering::AcqRel);
        done
    }

    fn append(&self, tail: &mut Tail, entries: &[Entry]) -> Result<(), BlockError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut next = *tail;
        for part in entries.chunks(MAX_FRAME_ENTRIES) {
            let data_end = part.iter().map(Entry::data_end).max().unwrap_or(0);
            next.data_bytes = next.data_bytes.max(data_end);
            let (frame, chain) = encode_frame(&next.chain, next.sequence, next.data_bytes, part);
            let length = frame.len() as u64;
            self.index.write_at(&frame, next.index_bytes).map_err(|source| match is_full(&source) {
                true => BlockError::JournalFull { offset: next.index_bytes, length },
                false => BlockError::Write { offset: next.index_bytes, length, source },
            })?;
            next = Tail { chain, sequence: next.sequence + 1, index_bytes: next.index_bytes + length, ..next };
        }
        self.index.sync().map_err(|source| BlockError::Flush { source })?;
        *tail = next;
        let mut durable = self.durable.lock();
        entries.iter().for_each(|entry| durable.insert(entry.extent));
        Ok(())
    }

    /// From now on every change is refused, until [`unseal`](Self::unseal).
    pub(crate) fn seal(&self) {
        let _nobody_notes = self.pending.lock();
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn unseal(&self) {
        self.sealed.store(false, Ordering::Release);
    }

    pub(crate) fn tail(&self) -> Tail {
        *self.tail.lock()
    }

    pub(crate) fn durable(&self) -> Vec<Extent> {
        self.durable.lock().to_vec()
    }
}

fn touches(one: Extent, other: Extent) -> bool {
    one.offset <= other.end() && other.offset <= one.end()
}

/// A note of what a run that writes in place has made durable; see [`crate::Direct`].
pub struct Ledger {
    pub(crate) log: Log,
}

impl Ledger {
    /// Whose run it is.
    #[must_use]
    pub fn run(&self) -> &Run {
        self.log.run()
    }

    /// What is durable of the run: in order, extents that neither touch nor overlap.
    #[must_use]
    pub fn durable(&self) -> Vec<Extent> {
        self.log.durable()
    }

    /// Length of the index that counts, in bytes.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.log.tail().index_bytes
    }

    /// From now on every change is refused, until [`unseal`](Self::unseal).
    pub fn seal(&self) {
        self.log.seal();
    }

    /// Changes are taken again.
    pub fn unseal(&self) {
        self.log.unseal();
    }
}
