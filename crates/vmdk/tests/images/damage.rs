//! Damage is told with its file and its place, and never read as zeroes.

use std::error::Error;
use std::path::Path;

use block::{BlockDevice, BlockError};
use model::{Extent, FailureKind};
use vmdk::{OpenOptions, VmdkError};

use crate::harness::{noise, open, open_error, put, run};
use crate::streams;
use crate::writer::{Grain, Grains, cowd, descriptor, stream};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A monolithic sparse image of 1 MiB, and where its first table is.
fn sparse_image(folder: &Path) -> (Vec<u8>, usize) {
    put(folder, "disk.raw", &noise(1 << 20, 1));
    run(folder, "qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "disk.raw", "good.vmdk"]);
    let bytes = std::fs::read(folder.join("good.vmdk")).unwrap();
    let directory = usize::try_from(u64_at(&bytes, 56)).unwrap() * 512;
    let table = u32_at(&bytes, directory) as usize * 512;
    (bytes, table)
}

/// The damage that a read of the disk's first byte ends in, as an operator sees it.
fn read_damage(path: &Path, at: u64) -> (String, u64, u64, String) {
    let device = open(path);
    let error = device.read_at(&mut [0; 4], at).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid);
    assert!(error.remedy().unwrap().contains("copy or export it again"));
    let BlockError::Image { source, .. } = error else { panic!("{error:?}") };
    assert!(source.source().is_none());
    match *source.downcast::<VmdkError>().unwrap() {
        VmdkError::Damaged { file, offset, disk_offset, reason } => (file, offset, disk_offset, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn packed_grains() {
    let folder = tempfile::tempdir().unwrap();
    let good = stream(2 * 65_536 + 200, &streams::grains());
    let grain_at = 128 * 512;
    let wrong = |at: usize, mask: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= mask;
        put(folder.path(), "export.vmdk", &bytes)
    };
    let cases = [
        (grain_at, 0x80, "has the marker of"),
        (grain_at + 11, 0x40, "impossible"),
        (grain_at + 10, 0x01, "end too early"),
        (grain_at + 12, 0x01, "cannot be inflated"),
        (grain_at + 30_000, 0x01, "inflate"),
    ];
    for (at, mask, expected) in cases {
        let (file, offset, disk_offset, reason) = read_damage(&wrong(at, mask), 0);
        assert_eq!((file.as_str(), offset, disk_offset), ("export.vmdk", grain_at as u64, 0));
        assert!(reason.contains(expected) || reason.contains("end too early"), "{at}: {reason}");
    }
    // Only the grain that is damaged cannot be read.
    let device = open(&wrong(grain_at + 30_000, 1));
    device.read_at(&mut [0; 65_536], 65_536).unwrap();
    assert!(device.read_at(&mut [0; 65_537], 65_535).is_err());
}

#[test]
fn tables_and_directories() {
    let folder = tempfile::tempdir().unwrap();
    let (good, table) = sparse_image(folder.path());
    let put32 = |at: usize, number: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        put(folder.path(), "bad.vmdk", &bytes)
    };
    let beyond = u32::try_from(good.len() / 512).unwrap();
    let (_, offset, disk_offset, reason) = read_damage(&put32(table, beyond), 0);
    assert_eq!((offset, disk_offset), (u64::from(beyond) * 512, 0));
    assert!(reason.contains("file ends"), "{reason}");
    assert!(read_damage(&put32(table + 4, 1), 65_540).3.contains("sector 1"));
    assert!(read_damage(&put32(table, u32::MAX), 0).3.contains("file ends"));
    let directory = usize::try_from(u64_at(&good, 56)).unwrap() * 512;
    for sector in [beyond, u32::MAX, beyond - 1] {
        let image = put32(directory, sector);
        assert!(read_damage(&image, 0).3.contains("past the file's end"), "{sector}");
        let mapped = open(&image).map(Extent::new(0, 1 << 20)).unwrap_err();
        assert!(matches!(mapped, BlockError::Image { .. }), "{mapped:?}");
    }
}

#[test]
fn headers_that_contradict_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let (good, _) = sparse_image(folder.path());
    let huge = (1u64 << 62).to_le_bytes();
    let cases: [(usize, &[u8]); 14] = [
        (4, &[9]),
        (8, &[3, 0, 0, 0x80]),
        (12, &huge),
        (12, &(63u64 << 31).to_le_bytes()),
        (20, &[0]),
        (20, &[3]),
        (20, &huge),
        (28, &huge),
        (36, &huge),
        (44, &[0, 0]),
        (44, &[1, 2]),
        (56, &huge),
        (56, &[0; 8]),
        (73, b"\r\n"),
    ];
    for (at, number) in cases {
        let mut bytes = good.clone();
        bytes[at..at + number.len()].copy_from_slice(number);
        let error = open_error(&put(folder.path(), "bad.vmdk", &bytes));
        assert!(matches!(&error, VmdkError::Format { file, .. } if file == "bad.vmdk"), "{at}: {error:?}");
        assert!(error.remedy().is_some() && error.source().is_some());
    }
}

