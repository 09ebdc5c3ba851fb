//! A set of bytes of a disk as extents that neither touch nor overlap. Pure.

use std::collections::BTreeMap;

use model::Extent;

/// Extents by their first byte, each with the byte after its last.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExtentSet {
    ends: BTreeMap<u64, u64>,
}

impl ExtentSet {
    /// Adds an extent, joining what it touches.
    pub(crate) fn insert(&mut self, extent: Extent) {
        let (mut start, mut end) = (extent.offset, extent.end());
        if start >= end {
            return;
        }
        while let Some((&at, &its_end)) = self.ends.range(..=end).next_back()
            && its_end >= start
        {
            self.ends.remove(&at);
            start = start.min(at);
            end = end.max(its_end);
        }
        self.ends.insert(start, end);
    }

    /// All of them, in order.
    pub(crate) fn to_vec(&self) -> Vec<Extent> {
        self.ends.iter().map(|(&start, &end)| Extent::new(start, end - start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_is_what_normalising_all_of_them_gives(
            pairs in proptest::collection::vec((0u64..200, 0u64..30), 0..40)
        ) {
            let extents: Vec<_> = pairs.into_iter().map(|(offset, length)| Extent::new(offset, length)).collect();
            let mut set = ExtentSet::default();
            extents.iter().for_each(|&extent| set.insert(extent));
            prop_assert_eq!(set.to_vec(), model::extent::normalise(extents));
        }
    }
}
