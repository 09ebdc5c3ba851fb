//! Redo logs of ESXi, `COWD` and seSparse: written here, and read by qemu-img as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use block::{BlockDevice, RegionState};
use model::Extent;
use vmdk::{OpenOptions, VmdkError};

use crate::harness::{all_bytes, assert_as_qemu_has_it, noise, open, open_error, put, qemu_img_succeeds, raw_content};
use crate::writer::{Grain, Grains, cowd, descriptor, sesparse};

/// A disk of `sectors` as ESXi has it: a descriptor and a flat file.
fn flat_base(folder: &Path, sectors: u64) -> PathBuf {
    raw_content(&folder.join("base-flat.vmdk"), sectors * 512);
    let text = descriptor("vmfs", 0xaaaa_0001, None, &format!("RW {sectors} VMFS \"base-flat.vmdk\""));
    put(folder, "base.vmdk", text.as_bytes())
}

fn child(folder: &Path, number: u32, kind: (&str, &str), sectors: u64, parent: (u32, &str), extent: &[u8]) -> PathBuf {
    let (create_type, extent_type) = kind;
    let file = format!("link{number}-delta.vmdk");
    put(folder, &file, extent);
    let line = format!("RW {sectors} {extent_type} \"{file}\"");
    let text = descriptor(create_type, 0xbbbb_0000 + number, Some(parent), &line);
    put(folder, &format!("link{number}.vmdk"), text.as_bytes())
}

const COWD: (&str, &str) = ("vmfsSparse", "VMFSSPARSE");
const SESPARSE: (&str, &str) = ("seSparse", "SESPARSE");

fn scattered(grain_bytes: usize, numbers: impl IntoIterator<Item = u64>) -> Grains {
    numbers.into_iter().map(|number| (number, Grain::Data(noise(grain_bytes, number + 100)))).collect()
}

/// What the chain must read as: the base with these grains over it.
fn expected(base: &Path, layers: &[(usize, &Grains)]) -> Vec<u8> {
    let mut content = std::fs::read(base.with_file_name("base-flat.vmdk")).unwrap();
    for (grain_bytes, grains) in layers {
        for (number, grain) in *grains {
            let start = usize::try_from(*number).unwrap() * grain_bytes;
            let end = content.len().min(start + grain_bytes);
            match grain {
                Grain::Data(bytes) => content[start..end].copy_from_slice(&bytes[..end - start]),
                Grain::Zero | Grain::Unmapped => content[start..end].fill(0),
            }
        }
    }
    content
}

#[test]
fn a_cowd_redo_log_over_a_flat_disk() {
    let folder = tempfile::tempdir().unwrap();
    let sectors = 12_001;
    let base = flat_base(folder.path(), sectors);
    let grains = scattered(512, [0, 1, 2, 7, 4095, 4096, 8191, 9000, 12_000]);
    let extent = cowd(u32::try_from(sectors).unwrap(), 1, &grains);
    let image = child(folder.path(), 1, COWD, sectors, (0xaaaa_0001, "base.vmdk"), &extent);
    let device = open(&image);
    assert_eq!(all_bytes(&device), expected(&base, &[(512, &grains)]));
    assert_as_qemu_has_it(&image, &device);
    assert_eq!(device.links().len(), 2);
}

#[test]
fn grains_of_other_sizes_and_a_chain_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let sectors = 12_008;
    let base = flat_base(folder.path(), sectors);
    let first = scattered(8192, [0, 3, 600, 750]);
    let extent = cowd(u32::try_from(sectors).unwrap(), 16, &first);
    child(folder.path(), 1, COWD, sectors, (0xaaaa_0001, "base.vmdk"), &extent);
    let mut second = scattered(4096, [1, 2, 5, 1499]);
    second.insert(3, Grain::Zero);
    second.insert(6, Grain::Unmapped);
    let extent = sesparse(sectors, 0, &second);
    child(folder.path(), 2, SESPARSE, sectors, (0xbbbb_0001, "link1.vmdk"), &extent);
    let third = scattered(512, [3, 4, 24, 11_999]);
    let extent = cowd(u32::try_from(sectors).unwrap(), 1, &third);
    let image = child(folder.path(), 3, COWD, sectors, (0xbbbb_0002, "link2.vmdk"), &extent);
    let device = open(&image);
    assert_eq!(device.links().len(), 4);
    assert_eq!(all_bytes(&device), expected(&base, &[(8192, &first), (4096, &second), (512, &third)]));
    assert_as_qemu_has_it(&image, &device);
}

