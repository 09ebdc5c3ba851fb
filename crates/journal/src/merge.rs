//! Writes a journal into its volume. Every payload is checked before it is written; nothing is deleted here, so a merge
//! that broke off is simply made again.

use block::{BlockDevice, BlockError, PageBuffer};
use model::Extent;

use crate::journal::Journal;
use crate::map::{Content, Piece};

/// Pieces taken from the journal at a time: bounds the memory of a merge.
const PIECES_AT_ONCE: usize = 1024;

/// What a merge wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes that were zeroed.
    pub zero_bytes: u64,
}

/// Writes what `journal` holds to `base`, in the order of the disk, and flushes it.
///
/// # Errors
/// A payload is damaged or cannot be read; the base cannot be written. Then the base holds some of it.
pub fn merge(journal: &Journal, base: &dyn BlockDevice) -> Result<Merged, BlockError> {
    let (mut merged, mut buffer) = (Merged::default(), PageBuffer::new());
    let mut rest = Extent::new(0, u64::MAX);
    loop {
        let pieces = journal.pieces_in(rest, PIECES_AT_ONCE);
        let Some(last) = pieces.last() else { break };
        rest = Extent::new(last.extent.end(), u64::MAX - last.extent.end());
        for piece in &pieces {
            write_piece(journal, base, piece, &mut buffer)?;
            match piece.content {
                Content::Data { .. } => merged.data_bytes += piece.extent.length,
                Content::Zero | Content::Hole => merged.zero_bytes += piece.extent.length,
            }
        }
    }
    base.flush()?;
    Ok(merged)
}

fn write_piece(
    journal: &Journal,
    base: &dyn BlockDevice,
    piece: &Piece,
    buffer: &mut PageBuffer,
) -> Result<(), BlockError> {
    match piece.content {
        Content::Data { .. } => base.write_at(journal.read_checked(piece, buffer)?, piece.extent.offset),
        Content::Zero => base.write_zeroes(piece.extent, false),
        Content::Hole => base.write_zeroes(piece.extent, true),
    }
}
