//! Memory stays flat however large a disk is, and threads read one device at once.

use std::io;
use std::sync::Arc;

use block::BlockDevice;
use model::Extent;
use vmdk::source::NoFiles;
use vmdk::{Files, ImageFile, OpenOptions, ReadAt, VmdkDevice};

use crate::harness::{all_bytes, noise, put};
use crate::streams;
use crate::writer::{Grain, Grains, descriptor, sesparse, stream};

/// 8 TiB.
const SECTORS: u64 = 8 << 31;
/// One table of so many is there.
const TABLE_EVERY: u64 = 2048;
const DIRECTORY_SECTORS: u64 = SECTORS / (8 * 4096) * 8 / 512;
const TABLES_AT: u64 = 5 + DIRECTORY_SECTORS;
const TABLES: u64 = SECTORS / (8 * 4096) / TABLE_EVERY;

/// A seSparse log of an 8 TiB disk, made up as it is read: every 2048th table has every fifth grain.
struct Imagined {
    header: Vec<u8>,
}

impl Imagined {
    fn new() -> Self {
        let mut header = sesparse(64, 0, &Grains::new());
        header.truncate(1024);
        let numbers = [(2, SECTORS), (17, DIRECTORY_SECTORS), (18, TABLES_AT), (19, TABLES * 64)];
        for (index, number) in numbers.into_iter().chain([(24, TABLES_AT + TABLES * 64), (25, 8)]) {
            header[index * 8..index * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        Self { header }
    }

    fn word(number: u64) -> u64 {
        let (directory, tables) = (5 * 64, TABLES_AT * 64);
        if number >= tables {
            let entry = (number - tables) % 4096;
            return if number < tables + TABLES * 4096 && entry.is_multiple_of(5) { 3 << 60 } else { 0 };
        }
        let table = number.saturating_sub(directory);
        if number >= directory && table % TABLE_EVERY == 3 { 1 << 60 | (table / TABLE_EVERY) } else { 0 }
    }
}

impl ReadAt for Imagined {
    fn size_bytes(&self) -> u64 {
        (TABLES_AT + TABLES * 64 + 8) * 512
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        assert!(buf.len() <= 32 * 1024, "{} bytes at once", buf.len());
        if let Some(bytes) = usize::try_from(offset).ok().and_then(|at| self.header.get(at..at + buf.len())) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        for (index, word) in buf.chunks_mut(8).enumerate() {
            word.copy_from_slice(&Self::word(offset / 8 + index as u64).to_le_bytes());
        }
        Ok(())
    }
}

struct OneExtent(Arc<Imagined>);

impl Files for OneExtent {
    fn extent(&self, _name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        Ok(Some(Arc::clone(&self.0) as Arc<dyn ReadAt>))
    }

    fn parent(&self, _hint: &str) -> io::Result<Option<ImageFile>> {
        Ok(None)
    }
}

#[test]
fn an_8_tib_disk_takes_no_more_memory_than_allowed() {
    let text = descriptor("seSparse", 1, None, &format!("RW {SECTORS} SESPARSE \"a\""));
    let image = ImageFile {
        name: "imagined.vmdk".into(),
        bytes: Arc::new(text.into_bytes()),
        files: Arc::new(OneExtent(Arc::new(Imagined::new()))),
    };
    let allowed = 2 << 20;
    let device =
        VmdkDevice::open(image, &OpenOptions { table_cache_bytes: allowed, ..OpenOptions::default() }).unwrap();
    assert_eq!(device.size_bytes(), 8 << 40);
    let mut at = 0;
    let (mut data, mut most) = (0, 0);
    while at < device.size_bytes() {
        let regions = device.map_front(Extent::new(at, device.size_bytes() - at), 10_000).unwrap();
        at = regions.last().unwrap().extent.end();
        data += regions
            .iter()
            .filter(|region| !region.state.reads_as_zero())
            .map(|region| region.extent.length)
            .sum::<u64>();
        most = most.max(device.cached_bytes());
    }
    assert_eq!(data, TABLES * 820 * 4096);
    assert!(most <= allowed && most > allowed / 2, "{most} bytes of tables");
    device.read_at(&mut [0; 65_536], device.size_bytes() - 65_536).unwrap();
}

#[test]
fn threads_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let sectors = 2 * 65_536 + 200;
    put(folder.path(), "base.vmdk", &stream(sectors, &streams::grains()));
    let grains: Grains = (0..300).map(|index| (index * 37, Grain::Data(noise(4096, index)))).collect();
    put(folder.path(), "child-sesparse.vmdk", &sesparse(sectors, 0, &grains));
    let line = format!("RW {sectors} SESPARSE \"child-sesparse.vmdk\"");
    let text = descriptor("seSparse", 2, Some((0x1234_5678, "base.vmdk")), &line);
    let image = put(folder.path(), "child.vmdk", text.as_bytes());
    // So small that tables push each other out all the time.
    let options = OpenOptions { table_cache_bytes: 40_000, ..OpenOptions::default() };
    let device = vmdk::open(&image, &options).unwrap();
    let expected = all_bytes(&device);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (device, expected) = (&device, &expected);
            scope.spawn(move || {
                let places = noise(150 * 8, thread + 1);
                for place in places.chunks(8) {
                    let number = usize::try_from(u64::from_le_bytes(place.try_into().unwrap()) >> 1).unwrap();
                    let length = 1 + number % 150_000;
                    let at = number / 7 % (expected.len() - length);
                    let mut buf = vec![0xee; length];
                    device.read_at(&mut buf, at as u64).unwrap();
                    assert!(buf == expected[at..at + length], "{length} bytes at {at}");
                }
            });
        }
    });
}

#[test]
fn an_image_in_memory_needs_no_files() {
    let bytes = Arc::new(stream(200, &[(0, noise(65_536, 1))].into()));
    let image = ImageFile { name: "memory".into(), bytes, files: Arc::new(NoFiles) };
    let device = VmdkDevice::open(image, &OpenOptions::default()).unwrap();
    assert_eq!(device.size_bytes(), 200 * 512);
}
