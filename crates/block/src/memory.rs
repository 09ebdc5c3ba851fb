//! A device in memory, sparse: bytes that were never written take no room. Everything is lost with it.

use std::collections::BTreeMap;

use model::Extent;
use parking_lot::RwLock;

use crate::device::{BlockDevice, check_range};
use crate::error::BlockError;
use crate::region::{Region, RegionState, push_merged};
use crate::zero::is_zero;

/// Room is taken and given back in pages of this size.
const PAGE_BYTES: usize = 64 * 1024;

/// A sparse device in memory.
pub struct MemoryDevice {
    size_bytes: u64,
    read_only: bool,
    pages: RwLock<BTreeMap<u64, Box<[u8]>>>,
}

/// The part of one page an access touches.
struct Piece {
    page: u64,
    within: std::ops::Range<usize>,
}

impl MemoryDevice {
    /// A device of `size_bytes` that reads as zeroes.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        Self { size_bytes, read_only: false, pages: RwLock::default() }
    }

    /// A device with the given content.
    #[must_use]
    pub fn from_bytes(content: &[u8]) -> Self {
        let device = Self::new(content.len() as u64);
        device.put(content, 0);
        device
    }

    /// The same device, refusing changes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Bytes of memory its content takes.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        (self.pages.read().len() * PAGE_BYTES) as u64
    }

    fn put(&self, data: &[u8], offset: u64) {
        let mut pages = self.pages.write();
        let mut rest = data;
        for piece in pieces(Extent::new(offset, data.len() as u64)) {
            let (now, later) = rest.split_at(piece.within.len());
            page_at(&mut pages, piece.page)[piece.within].copy_from_slice(now);
            rest = later;
        }
    }

    fn check_change(&self, extent: Extent) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        check_range(extent.offset, extent.length, self.size_bytes)
    }

    fn punch(&self, extent: Extent) {
        let mut pages = self.pages.write();
        let page_bytes = PAGE_BYTES as u64;
        let first_whole = extent.offset.div_ceil(page_bytes);
        let end_whole = extent.end() / page_bytes;
        if first_whole < end_whole {
            let mut tail = pages.split_off(&first_whole);
            let mut kept = tail.split_off(&end_whole);
            pages.append(&mut kept);
        }
        let edges = [extent.offset / page_bytes, extent.end() / page_bytes];
        for page in edges {
            if let (Some(bytes), Some(within)) = (pages.get_mut(&page), part_of_page(extent, page)) {
                bytes[within].fill(0);
            }
        }
    }
}

impl BlockDevice for MemoryDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        check_range(offset, buf.len() as u64, self.size_bytes)?;
        let pages = self.pages.read();
        let mut at = 0;
        for piece in pieces(Extent::new(offset, buf.len() as u64)) {
            let target = &mut buf[at..at + piece.within.len()];
            at += target.len();
            match pages.get(&piece.page) {
                Some(bytes) => target.copy_from_slice(&bytes[piece.within]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.check_change(Extent::new(offset, data.len() as u64))?;
        self.put(data, offset);
        Ok(())
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.check_change(extent)?;
        if may_punch_holes {
            self.punch(extent);
            return Ok(());
        }
        let mut pages = self.pages.write();
        for piece in pieces(extent) {
            page_at(&mut pages, piece.page)[piece.within].fill(0);
        }
        Ok(())
    }

    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        self.check_change(extent)?;
        if may_punch_holes {
            self.punch(extent);
        }
        Ok(may_punch_holes)
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.check_change(extent)?;
        self.punch(extent);
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        check_range(extent.offset, extent.length, self.size_bytes)?;
        let pages = self.pages.read();
        let page_bytes = PAGE_BYTES as u64;
        let mut regions = Vec::new();
        let mut at = extent.offset;
        let first_page = extent.offset / page_bytes;
        for (&page, bytes) in pages.range(first_page..extent.end().div_ceil(page_bytes).max(first_page)) {
            let Some(part) = Extent::new(page * page_bytes, page_bytes).clamp_to(extent.end()) else { break };
            let start = part.offset.max(at);
            push_merged(&mut regions, Region::new(at, start - at, RegionState::Hole));
            let state = if is_zero(bytes) { RegionState::Zero } else { RegionState::Data };
            push_merged(&mut regions, Region::new(start, part.end() - start, state));
            at = part.end();
            if regions.len() > max_regions {
                break;
            }
        }
        if regions.len() <= max_regions {
            push_merged(&mut regions, Region::new(at, extent.end() - at, RegionState::Hole));
        }
        regions.truncate(max_regions);
        Ok(regions)
    }
}

fn page_at(pages: &mut BTreeMap<u64, Box<[u8]>>, page: u64) -> &mut [u8] {
    pages.entry(page).or_insert_with(|| vec![0; PAGE_BYTES].into_boxed_slice())
}

fn pieces(extent: Extent) -> impl Iterator<Item = Piece> {
    let page_bytes = PAGE_BYTES as u64;
    (extent.offset / page_bytes..extent.end().div_ceil(page_bytes))
        .filter_map(move |page| part_of_page(extent, page).map(|within| Piece { page, within }))
}

/// The bytes of `page` that are in `extent`, counted from the page's start.
fn part_of_page(extent: Extent, page: u64) -> Option<std::ops::Range<usize>> {
    let base = page.checked_mul(PAGE_BYTES as u64)?;
    let start = extent.offset.saturating_sub(base).min(PAGE_BYTES as u64);
    let end = extent.end().saturating_sub(base).min(PAGE_BYTES as u64);
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    (!range.is_empty()).then_some(range)
}
