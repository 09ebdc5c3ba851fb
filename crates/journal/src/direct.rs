//! A volume that is written in place, with a note of what of it is durable: first the volume is flushed, then the ledger
//! says so.

use std::sync::Arc;

use block::{BlockDevice, BlockError, Region};
use model::Extent;

use crate::index::{Change, Entry};
use crate::log::Ledger;

/// A base that is written to, and the ledger of its run.
pub struct Direct {
    base: Arc<dyn BlockDevice>,
    ledger: Ledger,
}

impl Direct {
    /// Writes to `base` and keeps `ledger`.
    #[must_use]
    pub fn new(base: Arc<dyn BlockDevice>, ledger: Ledger) -> Self {
        Self { base, ledger }
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn note(&self, extent: Extent, bytes: u64) -> Result<(), BlockError> {
        if extent.length == 0 {
            return Ok(());
        }
        self.ledger.log.note(Entry { extent, change: Change::Written }, bytes)?;
        self.ledger.log.barrier_if_due(|| self.base.flush())
    }
}

impl BlockDevice for Direct {
    fn size_bytes(&self) -> u64 {
        self.base.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.base.is_read_only()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.base.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.ledger.log.check()?;
        self.base.write_at(data, offset)?;
        self.note(Extent::new(offset, data.len() as u64), data.len() as u64)
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.ledger.log.check()?;
        self.base.write_zeroes(extent, may_punch_holes)?;
        self.note(extent, 0)
    }

    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        self.ledger.log.check()?;
        let done = self.base.try_write_zeroes_fast(extent, may_punch_holes)?;
        if done {
            self.note(extent, 0)?;
        }
        Ok(done)
    }

    /// Zeroes: what the ledger says is durable must have a content.
    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.write_zeroes(extent, true)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.ledger.log.barrier(|| self.base.flush())
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.base.map_front(extent, max_regions)
    }

    fn will_read(&self, extent: Extent) {
        self.base.will_read(extent);
    }

    fn read_from_medium(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.base.read_from_medium(buf, offset)
    }
}
