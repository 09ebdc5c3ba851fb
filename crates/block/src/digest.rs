//! BLAKE3 digests of leaves, and the root over all leaves of a device. Pure: bytes in, digests out.
//!
//! A leaf is 64 KiB; the last one may be shorter. The root is defined over the *content* alone: leaves that were not
//! named are zero, and it does not matter how named leaves were cut into runs.

use std::sync::OnceLock;

use model::{Extent, LEAF_SIZE_BYTES};

use crate::error::BlockError;
use crate::zero::is_zero;

/// BLAKE3 of one leaf's bytes.
pub type LeafDigest = [u8; 32];

/// Separates roots from every other use of BLAKE3; it changes if the definition of the root ever does.
const ROOT_CONTEXT: &str = "MigrateKit 2026-11 root over leaf digests v1";

/// The digest of one leaf (at most [`LEAF_SIZE_BYTES`] long). A leaf of zeroes costs a look at it, no hashing.
#[must_use]
pub fn leaf_digest(leaf: &[u8]) -> LeafDigest {
    if !leaf.is_empty() && is_zero(leaf) { zero_leaf_digest(leaf.len() as u64) } else { blake3::hash(leaf).into() }
}

/// The digest of a leaf of `length` zero bytes.
#[must_use]
pub fn zero_leaf_digest(length: u64) -> LeafDigest {
    static FULL: OnceLock<LeafDigest> = OnceLock::new();
    let zeroes = |length: u64| vec![0; usize::try_from(length.min(LEAF_SIZE_BYTES)).unwrap_or(0)];
    let compute = |length| blake3::hash(&zeroes(length)).into();
    if length == LEAF_SIZE_BYTES { *FULL.get_or_init(|| compute(length)) } else { compute(length) }
}

/// The number of leaves of a device of `capacity_bytes`.
#[must_use]
pub fn leaf_count(capacity_bytes: u64) -> u64 {
    capacity_bytes.div_ceil(LEAF_SIZE_BYTES)
}

/// Where leaf `index` is on a device of `capacity_bytes`; `None` beyond the end.
#[must_use]
pub fn leaf_extent(index: u64, capacity_bytes: u64) -> Option<Extent> {
    Extent::new(index.checked_mul(LEAF_SIZE_BYTES)?, LEAF_SIZE_BYTES).clamp_to(capacity_bytes)
}

/// Computes the root over all leaves of a device from runs of named leaves, in order, without holding them.
///
/// The root is BLAKE3 (key derivation mode) over the capacity and then, for every maximal run of equal digests, its
/// length in leaves and the digest; numbers are 64 bit little-endian.
pub struct RootHasher {
    hasher: blake3::Hasher,
    capacity_bytes: u64,
    next_leaf: u64,
    run: Option<(u64, LeafDigest)>,
}

