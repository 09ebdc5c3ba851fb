//! Memory that devices are read into.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes of a page of memory.
const PAGE_BYTES: usize = 4096;

/// A buffer for reads that begins on a page, as the kernel's copy of the same bytes does.
///
/// The GNU C library's allocator gives large memory 16 bytes after the beginning of a page. AMD's Zen 3, where the kernel
/// copies with `rep movsb`, copies to there from the beginning of a page at a quarter of its speed (docs/performance.md).
#[derive(Default)]
pub struct PageBuffer {
    /// A page more than was ever asked for, so that a page begins in it early enough.
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl PageBuffer {
    /// An empty one; it holds no memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes it `length` bytes long. Their content is not defined.
    pub fn set_length(&mut self, length: usize) {
        if self.memory.len() < self.start + length {
            // Not both at a time.
            self.memory = Vec::new();
            self.memory = vec![0; length + PAGE_BYTES];
            // At most a page; where nothing can be said about an address, any will do.
            self.start = self.memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        }
        self.length = length;
    }

    /// Gives memory back if it holds more than `capacity` bytes; it is empty then.
    pub fn shrink_to(&mut self, capacity: usize) {
        if self.memory.len() > capacity + PAGE_BYTES {
            *self = Self::new();
        }
    }
}

impl Deref for PageBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for PageBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl fmt::Debug for PageBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageBuffer").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_on_a_page_however_often_its_length_changes() {
        let mut buffer = PageBuffer::new();
        assert!(buffer.is_empty());
        for length in [0, 1, 256 * 1024, 5000, 4 << 20] {
            buffer.set_length(length);
            assert_eq!(buffer.len(), length);
            if length > 0 {
                assert_eq!(buffer.as_ptr().align_offset(PAGE_BYTES), 0, "{length} bytes");
                buffer.fill(7);
            }
        }
    }

    #[test]
    fn memory_that_was_needed_once_is_given_back_and_the_usual_is_kept() {
        let mut buffer = PageBuffer::new();
        buffer.set_length(5000);
        let at = buffer.as_ptr();
        buffer.shrink_to(5000);
        buffer.set_length(100);
        assert_eq!(buffer.as_ptr(), at, "nothing new was allocated");
        buffer.set_length(5001 + PAGE_BYTES);
        buffer.shrink_to(5000);
        assert_eq!((buffer.len(), buffer.memory.capacity()), (0, 0));
    }
}
