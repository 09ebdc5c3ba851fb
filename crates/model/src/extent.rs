//! Byte ranges of a disk: half-open, never empty once normalised, in bytes.

use serde::{Deserialize, Serialize};

/// The unit of proof: the source and the replica are compared leaf by leaf, in bytes.
pub const LEAF_SIZE_BYTES: u64 = 64 * 1024;

/// A contiguous range of bytes `[offset, offset + length)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Extent {
    /// A range of `length` bytes from `offset`.
    #[must_use]
    pub fn new(offset: u64, length: u64) -> Self {
        Self { offset, length }
    }

    /// First byte after the range; saturates, so that a hostile length cannot wrap round.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// The part of this range below `limit`, or `None` when nothing is left.
    #[must_use]
    pub fn clamp_to(&self, limit: u64) -> Option<Self> {
        let end = self.end().min(limit);
        (self.offset < end).then(|| Self::new(self.offset, end - self.offset))
    }

    /// The smallest range of whole `unit`s that holds this one (`unit` > 0), cut at `limit`.
    #[must_use]
    pub fn align_out(&self, unit: u64, limit: u64) -> Option<Self> {
        let start = self.offset - self.offset % unit;
        let end = self.end().div_ceil(unit).saturating_mul(unit);
        Self::new(start, end.saturating_sub(start)).clamp_to(limit)
    }
}

/// Sorts, drops empty ranges and joins those that touch or overlap.
#[must_use]
pub fn normalise(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| extent.length > 0);
    extents.sort_unstable();
    let mut merged: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        match merged.last_mut() {
            Some(last) if extent.offset <= last.end() => {
                let end = last.end().max(extent.end());
                last.length = end - last.offset;
            }
            _ => merged.push(extent),
        }
    }
    merged
}

/// Sum of the lengths, in bytes.
#[must_use]
pub fn total_bytes(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.length).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalise_joins_what_touches_and_keeps_gaps() {
        type Pairs = &'static [(u64, u64)];
        let cases: [(Pairs, Pairs); 4] = [
            (&[], &[]),
            (&[(0, 0), (5, 0)], &[]),
            (&[(4, 4), (0, 4)], &[(0, 8)]),
            (&[(0, 2), (3, 1), (1, 1)], &[(0, 2), (3, 1)]),
        ];
        for (input, expected) in cases {
            let build = |pairs: &[(u64, u64)]| pairs.iter().map(|&(o, l)| Extent::new(o, l)).collect::<Vec<_>>();
            assert_eq!(normalise(build(input)), build(expected), "input {input:?}");
        }
    }

    #[test]
    fn align_out_covers_and_is_cut_at_the_end_of_the_disk() {
        assert_eq!(Extent::new(70_000, 10).align_out(65_536, 1 << 20), Some(Extent::new(65_536, 65_536)));
        assert_eq!(Extent::new(70_000, 10).align_out(65_536, 100_000), Some(Extent::new(65_536, 34_464)));
        assert_eq!(Extent::new(70_000, 10).align_out(65_536, 60_000), None);
        assert_eq!(Extent::new(u64::MAX - 1, u64::MAX).align_out(65_536, 1 << 20), None);
    }

    proptest! {
        #[test]
        fn normalised_extents_are_sorted_apart_and_cover_the_same_bytes(
            pairs in proptest::collection::vec((0u64..200, 0u64..30), 0..20)
        ) {
            let input: Vec<_> = pairs.iter().map(|&(o, l)| Extent::new(o, l)).collect();
            let covered = |list: &[Extent], byte: u64| list.iter().any(|e| e.offset <= byte && byte < e.end());
            let output = normalise(input.clone());
            prop_assert!(output.windows(2).all(|w| w[0].end() < w[1].offset));
            for byte in 0..240 {
                prop_assert_eq!(covered(&input, byte), covered(&output, byte));
            }
        }
    }
}
