//! Buffers for payloads, used again and again by one connection.

use parking_lot::Mutex;

/// Longest buffer that is kept, in bytes: rare long requests must not hold memory for good.
const KEPT_BUFFER_BYTES: usize = 2 << 20;

/// The buffers of one connection that are free.
pub(super) struct Buffers {
    free: Mutex<Free>,
    max_kept_bytes: usize,
}

#[derive(Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Keeps at most `max_kept_bytes`.
    pub(super) fn new(max_kept_bytes: u32) -> Self {
        Self { free: Mutex::default(), max_kept_bytes: max_kept_bytes as usize }
    }

    /// A buffer of exactly `length` bytes with any content.
    pub(super) fn get(&self, length: usize) -> Vec<u8> {
        let kept = if length <= KEPT_BUFFER_BYTES { self.pop() } else { None };
        let Some(mut buffer) = kept else { return vec![0; length] };
        buffer.resize(length, 0);
        buffer
    }

    fn pop(&self) -> Option<Vec<u8>> {
        let mut free = self.free.lock();
        let buffer = free.buffers.pop()?;
        free.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Gives a buffer back.
    pub(super) fn put(&self, buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let mut free = self.free.lock();
        if bytes > 0 && bytes <= KEPT_BUFFER_BYTES && free.bytes + bytes <= self.max_kept_bytes {
            free.bytes += bytes;
            free.buffers.push(buffer);
        }
    }
}
