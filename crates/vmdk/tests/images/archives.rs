//! OVA archives, written by tar: disks are read where they are.

use std::path::{Path, PathBuf};

use block::BlockDevice;
use vmdk::{DiskChoice, OpenOptions, VmdkError};

use crate::harness::{assert_bytes, noise, open, open_error, put, raw_content, run};

const OVF: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>
    <File ovf:href="web-disk1.vmdk" ovf:id="file1" ovf:size="1"/>
    <File ovf:href="web-disk2.vmdk" ovf:id="file2" ovf:size="1"/>
  </References>
  <DiskSection>
    <Info>Disks</Info>
    <Disk ovf:capacity="3000320" ovf:diskId="vmdisk2" ovf:fileRef="file2"/>
    <Disk ovf:capacity="5" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file1"/>
  </DiskSection>
</Envelope>"#;

/// Two disks and what goes with them, in a folder.
fn appliance() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, size_bytes) in [(1, 5 << 20), (2, 3_000_320)] {
        let raw = format!("disk{number}.raw");
        raw_content(&folder.path().join(&raw), size_bytes);
        let name = format!("web-disk{number}.vmdk");
        let option = "subformat=streamOptimized";
        run(folder.path(), "qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", option, &raw, &name]);
    }
    put(folder.path(), "web.ovf", OVF.as_bytes());
    put(folder.path(), "web.mf", b"SHA256(web.ovf)= 00\n");
    folder
}

fn archive(folder: &Path, format: &str, members: &[&str]) -> PathBuf {
    let format = format!("--format={format}");
    let mut arguments = vec![format.as_str(), "-cf", "web.ova"];
    arguments.extend_from_slice(members);
    run(folder, "tar", &arguments);
    folder.join("web.ova")
}

fn choosing(choice: DiskChoice) -> OpenOptions {
    OpenOptions { disk: Some(choice), ..OpenOptions::default() }
}

#[test]
fn disks_are_listed_in_the_order_of_the_ovf_and_read_in_place() {
    let folder = appliance();
    for format in ["ustar", "gnu", "pax", "oldgnu", "posix"] {
        let ova = archive(folder.path(), format, &["web.ovf", "web.mf", "web-disk1.vmdk", "web-disk2.vmdk"]);
        assert!(vmdk::is_ova(&std::fs::read(&ova).unwrap()[..512]));
        let disks = vmdk::ova::disks(&ova).unwrap();
        let told: Vec<_> = disks.iter().map(|disk| (disk.index, disk.name.as_str(), disk.capacity_bytes)).collect();
        assert_eq!(told, [(0, "web-disk2.vmdk", Some(3_000_320)), (1, "web-disk1.vmdk", Some(5 << 20))], "{format}");
        for (choice, raw) in [
            (DiskChoice::Index(0), "disk2.raw"),
            (DiskChoice::Index(1), "disk1.raw"),
            (DiskChoice::Name("web-disk1.vmdk".into()), "disk1.raw"),
        ] {
            let device = vmdk::open(&ova, &choosing(choice)).unwrap();
            assert!(device.notes().is_empty());
            assert_bytes(&device, &folder.path().join(raw));
        }
    }
}

#[test]
fn a_choice_is_asked_for_when_there_is_one() {
    let folder = appliance();
    let ova = archive(folder.path(), "ustar", &["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk"]);
    match open_error(&ova) {
        VmdkError::WhichDisk { wanted: None, there, .. } => assert_eq!(there, ["web-disk2.vmdk", "web-disk1.vmdk"]),
        other => panic!("{other:?}"),
    }
    for choice in
        [DiskChoice::Index(2), DiskChoice::Name("../web-disk1.vmdk".into()), DiskChoice::Name("web.ovf".into())]
    {
        let error = vmdk::open(&ova, &choosing(choice)).err().unwrap();
        assert!(matches!(error, VmdkError::WhichDisk { wanted: Some(_), .. }), "{error:?}");
    }
    let single = folder.path().join("web-disk1.vmdk");
    vmdk::open(&single, &choosing(DiskChoice::Index(0))).unwrap();
    let error = vmdk::open(&single, &choosing(DiskChoice::Index(1))).err().unwrap();
    assert!(matches!(error, VmdkError::WhichDisk { wanted: Some(_), .. }), "{error:?}");
    let alone = archive(folder.path(), "ustar", &["web-disk1.vmdk"]);
    assert_bytes(&open(&alone), &folder.path().join("disk1.raw"));
}

#[test]
fn python_writes_archives_too() {
    let folder = appliance();
    let script = "import tarfile\nt = tarfile.open('web.ova', 'w', format=tarfile.USTAR_FORMAT)\n\
                  for n in ['web.ovf', 'web-disk2.vmdk', 'web-disk1.vmdk']: t.add(n)\nt.close()\n";
    run(folder.path(), "python3", &["-c", script]);
    let device = vmdk::open(&folder.path().join("web.ova"), &choosing(DiskChoice::Index(0))).unwrap();
    assert_bytes(&device, &folder.path().join("disk2.raw"));
}

