//! What both clients ask themselves before a request is sent: whether the export can carry it out, and how long one may be.

use crate::error::NbdError;
use crate::proto::handshake::ExportInfo;
use crate::proto::wire::{MAX_PAYLOAD_BYTES, export_flag};

impl ExportInfo {
    /// Whether the server refuses changes.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.has(export_flag::READ_ONLY)
    }

    /// The longest read or write that is sent as one request, in bytes, a multiple of the minimum block size.
    pub(crate) fn max_request_bytes(&self) -> u32 {
        let sizes = self.block_sizes;
        let maximum = sizes.maximum.min(MAX_PAYLOAD_BYTES);
        (maximum - maximum % sizes.minimum).max(sizes.minimum)
    }

    /// Refuses a range that is not inside the export, or not of whole blocks.
    pub(crate) fn check(&self, offset: u64, length: u64) -> Result<(), NbdError> {
        let size_bytes = self.size_bytes;
        if offset.checked_add(length).is_none_or(|end| end > size_bytes) {
            return Err(NbdError::OutOfRange { offset, length, size_bytes });
        }
        let minimum = self.block_sizes.minimum;
        if !offset.is_multiple_of(minimum.into()) || !length.is_multiple_of(minimum.into()) {
            return Err(NbdError::Unaligned { offset, length, minimum });
        }
        Ok(())
    }

    /// The same for a change, which a read-only export refuses.
    pub(crate) fn check_change(&self, offset: u64, length: u64) -> Result<(), NbdError> {
        if self.is_read_only() { Err(NbdError::ReadOnly) } else { self.check(offset, length) }
    }
}
