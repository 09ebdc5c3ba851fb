//! Every subformat qemu-img writes, with sizes that are no whole grains.

use std::path::Path;

use block::{BlockDevice, BlockError};
use model::Extent;

use crate::harness::{
    assert_as_qemu_has_it, assert_bytes, assert_data, assert_map_as_qemu_has_it, data_bytes, open, raw_content, run,
};

const SUBFORMATS: [&str; 5] =
    ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"];

fn converted(folder: &Path, subformat: &str, more: &[&str]) -> std::path::PathBuf {
    let option = format!("subformat={subformat}");
    let mut arguments = vec!["convert", "-f", "raw", "-O", "vmdk", "-o", option.as_str()];
    arguments.extend_from_slice(more);
    let name = format!("{subformat}.vmdk");
    arguments.extend_from_slice(&["disk.raw", name.as_str()]);
    run(folder, "qemu-img", &arguments);
    folder.join(name)
}

#[test]
fn small_disks_of_odd_sizes() {
    for size_bytes in [512, 65_536, 65_536 * 3 - 512, 5_000_192, 33 << 20] {
        let folder = tempfile::tempdir().unwrap();
        raw_content(&folder.path().join("disk.raw"), size_bytes);
        for subformat in SUBFORMATS {
            let image = converted(folder.path(), subformat, &[]);
            let device = open(&image);
            assert!(device.is_read_only() && device.notes().is_empty(), "{subformat}");
            assert_bytes(&device, &folder.path().join("disk.raw"));
            assert_as_qemu_has_it(&image, &device);
        }
    }
}

#[test]
fn disks_that_are_split_at_two_gib() {
    let folder = tempfile::tempdir().unwrap();
    raw_content(&folder.path().join("disk.raw"), (4 << 30) + 3_000_320);
    for subformat in ["monolithicSparse", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let image = converted(folder.path(), subformat, &[]);
        let device = open(&image);
        if subformat.starts_with("twoGb") {
            assert_eq!(device.links()[0].descriptor.extents.len(), 3, "{subformat}");
        }
        assert_map_as_qemu_has_it(&image, &device);
        assert_data(&device, &folder.path().join("disk.raw"));
        assert!(data_bytes(&device) < 4 << 20, "{subformat}");
    }
}

#[test]
fn zeroes_that_are_allocated_are_data() {
    let folder = tempfile::tempdir().unwrap();
    raw_content(&folder.path().join("disk.raw"), 3 << 20);
    for subformat in ["monolithicSparse", "twoGbMaxExtentSparse"] {
        let image = converted(folder.path(), subformat, &["-S", "0"]);
        let device = open(&image);
        assert_as_qemu_has_it(&image, &device);
        assert_eq!(data_bytes(&device), 3 << 20, "{subformat}");
    }
}

#[test]
fn empty_disks_are_one_hole() {
    let folder = tempfile::tempdir().unwrap();
    for subformat in ["monolithicSparse", "twoGbMaxExtentSparse"] {
        let option = format!("subformat={subformat}");
        let name = format!("{subformat}.vmdk");
        run(folder.path(), "qemu-img", &["create", "-f", "vmdk", "-o", &option, &name, "3G"]);
        let device = open(&folder.path().join(&name));
        assert_eq!(device.map(Extent::new(0, 3 << 30)).unwrap().len(), 1, "{subformat}");
        assert_eq!(data_bytes(&device), 0, "{subformat}");
    }
}

#[test]
fn zeroed_grains_are_zero_and_not_holes() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "qemu-img", &["create", "-f", "vmdk", "-o", "zeroed_grain=on", "zeroed.vmdk", "2M"]);
    let commands = ["-f", "vmdk", "-c", "write -P 7 0 1M", "-c", "write -z 128k 192k", "zeroed.vmdk"];
    run(folder.path(), "qemu-io", &commands);
    let image = folder.path().join("zeroed.vmdk");
    let device = open(&image);
    assert_as_qemu_has_it(&image, &device);
    let regions = device.map(Extent::new(0, 2 << 20)).unwrap();
    let lengths: Vec<(u64, block::RegionState)> =
        regions.iter().map(|region| (region.extent.length >> 10, region.state)).collect();
    let expected = [
        (128, block::RegionState::Data),
        (192, block::RegionState::Zero),
        (704, block::RegionState::Data),
        (1024, block::RegionState::Hole),
    ];
    assert_eq!(lengths, expected);
}

#[test]
fn nothing_is_changed_and_nothing_past_the_end_is_read() {
    let folder = tempfile::tempdir().unwrap();
    raw_content(&folder.path().join("disk.raw"), 1 << 20);
    let device = open(&converted(folder.path(), "monolithicSparse", &[]));
    let mut buf = [0; 2];
    assert!(matches!(device.read_at(&mut buf, (1 << 20) - 1), Err(BlockError::OutOfRange { .. })));
    assert!(matches!(device.read_at(&mut buf, u64::MAX), Err(BlockError::OutOfRange { .. })));
    assert!(matches!(device.map(Extent::new(1, 1 << 20)), Err(BlockError::OutOfRange { .. })));
    assert!(device.read_at(&mut [], 1 << 20).is_ok());
    assert!(device.map(Extent::new(1 << 20, 0)).unwrap().is_empty());
    assert!(matches!(device.write_at(&[1], 0), Err(BlockError::ReadOnly)));
    assert!(matches!(device.trim(Extent::new(0, 1)), Err(BlockError::ReadOnly)));
    assert!(matches!(device.write_zeroes(Extent::new(0, 1), true), Err(BlockError::ReadOnly)));
    device.flush().unwrap();
}

#[test]
fn a_link_or_a_relative_path_of_the_operator_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    raw_content(&folder.path().join("disk.raw"), 1 << 20);
    let image = converted(folder.path(), "monolithicSparse", &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link.vmdk");
    std::os::unix::fs::symlink(&image, &link).unwrap();
    assert_bytes(&open(&link), &folder.path().join("disk.raw"));
}
