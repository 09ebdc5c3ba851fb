//! A layer that makes a device fail on purpose after a given amount of work: for drills, and for the tests of
//! everything that stands on a device. It changes nothing until the chosen point.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Extent;

use crate::device::BlockDevice;
use crate::error::BlockError;
use crate::region::Region;

/// How the device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Like a broken medium.
    Io,
    /// Like a full medium.
    Full,
}

/// When the device fails; by default never. Once a budget is used up, every further call of its sort fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultPlan {
    /// Reads fail once this many bytes were read.
    pub read_budget_bytes: Option<u64>,
    /// Writes, zeroing and trimming fail once this many bytes were changed, and how.
    pub write_budget_bytes: Option<(u64, Fault)>,
    /// Flushes fail after this many.
    pub flush_budget: Option<u64>,
}

/// A device that fails as planned.
pub struct FaultDevice {
    inner: Arc<dyn BlockDevice>,
    plan: FaultPlan,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
}

impl FaultDevice {
    /// Puts a plan of faults before `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn BlockDevice>, plan: FaultPlan) -> Self {
        let zero = AtomicU64::default;
        Self { inner, plan, read_bytes: zero(), written_bytes: zero(), flushes: zero() }
    }

    fn spend_write(&self, offset: u64, length: u64) -> Result<(), BlockError> {
        let before = self.written_bytes.fetch_add(length, Ordering::SeqCst);
        match self.plan.write_budget_bytes {
            Some((budget, fault)) if before.saturating_add(length) > budget => Err(match fault {
                Fault::Full => BlockError::Full { offset, length },
                Fault::Io => BlockError::Write { offset, length, source: injected() },
            }),
            _ => Ok(()),
        }
    }

    fn spend_read(&self, offset: u64, length: u64) -> Result<(), BlockError> {
        let before = self.read_bytes.fetch_add(length, Ordering::SeqCst);
        match self.plan.read_budget_bytes {
            Some(budget) if before.saturating_add(length) > budget => {
                Err(BlockError::Read { offset, length, source: injected() })
            }
            _ => Ok(()),
        }
    }
}

fn injected() -> io::Error {
    io::Error::other("a planned fault")
}

impl BlockDevice for FaultDevice {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.spend_read(offset, buf.len() as u64)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.spend_write(offset, data.len() as u64)?;
        self.inner.write_at(data, offset)
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.spend_write(extent.offset, extent.length)?;
        self.inner.write_zeroes(extent, may_punch_holes)
    }

    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        self.spend_write(extent.offset, extent.length)?;
        self.inner.try_write_zeroes_fast(extent, may_punch_holes)
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.spend_write(extent.offset, extent.length)?;
        self.inner.trim(extent)
    }

    fn flush(&self) -> Result<(), BlockError> {
        let before = self.flushes.fetch_add(1, Ordering::SeqCst);
        match self.plan.flush_budget {
            Some(budget) if before >= budget => Err(BlockError::Flush { source: injected() }),
            _ => self.inner.flush(),
        }
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.inner.map_front(extent, max_regions)
    }

    fn read_from_medium(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.spend_read(offset, buf.len() as u64)?;
        self.inner.read_from_medium(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryDevice;

    fn planned(plan: FaultPlan) -> FaultDevice {
        FaultDevice::new(Arc::new(MemoryDevice::new(1 << 20)), plan)
    }

    #[test]
    fn a_device_becomes_full_where_it_was_told_to() {
        let device = planned(FaultPlan { write_budget_bytes: Some((100, Fault::Full)), ..FaultPlan::default() });
        device.write_at(&[1; 60], 0).unwrap();
        assert!(matches!(device.write_at(&[1; 60], 60), Err(BlockError::Full { offset: 60, length: 60 })));
        let mut kept = [0; 120];
        device.read_at(&mut kept, 0).unwrap();
        assert_eq!(kept[..60], [1; 60]);
        assert_eq!(kept[60..], [0; 60], "the write that failed changed nothing");
    }

    #[test]
    fn reads_and_flushes_fail_after_their_budgets() {
        let device = planned(FaultPlan { read_budget_bytes: Some(8), flush_budget: Some(1), ..FaultPlan::default() });
        let mut buf = [0; 8];
        device.read_at(&mut buf, 0).unwrap();
        assert!(matches!(device.read_at(&mut buf, 0), Err(BlockError::Read { .. })));
        device.flush().unwrap();
        assert!(matches!(device.flush(), Err(BlockError::Flush { .. })));
    }
}
