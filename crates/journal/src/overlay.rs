//! A volume with journals over it as one device: reads find the newest bytes, writes go to the journal on top, if one is
//! open for writing. The volume itself is never changed here.

use std::sync::Arc;

use block::region::push_merged;
use block::{BlockDevice, BlockError, Region, RegionState};
use model::Extent;

use crate::journal::Journal;
use crate::map::{Content, Piece};

/// Pieces looked at together: bounds the memory of one call.
const PIECES_AT_ONCE: usize = 1024;

/// A base and journals over it.
pub struct Overlay {
    base: Arc<dyn BlockDevice>,
    /// Oldest first; the last is the one that is written, if one is.
    layers: Vec<Arc<Journal>>,
    active: Option<Arc<Journal>>,
}

/// How bytes are to be read.
#[derive(Clone, Copy)]
struct How {
    from_medium: bool,
}

impl Overlay {
    /// `committed` over `base`, oldest first, and on top, for writing, `active`. Without it the device is read-only.
    #[must_use]
    pub fn new(base: Arc<dyn BlockDevice>, committed: Vec<Arc<Journal>>, active: Option<Arc<Journal>>) -> Self {
        let mut layers = committed;
        layers.extend(active.clone());
        Self { base, layers, active }
    }

    /// The journal that is written.
    #[must_use]
    pub fn active(&self) -> Option<&Arc<Journal>> {
        self.active.as_ref()
    }

    fn check(&self, offset: u64, length: u64) -> Result<(), BlockError> {
        let size_bytes = self.base.size_bytes();
        match offset.checked_add(length) {
            Some(end) if end <= size_bytes => Ok(()),
            _ => Err(BlockError::OutOfRange { offset, length, size_bytes }),
        }
    }

    fn for_change(&self, extent: Extent) -> Result<&Journal, BlockError> {
        let active = self.active.as_deref().ok_or(BlockError::ReadOnly)?;
        self.check(extent.offset, extent.length)?;
        Ok(active)
    }

    /// Fills `buf` from what the first `depth` layers and the base hold.
    fn read(&self, depth: usize, buf: &mut [u8], offset: u64, how: How) -> Result<(), BlockError> {
        if buf.is_empty() {
            return Ok(());
        }
        let Some(top) = depth.checked_sub(1).and_then(|top| Some((top, self.layers.get(top)?))) else {
            return match how.from_medium {
                true => self.base.read_from_medium(buf, offset),
                false => self.base.read_at(buf, offset),
            };
        };
        let (below, layer) = top;
        let mut rest = Extent::new(offset, buf.len() as u64);
        let mut unread = buf;
        loop {
            let pieces = layer.pieces_in(rest, PIECES_AT_ONCE);
            for piece in &pieces {
                let (gap, from_piece) = unread.split_at_mut(length_of(piece.extent.offset - rest.offset));
                self.read(below, gap, rest.offset, how)?;
                let (here, later) = from_piece.split_at_mut(length_of(piece.extent.length));
                layer.read_piece(piece, here, how.from_medium)?;
                (unread, rest) = (later, after(rest, piece));
            }
            if pieces.len() < PIECES_AT_ONCE {
                return self.read(below, unread, rest.offset, how);
            }
        }
    }

    /// Appends what is known of the extent; answers whether all of it was told within `max_regions`.
    fn map_layers(
        &self,
        depth: usize,
        extent: Extent,
        max_regions: usize,
        regions: &mut Vec<Region>,
    ) -> Result<bool, BlockError> {
        if extent.length == 0 {
            return Ok(true);
        }
        let Some(layer) = depth.checked_sub(1).and_then(|top| self.layers.get(top)) else {
            let found = self.base.map_front(extent, max_regions)?;
            let told = found.last().is_some_and(|last| last.extent.end() == extent.end());
            found.into_iter().for_each(|region| push_merged(regions, region));
            return Ok(told);
        };
        let mut rest = extent;
        loop {
            let pieces = layer.pieces_in(rest, PIECES_AT_ONCE);
            for piece in &pieces {
                let gap = Extent::new(rest.offset, piece.extent.offset - rest.offset);
                if !self.map_layers(depth - 1, gap, max_regions, regions)? || regions.len() > max_regions {
                    return Ok(false);
                }
                let Extent { offset, length } = piece.extent;
                push_merged(regions, Region::new(offset, length, state_of(piece)));
                rest = after(rest, piece);
            }
            if pieces.len() < PIECES_AT_ONCE {
                return self.map_layers(depth - 1, rest, max_regions, regions);
            }
        }
    }

    fn announce(&self, depth: usize, extent: Extent) {
        if extent.length == 0 {
            return;
        }
        let Some(layer) = depth.checked_sub(1).and_then(|top| self.layers.get(top)) else {
            return self.base.will_read(extent);
        };
        let mut rest = extent;
        for piece in layer.pieces_in(extent, PIECES_AT_ONCE) {
            self.announce(depth - 1, Extent::new(rest.offset, piece.extent.offset - rest.offset));
            layer.will_read(&piece);
            rest = after(rest, &piece);
        }
        self.announce(depth - 1, rest);
    }
}

/// What is left of `rest` after a piece in it.
fn after(rest: Extent, piece: &Piece) -> Extent {
    Extent::new(piece.extent.end(), rest.end() - piece.extent.end())
}

/// A length within a buffer that is in memory.
fn length_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn state_of(piece: &Piece) -> RegionState {
    match piece.content {
        Content::Data { .. } => RegionState::Data,
        Content::Zero => RegionState::Zero,
        Content::Hole => RegionState::Hole,
    }
}

impl BlockDevice for Overlay {
    fn size_bytes(&self) -> u64 {
        self.base.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.active.is_none()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.check(offset, buf.len() as u64)?;
        self.read(self.layers.len(), buf, offset, How { from_medium: false })
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.for_change(Extent::new(offset, data.len() as u64))?.write(data, offset)
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.for_change(extent)?.write_zeroes(extent, may_punch_holes)
    }

    /// Always: zeroes are an entry without bytes.
    fn try_write_zeroes_fast(&self, extent: Extent, may_punch_holes: bool) -> Result<bool, BlockError> {
        self.write_zeroes(extent, may_punch_holes).map(|()| true)
    }

    /// Zeroes, whose room may be given back at the merge.
    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.write_zeroes(extent, true)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.active.as_ref().map_or(Ok(()), |active| active.flush())
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.check(extent.offset, extent.length)?;
        let mut regions = Vec::new();
        self.map_layers(self.layers.len(), extent, max_regions, &mut regions)?;
        regions.truncate(max_regions);
        Ok(regions)
    }

    fn will_read(&self, extent: Extent) {
        if let Some(extent) = extent.clamp_to(self.size_bytes()) {
            self.announce(self.layers.len(), extent);
        }
    }

    fn read_from_medium(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.check(offset, buf.len() as u64)?;
        self.read(self.layers.len(), buf, offset, How { from_medium: true })
    }
}
