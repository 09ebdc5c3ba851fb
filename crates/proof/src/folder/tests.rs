//! Staging, applying and dropping, with random content and a crash at every point.

use block::digest::{LeafDigest, RootHasher, leaf_count, leaf_extent, zero_leaf_digest};
use proptest::prelude::*;

use super::*;

const LEAF: u64 = model::LEAF_SIZE_BYTES;

fn disk(capacity_bytes: u64) -> DiskName {
    DiskName { vm_disk_id: "d-1".to_owned(), disk_uuid: "6000C29".to_owned(), capacity_bytes }
}

/// The digest of a leaf whose content is `content`; 0 is a leaf of zeroes.
fn digest(content: u8, leaf: u64, capacity_bytes: u64) -> LeafDigest {
    match content {
        0 => zero_leaf_digest(leaf_extent(leaf, capacity_bytes).unwrap().length),
        other => [other; 32],
    }
}

fn root(contents: &[u8], capacity_bytes: u64) -> LeafDigest {
    let mut hasher = RootHasher::new(capacity_bytes);
    for (leaf, content) in contents.iter().enumerate() {
        hasher.push(leaf as u64, 1, &digest(*content, leaf as u64, capacity_bytes)).unwrap();
    }
    hasher.finish()
}

/// Stages these leaves; with full coverage all of `leaves` are everything that is not zero.
fn stage(folder: &DigestFolder, disk: &DiskName, job: &str, coverage: Coverage, leaves: &[(u64, u8)]) {
    let mut writer = folder.stage(disk, job, coverage).unwrap();
    for (leaf, content) in leaves {
        writer.add(*leaf, 1, &digest(*content, *leaf, disk.capacity_bytes)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), leaves.len() as u64);
}

fn all(contents: &[u8]) -> Vec<(u64, u8)> {
    contents.iter().enumerate().map(|(leaf, content)| (leaf as u64, *content)).collect()
}

fn committed_root(folder: &DigestFolder, disk: &DiskName) -> LeafDigest {
    folder.committed(disk).unwrap().unwrap().root().unwrap()
}

fn opened() -> (tempfile::TempDir, DigestFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = DigestFolder::open(dir.path()).unwrap();
    (dir, folder)
}

