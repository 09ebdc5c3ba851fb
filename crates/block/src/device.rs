//! The trait every source and target of bytes implements. The rules here are tested on each implementation.

use model::Extent;

use crate::error::BlockError;
use crate::region::Region;

/// A fixed number of bytes that can be read and written anywhere.
///
/// Calls block the thread they are made on. Any number of threads may call at the same time; two calls on the same
/// bytes happen in either order. An access that is not wholly inside the device is refused with
/// [`BlockError::OutOfRange`] and does nothing; one of length zero does nothing.
pub trait BlockDevice: Send + Sync {
    /// The size, in bytes. It does not change while the device is open.
    fn size_bytes(&self) -> u64;

    /// Whether every change is refused with [`BlockError::ReadOnly`].
    fn is_read_only(&self) -> bool;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// When the range is not inside the device or the medium cannot be read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError>;

    /// Writes all of `data` at `offset`. It is durable after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`BlockError::Full`] when the medium has no room; part of the data may have been written then.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError>;

    /// Makes the extent read as zeroes; with `may_punch_holes` its room may be given back.
    ///
    /// # Errors
    /// As for [`write_at`](Self::write_at).
    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError>;

    /// Makes the extent read as zeroes only if that costs less than writing them; `false` means nothing was done.
    ///
    /// # Errors
    /// As for [`write_zeroes`](Self::write_zeroes).
    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        let _ = (extent, may_punch_holes);
        Ok(false)
    }

    /// Says that the content of the extent is no longer needed. What it reads as afterwards is undefined until it is
    /// written; a device may ignore this.
    ///
    /// # Errors
    /// When the range is not inside the device or the medium fails.
    fn trim(&self, extent: Extent) -> Result<(), BlockError>;

    /// Everything whose write had returned before this call is durable when it returns.
    ///
    /// # Errors
    /// When the medium fails: what was written since the last successful flush may be lost.
    fn flush(&self) -> Result<(), BlockError>;

    /// What is known about the content of the extent: regions in order, without gaps, covering it wholly.
    ///
    /// # Errors
    /// When the range is not inside the device or the medium cannot be asked.
    fn map(&self, extent: Extent) -> Result<Vec<Region>, BlockError> {
        self.map_front(extent, usize::MAX)
    }

    /// Like [`map`](Self::map), but stops after `max_regions` (at least 1), covering the front of the extent.
    ///
    /// # Errors
    /// As for [`map`](Self::map).
    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError>;

    /// Says that the extent will be read soon. A hint: a device may begin to fetch it, or ignore this.
    fn will_read(&self, extent: Extent) {
        let _ = extent;
    }

    /// Fills `buf` from what the medium holds, past any cache of this machine as far as it can be asked for.
    /// Only what was flushed before is sure to be seen.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn read_from_medium(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.read_at(buf, offset)
    }
}

/// Refuses an access that is not wholly inside a device of `size_bytes`.
///
/// # Errors
/// [`BlockError::OutOfRange`].
pub(crate) fn check_range(offset: u64, length: u64, size_bytes: u64) -> Result<(), BlockError> {
    match offset.checked_add(length) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(BlockError::OutOfRange { offset, length, size_bytes }),
    }
}
