//! The three modes, byte by byte: what is written, what is left alone, and what the digests say.

use std::sync::Arc;

use api::vma::SyncMode;
use block::{BlockDevice, Fault, FaultDevice, FaultPlan, FileDevice, MemoryDevice};
use model::Extent;
use mover::reader::Source;

use crate::replica::{LEAF, Setup, content, dirty, expected_digests, noise, patchy_source, write_file};

const LEAF_BYTES: u64 = LEAF as u64;

fn reader(folder: &tempfile::TempDir, source: &[u8]) -> Source {
    let path = folder.path().join("disk.raw");
    write_file(&path, source);
    Source::file(&path).unwrap()
}

fn all_leaves(source: &[u8]) -> std::ops::Range<usize> {
    0..source.len().div_ceil(LEAF)
}

#[tokio::test]
async fn a_full_copy_makes_a_dirty_larger_volume_equal_and_touches_nothing_beyond() {
    let folder = tempfile::tempdir().unwrap();
    let source = patchy_source();
    let device = dirty(source.len() + 100_000);
    let setup = Setup::of(reader(&folder, &source), SyncMode::Full);
    let seen = setup.run(&device).await.unwrap();
    let replica = content(&*device);
    assert!(replica[..source.len()] == source[..], "the replica differs from the source");
    assert!(replica[source.len()..].iter().all(|byte| *byte == 0xFF), "the rest of the volume was changed");
    assert_eq!(setup.digests(), expected_digests(&source, all_leaves(&source)));
    assert_eq!((seen.bytes_read, seen.bytes_done, seen.bytes_total), {
        let all = source.len() as u64;
        (all, all, all)
    });
    assert_eq!(seen.bytes_sent + seen.bytes_zero, source.len() as u64);
    let sent = (2 << 20) + LEAF_BYTES + (source.len() % LEAF) as u64;
    assert_eq!(seen.bytes_sent, sent, "only leaves that hold a byte are sent as data");
}

#[tokio::test]
async fn a_full_copy_of_what_is_allocated_zeroes_the_rest_without_reading_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = patchy_source();
    let device = dirty(source.len());
    let last = source.len() as u64 - 1;
    let allocated = [Extent::new(0, 2 << 20), Extent::new(5 << 20, 1 << 20), Extent::new(last, 1)];
    let setup = Setup::of(reader(&folder, &source), SyncMode::Full).only(&allocated);
    let seen = setup.run(&device).await.unwrap();
    assert!(content(&*device) == source, "the replica differs from the source");
    assert_eq!(seen.bytes_read, (3 << 20) + last % LEAF_BYTES + 1);
    let named = (0..32).chain(80..96).chain([source.len() / LEAF]);
    assert_eq!(setup.digests(), expected_digests(&source, named));
}

#[tokio::test]
async fn one_byte_in_four_mib_of_zeroes_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    for at in [0, 1, 4095, 4096, 65_535, 65_536, 1_234_567, (4 << 20) - 1] {
        let mut source = vec![0; 4 << 20];
        source[at] = 1;
        let device = dirty(source.len());
        let setup = Setup::of(reader(&folder, &source), SyncMode::Full);
        let seen = setup.run(&device).await.unwrap();
        assert!(content(&*device) == source, "the byte at {at} was lost");
        assert_eq!(seen.bytes_sent, LEAF_BYTES);
    }
}

#[tokio::test]
async fn an_incremental_changes_only_the_leaves_named() {
    let folder = tempfile::tempdir().unwrap();
    let old = noise((4 << 20) + 512, 2);
    let mut new = old.clone();
    new[100_000] ^= 1;
    new[3 * LEAF..4 * LEAF].fill(0);
    let end = new.len();
    new[end - 1] ^= 1;
    let unnamed = 40 * LEAF + 5;
    new[unnamed] ^= 1;
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::from_bytes(&old));
    let changed = [Extent::new(100_000, 1), Extent::new(3 * LEAF_BYTES, LEAF_BYTES), Extent::new(end as u64 - 1, 1)];
    let setup = Setup::of(reader(&folder, &new), SyncMode::Incremental).only(&changed);
    let seen = setup.run(&device).await.unwrap();
    let replica = content(&*device);
    new[unnamed] ^= 1;
    assert!(replica == new, "what was named is not there, or something else was changed");
    assert_eq!((seen.bytes_sent, seen.bytes_zero), (LEAF_BYTES + 512, LEAF_BYTES));
    assert_eq!(setup.digests(), expected_digests(&new, [1, 3, 64].into_iter()));
}

#[tokio::test]
async fn an_incremental_without_changes_moves_nothing_and_still_flushes() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(1 << 20, 3);
    let inner = Arc::new(MemoryDevice::from_bytes(&source));
    let plan = FaultPlan { write_budget_bytes: Some((0, Fault::Io)), flush_budget: Some(0), ..FaultPlan::default() };
    let device: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, plan));
    let setup = Setup::of(reader(&folder, &source), SyncMode::Incremental).only(&[]);
    let error = setup.run(&device).await.unwrap_err();
    assert!(matches!(error, mover::MoverError::Flush { .. }), "{error:?}: it got as far as the flush, which fails");
    assert!(setup.digests().is_empty());
}

#[tokio::test]
async fn a_comparison_sends_only_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let source = patchy_source();
    let mut replica = source.clone();
    replica[70_000] ^= 1;
    replica[4 << 20] = 9;
    let tail = replica.len() - 1;
    replica[tail] ^= 1;
    let differs = 2 * LEAF_BYTES + (source.len() % LEAF) as u64;
    let inner = Arc::new(MemoryDevice::from_bytes(&replica));
    // Room for exactly what differs: one leaf more would fail.
    let plan = FaultPlan { write_budget_bytes: Some((differs, Fault::Full)), ..FaultPlan::default() };
    let device: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, plan));
    let setup = Setup::of(reader(&folder, &source), SyncMode::Compare);
    let seen = setup.run(&device).await.unwrap();
    assert!(content(&*device) == source, "the replica differs from the source");
    assert_eq!((seen.bytes_sent, seen.bytes_zero), (differs - LEAF_BYTES, LEAF_BYTES));
    assert_eq!(seen.bytes_read, source.len() as u64);
    assert_eq!(setup.digests(), expected_digests(&source, all_leaves(&source)));
}

#[tokio::test]
async fn zeroes_give_the_room_of_a_file_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = vec![0; 8 << 20];
    let replica = folder.path().join("replica.raw");
    write_file(&replica, &vec![0xFF; source.len()]);
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::open(&replica, false).unwrap());
    let setup = Setup::of(reader(&folder, &source), SyncMode::Full);
    let seen = setup.run(&device).await.unwrap();
    assert_eq!(seen.bytes_sent, 0);
    assert!(std::fs::read(&replica).unwrap() == source, "it is not all zero");
    let room = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&replica).unwrap()) * 512;
    assert!(room < 1 << 20, "{room} bytes are still allocated");
}
