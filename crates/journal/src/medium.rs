//! A file as journals use it: positioned, growing, with an honest `sync`. A seam, so that tests can make it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use model::Extent;
use rustix::fs::{Advice, fadvise};

/// Pages are dropped from the cache whole.
const PAGE_BYTES: u64 = 4096;

/// Bytes that can be read, written, cut off and made durable.
pub trait Medium: Send + Sync {
    /// How long it is, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past its end; what the system says.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `data` at `offset`; it grows as it must.
    ///
    /// # Errors
    /// What the system says; part of the data may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it off, or lets it grow with zeroes.
    ///
    /// # Errors
    /// What the system says.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Everything written before is durable when it returns. After an error nobody knows what is.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;

    /// The next read of the extent comes from the medium, as far as that can be asked for.
    ///
    /// # Errors
    /// What the system says.
    fn forget_cached(&self, extent: Extent) -> io::Result<()> {
        let _ = extent;
        Ok(())
    }

    /// The extent will be read soon: a hint.
    fn will_read(&self, extent: Extent) {
        let _ = extent;
    }
}

impl Medium for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cached(&self, extent: Extent) -> io::Result<()> {
        match extent.align_out(PAGE_BYTES, u64::MAX) {
            Some(pages) => advise(self, pages, Advice::DontNeed),
            None => Ok(()),
        }
    }

    fn will_read(&self, extent: Extent) {
        let _ = advise(self, extent, Advice::WillNeed);
    }
}

fn advise(file: &File, extent: Extent, advice: Advice) -> io::Result<()> {
    // A length of 0 would mean: up to the end.
    match std::num::NonZeroU64::new(extent.length) {
        Some(length) => Ok(fadvise(file, extent.offset, Some(length), advice)?),
        None => Ok(()),
    }
}