#[test]
fn an_image_that_was_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, _) = sparse_image(folder.path());
    bytes[72] = 1;
    let image = put(folder.path(), "open.vmdk", &bytes);
    let error = open_error(&image);
    assert!(matches!(&error, VmdkError::Unclean { file } if file == "open.vmdk"));
    assert_eq!(error.kind(), FailureKind::Conflict);
    let device = vmdk::open(&image, &OpenOptions { accept_unclean: true, ..OpenOptions::default() }).unwrap();
    assert!(device.notes()[0].contains("not closed"));
}

#[test]
fn a_second_directory_that_is_missing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, _) = sparse_image(folder.path());
    for promised in [[0; 8], (1u64 << 40).to_le_bytes(), [0xff; 8]] {
        bytes[48..56].copy_from_slice(&promised);
        let device = open(&put(folder.path(), "one.vmdk", &bytes));
        assert!(device.notes()[0].contains("second grain directory"), "{:?}", device.notes());
        device.read_at(&mut [0; 4096], 0).unwrap();
    }
}

#[test]
fn parts_of_split_disks() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "disk.raw", &noise(1 << 20, 1));
    for (subformat, part) in [("twoGbMaxExtentSparse", "split-s001.vmdk"), ("twoGbMaxExtentFlat", "split-f001.vmdk")] {
        let option = format!("subformat={subformat}");
        run(folder.path(), "qemu-img", &["convert", "-O", "vmdk", "-o", &option, "disk.raw", "split.vmdk"]);
        let error = open_error(&folder.path().join(part));
        let is_part = matches!(&error, VmdkError::Part { .. }) || part.contains("-f");
        assert!(is_part, "{part}: {error:?}");
        let whole = std::fs::read(folder.path().join(part)).unwrap();
        put(folder.path(), part, &whole[..600]);
        let error = open_error(&folder.path().join("split.vmdk"));
        assert!(matches!(&error, VmdkError::Format { file, .. } if file == part), "{error:?}");
        std::fs::remove_file(folder.path().join(part)).unwrap();
        let error = open_error(&folder.path().join("split.vmdk"));
        assert!(matches!(&error, VmdkError::Needed { wanted, .. } if wanted == part), "{error:?}");
    }
}

#[test]
fn redo_logs_that_were_cut() {
    let folder = tempfile::tempdir().unwrap();
    let grains = Grains::from([(0, Grain::Data(noise(512, 1))), (9, Grain::Data(noise(512, 2)))]);
    let extent = cowd(4096, 1, &grains);
    let text = descriptor("vmfsSparse", 1, None, "RW 4096 VMFSSPARSE \"cut-delta.vmdk\"");
    let image = put(folder.path(), "cut.vmdk", text.as_bytes());
    put(folder.path(), "cut-delta.vmdk", &extent[..extent.len() - 1]);
    let (file, offset, disk_offset, _) = read_damage(&image, 9 * 512);
    assert_eq!((file.as_str(), offset, disk_offset), ("cut-delta.vmdk", extent.len() as u64 - 512, 9 * 512));
    open(&image).read_at(&mut [0; 4608], 0).unwrap();
    put(folder.path(), "cut-delta.vmdk", &extent[..2100]);
    assert!(read_damage(&image, 0).3.contains("past the file's end"));
    put(folder.path(), "cut-delta.vmdk", &extent[..2049]);
    assert!(matches!(open_error(&image), VmdkError::Format { .. }));
}

#[test]
fn a_second_extent_tells_bytes_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let grains = Grains::from([(0, Grain::Data(noise(512, 1)))]);
    let extent = cowd(4096, 1, &grains);
    put(folder.path(), "b-delta.vmdk", &extent[..extent.len() - 1]);
    let lines = "RW 8 ZERO\nRW 4096 VMFSSPARSE \"b-delta.vmdk\"";
    let image = put(folder.path(), "b.vmdk", descriptor("vmfsSparse", 1, None, lines).as_bytes());
    assert_eq!(read_damage(&image, 8 * 512).2, 8 * 512);
}
