//! One journal: payloads appended to its data, and the index that says where each extent's newest bytes are.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use block::{BlockError, PageBuffer};
use model::Extent;
use parking_lot::RwLock;

use crate::error::{JournalError, is_full};
use crate::extents::ExtentSet;
use crate::index::{Change, DATA_ALIGNMENT_BYTES, Entry, MAX_PAYLOAD_BYTES, Run, Tail, payload_sum};
use crate::log::Log;
use crate::map::{Content, Payload, Piece, PieceMap};
use crate::medium::Medium;

/// The increments of one run of one disk. A committed one is only read.
pub struct Journal {
    path: PathBuf,
    run: Run,
    data: Box<dyn Medium>,
    map: RwLock<PieceMap>,
    /// Where the next payload goes.
    next_at: AtomicU64,
    log: Option<Log>,
}

/// What reading an index has gathered.
#[derive(Default)]
pub(crate) struct Gathered {
    map: PieceMap,
    pub(crate) durable: ExtentSet,
}

impl Gathered {
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.durable.insert(entry.extent);
        self.map_entry(entry);
    }

    fn map_entry(&mut self, entry: &Entry) {
        if let Some(content) = content_of(entry.change) {
            self.map.insert(Piece { extent: entry.extent, content });
        }
    }
}

fn content_of(change: Change) -> Option<Content> {
    match change {
        Change::Data(payload) => Some(Content::Data { payload, skip: 0 }),
        Change::Zero => Some(Content::Zero),
        Change::Hole => Some(Content::Hole),
        Change::Written => None,
    }
}

impl Journal {
    /// One that is written on after `tail`.
    pub(crate) fn active(
        path: &Path,
        run: Run,
        (index, data): (Box<dyn Medium>, Box<dyn Medium>),
        tail: Tail,
        gathered: Gathered,
    ) -> Self {
        let log = Log::new(run.clone(), index, tail, gathered.durable);
        let next_at = AtomicU64::new(tail.data_bytes.next_multiple_of(DATA_ALIGNMENT_BYTES));
        Self { path: path.to_owned(), run, data, map: RwLock::new(gathered.map), next_at, log: Some(log) }
    }

    /// One that is only read.
    pub(crate) fn committed(path: &Path, run: Run, data: Box<dyn Medium>, gathered: Gathered) -> Self {
        let (map, next_at) = (RwLock::new(gathered.map), AtomicU64::new(0));
        Self { path: path.to_owned(), run, data, map, next_at, log: None }
    }

    /// Whose run it is.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Lengths of index and data that count, in bytes; of a committed one, zeroes.
    #[must_use]
    pub fn lengths(&self) -> (u64, u64) {
        self.log.as_ref().map_or((0, 0), |log| (log.tail().index_bytes, log.tail().data_bytes))
    }

    /// What is durable of the run: in order, extents that neither touch nor overlap.
    #[must_use]
    pub fn durable(&self) -> Vec<Extent> {
        self.log.as_ref().map(Log::durable).unwrap_or_default()
    }

