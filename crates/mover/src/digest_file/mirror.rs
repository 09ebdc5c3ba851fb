//! The mirror of a digest file: after each stretch one entry with its end and its checksum. What a crash tore is told by
//! the checksums; nothing here knows what the digests say.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::progress::Moved;

/// An entry in the file, in bytes.
pub(super) const ENTRY_BYTES: usize = 64;
/// The part of it that its own checksum covers, in bytes.
const CHECKED_BYTES: usize = 48;
/// A checksum: the first half of a BLAKE3 digest, in bytes. It tells accidents, not attacks: the folder is private.
const CHECK_BYTES: usize = 16;

/// The mirror beside a digest file.
pub(super) fn path_of(digests: &Path) -> PathBuf {
    digests.with_extension("mirror")
}

/// Everything before `end` was there at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Bytes of the digest file.
    pub(super) end: u64,
    /// What the run had moved.
    pub(super) moved: Moved,
    /// Over the bytes since the entry before.
    check: [u8; CHECK_BYTES],
}

impl Entry {
    pub(super) fn new(end: u64, since_the_last: &blake3::Hasher, moved: Moved) -> Self {
        Self { end, moved, check: check_of(since_the_last) }
    }

    /// Whether these are the bytes it was made of.
    pub(super) fn covers(&self, since_the_last: &blake3::Hasher) -> bool {
        self.check == check_of(since_the_last)
    }

    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let numbers = [self.end, self.moved.read, self.moved.sent, self.moved.zero];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[32..CHECKED_BYTES].copy_from_slice(&self.check);
        let own = check_of(blake3::Hasher::new().update(&bytes[..CHECKED_BYTES]));
        bytes[CHECKED_BYTES..].copy_from_slice(&own);
        bytes
    }

    /// `None` when it is not what was written.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let number = |at: usize| bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let moved = Moved { read: number(8), sent: number(16), zero: number(24) };
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&bytes[32..CHECKED_BYTES]);
        let entry = Self { end: number(0), moved, check };
        (entry.encode() == *bytes).then_some(entry)
    }
}

fn check_of(hasher: &blake3::Hasher) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK_BYTES]);
    check
}

/// A mirror that is written.
pub(super) struct Mirror {
    file: File,
    end: u64,
}

impl Mirror {
    /// Goes on at the end of `file`, which covers the digest file up to `end`.
    pub(super) fn new(file: File, end: u64) -> Self {
        Self { file, end }
    }

    /// Bytes of the digest file that are covered.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.file.write_all(&entry.encode())?;
        self.end = entry.end;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
