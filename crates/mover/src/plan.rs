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
    /// Bytes of all extents to read, with what is kept.
    pub bytes_total: u64,
    /// Bytes of them that need not be read again: see [`Plan::resume`].
    pub bytes_kept: u64,
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
        self.scrubbed = aligned.map_or_else(Vec::new, |aligned| without(&[aligned], &self.extents));
        self.bytes_total += total_bytes(&self.scrubbed);
        self
    }

    /// What is left of this plan, and what of it is kept. A leaf is kept when all of it is `durable` on the hub and it is
    /// in `proven` (leaves whose digest is at hand): without the digest what is there could not be proven. What must be
    /// zero needs no digest, and what is only read for its digest nothing else.
    #[must_use]
    pub fn resume(&self, durable: Vec<Extent>, proven: &[Extent], capacity_bytes: u64) -> (Self, Vec<Extent>) {
        let durable = whole_leaves(&normalise(durable), capacity_bytes);
        let mut kept = common(&common(&self.extents, &durable), proven);
        let seen = common(&self.scrubbed, proven);
        let rest = Self {
            extents: without(&self.extents, &kept),
            zeroes: without(&self.zeroes, &durable),
            scrubbed: without(&self.scrubbed, &seen),
            bytes_total: self.bytes_total,
            bytes_kept: total_bytes(&kept) + total_bytes(&seen),
        };
        kept.extend(seen);
        (rest, normalise(kept))
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

/// The leaves that lie wholly in `extents` (normalised).
fn whole_leaves(extents: &[Extent], capacity_bytes: u64) -> Vec<Extent> {
    let inner = |extent: &Extent| {
        let start = extent.offset.div_ceil(LEAF_SIZE_BYTES).saturating_mul(LEAF_SIZE_BYTES);
        // The disk's last leaf may be shorter.
        let reaches_end = extent.end() >= capacity_bytes;
        let end = if reaches_end { capacity_bytes } else { extent.end() - extent.end() % LEAF_SIZE_BYTES };
        (start < end).then(|| Extent::new(start, end - start))
    };
    extents.iter().filter_map(inner).collect()
}

/// What lies in both (each normalised).
fn common(one: &[Extent], other: &[Extent]) -> Vec<Extent> {
    let (mut found, mut a, mut b) = (Vec::new(), 0, 0);
    while let (Some(left), Some(right)) = (one.get(a), other.get(b)) {
        let (start, end) = (left.offset.max(right.offset), left.end().min(right.end()));
        if start < end {
            found.push(Extent::new(start, end - start));
        }
        if left.end() <= right.end() { a += 1 } else { b += 1 }
    }
    found
}

/// What of `all` is not in `taken` (each normalised).
fn without(all: &[Extent], taken: &[Extent]) -> Vec<Extent> {
    let (mut left, mut first) = (Vec::new(), 0);
    for extent in all {
        let mut at = extent.offset;
        while taken.get(first).is_some_and(|gone| gone.end() <= at) {
            first += 1;
        }
        for gone in taken[first..].iter().take_while(|gone| gone.offset < extent.end()) {
            if at < gone.offset {
                left.push(Extent::new(at, gone.offset - at));
            }
            at = gone.end();
        }
        if at < extent.end() {
            left.push(Extent::new(at, extent.end() - at));
        }
    }
    left
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
        SyncMode::Full => without(&[Extent::new(0, capacity_bytes)], &wanted),
        SyncMode::Incremental | SyncMode::Compare => Vec::new(),
    };
    Plan { bytes_total: total_bytes(&wanted), extents: wanted, zeroes, scrubbed: Vec::new(), bytes_kept: 0 }
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
            Plan { extents: vec![], zeroes: vec![], scrubbed: vec![], bytes_total: 0, bytes_kept: 0 }
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

    #[test]
    fn a_leaf_counts_only_when_all_of_it_is_durable_and_proven() {
        let leaf = LEAF_SIZE_BYTES;
        let capacity = 4 * leaf + 512;
        let whole = plan(SyncMode::Full, capacity, Some(vec![Extent::new(leaf, 3 * leaf + 512)]));
        // Leaf 1 in two pieces, leaf 2 but for its last byte, and the short one at the end.
        let durable = vec![Extent::new(leaf, 10), Extent::new(leaf + 10, 2 * leaf - 11), Extent::new(4 * leaf, leaf)];
        let (rest, kept) = whole.resume(durable.clone(), &[Extent::new(0, capacity)], capacity);
        assert_eq!(kept, [Extent::new(leaf, leaf), Extent::new(4 * leaf, 512)]);
        assert_eq!((rest.extents, rest.bytes_kept), (vec![Extent::new(2 * leaf, 2 * leaf)], leaf + 512));
        assert_eq!((rest.zeroes, rest.bytes_total), (vec![Extent::new(0, leaf)], whole.bytes_total));
        let (rest, kept) = whole.resume(durable, &[Extent::new(leaf, leaf)], capacity);
        assert_eq!((kept, rest.bytes_kept), (vec![Extent::new(leaf, leaf)], leaf));
        let (rest, _) = whole.resume(vec![Extent::new(0, u64::MAX)], &[], capacity);
        assert_eq!((&rest.extents, rest.zeroes.len()), (&whole.extents, 0), "nothing proven, but zero is zero");
    }

    #[test]
    fn what_was_scrubbed_needs_only_its_digests_to_be_kept() {
        let leaf = LEAF_SIZE_BYTES;
        let whole = plan(SyncMode::Incremental, 8 * leaf, Some(vec![Extent::new(0, leaf)]));
        let whole = whole.with_scrub(Extent::new(0, 4 * leaf), 8 * leaf);
        let (rest, kept) = whole.resume(Vec::new(), &[Extent::new(0, 3 * leaf)], 8 * leaf);
        assert_eq!(kept, [Extent::new(leaf, 2 * leaf)], "the changed leaf is not durable");
        assert_eq!((rest.extents, rest.scrubbed), (vec![Extent::new(0, leaf)], vec![Extent::new(3 * leaf, leaf)]));
        assert_eq!((rest.bytes_total, rest.bytes_kept), (4 * leaf, 2 * leaf));
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
        fn what_is_kept_and_what_is_left_are_the_plan_and_never_overlap(
            capacity in 1u64..4_000_000,
            named in proptest::collection::vec((0u64..4_500_000, 0u64..500_000), 0..8),
            durable in proptest::collection::vec((0u64..4_500_000, 0u64..900_000), 0..10),
            proven in proptest::collection::vec((0u64..64, 1u64..20), 0..8)
        ) {
            let extents = |pairs: Vec<(u64, u64)>| pairs.into_iter().map(|(o, l)| Extent::new(o, l)).collect::<Vec<_>>();
            let leaves = proven.into_iter().filter_map(|(first, count)| {
                Extent::new(first * LEAF_SIZE_BYTES, count * LEAF_SIZE_BYTES).clamp_to(capacity)
            });
            let (proven, durable) = (normalise(leaves.collect()), extents(durable));
            let whole = plan(SyncMode::Full, capacity, Some(extents(named)));
            let (rest, kept) = whole.resume(durable.clone(), &proven, capacity);
            let durable = normalise(durable);
            let holds = |list: &[Extent], leaf: Extent| {
                list.iter().any(|e| e.offset <= leaf.offset && leaf.end() <= e.end())
            };
            let touches = |list: &[Extent], leaf: Extent| {
                list.iter().any(|e| e.offset < leaf.end() && leaf.offset < e.end())
            };
            for index in 0..capacity.div_ceil(LEAF_SIZE_BYTES) {
                let leaf = Extent::new(index * LEAF_SIZE_BYTES, LEAF_SIZE_BYTES).clamp_to(capacity).unwrap();
                let (planned, is_durable) = (holds(&whole.extents, leaf), holds(&durable, leaf));
                let is_kept = planned && is_durable && holds(&proven, leaf);
                prop_assert_eq!(holds(&kept, leaf), is_kept);
                prop_assert_eq!(holds(&rest.extents, leaf), planned && !is_kept);
                prop_assert_eq!(touches(&rest.extents, leaf), planned && !is_kept);
                prop_assert_eq!(touches(&rest.zeroes, leaf), !planned && !is_durable);
            }
            prop_assert_eq!(total_bytes(&rest.extents) + rest.bytes_kept, rest.bytes_total);
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
