//! Which ranges of which files a chunk of a disk is made of: few requests, though a delta has it in small pieces. Pure.

use model::Extent;
use vmdk::{Piece, Place};

/// Bytes nobody asked for that are read along rather than asking twice.
const GAP_BYTES: u64 = 128 * 1024;
/// Longest range made of several pieces, in bytes.
const MAX_JOINED_BYTES: u64 = 4 << 20;

/// A range of a file, and where its parts belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The file's number.
    pub(super) file: usize,
    /// Which bytes of it.
    pub(super) range: Extent,
    /// What of them is wanted: in order of the file.
    pub(super) parts: Vec<Part>,
}

/// Bytes of a file that belong into the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where in the file.
    pub(super) offset: u64,
    /// Where in the chunk.
    pub(super) at: u64,
    /// How many.
    pub(super) length: u64,
}

/// The requests for the stored pieces of the chunk that begins at `start`; all else is zero. `None` when a piece is packed
/// and cannot be read by its place.
pub(super) fn requests(pieces: &[Piece], start: u64) -> Option<Vec<Request>> {
    let mut stored: Vec<(usize, Part)> = Vec::new();
    for piece in pieces {
        match piece.place {
            Place::Hole | Place::Zero => {}
            Place::Packed { .. } => return None,
            Place::Stored { file, offset, .. } => {
                let at = piece.extent.offset - start;
                stored.push((file, Part { offset, at, length: piece.extent.length }));
            }
        }
    }
    stored.sort_by_key(|(file, part)| (*file, part.offset));
    let mut requests: Vec<Request> = Vec::new();
    for (file, part) in stored {
        let end = part.offset + part.length;
        match requests.last_mut() {
            Some(last) if last.file == file && joins(last.range, part.offset, end) => {
                last.range.length = last.range.end().max(end) - last.range.offset;
                match last.parts.last_mut() {
                    Some(before) if follows(*before, part) => before.length += part.length,
                    _ => last.parts.push(part),
                }
            }
            _ => requests.push(Request { file, range: Extent::new(part.offset, part.length), parts: vec![part] }),
        }
    }
    Some(requests)
}

fn joins(range: Extent, offset: u64, end: u64) -> bool {
    offset <= range.end().saturating_add(GAP_BYTES) && end - range.offset <= MAX_JOINED_BYTES
}

fn follows(before: Part, part: Part) -> bool {
    before.offset + before.length == part.offset && before.at + before.length == part.at
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1024;

    fn stored(offset: u64, length: u64, file: usize, at: u64) -> Piece {
        Piece { extent: Extent::new(offset, length), place: Place::Stored { file, offset: at, is_flat: false } }
    }

    #[test]
    fn pieces_that_lie_close_together_are_one_request() {
        let start = 10 << 20;
        let pieces = [
            stored(start, 64 * K, 1, 500 * K),
            stored(start + 64 * K, 4 * K, 0, 8 * K),
            stored(start + 68 * K, 4 * K, 0, 4 * K),
            Piece { extent: Extent::new(start + 72 * K, 8 * K), place: Place::Zero },
            stored(start + 80 * K, 4 * K, 0, 12 * K),
            stored(start + 84 * K, 4 * K, 0, 16 * K),
            stored(start + 88 * K, 4 * K, 0, 900 * K),
        ];
        let part = |offset, at, length| Part { offset: offset * K, at: at * K, length: length * K };
        let expected = [
            Request {
                file: 0,
                range: Extent::new(4 * K, 16 * K),
                parts: vec![part(4, 68, 4), part(8, 64, 4), part(12, 80, 8)],
            },
            Request { file: 0, range: Extent::new(900 * K, 4 * K), parts: vec![part(900, 88, 4)] },
            Request { file: 1, range: Extent::new(500 * K, 64 * K), parts: vec![part(500, 0, 64)] },
        ];
        assert_eq!(requests(&pieces, start).unwrap(), expected);
    }

    #[test]
    fn nothing_is_read_for_holes_and_packed_pieces_are_left_to_others() {
        let hole = Piece { extent: Extent::new(0, K), place: Place::Hole };
        assert_eq!(requests(&[hole], 0), Some(Vec::new()));
        let packed = Place::Packed { file: 0, offset: 0, grain_start: 0 };
        assert_eq!(requests(&[hole, Piece { extent: Extent::new(K, K), place: packed }], 0), None);
    }
}
