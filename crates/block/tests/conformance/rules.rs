//! The rules of the trait `BlockDevice`, for every implementation of it, also of other crates.

use std::sync::Arc;

use block::{BlockDevice, BlockError, RegionState};
use model::{Extent, FailureKind};

/// Not a multiple of any block size: the last bytes must work, too.
pub(crate) const SIZE_BYTES: u64 = 3 * (1 << 20) + 777;

fn read(device: &dyn BlockDevice, offset: u64, length: u64) -> Vec<u8> {
    let mut buf = vec![0xee; usize::try_from(length).unwrap()];
    device.read_at(&mut buf, offset).unwrap();
    buf
}

/// The rules of the trait. `device` must be new: writable, `SIZE_BYTES` long, all zero.
pub(crate) fn conforms(device: &Arc<dyn BlockDevice>) {
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
