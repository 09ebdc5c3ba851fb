//! Names in an image are not to be trusted: nothing outside the image's folder is opened.

use std::os::unix::fs::symlink;

use vmdk::VmdkError;

use crate::harness::{open, open_error, put, run};
use crate::writer::descriptor;

#[test]
fn extents_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let outside = put(folder.path(), "secret", &[7; 4096]);
    for name in [outside.to_str().unwrap(), "../secret", "..", ".", "a/b", "a\\b", "/dev/zero", "a\tb"] {
        let text = descriptor("monolithicFlat", 1, None, &format!("RW 8 FLAT \"{name}\" 0"));
        let error = open_error(&put(&inner, "disk.vmdk", text.as_bytes()));
        assert!(matches!(&error, VmdkError::NotFollowed { wanted, .. } if wanted == name), "{name}: {error:?}");
    }
}

#[test]
fn links_that_leave_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let outside = put(folder.path(), "secret", &[7; 4096]);
    symlink(&outside, inner.join("absolute")).unwrap();
    symlink("../secret", inner.join("relative")).unwrap();
    symlink("/proc/self/exe", inner.join("magic")).unwrap();
    put(&inner, "flat", &[9; 4096]);
    symlink("flat", inner.join("inside")).unwrap();
    for name in ["absolute", "relative", "magic"] {
        let text = descriptor("monolithicFlat", 1, None, &format!("RW 8 FLAT \"{name}\" 0"));
        let error = open_error(&put(&inner, "disk.vmdk", text.as_bytes()));
        assert!(matches!(&error, VmdkError::Needed { wanted, .. } if wanted == name), "{name}: {error:?}");
    }
    let text = descriptor("monolithicFlat", 1, None, "RW 8 FLAT \"inside\" 0");
    open(&put(&inner, "disk.vmdk", text.as_bytes()));
}

#[test]
fn only_regular_files_are_extents() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    run(folder.path(), "mkfifo", &["pipe"]);
    for name in ["folder", "pipe", "nothing"] {
        let text = descriptor("monolithicFlat", 1, None, &format!("RW 8 FLAT \"{name}\" 0"));
        let error = open_error(&put(folder.path(), "disk.vmdk", text.as_bytes()));
        assert!(matches!(&error, VmdkError::Needed { .. }), "{name}: {error:?}");
    }
}

#[test]
fn what_is_no_image_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for content in [&b""[..], b"K", b"raw bytes of a disk", &[0; 4096], b"QFI\xfb"] {
        let error = open_error(&put(folder.path(), "disk", content));
        assert!(matches!(&error, VmdkError::Unrecognised { file } if file == "disk"), "{error:?}");
    }
    assert!(matches!(open_error(&folder.path().join("missing")), VmdkError::Open { .. }));
    assert!(matches!(open_error(folder.path()), VmdkError::Open { .. }));
    assert!(vmdk::is_vmdk(b"KDMV\x01") && vmdk::is_vmdk(b"COWD") && vmdk::is_vmdk(b"# Disk DescriptorFile\r\n"));
    assert!(vmdk::is_vmdk(&0xcafe_babe_u64.to_le_bytes()));
    assert!(!vmdk::is_vmdk(b"") && !vmdk::is_vmdk(b"KDM") && !vmdk::is_vmdk(&[0xbe, 0xba, 0xfe, 0xca, 1, 0, 0, 0]));
}
