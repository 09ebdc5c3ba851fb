//! From extents to an ordered list of chunks to read, and to what must be zero. Pure.

use api::vma::SyncMode;
use model::extent::{normalise, total_bytes};
use model::{Extent, LEAF_SIZE_BYTES};

/// Largest single read, in bytes: 16 leaves, and what every reader takes.
pub const MAX_CHUNK_BYTES: u64 = 1024 * 1024;

/// What will be done with one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Read these, in order; each lies on leaf borders (but for the end of the disk) and is at most
    /// [`MAX_CHUNK_BYTES`] long.
    pub chunks: Vec<Extent>,
    /// Make these zero without reading: a full copy covers the whole disk.
    pub zeroes: Vec<Extent>,
    /// Bytes of all chunks.
    pub bytes_total: u64,
}

/// Plans one disk of `capacity_bytes`; `extents` are what the change source named, `None` meaning all of it.
#[must_use]
pub fn plan(mode: SyncMode, capacity_bytes: u64, extents: Option<Vec<Extent>>) -> Plan {
    let wanted = match extents {
        Some(extents) => {
            normalise(extents.iter().filter_map(|e| e.align_out(LEAF_SIZE_BYTES, capacity_bytes)).collect())
        }
        None => normalise(vec![Extent::new(0, capacity_bytes)]),
    };
    let zeroes = match mode {
        SyncMode::Full => gaps(&wanted, capacity_bytes),
        SyncMode::Incremental | SyncMode::Compare => Vec::new(),
    };
    Plan { bytes_total: total_bytes(&wanted), chunks: wanted.iter().flat_map(|e| cut(*e)).collect(), zeroes }
}

/// Cuts an extent into chunks whose borders are multiples of [`MAX_CHUNK_BYTES`], so that neighbours stay aligned.
fn cut(extent: Extent) -> impl Iterator<Item = Extent> {
    let mut offset = extent.offset;
    std::iter::from_fn(move || {
        (offset < extent.end()).then(|| {
            let border = (offset / MAX_CHUNK_BYTES + 1) * MAX_CHUNK_BYTES;
            let chunk = Extent::new(offset, border.min(extent.end()) - offset);
            offset = chunk.end();
            chunk
        })
    })
}

/// What `extents` (normalised) leave free below `capacity_bytes`.
fn gaps(extents: &[Extent], capacity_bytes: u64) -> Vec<Extent> {
    let mut found = Vec::new();
    let mut at = 0;
    for extent in extents.iter().chain([&Extent::new(capacity_bytes, 0)]) {
        if at < extent.offset {
            found.push(Extent::new(at, extent.offset - at));
        }
        at = extent.end();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_incremental_reads_whole_leaves_only_where_something_changed() {
        let plan = plan(SyncMode::Incremental, 1 << 30, Some(vec![Extent::new(70_000, 10), Extent::new(131_072, 1)]));
        assert_eq!(plan.chunks, [Extent::new(65_536, 131_072)]);
        assert_eq!((plan.bytes_total, plan.zeroes.len()), (131_072, 0));
    }

    #[test]
    fn a_full_copy_zeroes_what_it_does_not_read() {
        let plan = plan(SyncMode::Full, 200_000, Some(vec![Extent::new(65_536, 65_536)]));
        assert_eq!(plan.zeroes, [Extent::new(0, 65_536), Extent::new(131_072, 68_928)]);
    }

    #[test]
    fn an_empty_disk_needs_nothing() {
        assert_eq!(plan(SyncMode::Full, 0, None), Plan { chunks: vec![], zeroes: vec![], bytes_total: 0 });
    }

    proptest! {
        #[test]
        fn a_full_plan_covers_every_byte_once(
            capacity in 1u64..8_000_000,
            pairs in proptest::collection::vec((0u64..9_000_000, 0u64..500_000), 0..12)
        ) {
            let extents = pairs.into_iter().map(|(o, l)| Extent::new(o, l)).collect();
            let plan = plan(SyncMode::Full, capacity, Some(extents));
            let mut all: Vec<_> = plan.chunks.iter().chain(&plan.zeroes).copied().collect();
            all.sort_unstable();
            let mut at = 0;
            for extent in all {
                prop_assert_eq!(extent.offset, at);
                prop_assert!(extent.length > 0);
                at = extent.end();
            }
            prop_assert_eq!(at, capacity);
            for chunk in &plan.chunks {
                prop_assert!(chunk.length <= MAX_CHUNK_BYTES);
                prop_assert_eq!(chunk.offset % LEAF_SIZE_BYTES, 0);
                prop_assert!(chunk.end() % LEAF_SIZE_BYTES == 0 || chunk.end() == capacity);
            }
        }
    }
}