#[test]
fn sesparse_grain_numbers_beyond_twelve_bits_and_several_tables() {
    let folder = tempfile::tempdir().unwrap();
    // Three tables, the middle one not there.
    let sectors = 3 * 32_768 - 24;
    let base = flat_base(folder.path(), sectors);
    let mut grains = scattered(4096, [0, 1, 2, 4095, 8192, 9000, 12_284]);
    grains.insert(17, Grain::Unmapped);
    grains.insert(100, Grain::Zero);
    let extent = sesparse(sectors, 4094, &grains);
    let image = child(folder.path(), 1, SESPARSE, sectors, (0xaaaa_0001, "base.vmdk"), &extent);
    let device = open(&image);
    assert_eq!(all_bytes(&device), expected(&base, &[(4096, &grains)]));
    assert_as_qemu_has_it(&image, &device);
}

#[test]
fn a_redo_log_without_parent_has_holes() {
    let folder = tempfile::tempdir().unwrap();
    let grains = Grains::from([(1, Grain::Data(noise(4096, 1))), (2, Grain::Zero)]);
    put(folder.path(), "alone-sesparse.vmdk", &sesparse(64, 0, &grains));
    let text = descriptor("seSparse", 1, None, "RW 64 SESPARSE \"alone-sesparse.vmdk\"");
    let device = open(&put(folder.path(), "alone.vmdk", text.as_bytes()));
    let states: Vec<_> = device.map(Extent::new(0, 64 * 512)).unwrap().iter().map(|region| region.state).collect();
    assert_eq!(states, [RegionState::Hole, RegionState::Data, RegionState::Zero, RegionState::Hole]);
}

#[test]
fn what_cannot_be_trusted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    flat_base(folder.path(), 4096);
    let parent = (0xaaaa_0001, "base.vmdk");
    // A journal that was not replayed: no option accepts it.
    let mut extent = sesparse(4096, 0, &BTreeMap::new());
    extent[512 + 24] = 1;
    let image = child(folder.path(), 1, SESPARSE, 4096, parent, &extent);
    let error = vmdk::open(&image, &OpenOptions { accept_unclean: true, ..OpenOptions::default() }).err().unwrap();
    assert!(matches!(&error, VmdkError::Journal { file } if file == "link1-delta.vmdk"), "{error:?}");
    assert!(error.remedy().is_some());
    // One that its host did not close.
    let mut extent = cowd(4096, 1, &scattered(512, [5]));
    extent[1648] = 1;
    let image = child(folder.path(), 2, COWD, 4096, parent, &extent);
    assert!(matches!(open_error(&image), VmdkError::Unclean { .. }));
    let device = vmdk::open(&image, &OpenOptions { accept_unclean: true, ..OpenOptions::default() }).unwrap();
    assert!(device.notes()[0].contains("link2-delta.vmdk"), "{:?}", device.notes());
    // A redo log that is smaller than its disk.
    let image = child(folder.path(), 3, COWD, 4096, parent, &cowd(4095, 1, &Grains::new()));
    assert!(matches!(open_error(&image), VmdkError::Format { .. }));
    // The redo log itself: nothing says on what it was made.
    for name in ["link1-delta.vmdk", "link2-delta.vmdk"] {
        assert!(matches!(open_error(&folder.path().join(name)), VmdkError::Part { .. }));
    }
    // Fields that nobody knows.
    for at in [8, 24, 32, 40, 48, 72, 208, 511, 512, 512 + 32] {
        let mut extent = sesparse(4096, 0, &Grains::new());
        extent[at] ^= 0x40;
        let image = child(folder.path(), 4, SESPARSE, 4096, parent, &extent);
        assert!(matches!(open_error(&image), VmdkError::Format { .. }), "byte {at}");
    }
}

#[test]
fn qemu_refuses_an_unreplayed_journal_too() {
    let folder = tempfile::tempdir().unwrap();
    flat_base(folder.path(), 4096);
    let mut extent = sesparse(4096, 0, &scattered(4096, [5]));
    for (number, is_clean) in [(1, true), (2, false)] {
        extent[512 + 24] = u8::from(!is_clean);
        let image = child(folder.path(), number, SESPARSE, 4096, (0xaaaa_0001, "base.vmdk"), &extent);
        let name = format!("link{number}.vmdk");
        let theirs = qemu_img_succeeds(folder.path(), &["convert", "-f", "vmdk", "-O", "raw", &name, "out.raw"]);
        assert_eq!(theirs, is_clean);
        assert_eq!(vmdk::open(&image, &OpenOptions::default()).is_ok(), is_clean);
    }
}
