//! One suite of rules for every kind of device, and what is special about files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assertion is what a test is for")]

#[path = "conformance/rules.rs"]
mod rules;

use std::path::Path;
use std::sync::Arc;

use block::{BlockDevice, BlockError, FaultDevice, FaultPlan, FileDevice, MemoryDevice};
use model::{Extent, FailureKind};
use rules::{SIZE_BYTES, conforms};

fn file_in(folder: &Path) -> FileDevice {
    FileDevice::create(&folder.join("device.raw"), SIZE_BYTES).unwrap()
}

#[test]
fn a_memory_device_conforms() {
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(SIZE_BYTES));
    conforms(&device);
}

#[test]
fn a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(file_in(folder.path()));
    conforms(&device);
}

#[test]
fn a_file_on_tmpfs_conforms() {
    // tmpfs can punch holes but not zero ranges: the zeroes are written there.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(file_in(folder.path()));
    conforms(&device);
}

#[test]
fn a_layer_without_faults_conforms() {
    let inner = Arc::new(MemoryDevice::new(SIZE_BYTES));
    let device: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, FaultPlan::default()));
    conforms(&device);
}

#[test]
fn read_only_devices_refuse_every_change() {
    let folder = tempfile::tempdir().unwrap();
    drop(file_in(folder.path()));
    let file = FileDevice::open(&folder.path().join("device.raw"), true).unwrap();
    let memory = MemoryDevice::new(SIZE_BYTES).read_only();
    for device in [&file as &dyn BlockDevice, &memory] {
        assert!(device.is_read_only());
        let extent = Extent::new(0, 1);
        assert!(matches!(device.write_at(&[1], 0), Err(BlockError::ReadOnly)));
        assert!(matches!(device.write_zeroes(extent, true), Err(BlockError::ReadOnly)));
        assert!(matches!(device.trim(extent), Err(BlockError::ReadOnly)));
        device.flush().unwrap();
    }
}

#[test]
fn what_is_not_a_device_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: &Path| FileDevice::open(path, true).err().map(|error| error.kind());
    assert_eq!(kind(&folder.path().join("missing")), Some(FailureKind::NotFound));
    assert_eq!(kind(folder.path()), Some(FailureKind::Invalid));
    drop(file_in(folder.path()));
    let again = FileDevice::create(&folder.path().join("device.raw"), 1);
    assert_eq!(again.err().map(|error| error.kind()), Some(FailureKind::Conflict));
}

#[test]
fn a_full_medium_is_told_apart_from_a_broken_one() {
    // The kernel's own full device answers every write with ENOSPC; it is not seekable, so a file stands before it.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let source = std::io::Write::write_all(&mut &full, b"x").unwrap_err();
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    let plan = FaultPlan { write_budget_bytes: Some((0, block::Fault::Full)), ..FaultPlan::default() };
    let device = FaultDevice::new(Arc::new(MemoryDevice::new(10)), plan);
    let error = device.write_at(&[1], 0).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Exhausted);
    assert!(error.remedy().is_some());
}

#[test]
fn punched_holes_give_their_room_back() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = file_in(folder.path());
    device.write_at(&vec![1; 1 << 20], 0).unwrap();
    let used = || std::fs::metadata(folder.path().join("device.raw")).unwrap().blocks() * 512;
    assert_eq!(used(), 1 << 20);
    device.write_zeroes(Extent::new(0, 1 << 20), true).unwrap();
    assert_eq!(used(), 0);
    device.write_zeroes(Extent::new(0, 1 << 20), false).unwrap();
    assert_eq!(used(), 1 << 20, "room that must stay reserved is taken");
    let memory = MemoryDevice::new(SIZE_BYTES);
    memory.write_at(&vec![1; 1 << 20], 0).unwrap();
    memory.trim(Extent::new(0, 1 << 20)).unwrap();
    assert_eq!(memory.allocated_bytes(), 0);
}
