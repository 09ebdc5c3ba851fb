//! Sets of equally sized blocks of a disk, kept sparse, and the byte areas they stand for.
//!
//! Pure: no files. Used for the copy-on-write map and for the dirty sets of change tracking.

use std::collections::BTreeMap;

/// Blocks in one word of the map.
const WORD_BITS: u64 = 64;

/// A byte area of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Area {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Area {
    /// First byte after the area.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// A set of block numbers; memory grows with the number of 64-block groups touched, not with the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockSet {
    block_bytes: u64,
    words: BTreeMap<u64, u64>,
}

impl BlockSet {
    /// An empty set of blocks of `block_bytes` bytes each.
    pub(crate) fn new(block_bytes: u64) -> Self {
        Self { block_bytes, words: BTreeMap::new() }
    }

    /// Adds every block the byte range touches.
    pub(crate) fn insert_bytes(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (mut block, last) = (offset / self.block_bytes, (offset + length - 1) / self.block_bytes);
        while block <= last {
            let (word, bit) = (block / WORD_BITS, block % WORD_BITS);
            let count = (last - block + 1).min(WORD_BITS - bit);
            *self.words.entry(word).or_insert(0) |= mask(bit, count);
            block += count;
        }
    }

    /// Removes every block that lies wholly in the byte range.
    pub(crate) fn remove_bytes(&mut self, offset: u64, length: u64) {
        let (mut block, end) = (offset.div_ceil(self.block_bytes), (offset + length) / self.block_bytes);
        while block < end {
            let (word, bit) = (block / WORD_BITS, block % WORD_BITS);
            let count = (end - block).min(WORD_BITS - bit);
            if let Some(bits) = self.words.get_mut(&word) {
                *bits &= !mask(bit, count);
                if *bits == 0 {
                    self.words.remove(&word);
                }
            }
            block += count;
        }
    }

    /// Whether the block holding that byte is in the set.
    pub(crate) fn contains_byte(&self, offset: u64) -> bool {
        let block = offset / self.block_bytes;
        self.words.get(&(block / WORD_BITS)).is_some_and(|bits| bits & mask(block % WORD_BITS, 1) != 0)
    }

    /// Adds all blocks of another set of the same block size.
    pub(crate) fn union_with(&mut self, other: &Self) {
        for (word, bits) in &other.words {
            *self.words.entry(*word).or_insert(0) |= bits;
        }
    }

    /// Number of blocks in the set.
    pub(crate) fn len(&self) -> u64 {
        self.words.values().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// The `nth` block (counted modulo the size) as its first byte.
    pub(crate) fn nth_start(&self, nth: u64) -> Option<u64> {
        let count = self.len();
        if count == 0 {
            return None;
        }
        let mut left = nth % count;
        for (word, bits) in &self.words {
            let here = u64::from(bits.count_ones());
            if left >= here {
                left -= here;
                continue;
            }
            let bit = (0..WORD_BITS).filter(|bit| bits & (1 << bit) != 0).nth(usize::try_from(left).ok()?)?;
            return Some((word * WORD_BITS + bit) * self.block_bytes);
        }
        None
    }

    /// The first area of touching blocks, cut at `max_bytes` and at the end of the disk.
    pub(crate) fn first_area(&self, max_bytes: u64, capacity: u64) -> Option<Area> {
        let (word, bits) = self.words.first_key_value()?;
        let start = (word * WORD_BITS + u64::from(bits.trailing_zeros())) * self.block_bytes;
        let mut end = start;
        while end < capacity && end - start < max_bytes && self.contains_byte(end) {
            end += self.block_bytes;
        }
        Some(Area { start, length: end.min(capacity).saturating_sub(start) })
    }

    /// All areas of touching blocks in ascending order, cut at the end of the disk.
    pub(crate) fn areas(&self, capacity: u64) -> Vec<Area> {
        let mut areas: Vec<Area> = Vec::new();
        for (word, bits) in &self.words {
            for bit in (0..WORD_BITS).filter(|bit| bits & (1 << bit) != 0) {
                let start = (word * WORD_BITS + bit) * self.block_bytes;
                let end = (start + self.block_bytes).min(capacity);
                if start >= end {
                    continue;
                }
                match areas.last_mut() {
                    Some(last) if last.end() == start => last.length += end - start,
                    _ => areas.push(Area { start, length: end - start }),
                }
            }
        }
        areas
    }
}

/// `count` ones starting at `bit`.
fn mask(bit: u64, count: u64) -> u64 {
    let ones = if count >= WORD_BITS { u64::MAX } else { (1 << count) - 1 };
    ones << bit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_blocks_become_one_area_cut_at_the_capacity() {
        let mut set = BlockSet::new(64);
        set.insert_bytes(10, 1);
        set.insert_bytes(64, 64);
        set.insert_bytes(64 * 100, 64 * 70);
        let areas = set.areas(64 * 150 + 7);
        assert_eq!(areas, [Area { start: 0, length: 128 }, Area { start: 6400, length: 50 * 64 + 7 }]);
        assert_eq!(set.len(), 72);
    }

    #[test]
    fn removal_spares_partly_covered_blocks() {
        let mut set = BlockSet::new(64);
        set.insert_bytes(0, 64 * 3);
        set.remove_bytes(1, 64 * 2);
        assert!(set.contains_byte(0) && !set.contains_byte(64) && set.contains_byte(128));
        set.remove_bytes(0, 64 * 3);
        assert_eq!(set.len(), 0);
    }

    #[test]
    fn blocks_are_found_by_rank_and_walked_from_the_front() {
        let mut set = BlockSet::new(64);
        set.insert_bytes(64 * 5, 64);
        set.insert_bytes(64 * 200, 128);
        assert_eq!(set.nth_start(1), Some(64 * 200));
        assert_eq!(set.nth_start(3), Some(64 * 5));
        assert_eq!(set.first_area(1 << 20, 1 << 20), Some(Area { start: 320, length: 64 }));
    }
}
