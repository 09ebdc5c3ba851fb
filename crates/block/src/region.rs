//! What is known about a range of a device without reading it. Values only.

use model::Extent;

/// The content of a region, as far as it is known without reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegionState {
    /// Holds data, or nothing is known: it has to be read.
    Data,
    /// Takes up room on the medium and reads as zeroes.
    Zero,
    /// Takes up no room and reads as zeroes.
    Hole,
}

impl RegionState {
    /// Whether it reads as zeroes for certain.
    #[must_use]
    pub fn reads_as_zero(self) -> bool {
        matches!(self, Self::Zero | Self::Hole)
    }
}

/// A range and what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// Where; never empty.
    pub extent: Extent,
    /// What.
    pub state: RegionState,
}

impl Region {
    /// A region of `length` bytes from `offset`.
    #[must_use]
    pub fn new(offset: u64, length: u64, state: RegionState) -> Self {
        Self { extent: Extent::new(offset, length), state }
    }
}

/// Appends a region, joining it with the last one when they touch and are in the same state. Empty ones are dropped.
pub fn push_merged(regions: &mut Vec<Region>, next: Region) {
    if next.extent.length == 0 {
        return;
    }
    match regions.last_mut() {
        Some(last) if last.state == next.state && last.extent.end() == next.extent.offset => {
            last.extent.length += next.extent.length;
        }
        _ => regions.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_the_same_state_become_one() {
        let mut regions = Vec::new();
        for (offset, length, state) in [
            (0, 4, RegionState::Data),
            (4, 0, RegionState::Hole),
            (4, 4, RegionState::Data),
            (8, 2, RegionState::Hole),
            (10, 2, RegionState::Zero),
        ] {
            push_merged(&mut regions, Region::new(offset, length, state));
        }
        let expected = [
            Region::new(0, 8, RegionState::Data),
            Region::new(8, 2, RegionState::Hole),
            Region::new(10, 2, RegionState::Zero),
        ];
        assert_eq!(regions, expected);
    }
}
