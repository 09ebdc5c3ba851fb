//! Where the newest bytes of a journal are: pieces that do not overlap, by their place on the disk. Pure.

use std::collections::BTreeMap;

use model::Extent;

/// Bytes that were appended to a journal's data at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Where they begin in the data.
    pub(crate) at: u64,
    /// How many they are.
    pub(crate) length: u32,
    /// Their checksum.
    pub(crate) sum: u64,
}

/// What a piece of the disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeroes that keep their room.
    Zero,
    /// Zeroes whose room may be given back.
    Hole,
    /// The bytes of a payload from `skip` on.
    Data { payload: Payload, skip: u32 },
}

/// A piece of the disk; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) extent: Extent,
    pub(crate) content: Content,
}

impl Piece {
    /// The part of it that is in `extent`; `None` when nothing is.
    fn part(&self, extent: Extent) -> Option<Self> {
        let start = self.extent.offset.max(extent.offset);
        let end = self.extent.end().min(extent.end());
        let content = match self.content {
            Content::Data { payload, skip } => {
                let cut = u32::try_from(start.checked_sub(self.extent.offset)?).ok()?;
                Content::Data { payload, skip: skip.checked_add(cut)? }
            }
            zeroes => zeroes,
        };
        (start < end).then(|| Self { extent: Extent::new(start, end - start), content })
    }
}

/// The pieces of one journal.
#[derive(Debug, Clone, Default)]
pub(crate) struct PieceMap {
    pieces: BTreeMap<u64, (u64, Content)>,
}

impl PieceMap {
    /// Puts a piece over whatever was there.
    pub(crate) fn insert(&mut self, piece: Piece) {
        let (start, end) = (piece.extent.offset, piece.extent.end());
        // From the last that begins before `end` backwards: what it leaves on either side stays.
        while let Some((&at, &(length, content))) = self.pieces.range(..end).next_back()
            && at + length > start
        {
            self.pieces.remove(&at);
            let old = Piece { extent: Extent::new(at, length), content };
            let sides =
                [Extent::new(at, start.saturating_sub(at)), Extent::new(end, (at + length).saturating_sub(end))];
            for rest in sides.into_iter().filter_map(|side| old.part(side)) {
                self.pieces.insert(rest.extent.offset, (rest.extent.length, rest.content));
            }
            if at < start {
                break;
            }
        }
        self.pieces.insert(start, (end - start, piece.content));
    }

    /// The first `limit` pieces of `extent`, in order, cut to it.
    pub(crate) fn pieces_in(&self, extent: Extent, limit: usize) -> Vec<Piece> {
        let before = self.pieces.range(..extent.offset).next_back();
        let within = self.pieces.range(extent.offset..extent.end().max(extent.offset));
        let all = before.into_iter().chain(within);
        let cut =
            all.filter_map(|(&at, &(length, content))| Piece { extent: Extent::new(at, length), content }.part(extent));
        cut.take(limit).collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 300;

    /// What each byte of the disk is: nothing, a zero, or the byte of a payload.
    type Byte = Option<Option<(u64, u64)>>;

    fn bytes_of(piece: &Piece) -> Vec<Byte> {
        (0..piece.extent.length)
            .map(|at| match piece.content {
                Content::Data { payload, skip } => {
                    assert!(u64::from(skip) + piece.extent.length <= u64::from(payload.length));
                    Some(Some((payload.at, u64::from(skip) + at)))
                }
                Content::Zero | Content::Hole => Some(None),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_newest_write_of_each_byte_wins(
            writes in proptest::collection::vec((0..SIZE, 1u32..80, 0u8..3), 0..60), look in (0..SIZE, 0u64..100)
        ) {
            let (mut map, mut model) = (PieceMap::default(), vec![None; SIZE as usize]);
            for (number, (offset, length, kind)) in writes.into_iter().enumerate() {
                let length = u64::from(length).min(SIZE - offset);
                let payload = Payload { at: number as u64, length: u32::try_from(length).unwrap(), sum: 0 };
                let content = match kind {
                    0 => Content::Zero,
                    1 => Content::Hole,
                    _ => Content::Data { payload, skip: 0 },
                };
                let piece = Piece { extent: Extent::new(offset, length), content };
                model[offset as usize..(offset + length) as usize].clone_from_slice(&bytes_of(&piece));
                map.insert(piece);
            }
            let extent = Extent::new(look.0, look.1.min(SIZE - look.0));
            let mut found: Vec<Byte> = vec![None; extent.length as usize];
            for piece in map.pieces_in(extent, usize::MAX) {
                let at = (piece.extent.offset - extent.offset) as usize;
                found[at..at + piece.extent.length as usize].clone_from_slice(&bytes_of(&piece));
            }
            prop_assert_eq!(&found[..], &model[extent.offset as usize..extent.end() as usize]);
            prop_assert!(map.len() as u64 <= SIZE);
        }
    }
}