/// A disk's content, what a replication changes of it, and in which order it says so.
fn contents() -> impl Strategy<Value = (u64, Vec<u8>, Vec<(u64, u8)>)> {
    let sizes = prop_oneof![1..40u64, 4090..4110u64];
    (sizes, 0..LEAF).prop_flat_map(|(leaves, tail)| {
        let capacity = (leaves * LEAF - tail).max(1);
        let leaves = leaf_count(capacity);
        let old = proptest::collection::vec(0..4u8, usize::try_from(leaves).unwrap());
        let changed = proptest::collection::btree_map(0..leaves, 0..4u8, 0..30usize);
        (Just(capacity), old, changed.prop_map(|changed| changed.into_iter().collect::<Vec<_>>()).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn staged_over_committed_is_the_root_of_the_content((capacity, old, changed) in contents()) {
        let (_dir, folder) = opened();
        let disk = disk(capacity);
        stage(&folder, &disk, "job-1", Coverage::Full, &all(&old));
        prop_assert_eq!(folder.staged(&disk, "job-1").unwrap().unwrap().root().unwrap(), root(&old, capacity));
        folder.apply(&disk, "job-1").unwrap();
        prop_assert_eq!(committed_root(&folder, &disk), root(&old, capacity));

        let mut new = old.clone();
        for (leaf, content) in &changed {
            new[usize::try_from(*leaf).unwrap()] = *content;
        }
        stage(&folder, &disk, "job-2", Coverage::Named, &changed);
        let committed = folder.committed(&disk).unwrap().unwrap();
        let staged = folder.staged(&disk, "job-2").unwrap().unwrap();
        let roots = committed.roots_with(&staged).unwrap();
        prop_assert_eq!(roots.before, root(&old, capacity));
        prop_assert_eq!(roots.after, root(&new, capacity));
        prop_assert_eq!(committed.root().unwrap(), roots.before, "nothing was changed by looking");

        // A crash half way through, then again; and once more, as nothing says that it is done.
        committed.take_over(&staged).unwrap();
        prop_assert_eq!(committed_root(&folder, &disk), roots.after);
        folder.apply(&disk, "job-2").unwrap();
        folder.apply(&disk, "job-2").unwrap();
        prop_assert_eq!(committed_root(&folder, &disk), roots.after);
        prop_assert_eq!(folder.list().unwrap(), Listing { committed: vec!["d-1".to_owned()], staged: vec![] });
        for (leaf, content) in new.iter().enumerate() {
            let found = folder.committed(&disk).unwrap().unwrap().digest(leaf as u64).unwrap();
            prop_assert_eq!(found, digest(*content, leaf as u64, capacity));
        }
    }

    #[test]
    fn half_applied_is_finished_by_applying_again((capacity, old, changed) in contents(), cut in 0..30usize) {
        let (_dir, folder) = opened();
        let disk = disk(capacity);
        stage(&folder, &disk, "job-1", Coverage::Full, &all(&old));
        folder.apply(&disk, "job-1").unwrap();
        stage(&folder, &disk, "job-2", Coverage::Named, &changed);
        let committed = folder.committed(&disk).unwrap().unwrap();
        let staged = folder.staged(&disk, "job-2").unwrap().unwrap();
        let after = committed.roots_with(&staged).unwrap().after;
        for (leaf, content) in changed.iter().take(cut) {
            let entry = if *content == 0 { [0; 32] } else { digest(*content, *leaf, capacity) };
            committed.write(*leaf, &entry).unwrap();
        }
        drop(committed);
        folder.apply(&disk, "job-2").unwrap();
        prop_assert_eq!(committed_root(&folder, &disk), after);
    }
}

#[test]
fn a_replication_that_came_to_nothing_leaves_the_committed_file_as_it_was() {
    let (_dir, folder) = opened();
    let disk = disk(5 * LEAF);
    stage(&folder, &disk, "job-1", Coverage::Full, &all(&[1, 2, 0, 3, 1]));
    folder.apply(&disk, "job-1").unwrap();
    let before = committed_root(&folder, &disk);
    stage(&folder, &disk, "job-2", Coverage::Named, &[(2, 3)]);
    assert_eq!(folder.list().unwrap().staged.len(), 1);
    folder.drop_staged("d-1", "job-2").unwrap();
    folder.drop_staged("d-1", "job-2").unwrap();
    assert_eq!(committed_root(&folder, &disk), before);
    // A repeated attempt begins anew: what the first one named is not in it.
    stage(&folder, &disk, "job-3", Coverage::Named, &[(0, 3), (1, 3)]);
    stage(&folder, &disk, "job-3", Coverage::Named, &[(4, 0)]);
    folder.apply(&disk, "job-3").unwrap();
    assert_eq!(committed_root(&folder, &disk), root(&[1, 2, 0, 3, 0], disk.capacity_bytes));
    // Everything anew: nothing of the old file is left.
    stage(&folder, &disk, "job-4", Coverage::Full, &[(3, 1)]);
    folder.apply(&disk, "job-4").unwrap();
    assert_eq!(committed_root(&folder, &disk), root(&[0, 0, 0, 1, 0], disk.capacity_bytes));
}

#[test]
fn runs_of_equal_leaves_are_staged_whole_and_zeroes_stay_holes() {
    let (_dir, folder) = opened();
    let leaves = 3 * 4096 + 7;
    let disk = disk(leaves * LEAF - 100);
    let mut writer = folder.stage(&disk, "job-1", Coverage::Full).unwrap();
    writer.add(5, 8000, &[7; 32]).unwrap();
    writer.add(8005, leaves - 8006, &zero_leaf_digest(LEAF)).unwrap();
    writer.add(leaves - 1, 1, &zero_leaf_digest(LEAF - 100)).unwrap();
    assert_eq!(writer.finish().unwrap(), leaves - 5);
    let staged = folder.staged(&disk, "job-1").unwrap().unwrap();
    let mut expected = RootHasher::new(disk.capacity_bytes);
    expected.push(5, 8000, &[7; 32]).unwrap();
    assert_eq!(staged.root().unwrap(), expected.finish());
    assert_eq!(staged.next_leaf(12_000).unwrap(), None, "the end is a hole");
    let (mut named, mut leaf) = (Vec::new(), 0);
    while let Some(more) = staged.named_from(leaf).unwrap() {
        named.extend(more.digests);
        leaf = more.next_leaf;
    }
    assert_eq!(named, (5..8005).map(|leaf| (leaf, [7; 32])).collect::<Vec<_>>());
}

#[test]
fn digests_no_disk_can_have_are_refused() {
    let (_dir, folder) = opened();
    let disk = disk(2 * LEAF);
    let mut writer = folder.stage(&disk, "job-1", Coverage::Named).unwrap();
    for (first, count, digest) in
        [(2, 1, [1; 32]), (1, 2, [1; 32]), (u64::MAX, 2, [1; 32]), (0, 0, [1; 32]), (0, 1, [0; 32])]
    {
        let error = writer.add(first, count, &digest).unwrap_err();
        assert!(matches!(error, ProofError::Digests { .. }), "{error:?}");
    }
    assert!(matches!(folder.stage(&disk, "../job", Coverage::Named).unwrap_err(), ProofError::Name { .. }));
}

#[test]
fn a_damaged_file_or_one_of_another_disk_is_never_used() {
    let (dir, folder) = opened();
    let disk = disk(2 * LEAF);
    assert!(folder.committed(&disk).unwrap().is_none());
    stage(&folder, &disk, "job-1", Coverage::Full, &all(&[1, 2]));
    folder.apply(&disk, "job-1").unwrap();
    let path = dir.path().join("digests/d-1.leaves");
    let whole = fs::read(&path).unwrap();
    let lost = |disk: &DiskName| {
        let error = folder.committed(disk).unwrap_err();
        assert!(error.is_lost() && error.remedy().is_some(), "{error:?}");
        error.to_string()
    };
    assert!(lost(&DiskName { disk_uuid: "another".to_owned(), ..disk.clone() }).contains("it is of the VMDK 6000C29"));
    assert!(lost(&DiskName { capacity_bytes: LEAF, ..disk.clone() }).contains("bytes"));
    for (content, reason) in [
        (whole[..whole.len() - 1].to_vec(), "it should have"),
        (whole[..100].to_vec(), "it has only 100 bytes"),
        (vec![0; whole.len()], "it does not begin like one"),
        ([&whole[..50], &[0xff], &whole[51..]].concat(), "the checksum of its header is wrong"),
    ] {
        fs::write(&path, content).unwrap();
        let told = lost(&disk);
        assert!(told.contains(reason), "{told}");
    }
    // An increment without the file it began from.
    folder.set_aside("d-1").unwrap();
    folder.set_aside("d-1").unwrap();
    stage(&folder, &disk, "job-2", Coverage::Named, &[(0, 3)]);
    assert!(folder.apply(&disk, "job-2").unwrap_err().is_lost());
    assert!(folder.committed(&disk).unwrap().is_none());
    // One that is put where the committed file belongs.
    fs::rename(dir.path().join("digests/d-1.job-2.staged"), &path).unwrap();
    assert!(lost(&disk).contains("does not know every leaf"));
    folder.forget("d-1").unwrap();
    assert_eq!(folder.list().unwrap(), Listing::default());
}
