//! From extents to an ordered sequence of chunks to read, and to what must be zero. Pure.

use api::vma::SyncMode;
use model::extent::{normalise, total_bytes};
use model::{Extent, LEAF_SIZE_BYTES};

/// Largest single read, in bytes: 16 leaves, and what every reader takes.
pub const MAX_CHUNK_BYTES: u64 = 1024 * 1024;

/// What will be done with one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Read these, in order and apart from each other; each lies on leaf borders (but for the end of the disk).
    pub extents: Vec<Extent>,
    /// Make these zero without reading: a full copy covers the whole disk.
    pub zeroes: Vec<Extent>,
    /// Bytes of all extents to read.
    pub bytes_total: u64,
}

impl Plan {
    /// What to read, in order, cut to chunks. They are made on the way: a large disk has millions.
    pub fn chunks(&self) -> impl Iterator<Item = Extent> + '_ {
        let mut cursor = Cursor::new(MAX_CHUNK_BYTES);
        std::iter::from_fn(move || cursor.next(&self.extents))
    }
}

/// How far a list of extents has been handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    chunk_bytes: u64,
    extent: usize,
    offset: u64,
}

impl Cursor {
    /// Will hand out chunks of at most `chunk_bytes` (not 0).
    #[must_use]
    pub fn new(chunk_bytes: u64) -> Self {
        Self { chunk_bytes, extent: 0, offset: 0 }
    }

    /// The next chunk of `extents` (always the same ones): it ends at a multiple of the longest chunk where its extent
    /// goes on, so that neighbours stay aligned.
    pub fn next(&mut self, extents: &[Extent]) -> Option<Extent> {
        let extent = extents.get(self.extent)?;
        let from = self.offset.max(extent.offset);
        let border = (from / self.chunk_bytes + 1).saturating_mul(self.chunk_bytes);
        let end = border.min(extent.end());
        self.offset = end;
        if end == extent.end() {
            self.extent += 1;
        }
        Some(Extent::new(from, end - from))
    }
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
    Plan { bytes_total: total_bytes(&wanted), extents: wanted, zeroes }
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
        assert_eq!(plan.chunks().collect::<Vec<_>>(), [Extent::new(65_536, 131_072)]);
        assert_eq!((plan.bytes_total, plan.zeroes.len()), (131_072, 0));
    }

    #[test]
    fn a_full_copy_zeroes_what_it_does_not_read() {
        let plan = plan(SyncMode::Full, 200_000, Some(vec![Extent::new(65_536, 65_536)]));
        assert_eq!(plan.zeroes, [Extent::new(0, 65_536), Extent::new(131_072, 68_928)]);
    }

    #[test]
    fn an_empty_disk_needs_nothing() {
        assert_eq!(plan(SyncMode::Full, 0, None), Plan { extents: vec![], zeroes: vec![], bytes_total: 0 });
    }

    #[test]
    fn a_huge_disk_takes_no_more_memory_than_its_extents() {
        let plan = plan(SyncMode::Compare, 62 << 40, None);
        assert_eq!((plan.extents.len(), plan.zeroes.len()), (1, 0));
        assert_eq!(plan.chunks().nth(1000), Some(Extent::new(1000 * MAX_CHUNK_BYTES, MAX_CHUNK_BYTES)));
    }

    proptest! {
        #[test]
        fn a_full_plan_covers_every_byte_once(
            capacity in 1u64..8_000_000,
            pairs in proptest::collection::vec((0u64..9_000_000, 0u64..500_000), 0..12)
        ) {
            let extents = pairs.into_iter().map(|(o, l)| Extent::new(o, l)).collect();
            let plan = plan(SyncMode::Full, capacity, Some(extents));
            let mut all: Vec<_> = plan.chunks().chain(plan.zeroes.iter().copied()).collect();
            all.sort_unstable();
            let mut at = 0;
            for extent in all {
                prop_assert_eq!(extent.offset, at);
                prop_assert!(extent.length > 0);
                at = extent.end();
            }
            prop_assert_eq!(at, capacity);
            for chunk in plan.chunks() {
                prop_assert!(chunk.length <= MAX_CHUNK_BYTES);
                prop_assert_eq!(chunk.offset % LEAF_SIZE_BYTES, 0);
                prop_assert!(chunk.end() % LEAF_SIZE_BYTES == 0 || chunk.end() == capacity);
            }
        }
    }
}
