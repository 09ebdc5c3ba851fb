//! One suite of rules for every kind of device, and what is special about files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed assertion is what a test is for")]

use std::path::Path;
use std::sync::Arc;

use block::{BlockDevice, BlockError, FaultDevice, FaultPlan, FileDevice, MemoryDevice, RegionState};
use model::{Extent, FailureKind};

/// Not a multiple of any block size: the last bytes must work, too.
const SIZE_BYTES: u64 = 3 * (1 << 20) + 777;

fn read(device: &dyn BlockDevice, offset: u64, length: u64) -> Vec<u8> {
    let mut buf = vec![0xee; usize::try_from(length).unwrap()];
    device.read_at(&mut buf, offset).unwrap();
    buf
}

/// The rules of the trait. `device` must be new: writable, `SIZE_BYTES` long, all zero.
fn conforms(device: &Arc<dyn BlockDevice>) {
    let device: &dyn BlockDevice = device.as_ref();
    assert_eq!(device.size_bytes(), SIZE_BYTES);
    assert!(!device.is_read_only());
    assert!(read(device, 0, SIZE_BYTES).iter().all(|&byte| byte == 0), "a new device reads as zeroes");
    keeps_what_is_written(device);
    zeroes_exactly_what_was_asked(device);
    refuses_what_is_outside(device);
    maps_without_gaps(device);
    is_shared_by_threads(device);
    device.flush().unwrap();
}

fn keeps_what_is_written(device: &dyn BlockDevice) {
    let pattern: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8 + 1).collect();
    device.write_at(&pattern, 65_000).unwrap();
    assert_eq!(read(device, 65_000, 200_000), pattern);
    assert_eq!(read(device, 64_990, 10), [0; 10]);
    device.write_at(&[9; 5], SIZE_BYTES - 5).unwrap();
    assert_eq!(read(device, SIZE_BYTES - 6, 6), [0, 9, 9, 9, 9, 9]);
    device.write_at(&[], SIZE_BYTES).unwrap();
    device.flush().unwrap();
    let mut again = vec![0; 200_000];
    device.read_from_medium(&mut again, 65_000).unwrap();
    assert_eq!(again, pattern);
}

fn zeroes_exactly_what_was_asked(device: &dyn BlockDevice) {
    for may_punch_holes in [true, false] {
        device.write_at(&vec![5; 1 << 20], 1 << 20).unwrap();
        let extent = Extent::new((1 << 20) + 13, 300_001);
        device.write_zeroes(extent, may_punch_holes).unwrap();
        let after = read(device, 1 << 20, 1 << 20);
        assert_eq!(after[..13], [5; 13]);
        assert!(after[13..300_014].iter().all(|&byte| byte == 0));
        assert!(after[300_014..].iter().all(|&byte| byte == 5));
        if device.try_write_zeroes_fast(Extent::new(1 << 20, 1 << 19), may_punch_holes).unwrap() {
            let after = read(device, 1 << 20, 1 << 20);
            assert!(after[..1 << 19].iter().all(|&byte| byte == 0));
            assert!(after[1 << 19..].iter().all(|&byte| byte == 5));
        }
    }
    device.write_zeroes(Extent::new(SIZE_BYTES - 5, 5), true).unwrap();
    assert_eq!(read(device, SIZE_BYTES - 5, 5), [0; 5]);
    // What a trimmed range reads as is open; its neighbours are not.
    device.write_at(&[6; 300], (1 << 20) - 100).unwrap();
    device.trim(Extent::new(1 << 20, 1 << 16)).unwrap();
    assert_eq!(read(device, (1 << 20) - 100, 100), [6; 100]);
    device.write_zeroes(Extent::new(1 << 20, 1 << 16), false).unwrap();
}

fn refuses_what_is_outside(device: &dyn BlockDevice) {
    let outside = |outcome: Result<(), BlockError>| match outcome {
        Err(error @ BlockError::OutOfRange { .. }) => assert_eq!(error.kind(), FailureKind::Invalid),
        other => panic!("{other:?}"),
    };
    for (offset, length) in [(SIZE_BYTES, 1), (SIZE_BYTES - 1, 2), (u64::MAX, 2), (u64::MAX - 1, 1)] {
        let extent = Extent::new(offset, length);
        outside(device.read_at(&mut vec![0; length as usize], offset));
        outside(device.read_from_medium(&mut vec![0; length as usize], offset));
        outside(device.write_at(&vec![0; length as usize], offset));
        outside(device.write_zeroes(extent, true));
        outside(device.trim(extent));
        outside(device.map(extent).map(|_| ()));
    }
    assert_eq!(device.size_bytes(), SIZE_BYTES, "nothing grew");
}

fn maps_without_gaps(device: &dyn BlockDevice) {
    device.write_zeroes(Extent::new(0, SIZE_BYTES), true).unwrap();
    device.write_at(&vec![1; 1 << 16], 1 << 17).unwrap();
    device.write_at(&vec![1; 1 << 16], 1 << 20).unwrap();
    for extent in [Extent::new(0, SIZE_BYTES), Extent::new(100, 1 << 18), Extent::new(SIZE_BYTES - 1, 1)] {
        let regions = device.map(extent).unwrap();
        let mut at = extent.offset;
        for region in &regions {
            assert_eq!(region.extent.offset, at, "{regions:?}");
            assert!(region.extent.length > 0);
            at = region.extent.end();
            let content = read(device, region.extent.offset, region.extent.length);
            assert!(!region.state.reads_as_zero() || content.iter().all(|&byte| byte == 0), "{region:?}");
        }
        assert_eq!(at, extent.end());
        let front = device.map_front(extent, 1).unwrap();
        assert_eq!(front.len(), 1);
        assert_eq!(front[0].extent.offset, extent.offset);
    }
    assert!(device.map(Extent::new(0, 0)).unwrap().is_empty());
    let whole = device.map(Extent::new(0, SIZE_BYTES)).unwrap();
    let data: u64 = whole.iter().filter(|r| r.state == RegionState::Data).map(|r| r.extent.length).sum();
    assert!((2 << 16..=4 << 16).contains(&data), "two runs of 64 KiB hold data, found {data}: {whole:?}");
}

fn is_shared_by_threads(device: &dyn BlockDevice) {
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            scope.spawn(move || {
                let offset = u64::from(thread) * 100_003;
                for round in 0..10 {
                    let data = vec![thread * 10 + round + 1; 50_000];
                    device.write_at(&data, offset).unwrap();
                    assert_eq!(read(device, offset, 50_000), data);
                }
            });
        }
    });
}

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
