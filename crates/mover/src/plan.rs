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
    /// Read these, too, only for their digests: nothing is said to have changed in them. Like `extents`, and apart from them.
    pub scrubbed: Vec<Extent>,
    /// Bytes of all extents to read.
    pub bytes_total: u64,
}

impl Plan {
    /// What to read, in order, cut to chunks. They are made on the way: a large disk has millions.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        let mut walk = Walk::new(MAX_CHUNK_BYTES);
        std::iter::from_fn(move || walk.next(self))
    }

    /// The same, and `stretch` is read for its digests where it is not read anyway.
    #[must_use]
    pub fn with_scrub(mut self, stretch: Extent, capacity_bytes: u64) -> Self {
        let aligned = stretch.align_out(LEAF_SIZE_BYTES, capacity_bytes);
        self.scrubbed = aligned.map_or_else(Vec::new, |aligned| without(aligned, &self.extents));
        self.bytes_total += total_bytes(&self.scrubbed);
        self
    }
}

/// A part of a plan that is read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where it is.
    pub extent: Extent,
    /// Whether only its digests are wanted.
    pub is_scrubbed: bool,
}

/// How far a plan has been handed out: first what is to be copied, then what is only looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    copied: Cursor,
    scrubbed: Cursor,
}

impl Walk {
    /// Will hand out chunks of at most `chunk_bytes` (not 0).
    #[must_use]
    pub fn new(chunk_bytes: u64) -> Self {
        Self { copied: Cursor::new(chunk_bytes), scrubbed: Cursor::new(chunk_bytes) }
    }

    /// The next chunk of `plan` (always the same one).
    pub fn next(&mut self, plan: &Plan) -> Option<Chunk> {
        let copied = self.copied.next(&plan.extents).map(|extent| Chunk { extent, is_scrubbed: false });
        copied.or_else(|| self.scrubbed.next(&plan.scrubbed).map(|extent| Chunk { extent, is_scrubbed: true }))
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
        SyncMode::Full => without(Extent::new(0, capacity_bytes), &wanted),
        SyncMode::Incremental | SyncMode::Compare => Vec::new(),
    };
    Plan { bytes_total: total_bytes(&wanted), extents: wanted, zeroes, scrubbed: Vec::new() }
}

/// What `extents` (normalised) leave free of `whole`.
fn without(whole: Extent, extents: &[Extent]) -> Vec<Extent> {
    let mut found = Vec::new();
    let mut at = whole.offset;
    for extent in extents.iter().chain([&Extent::new(whole.end(), 0)]) {
        let end = extent.offset.min(whole.end());
        if at < end {
            found.push(Extent::new(at, end - at));
        }
        at = at.max(extent.end());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn copied(plan: &Plan) -> impl Iterator<Item = Extent> + '_ {
        plan.chunks().filter(|chunk| !chunk.is_scrubbed).map(|chunk| chunk.extent)
    }

    fn leaves_of(extent: Extent) -> std::ops::Range<u64> {
        extent.offset / LEAF_SIZE_BYTES..extent.end().div_ceil(LEAF_SIZE_BYTES)
    }

    #[test]
    fn an_incremental_reads_whole_leaves_only_where_something_changed() {
        let plan = plan(SyncMode::Incremental, 1 << 30, Some(vec![Extent::new(70_000, 10), Extent::new(131_072, 1)]));
        assert_eq!(copied(&plan).collect::<Vec<_>>(), [Extent::new(65_536, 131_072)]);
        assert_eq!((plan.bytes_total, plan.zeroes.len()), (131_072, 0));
    }

    #[test]
    fn a_full_copy_zeroes_what_it_does_not_read() {
        let plan = plan(SyncMode::Full, 200_000, Some(vec![Extent::new(65_536, 65_536)]));
        assert_eq!(plan.zeroes, [Extent::new(0, 65_536), Extent::new(131_072, 68_928)]);
    }

    #[test]
    fn an_empty_disk_needs_nothing() {
        assert_eq!(
            plan(SyncMode::Full, 0, None),
            Plan { extents: vec![], zeroes: vec![], scrubbed: vec![], bytes_total: 0 }
        );
    }

    #[test]
    fn a_huge_disk_takes_no_more_memory_than_its_extents() {
        let plan = plan(SyncMode::Compare, 62 << 40, None);
        assert_eq!((plan.extents.len(), plan.zeroes.len()), (1, 0));
        assert_eq!(copied(&plan).nth(1000), Some(Extent::new(1000 * MAX_CHUNK_BYTES, MAX_CHUNK_BYTES)));
    }

    #[test]
    fn a_scrub_reads_whole_leaves_that_are_not_read_anyway_and_comes_last() {
        let changed = vec![Extent::new(65_536, 65_536), Extent::new(262_144, 10)];
        let plan = plan(SyncMode::Incremental, 400_000, Some(changed));
        let plan = plan.with_scrub(Extent::new(70_000, 1 << 40), 400_000);
        assert_eq!(plan.scrubbed, [Extent::new(131_072, 131_072), Extent::new(327_680, 72_320)]);
        assert_eq!(plan.bytes_total, 400_000 - 65_536);
        let order: Vec<bool> = plan.chunks().map(|chunk| chunk.is_scrubbed).collect();
        assert_eq!(order, [false, false, true, true]);
    }

    proptest! {
        #[test]
        fn a_scrub_and_a_copy_never_overlap_and_leave_nothing_of_the_stretch(
            capacity in 1u64..4_000_000,
            pairs in proptest::collection::vec((0u64..4_000_000, 1u64..300_000), 0..8),
            stretch in (0u64..4_000_000, 1u64..4_000_000),
        ) {
            let extents = pairs.into_iter().map(|(o, l)| Extent::new(o, l)).collect();
            let stretch = Extent::new(stretch.0, stretch.1);
            let plan = plan(SyncMode::Incremental, capacity, Some(extents)).with_scrub(stretch, capacity);
            let mut leaves: Vec<u64> = plan.chunks().flat_map(|chunk| leaves_of(chunk.extent)).collect();
            let read = leaves.len();
            leaves.sort_unstable();
            leaves.dedup();
            prop_assert_eq!(leaves.len(), read, "no leaf is read twice");
            let wanted = stretch.clamp_to(capacity).map(leaves_of);
            prop_assert!(wanted.into_iter().flatten().all(|leaf| leaves.binary_search(&leaf).is_ok()));
        }

        #[test]
        fn a_full_plan_covers_every_byte_once(
            capacity in 1u64..8_000_000,
            pairs in proptest::collection::vec((0u64..9_000_000, 0u64..500_000), 0..12)
        ) {
            let extents = pairs.into_iter().map(|(o, l)| Extent::new(o, l)).collect();
            let plan = plan(SyncMode::Full, capacity, Some(extents));
            let mut all: Vec<_> = copied(&plan).chain(plan.zeroes.iter().copied()).collect();
            all.sort_unstable();
            let mut at = 0;
            for extent in all {
                prop_assert_eq!(extent.offset, at);
                prop_assert!(extent.length > 0);
                at = extent.end();
            }
            prop_assert_eq!(at, capacity);
            for chunk in copied(&plan) {
                prop_assert!(chunk.length <= MAX_CHUNK_BYTES);
                prop_assert_eq!(chunk.offset % LEAF_SIZE_BYTES, 0);
                prop_assert!(chunk.end() % LEAF_SIZE_BYTES == 0 || chunk.end() == capacity);
            }
        }
    }
}
