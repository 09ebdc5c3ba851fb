//! Stream-optimized images as vCenter exports them, with the directory at the end.

use std::collections::BTreeMap;

use block::BlockDevice;
use vmdk::VmdkError;

use crate::harness::{all_bytes, assert_as_qemu_has_it, noise, open, open_error, put};
use crate::writer::stream;

/// 70 MiB and a bit: three tables, the second one empty.
const SECTORS: u64 = 2 * 65_536 + 200;

pub fn grains() -> BTreeMap<u64, Vec<u8>> {
    let mut grains: BTreeMap<u64, Vec<u8>> =
        [0, 1, 5, 511, 1024].into_iter().map(|number| (number, noise(65_536, number + 1))).collect();
    grains.insert(6, b"deflates well. ".iter().copied().cycle().take(65_536).collect());
    grains.insert(7, vec![0; 65_536]);
    // The last grain is cut to the disk's end: 200 sectors are one grain and 72 sectors.
    grains.insert(1025, noise(72 * 512, 9));
    grains
}

fn content(grains: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(SECTORS).unwrap() * 512];
    for (number, bytes) in grains {
        let start = usize::try_from(*number).unwrap() * 65_536;
        content[start..start + bytes.len()].copy_from_slice(bytes);
    }
    content
}

#[test]
fn a_directory_at_the_end_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let image = put(folder.path(), "export.vmdk", &stream(SECTORS, &grains()));
    let device = open(&image);
    assert_eq!(device.size_bytes(), SECTORS * 512);
    assert!(device.notes().is_empty());
    assert!(all_bytes(&device) == content(&grains()));
}

#[test]
fn qemu_agrees() {
    let folder = tempfile::tempdir().unwrap();
    // Older versions of QEMU want the last grain whole.
    let mut grains = grains();
    grains.insert(1025, noise(65_536, 9));
    let image = put(folder.path(), "export.vmdk", &stream(SECTORS, &grains));
    assert_as_qemu_has_it(&image, &open(&image));
}

#[test]
fn single_bytes_and_whole_grains_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let device = open(&put(folder.path(), "export.vmdk", &stream(SECTORS, &grains())));
    let expected = content(&grains());
    for (at, length) in [(0, 65_536), (65_535, 2), (6 * 65_536 + 5, 131_072), (5 * 65_536, 1), (511 * 65_536, 65_536)] {
        let mut buf = vec![0xee; length];
        device.read_at(&mut buf, at as u64).unwrap();
        assert!(buf == expected[at..at + length], "{length} bytes at {at}");
    }
    assert!(device.cached_bytes() <= (4 << 20) + vmdk::TABLE_CACHE_BYTES);
}

#[test]
fn a_download_that_broke_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = stream(SECTORS, &grains());
    for length in [512, 1024, 128 * 512, whole.len() / 2, whole.len() - 512, whole.len() - 1] {
        let error = open_error(&put(folder.path(), "export.vmdk", &whole[..length]));
        assert!(matches!(&error, VmdkError::Format { .. }), "{length}: {error:?}");
        assert!(error.remedy().unwrap().contains("not whole"), "{length}");
    }
    let mut appended = whole;
    appended.extend_from_slice(&[1; 512]);
    assert!(matches!(open_error(&put(folder.path(), "export.vmdk", &appended)), VmdkError::Format { .. }));
}
