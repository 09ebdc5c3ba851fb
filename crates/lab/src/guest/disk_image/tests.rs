//! Images are read back by the programs of another project: `sfdisk`, `e2fsck`, `debugfs`.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use super::{DiskPlan, MARKER_BYTES, MARKER_PATH, MIB, PartitionTable, build, layout, program};

fn output(mut command: Command) -> String {
    let output = command.output().expect("fdisk or e2fsprogs not found: apt-get install fdisk e2fsprogs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn extract(image: &Path, start: u64, length: u64, to: &Path) {
    let file = std::fs::File::open(image).unwrap();
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    file.read_exact_at(&mut bytes, start).unwrap();
    std::fs::write(to, bytes).unwrap();
}

fn check(plan: &DiskPlan) {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    let built = build(&image, plan).unwrap();

    let mut sfdisk = program("sfdisk");
    sfdisk.arg("--json").arg(&image);
    let table: serde_json::Value = serde_json::from_str(&output(sfdisk)).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[0]["start"].as_u64().unwrap() * 512, built.filesystem.start);
    assert_eq!(partitions[1]["size"].as_u64().unwrap() * 512, built.raw.length);

    let part = directory.path().join("part.raw");
    extract(&image, built.filesystem.start, built.filesystem.length, &part);
    let mut e2fsck = program("e2fsck");
    e2fsck.arg("-fn").arg(&part);
    output(e2fsck);
    let mut debugfs = program("debugfs");
    debugfs.args(["-R", &format!("cat /{MARKER_PATH}")]).arg(&part);
    let marker = output(debugfs);
    assert_eq!((marker.lines().next(), marker.len() as u64), (plan.marker.lines().next(), MARKER_BYTES));
    let mut in_place = vec![0; marker.len()];
    std::fs::File::open(&image).unwrap().read_exact_at(&mut in_place, built.marker.start).unwrap();
    assert_eq!(in_place, marker.as_bytes(), "the marker's block is where the layout says");

    let file = std::fs::File::open(&image).unwrap();
    let mut trap = vec![0; usize::try_from(built.trap.length).unwrap()];
    file.read_exact_at(&mut trap, built.trap.start).unwrap();
    let set: Vec<u64> = (built.trap.start..).zip(&trap).filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    assert_eq!(set, built.trap_bytes);
    let metadata = std::fs::metadata(&image).unwrap();
    assert_eq!(metadata.len(), plan.capacity_bytes);
    assert!(metadata.blocks() * 512 < plan.capacity_bytes / 2, "the image is not sparse");
}

#[test]
fn a_system_disk_with_an_mbr_is_sound() {
    let plan = DiskPlan::system(128 * MIB);
    assert_eq!(plan.table, PartitionTable::Mbr);
    check(&plan);
}

#[test]
fn a_data_disk_with_a_gpt_is_sound() {
    let plan = DiskPlan::data(160 * MIB);
    assert_eq!(plan.table, PartitionTable::Gpt);
    check(&plan);
}

#[test]
fn a_bootable_disk_is_sound_and_starts_with_a_boot_loader() {
    let plan = DiskPlan::bootable(160 * MIB);
    check(&plan);
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.raw");
    build(&image, &plan).unwrap();
    let mut first = [0; 1024];
    std::fs::File::open(&image).unwrap().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(&first[510..512], [0x55, 0xaa], "the mark of a boot sector");
    assert!(first[..446].windows(4).any(|word| word == b"GRUB"), "GRUB's first stage is in the boot sector");
    assert!(first[512..].iter().any(|byte| *byte != 0), "and its core behind it");
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let plan = DiskPlan { filesystem_bytes: 100 * MIB, ..DiskPlan::system(110 * MIB) };
    assert!(layout(&plan).unwrap_err().to_string().contains("does not fit"));
    let plan = DiskPlan { table: PartitionTable::Gpt, ..DiskPlan::bootable(160 * MIB) };
    assert!(layout(&plan).unwrap_err().to_string().contains("DOS partition table"));
    let plan = DiskPlan { marker: "x".repeat(4096), ..DiskPlan::system(128 * MIB) };
    assert!(layout(&plan).unwrap_err().to_string().contains("marker"));
}
