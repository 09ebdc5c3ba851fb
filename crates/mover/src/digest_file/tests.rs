//! Digest files as they are written, torn at every byte, and taken up again.

use api::gateway::DIGEST_RECORD_BYTES;
use model::Extent;

use super::*;

const LEAF: u64 = LEAF_SIZE_BYTES;
/// 64 leaves, the last of them short.
const CAPACITY: u64 = 63 * LEAF + 512;

fn records(path: &Path) -> Vec<(u64, u32, u8)> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes.len() % DIGEST_RECORD_BYTES, 0);
    let records = bytes.as_chunks::<DIGEST_RECORD_BYTES>().0.iter().map(|bytes| DigestRecord::decode(bytes).unwrap());
    records.map(|record| (record.first_leaf, record.leaf_count, record.digest[0])).collect()
}

fn moved(sent: u64) -> Moved {
    Moved { read: 2 * sent, sent, zero: 1 }
}

fn leaves(first: u64, count: u64) -> Extent {
    Extent::new(first * LEAF, count * LEAF).clamp_to(CAPACITY).unwrap()
}

/// Three stretches, each covered by a checkpoint, and one that is not.
fn written(path: &Path) -> DigestFile {
    let file = DigestFile::create(path).unwrap();
    file.append(16, &[[1; 32], [2; 32], [2; 32]], false).unwrap();
    file.finish(moved(1)).unwrap();
    file.append(0, &[[3; 32]; 4], false).unwrap();
    file.append(62, &[[4; 32], [5; 32]], false).unwrap();
    file.finish(moved(2)).unwrap();
    file.append(30, &[[6; 32]], false).unwrap();
    file.finish(moved(3)).unwrap();
    file.append(40, &[[7; 32]], false).unwrap();
    file
}

#[test]
fn runs_of_equal_leaves_become_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = DigestFile::create(&folder.path().join("disk-2000.digests")).unwrap();
    file.append(16, &[[1; 32], [0; 32], [0; 32], [2; 32]], false).unwrap();
    file.finish(Moved::default()).unwrap();
    assert_eq!(records(file.path()), [(16, 1, 1), (17, 2, 0), (19, 1, 2)]);
}

#[test]
fn a_checkpoint_is_due_after_some_of_the_disk_and_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    let capacity = 1 << 30;
    let file = DigestFile::create(&path).unwrap();
    let mut leaf = 0;
    while !file.is_checkpoint_due() {
        file.append(leaf, &[[9; 32]; 16], false).unwrap();
        leaf += 16;
    }
    assert_eq!(leaf * LEAF, CHECKPOINT_BYTES);
    assert_eq!(proven(&path, capacity).unwrap().extents, []);
    file.checkpoint(moved(5)).unwrap();
    assert!(!file.is_checkpoint_due());
    let found = proven(&path, capacity).unwrap();
    assert_eq!((found.extents, found.moved), (vec![Extent::new(0, CHECKPOINT_BYTES)], moved(5)));
}

#[test]
fn only_what_a_checkpoint_covers_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    assert_eq!(proven(&path, CAPACITY).unwrap().extents, [], "there is no file yet");
    drop(written(&path));
    let found = proven(&path, CAPACITY).unwrap();
    assert_eq!(found.extents, [leaves(0, 4), leaves(16, 3), leaves(30, 1), leaves(62, 2)]);
    assert_eq!(found.moved, moved(3));
    // Of another disk: a leaf lies past its end.
    assert_eq!(proven(&path, 62 * LEAF).unwrap().extents, [leaves(16, 3)]);
}

