//! Frozen content never changes, merged content equals what a plain array of bytes would hold.

use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::DiskChain;
use crate::vcenter::change_tracking::{GRAIN_BYTES, TrackedPoint, Tracker};

const CAPACITY: u64 = 5 * GRAIN_BYTES + 1536;

fn chain(directory: &std::path::Path) -> DiskChain {
    DiskChain::open(&directory.join("base.raw"), directory, "vm", CAPACITY).unwrap()
}

fn content(chain: &DiskChain, link: usize) -> Vec<u8> {
    let mut bytes = vec![0_u8; usize::try_from(CAPACITY).unwrap()];
    chain.read_at(&mut bytes, 0, link).unwrap();
    bytes
}

fn merge_all(chain: &mut DiskChain, link: usize) {
    while !chain.merge_step(link).unwrap() {}
}

#[derive(Debug, Clone)]
enum Act {
    Write { offset: u64, length: u64, fill: u8 },
    Zero { offset: u64, length: u64 },
    Freeze,
    Merge { which: usize },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let range =
        || (0..CAPACITY, 1..3 * GRAIN_BYTES).prop_map(|(offset, length)| (offset, length.min(CAPACITY - offset)));
    let act = prop_oneof![
        4 => (range(), any::<u8>()).prop_map(|((offset, length), fill)| Act::Write { offset, length, fill }),
        1 => range().prop_map(|(offset, length)| Act::Zero { offset, length }),
        2 => proptest::strategy::Just(Act::Freeze),
        1 => (0_usize..4).prop_map(|which| Act::Merge { which }),
    ];
    proptest::collection::vec(act, 1..25)
}

/// What a frozen link must still hold, and the point in the tracking it stands for.
struct Frozen {
    bytes: Vec<u8>,
    point: TrackedPoint,
}

fn apply(act: &Act, chain: &mut DiskChain, tracker: &mut Tracker, live: &mut [u8], frozen: &mut Vec<Frozen>) {
    let range = |offset: u64, length: u64| usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
    match *act {
        Act::Write { offset, length, fill } => {
            live[range(offset, length)].fill(fill);
            chain.write_at(&live[range(offset, length)], offset).unwrap();
            tracker.record(offset, length);
        }
        Act::Zero { offset, length } => {
            live[range(offset, length)].fill(0);
            chain.zero(offset, length).unwrap();
            tracker.record(offset, length);
        }
        Act::Freeze => {
            chain.push_delta().unwrap();
            frozen.push(Frozen { bytes: live.to_vec(), point: tracker.freeze() });
        }
        Act::Merge { which } if !frozen.is_empty() => {
            let link = which % frozen.len();
            merge_all(chain, link);
            frozen.remove(link);
        }
        Act::Merge { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frozen_links_hold_and_tracking_covers_every_difference(acts in acts()) {
        let directory = tempfile::tempdir().unwrap();
        let mut chain = chain(directory.path());
        let mut tracker = Tracker::new([7; 16], true);
        let mut live = vec![0_u8; usize::try_from(CAPACITY).unwrap()];
        let mut frozen = Vec::new();
        for act in &acts {
            apply(act, &mut chain, &mut tracker, &mut live, &mut frozen);
        }
        assert!(content(&chain, chain.link_count()) == live, "the active link differs from the model");
        for (link, state) in frozen.iter().enumerate() {
            assert!(content(&chain, link) == state.bytes, "frozen link {link} changed");
            let allocated = chain.allocated(link).unwrap();
            let covered = |at: u64| allocated.iter().any(|area| area.start <= at && at < area.end());
            let first_uncovered = state.bytes.iter().zip(0_u64..).find(|(byte, at)| **byte != 0 && !covered(*at));
            assert_eq!(first_uncovered, None, "data outside the allocated areas of link {link}");
        }
        for pair in frozen.windows(2) {
            let grains = tracker.changed(pair[0].point, pair[1].point).unwrap();
            let missed = (0_u64..).zip(pair[0].bytes.iter().zip(&pair[1].bytes))
                .find(|(at, (before, after))| before != after && !grains.contains_byte(*at));
            assert_eq!(missed.map(|(at, _)| at), None, "a difference outside the changed areas");
        }
    }
}

#[test]
fn link_names_are_numbered_and_reused() {
    let directory = tempfile::tempdir().unwrap();
    let mut chain = chain(directory.path());
    chain.push_delta().unwrap();
    chain.push_delta().unwrap();
    assert_eq!([0, 1, 2].map(|link| chain.link_name(link)), ["vm.vmdk", "vm-000001.vmdk", "vm-000002.vmdk"]);
    merge_all(&mut chain, 0);
    assert_eq!([0, 1].map(|link| chain.link_name(link)), ["vm.vmdk", "vm-000002.vmdk"]);
    chain.push_delta().unwrap();
    assert_eq!(chain.link_name(2), "vm-000001.vmdk");
}

#[test]
fn a_copy_of_a_large_sparse_disk_stays_sparse() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let size = 100_u64 << 30;
    let mut chain = DiskChain::open(&directory.path().join("big.raw"), directory.path(), "big", size).unwrap();
    chain.write_at(b"start", 0).unwrap();
    chain.push_delta().unwrap();
    chain.write_at(b"end", size - 3).unwrap();
    let allocated = chain.allocated(chain.link_count()).unwrap();
    assert_eq!(allocated.iter().map(|area| area.length).sum::<u64>(), 2 * GRAIN_BYTES);
    let copy = directory.path().join("copy.raw");
    chain.copy_to(&copy, 0).unwrap();
    let metadata = std::fs::metadata(&copy).unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < 2 << 20, "{} bytes allocated", metadata.blocks() * 512);
}

#[test]
fn ranges_outside_the_disk_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut chain = chain(directory.path());
    assert!(chain.write_at(&[1, 2], CAPACITY - 1).is_err());
    assert!(chain.zero(u64::MAX, 2).is_err());
    assert!(chain.read_at(&mut [0; 2], CAPACITY - 1, 0).is_err());
}
