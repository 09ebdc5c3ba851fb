//! Children and parents as qemu-img makes them, and links that do not fit.

use std::path::Path;

use block::BlockDevice;
use vmdk::{OpenOptions, VmdkError};

use crate::harness::{assert_as_qemu_has_it, open, open_error, put, raw_content, run};
use crate::writer::descriptor;

fn base(folder: &Path, subformat: &str) {
    raw_content(&folder.join("disk.raw"), 5_000_192);
    let option = format!("subformat={subformat}");
    run(folder, "qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", &option, "disk.raw", "base.vmdk"]);
}

fn child(folder: &Path, parent: &str, name: &str, writes: &[&str]) {
    run(folder, "qemu-img", &["create", "-f", "vmdk", "-b", parent, "-F", "vmdk", name]);
    for write in writes {
        run(folder, "qemu-io", &["-f", "vmdk", "-c", write, name]);
    }
}

#[test]
fn every_kind_of_parent_shows_through() {
    for subformat in
        ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"]
    {
        let folder = tempfile::tempdir().unwrap();
        base(folder.path(), subformat);
        child(
            folder.path(),
            "base.vmdk",
            "one.vmdk",
            &["write -P 1 0 4k", "write -P 2 1M 128k", "write -P 3 2999808 512"],
        );
        child(folder.path(), "one.vmdk", "two.vmdk", &["write -P 4 1050k 1k", "write -P 5 4800k 64k"]);
        child(folder.path(), "two.vmdk", "three.vmdk", &[]);
        for (name, links) in [("one.vmdk", 2), ("two.vmdk", 3), ("three.vmdk", 4)] {
            let image = folder.path().join(name);
            let device = open(&image);
            assert_eq!(device.links().len(), links);
            assert_as_qemu_has_it(&image, &device);
        }
    }
}

#[test]
fn a_parent_that_was_changed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    base(folder.path(), "monolithicSparse");
    child(folder.path(), "base.vmdk", "one.vmdk", &["write -P 1 0 4k"]);
    run(folder.path(), "qemu-io", &["-f", "vmdk", "-c", "write -P 9 0 4k", "base.vmdk"]);
    match open_error(&folder.path().join("one.vmdk")) {
        VmdkError::ParentChanged { child, parent, expected, found } => {
            assert_eq!((child.as_str(), parent.as_str()), ("one.vmdk", "base.vmdk"));
            assert_ne!(format!("{expected:08x}"), found);
        }
        other => panic!("{other:?}"),
    }
    let error = open_error(&folder.path().join("one.vmdk"));
    assert_eq!(error.kind(), model::FailureKind::Conflict);
    assert!(error.remedy().is_some());
}

#[test]
fn a_missing_parent_is_named() {
    let folder = tempfile::tempdir().unwrap();
    base(folder.path(), "monolithicSparse");
    child(folder.path(), "base.vmdk", "one.vmdk", &[]);
    std::fs::remove_file(folder.path().join("base.vmdk")).unwrap();
    let error = open_error(&folder.path().join("one.vmdk"));
    assert!(matches!(&error, VmdkError::Needed { wanted, .. } if wanted == "base.vmdk"), "{error:?}");
    assert_eq!(error.kind(), model::FailureKind::NotFound);
}

#[test]
fn parents_elsewhere_are_looked_for_only_where_allowed() {
    let folder = tempfile::tempdir().unwrap();
    base(folder.path(), "twoGbMaxExtentSparse");
    let elsewhere = tempfile::tempdir().unwrap();
    let absolute = folder.path().join("base.vmdk");
    let base_name = absolute.to_str().unwrap();
    run(elsewhere.path(), "qemu-img", &["create", "-f", "vmdk", "-b", base_name, "-F", "vmdk", "made.vmdk"]);
    let cid = open(&absolute).links()[0].descriptor.cid.unwrap();
    let options = OpenOptions { parent_folders: vec![folder.path().to_owned()], ..OpenOptions::default() };
    let hints = ["../base.vmdk", "C:\\VMs\\base.vmdk", "/vmfs/volumes/5f-6/web/base.vmdk", "sub/base.vmdk"];
    let written = hints.map(|hint| {
        let text = descriptor("monolithicFlat", 7, Some((cid, hint)), "RW 9766 ZERO");
        (put(elsewhere.path(), &format!("{}.vmdk", hint.len()), text.as_bytes()), hint)
    });
    for (image, hint) in [(elsewhere.path().join("made.vmdk"), base_name)].into_iter().chain(written) {
        let error = open_error(&image);
        assert!(matches!(&error, VmdkError::NotFollowed { wanted, .. } if wanted == hint), "{error:?}");
        assert_eq!(error.kind(), model::FailureKind::Forbidden);
        assert_eq!(vmdk::open(&image, &options).unwrap().links().len(), 2, "{hint}");
    }
    // The content id is compared wherever the parent was found.
    let text = descriptor("monolithicFlat", 7, Some((!cid, "../base.vmdk")), "RW 9766 ZERO");
    let image = put(elsewhere.path(), "other.vmdk", text.as_bytes());
    assert!(matches!(vmdk::open(&image, &options).err(), Some(VmdkError::ParentChanged { .. })));
}

#[test]
fn a_circle_of_parents_ends() {
    let folder = tempfile::tempdir().unwrap();
    for (name, parent) in [("a.vmdk", "b.vmdk"), ("b.vmdk", "a.vmdk")] {
        put(folder.path(), name, descriptor("vmfs", 5, Some((5, parent)), "RW 8 ZERO").as_bytes());
    }
    let error = open_error(&folder.path().join("a.vmdk"));
    assert!(matches!(error, VmdkError::ChainTooLong { links: 255 }), "{error:?}");
}

#[test]
fn what_a_smaller_parent_lacks_is_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    base(folder.path(), "monolithicSparse");
    run(folder.path(), "qemu-img", &["create", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "grown.vmdk", "70M"]);
    run(folder.path(), "qemu-io", &["-f", "vmdk", "-c", "write -P 1 60M 4k", "grown.vmdk"]);
    let image = folder.path().join("grown.vmdk");
    let device = open(&image);
    assert_eq!(device.size_bytes(), 70 << 20);
    assert_as_qemu_has_it(&image, &device);
}