    /// Whether a flush failed: it is of no more use until it is opened anew.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.log.as_ref().is_some_and(Log::is_poisoned)
    }

    /// From now on every change is refused, until [`unseal`](Self::unseal).
    pub fn seal(&self) {
        self.log.iter().for_each(Log::seal);
    }

    /// Changes are taken again.
    pub fn unseal(&self) {
        self.log.iter().for_each(Log::unseal);
    }

    fn log(&self) -> Result<&Log, BlockError> {
        self.log.as_ref().ok_or(BlockError::ReadOnly)
    }

    /// Appends `data`, which is at `offset` of the disk.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        let log = self.log()?;
        let mut at_disk = offset;
        for bytes in data.chunks(MAX_PAYLOAD_BYTES as usize) {
            log.check()?;
            let length = bytes.len() as u64;
            let room = length.next_multiple_of(DATA_ALIGNMENT_BYTES);
            let at = self.next_at.fetch_add(room, Ordering::Relaxed);
            self.data.write_at(bytes, at).map_err(|source| match is_full(&source) {
                true => BlockError::JournalFull { offset: at_disk, length },
                false => BlockError::Write { offset: at_disk, length, source },
            })?;
            let payload = Payload { at, length: u32::try_from(length).unwrap_or(u32::MAX), sum: payload_sum(bytes) };
            self.change(log, Entry { extent: Extent::new(at_disk, length), change: Change::Data(payload) }, length)?;
            at_disk += length;
        }
        Ok(())
    }

    /// Notes that the extent is zero.
    pub(crate) fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        let log = self.log()?;
        log.check()?;
        if extent.length == 0 {
            return Ok(());
        }
        let change = if may_punch_holes { Change::Hole } else { Change::Zero };
        self.change(log, Entry { extent, change }, 0)
    }

    fn change(&self, log: &Log, entry: Entry, bytes: u64) -> Result<(), BlockError> {
        {
            // Under one lock, so that the index lists overlapping changes in the order the map took them.
            let mut map = self.map.write();
            log.note(entry, bytes)?;
            if let Some(content) = content_of(entry.change) {
                map.insert(Piece { extent: entry.extent, content });
            }
        }
        log.barrier_if_due(|| self.settle())
    }

    fn settle(&self) -> Result<(), BlockError> {
        self.data.sync().map_err(|source| BlockError::Flush { source })
    }

    /// A barrier: every change that had returned before is durable when it returns.
    pub(crate) fn flush(&self) -> Result<(), BlockError> {
        self.log.as_ref().map_or(Ok(()), |log| log.barrier(|| self.settle()))
    }

    /// The first `limit` pieces of the extent that this journal knows, in order.
    pub(crate) fn pieces_in(&self, extent: Extent, limit: usize) -> Vec<Piece> {
        self.map.read().pieces_in(extent, limit)
    }

    /// Fills `buf` with the content of a piece as long as it. What is read whole is checked.
    pub(crate) fn read_piece(&self, piece: &Piece, buf: &mut [u8], from_medium: bool) -> Result<(), BlockError> {
        let Content::Data { payload, skip } = piece.content else {
            buf.fill(0);
            return Ok(());
        };
        let at = payload.at + u64::from(skip);
        let failed = |source| JournalError::file("read", &self.path)(source).of_read(piece.extent);
        if from_medium {
            self.data.forget_cached(Extent::new(at, buf.len() as u64)).map_err(failed)?;
        }
        self.data.read_at(buf, at).map_err(failed)?;
        let whole = skip == 0 && buf.len() as u64 == u64::from(payload.length);
        if whole { self.check(piece, &payload, buf) } else { Ok(()) }
    }

    /// Fills `buf` with the bytes of a piece, whose whole payload is read and checked.
    pub(crate) fn read_checked<'a>(&self, piece: &Piece, buf: &'a mut PageBuffer) -> Result<&'a [u8], BlockError> {
        let Content::Data { payload, skip } = piece.content else { return Ok(&[]) };
        buf.set_length(usize::try_from(payload.length).unwrap_or(0));
        let read = self.data.read_at(buf, payload.at);
        read.map_err(|source| JournalError::file("read", &self.path)(source).of_read(piece.extent))?;
        self.check(piece, &payload, buf)?;
        let start = usize::try_from(skip).unwrap_or(0);
        let end = start.saturating_add(usize::try_from(piece.extent.length).unwrap_or(usize::MAX));
        buf.get(start..end).ok_or_else(|| self.damaged(piece, "a payload is shorter than what it holds"))
    }

    fn check(&self, piece: &Piece, payload: &Payload, bytes: &[u8]) -> Result<(), BlockError> {
        if payload_sum(bytes) == payload.sum {
            return Ok(());
        }
        Err(self.damaged(piece, "the checksum of a payload is wrong"))
    }

    fn damaged(&self, piece: &Piece, reason: &str) -> BlockError {
        JournalError::Damaged { path: self.path.clone(), reason: reason.to_owned() }.of_read(piece.extent)
    }

    /// Says that a piece will be read soon.
    pub(crate) fn will_read(&self, piece: &Piece) {
        if let Content::Data { payload, skip } = piece.content {
            self.data.will_read(Extent::new(payload.at + u64::from(skip), piece.extent.length));
        }
    }
}

#[cfg(test)]
mod tests;
