//! A regular file or a Linux block device as a device: positioned system calls, nothing cached here.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use model::Extent;
use parking_lot::Mutex;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use crate::device::{BlockDevice, check_range};
use crate::error::BlockError;
use crate::region::{Region, RegionState, push_merged};

/// Bytes of zeroes written at a time where the medium cannot zero by itself.
const ZERO_WRITE_BYTES: usize = 1 << 20;
static ZEROES: [u8; ZERO_WRITE_BYTES] = [0; ZERO_WRITE_BYTES];
/// Block devices zero and discard whole blocks only; every logical block size in use divides this.
const BLOCK_ALIGNMENT_BYTES: u64 = 4096;

/// A raw file or block device.
pub struct FileDevice {
    file: File,
    size_bytes: u64,
    read_only: bool,
    is_block_device: bool,
    is_read_once: bool,
    /// Held while data is written to a regular file: its inode has a lock of its own, and whoever waits for that one keeps a
    /// processor busy meanwhile. Writers of a block device do not exclude each other.
    writing: Mutex<()>,
    can_punch: AtomicBool,
    can_zero_range: AtomicBool,
    can_seek_data: AtomicBool,
}

impl FileDevice {
    /// Opens an existing file or block device.
    ///
    /// # Errors
    /// When it cannot be opened or is something else (a folder, a pipe).
    pub fn open(path: &Path, read_only: bool) -> Result<Self, BlockError> {
        let opened = OpenOptions::new().read(true).write(!read_only).open(path);
        let file = opened.map_err(|source| BlockError::Open { path: path.to_owned(), source })?;
        Self::over(file, path, read_only)
    }

    /// Makes a sparse file of `size_bytes`; it must not exist.
    ///
    /// # Errors
    /// When it exists or cannot be made.
    pub fn create(path: &Path, size_bytes: u64) -> Result<Self, BlockError> {
        let failed = |source| BlockError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(failed)?;
        file.set_len(size_bytes).map_err(failed)?;
        Self::over(file, path, false)
    }

    /// Takes a file that somebody opened already; `path` is only told in errors.
    ///
    /// # Errors
    /// When it is something else than a regular file or a block device.
    pub fn over(mut file: File, path: &Path, read_only: bool) -> Result<Self, BlockError> {
        let failed = |source| BlockError::Open { path: path.to_owned(), source };
        let kind = file.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BlockError::NotADevice { path: path.to_owned() });
        }
        // The end is where a block device ends, too; its metadata would say 0.
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self {
            file,
            size_bytes,
            read_only,
            is_block_device: kind.is_block_device(),
            is_read_once: false,
            writing: Mutex::new(()),
            can_punch: AtomicBool::new(true),
            can_zero_range: AtomicBool::new(true),
            can_seek_data: AtomicBool::new(true),
        })
    }

    /// The same device, whose bytes are read once: they do not stay in the page cache, where they would push out what
    /// others need.
    #[must_use]
    pub fn read_once(self) -> Self {
        Self { is_read_once: true, ..self }
    }

    fn check_change(&self, extent: Extent) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        check_range(extent.offset, extent.length, self.size_bytes)
    }

    fn write_zero_bytes(&self, extent: Extent) -> Result<(), BlockError> {
        let mut at = extent.offset;
        while at < extent.end() {
            let length = (extent.end() - at).min(ZERO_WRITE_BYTES as u64);
            let zeroes = &ZEROES[..usize::try_from(length).unwrap_or(ZERO_WRITE_BYTES)];
            self.file.write_all_at(zeroes, at).map_err(|source| BlockError::of_write(at, length, source))?;
            at += length;
        }
        Ok(())
    }

    /// Asks the kernel; `false` (remembered) when this medium cannot do it.
    fn fallocate(&self, extent: Extent, mode: FallocateFlags, able: &AtomicBool) -> Result<bool, BlockError> {
        if extent.length == 0 {
            return Ok(true);
        }
        if !able.load(Ordering::Relaxed) {
            return Ok(false);
        }
        loop {
            match fallocate(&self.file, mode | FallocateFlags::KEEP_SIZE, extent.offset, extent.length) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV | Errno::PERM) => {
                    able.store(false, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(errno) => {
                    return Err(BlockError::of_write(extent.offset, extent.length, io::Error::from(errno)));
                }
            }
        }
    }

    /// The part the kernel can be asked to zero: all of it in a file, whole blocks of a block device.
    fn whole_blocks(&self, extent: Extent) -> Extent {
        if !self.is_block_device {
            return extent;
        }
        let start = extent.offset.next_multiple_of(BLOCK_ALIGNMENT_BYTES).min(extent.end());
        let end = (extent.end() - extent.end() % BLOCK_ALIGNMENT_BYTES).max(start);
        Extent::new(start, end - start)
    }

    fn zero_whole_blocks(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        let punched = may_punch_holes && self.fallocate(extent, FallocateFlags::PUNCH_HOLE, &self.can_punch)?;
        Ok(punched || self.fallocate(extent, FallocateFlags::ZERO_RANGE, &self.can_zero_range)?)
    }

    /// The next byte of data, or of a hole, from `offset` on; `None` when the medium cannot say.
    fn seek(&self, to: impl FnOnce(u64) -> rustix::fs::SeekFrom, offset: u64) -> Result<Option<u64>, BlockError> {
        match rustix::fs::seek(&self.file, to(offset)) {
            Ok(found) => Ok(Some(found.min(self.size_bytes))),
            // There is none up to the end.
            Err(Errno::NXIO) => Ok(Some(self.size_bytes)),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.can_seek_data.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(errno) => Err(BlockError::Map { offset, source: errno.into() }),
        }
    }
}