#[test]
fn a_tail_torn_at_any_byte_leaves_an_earlier_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    drop(written(&path));
    let mirror = mirror::path_of(&path);
    let (digests, entries) = (std::fs::read(&path).unwrap(), std::fs::read(&mirror).unwrap());
    let ends = [0, 2, 5, 6].map(|records| records * DIGEST_RECORD_BYTES);
    let states: Vec<Moved> = [Moved::default(), moved(1), moved(2), moved(3)].into();
    for length in 0..=digests.len() {
        std::fs::write(&path, &digests[..length]).unwrap();
        let expected = ends.iter().rposition(|&end| end <= length).unwrap();
        assert_eq!(proven(&path, CAPACITY).unwrap().moved, states[expected], "{length} bytes of digests");
    }
    std::fs::write(&path, &digests).unwrap();
    for length in 0..=entries.len() {
        std::fs::write(&mirror, &entries[..length]).unwrap();
        let expected = length / mirror::ENTRY_BYTES;
        assert_eq!(proven(&path, CAPACITY).unwrap().moved, states[expected], "{length} bytes of the mirror");
    }
    for at in 0..entries.len() {
        let mut flipped = entries.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&mirror, &flipped).unwrap();
        let expected = at / mirror::ENTRY_BYTES;
        assert_eq!(proven(&path, CAPACITY).unwrap().moved, states[expected], "byte {at} of the mirror");
    }
    std::fs::write(&mirror, &entries).unwrap();
    for at in 0..ends[3] {
        let mut flipped = digests.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&path, &flipped).unwrap();
        let expected = ends.iter().rposition(|&end| end <= at).unwrap();
        assert_eq!(proven(&path, CAPACITY).unwrap().moved, states[expected], "byte {at} of the digests");
    }
}

#[test]
fn what_is_kept_is_named_once_and_the_file_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    drop(written(&path));
    let kept = [leaves(1, 2), leaves(17, 1), leaves(63, 1)];
    let file = proven(&path, CAPACITY).unwrap().keep(&kept).unwrap();
    file.append(0, &[[8; 32]], false).unwrap();
    file.finish(moved(9)).unwrap();
    assert_eq!(records(&path), [(17, 1, 2), (1, 2, 3), (63, 1, 5), (0, 1, 8)]);
    let found = proven(&path, CAPACITY).unwrap();
    assert_eq!((found.extents, found.moved), (vec![leaves(0, 3), leaves(17, 1), leaves(63, 1)], moved(9)));
    // And again, with nothing kept.
    let file = proven(&path, CAPACITY).unwrap().keep(&[]).unwrap();
    file.finish(moved(9)).unwrap();
    assert_eq!((records(&path), proven(&path, CAPACITY).unwrap().extents), (vec![], vec![]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn a_leaf_named_twice_makes_everything_doubtful() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    let file = written(&path);
    file.append(3, &[[9; 32]], false).unwrap();
    file.finish(moved(4)).unwrap();
    assert_eq!(proven(&path, CAPACITY).unwrap().extents, []);
}

#[test]
fn a_replacement_cut_off_at_any_step_leaves_one_of_the_two_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk-2000.digests");
    let mirror = mirror::path_of(&path);
    let (next, next_mirror) =
        (folder.path().join("disk-2000.digests.next"), folder.path().join("disk-2000.mirror.next"));
    drop(written(&path));
    let old = (std::fs::read(&path).unwrap(), std::fs::read(&mirror).unwrap());
    drop(proven(&path, CAPACITY).unwrap().keep(&[leaves(1, 2)]).unwrap());
    let new = (std::fs::read(&path).unwrap(), std::fs::read(&mirror).unwrap());
    let before = [leaves(0, 4), leaves(16, 3), leaves(30, 1), leaves(62, 2)];
    for (step, expected) in [&before[..], &before[..], &before[..], &[leaves(1, 2)]].into_iter().enumerate() {
        std::fs::write(&path, &old.0).unwrap();
        std::fs::write(&mirror, &old.1).unwrap();
        match step {
            0 => std::fs::write(&next, &new.0[..10]).unwrap(),
            1 => std::fs::write(&next, &new.0).unwrap(),
            2 => {
                std::fs::write(&next, &new.0).unwrap();
                std::fs::write(&next_mirror, &new.1).unwrap();
            }
            _ => {
                std::fs::write(&path, &new.0).unwrap();
                std::fs::write(&next_mirror, &new.1).unwrap();
            }
        }
        assert_eq!(proven(&path, CAPACITY).unwrap().extents, expected, "cut off in step {step}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "settled in step {step}");
    }
}