impl RootHasher {
    /// Starts the root of a device of `capacity_bytes`.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        hasher.update(&capacity_bytes.to_le_bytes());
        Self { hasher, capacity_bytes, next_leaf: 0, run: None }
    }

    /// Adds `count` leaves from `first_leaf` that each have this digest; leaves passed over are zero.
    ///
    /// # Errors
    /// [`BlockError::LeafOrder`] when they do not come after those already added or reach past the end.
    pub fn push(&mut self, first_leaf: u64, count: u64, digest: &LeafDigest) -> Result<(), BlockError> {
        let leaf_count = leaf_count(self.capacity_bytes);
        let end_leaf = first_leaf.saturating_add(count);
        if first_leaf < self.next_leaf || end_leaf > leaf_count {
            return Err(BlockError::LeafOrder { first_leaf, end_leaf, next_leaf: self.next_leaf, leaf_count });
        }
        self.zeroes_until(first_leaf);
        self.extend(count, digest);
        self.next_leaf = end_leaf;
        Ok(())
    }

    /// The root; leaves after the last added are zero.
    #[must_use]
    pub fn finish(mut self) -> LeafDigest {
        self.zeroes_until(leaf_count(self.capacity_bytes));
        self.close_run();
        self.hasher.finalize().into()
    }

    fn zeroes_until(&mut self, leaf: u64) {
        let full_leaves = self.capacity_bytes / LEAF_SIZE_BYTES;
        let full = leaf.min(full_leaves).saturating_sub(self.next_leaf);
        self.extend(full, &zero_leaf_digest(LEAF_SIZE_BYTES));
        if leaf > full_leaves && self.next_leaf <= full_leaves {
            self.extend(1, &zero_leaf_digest(self.capacity_bytes % LEAF_SIZE_BYTES));
        }
        self.next_leaf = self.next_leaf.max(leaf);
    }

    fn extend(&mut self, count: u64, digest: &LeafDigest) {
        if count == 0 {
            return;
        }
        if let Some((length, current)) = &mut self.run
            && current == digest
        {
            *length += count;
            return;
        }
        self.close_run();
        self.run = Some((count, *digest));
    }

    fn close_run(&mut self) {
        if let Some((length, digest)) = self.run.take() {
            self.hasher.update(&length.to_le_bytes());
            self.hasher.update(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAF: usize = LEAF_SIZE_BYTES as usize;

    /// The root of content given leaf by leaf, naming every leaf on its own.
    fn root_naming_all(content: &[u8]) -> LeafDigest {
        let mut root = RootHasher::new(content.len() as u64);
        for (index, leaf) in content.chunks(LEAF).enumerate() {
            root.push(index as u64, 1, &leaf_digest(leaf)).unwrap();
        }
        root.finish()
    }

    #[test]
    fn leaves_cover_the_device_and_the_last_may_be_short() {
        let capacity = 2 * LEAF_SIZE_BYTES + 10;
        assert_eq!(leaf_count(capacity), 3);
        assert_eq!(leaf_extent(1, capacity), Some(Extent::new(LEAF_SIZE_BYTES, LEAF_SIZE_BYTES)));
        assert_eq!(leaf_extent(2, capacity), Some(Extent::new(2 * LEAF_SIZE_BYTES, 10)));
        assert_eq!(leaf_extent(3, capacity), None);
        assert_eq!(leaf_extent(u64::MAX, capacity), None);
        assert_eq!(leaf_count(0), 0);
    }

    #[test]
    fn a_zero_leaf_has_the_digest_of_its_bytes() {
        for length in [1u64, 512, LEAF_SIZE_BYTES] {
            assert_eq!(zero_leaf_digest(length), <[u8; 32]>::from(blake3::hash(&vec![0; length as usize])));
        }
        // BLAKE3 of nothing, from its published test vectors.
        assert_eq!(leaf_digest(&[])[..4], [0xaf, 0x13, 0x49, 0xb9]);
    }

    #[test]
    fn the_root_tells_contents_and_capacities_apart() {
        let mut content = vec![0u8; 3 * LEAF + 5];
        let zero = root_naming_all(&content);
        assert_eq!(zero, RootHasher::new(content.len() as u64).finish());
        assert_ne!(zero, RootHasher::new(content.len() as u64 + 1).finish());
        content[3 * LEAF + 4] = 1;
        assert_ne!(zero, root_naming_all(&content));
    }

    #[test]
    fn leaves_out_of_order_or_beyond_the_end_are_refused() {
        let digest = [7; 32];
        let mut root = RootHasher::new(4 * LEAF_SIZE_BYTES);
        root.push(1, 2, &digest).unwrap();
        for (first, count) in [(2, 1), (0, 1), (3, 2), (5, 1), (u64::MAX, 2)] {
            assert!(matches!(root.push(first, count, &digest), Err(BlockError::LeafOrder { .. })), "{first}+{count}");
        }
        root.push(3, 1, &digest).unwrap();
    }

    proptest! {
        #[test]
        fn the_root_does_not_depend_on_how_leaves_were_named(
            kinds in proptest::collection::vec(0u8..3, 0..12), tail in 0usize..3, cut in proptest::collection::vec(any::<bool>(), 12)
        ) {
            let mut content: Vec<u8> = kinds.iter().flat_map(|&kind| vec![kind; LEAF]).collect();
            content.extend(std::iter::repeat_n(0u8, tail));
            let mut root = RootHasher::new(content.len() as u64);
            let mut leaf = 0;
            while leaf < kinds.len() {
                let same = kinds[leaf..].iter().take_while(|&&kind| kind == kinds[leaf]).count();
                let count = if cut[leaf] { 1 } else { same };
                // Zero leaves are sometimes named and sometimes left out.
                if kinds[leaf] != 0 || cut[leaf] {
                    root.push(leaf as u64, count as u64, &leaf_digest(&content[leaf * LEAF..(leaf + 1) * LEAF])).unwrap();
                }
                leaf += count;
            }
            prop_assert_eq!(root.finish(), root_naming_all(&content));
        }
    }
}
