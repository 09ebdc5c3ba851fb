//! Whole images from bytes: opened, mapped and read without a panic, with bounded memory, twice the same.

#![no_main]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use block::BlockDevice;
use libfuzzer_sys::fuzz_target;
use model::Extent;
use vmdk::format::MAX_CAPACITY_BYTES;
use vmdk::{Files, ImageFile, OpenOptions, ReadAt, VmdkDevice};

/// A packed grain of 4 MiB that did not become smaller.
const MOST_AT_ONCE: usize = 2 * (4 << 20) + 512;
const SOME_BYTES: u64 = 1 << 20;

struct Watched {
    bytes: Vec<u8>,
    longest: AtomicUsize,
}

impl ReadAt for Watched {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.longest.fetch_max(buf.len(), Ordering::Relaxed);
        self.bytes.read_at(buf, offset)
    }
}

/// Every extent is the fuzzed file.
struct Same(Arc<Watched>);

impl Files for Same {
    fn extent(&self, _name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        Ok(Some(Arc::clone(&self.0) as Arc<dyn ReadAt>))
    }

    fn parent(&self, _hint: &str) -> io::Result<Option<ImageFile>> {
        Ok(None)
    }
}

fn walk(device: &VmdkDevice) {
    let size_bytes = BlockDevice::size_bytes(device);
    assert!((1..=MAX_CAPACITY_BYTES).contains(&size_bytes));
    if let Ok(regions) = device.map_front(Extent::new(0, size_bytes), 2000) {
        assert!(regions.windows(2).all(|pair| pair[0].extent.end() == pair[1].extent.offset));
        assert!(regions.last().is_some_and(|last| last.extent.end() <= size_bytes));
    }
    let mut whole = vec![1; size_bytes.min(SOME_BYTES) as usize];
    if device.read(&mut whole, 0).is_ok() {
        let mut again = vec![2; whole.len()];
        for (index, piece) in again.chunks_mut(70_000).enumerate() {
            device.read(piece, index as u64 * 70_000).expect("what was read can be read again");
        }
        assert!(whole == again);
    }
    let _ = device.read(&mut whole[..1], size_bytes - 1);
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let first = match kind % 4 {
        // The file has its descriptor inside.
        0 => rest.to_vec(),
        1 => b"# Disk DescriptorFile\nRW 4096 SPARSE \"a\"\n".to_vec(),
        2 => b"# Disk DescriptorFile\nRW 4096 SESPARSE \"a\"\n".to_vec(),
        _ => b"# Disk DescriptorFile\nRW 2 FLAT \"a\" 1\nRW 70 SPARSE \"a\"\nRW 3 ZERO\n".to_vec(),
    };
    let watched = Arc::new(Watched { bytes: rest.to_vec(), longest: AtomicUsize::new(0) });
    let image =
        ImageFile { name: "fuzzed".into(), bytes: Arc::new(first), files: Arc::new(Same(Arc::clone(&watched))) };
    let options = OpenOptions { accept_unclean: kind & 4 != 0, table_cache_bytes: 100_000, ..OpenOptions::default() };
    if let Ok(device) = VmdkDevice::open(image, &options) {
        walk(&device);
    }
    assert!(watched.longest.load(Ordering::Relaxed) <= MOST_AT_ONCE);
});