impl BlockDevice for FileDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let length = buf.len() as u64;
        check_range(offset, length, self.size_bytes)?;
        self.file.read_exact_at(buf, offset).map_err(|source| BlockError::Read { offset, length, source })?;
        if self.is_read_once
            && let Some(pages) = Extent::new(offset, length).align_out(BLOCK_ALIGNMENT_BYTES, u64::MAX)
        {
            // Advice: where it is not taken, only memory is lost.
            let _ = fadvise(&self.file, pages.offset, std::num::NonZeroU64::new(pages.length), Advice::DontNeed);
        }
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        let length = data.len() as u64;
        self.check_change(Extent::new(offset, length))?;
        let _turn = (!self.is_block_device).then(|| self.writing.lock());
        self.file.write_all_at(data, offset).map_err(|source| BlockError::of_write(offset, length, source))
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        if self.try_write_zeroes_fast(extent, may_punch_holes)? { Ok(()) } else { self.write_zero_bytes(extent) }
    }

    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        self.check_change(extent)?;
        let blocks = self.whole_blocks(extent);
        if !self.zero_whole_blocks(blocks, may_punch_holes)? {
            return Ok(false);
        }
        self.write_zero_bytes(Extent::new(extent.offset, blocks.offset - extent.offset))?;
        self.write_zero_bytes(Extent::new(blocks.end(), extent.end() - blocks.end()))?;
        Ok(true)
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.check_change(extent)?;
        self.fallocate(self.whole_blocks(extent), FallocateFlags::PUNCH_HOLE, &self.can_punch).map(|_punched| ())
    }

    fn flush(&self) -> Result<(), BlockError> {
        if self.read_only {
            return Ok(());
        }
        self.file.sync_data().map_err(|source| BlockError::Flush { source })
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        check_range(extent.offset, extent.length, self.size_bytes)?;
        let mut regions: Vec<Region> = Vec::new();
        let mut at = extent.offset;
        while at < extent.end() && regions.len() < max_regions && self.can_seek_data.load(Ordering::Relaxed) {
            let Some(data) = self.seek(rustix::fs::SeekFrom::Data, at)? else { break };
            let data = data.clamp(at, extent.end());
            push_merged(&mut regions, Region::new(at, data - at, RegionState::Hole));
            at = data;
            if at == extent.end() || regions.len() >= max_regions {
                break;
            }
            let Some(hole) = self.seek(rustix::fs::SeekFrom::Hole, at)? else { break };
            // A hole found where data was just found means that somebody punched meanwhile: read it to be sure.
            let hole = hole.clamp(at, extent.end());
            let end = if hole == at { extent.end().min(at + BLOCK_ALIGNMENT_BYTES) } else { hole };
            push_merged(&mut regions, Region::new(at, end - at, RegionState::Data));
            at = end;
        }
        if !self.can_seek_data.load(Ordering::Relaxed) {
            push_merged(&mut regions, Region::new(at, extent.end() - at, RegionState::Data));
        }
        regions.truncate(max_regions);
        Ok(regions)
    }

    fn will_read(&self, extent: Extent) {
        // A length of 0 would mean: up to the end.
        if let Some(length) = std::num::NonZeroU64::new(extent.length) {
            let _ = fadvise(&self.file, extent.offset, Some(length), Advice::WillNeed);
        }
    }

    fn read_from_medium(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let length = buf.len() as u64;
        check_range(offset, length, self.size_bytes)?;
        // Only whole pages are dropped, so the range is widened to them. Pages still dirty stay: hence the flush
        // asked of the caller.
        if let Some(pages) = Extent::new(offset, length).align_out(BLOCK_ALIGNMENT_BYTES, u64::MAX) {
            let dropped = fadvise(&self.file, pages.offset, std::num::NonZeroU64::new(pages.length), Advice::DontNeed);
            dropped.map_err(|errno| BlockError::Read { offset, length, source: errno.into() })?;
        }
        self.read_at(buf, offset)
    }
}