#[test]
fn long_names_and_missing_end_blocks() {
    let folder = appliance();
    let long = format!("{}.vmdk", "d".repeat(150));
    std::fs::rename(folder.path().join("web-disk1.vmdk"), folder.path().join(&long)).unwrap();
    for format in ["gnu", "pax"] {
        let ova = archive(folder.path(), format, &[&long]);
        let whole = std::fs::read(&ova).unwrap();
        let disks = vmdk::ova::disks(&ova).unwrap();
        assert_eq!(disks[0].name, long, "{format}");
        assert_bytes(&open(&ova), &folder.path().join("disk1.raw"));
        // Cut right after the last byte of the disk.
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let end = end.next_multiple_of(512);
        assert_bytes(&open(&put(folder.path(), "cut.ova", &whole[..end])), &folder.path().join("disk1.raw"));
    }
}

#[test]
fn a_split_image_inside_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    raw_content(&folder.path().join("disk.raw"), 3 << 20);
    let option = "subformat=monolithicFlat";
    run(folder.path(), "qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", option, "disk.raw", "flat.vmdk"]);
    run(folder.path(), "qemu-img", &["create", "-f", "vmdk", "-b", "flat.vmdk", "-F", "vmdk", "child.vmdk"]);
    run(folder.path(), "qemu-io", &["-f", "vmdk", "-c", "write -P 5 0 64k", "child.vmdk"]);
    run(folder.path(), "qemu-img", &["convert", "-f", "vmdk", "-O", "raw", "child.vmdk", "child.raw"]);
    let ova = archive(folder.path(), "ustar", &["flat.vmdk", "flat-flat.vmdk", "child.vmdk"]);
    let device = vmdk::open(&ova, &choosing(DiskChoice::Name("child.vmdk".into()))).unwrap();
    assert_bytes(&device, &folder.path().join("child.raw"));
    assert_eq!(device.links().len(), 2);
}

#[test]
fn what_cannot_be_read_in_place_is_said() {
    let folder = appliance();
    for (from, to) in [
        ("ovf:id=\"file1\"", "ovf:id=\"file1\" ovf:compression=\"gzip\""),
        ("ovf:id=\"file1\"", "ovf:id=\"file1\" ovf:chunkSize=\"2147483648\""),
        ("web-disk1.vmdk", "web-disk9.vmdk"),
    ] {
        put(folder.path(), "web.ovf", OVF.replace(from, to).as_bytes());
        let ova = archive(folder.path(), "ustar", &["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk"]);
        assert!(vmdk::ova::disks(&ova).unwrap()[1].obstacle.is_some(), "{to}");
        let error = vmdk::open(&ova, &choosing(DiskChoice::Index(1))).err().unwrap();
        assert!(matches!(error, VmdkError::Wrapped { .. }), "{to}: {error:?}");
        assert!(error.remedy().is_some());
    }
    put(folder.path(), "web.ovf", OVF.replace("3000320", "3000832").as_bytes());
    let ova = archive(folder.path(), "ustar", &["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk"]);
    let device = vmdk::open(&ova, &choosing(DiskChoice::Index(0))).unwrap();
    assert!(device.notes()[0].contains("3000832"), "{:?}", device.notes());
    assert_eq!(device.size_bytes(), 3_000_320);
}

#[test]
fn damaged_archives() {
    let folder = appliance();
    let ova = archive(folder.path(), "ustar", &["web.ovf", "web-disk1.vmdk", "web-disk2.vmdk"]);
    let good = std::fs::read(&ova).unwrap();
    let ovf_end = (512 + OVF.len()).next_multiple_of(512);
    let mut checksum = good.clone();
    checksum[ovf_end + 10] ^= 1;
    let mut broken_xml = good.clone();
    broken_xml[512 + OVF.find("/References").unwrap() + 1] = b'X';
    for (bytes, expected) in [
        (&good[..good.len() / 2], "past the archive's end"),
        (&good[..ovf_end + 100], "within it"),
        (&checksum[..], "checksum"),
        (&broken_xml[..], "OVF"),
    ] {
        let error = open_error(&put(folder.path(), "bad.ova", bytes));
        assert!(matches!(&error, VmdkError::Archive { file, .. } if file == "bad.ova"), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let twice = archive(folder.path(), "ustar", &["web-disk1.vmdk", "web-disk1.vmdk", "--hard-dereference"]);
    assert!(open_error(&twice).to_string().contains("two members"));
    // A hole-punching archiver leaves the zeroes out.
    let sparse = std::fs::File::create(folder.path().join("holes.vmdk")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    put(folder.path(), "x.vmdk", &noise(10, 1));
    run(folder.path(), "tar", &["--format=gnu", "-S", "-cf", "holes.ova", "x.vmdk", "holes.vmdk"]);
    assert!(open_error(&folder.path().join("holes.ova")).to_string().contains("sparse member"));
    run(folder.path(), "tar", &["--format=pax", "-S", "-cf", "holes.ova", "x.vmdk", "holes.vmdk"]);
    assert!(open_error(&folder.path().join("holes.ova")).to_string().contains("sparse member"));
}
