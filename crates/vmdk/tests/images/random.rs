//! Whatever the bytes are: no panic, no large piece of memory, and nothing that reads differently twice.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use block::BlockDevice;
use model::Extent;
use proptest::prelude::*;
use vmdk::format::descriptor::Descriptor;
use vmdk::{Files, ImageFile, OpenOptions, ReadAt, VmdkDevice};

use crate::harness::noise;
use crate::writer::{Grain, Grains, cowd, descriptor, sesparse, stream};

/// The most bytes that may be asked for at once: a packed grain of 4 MiB that did not become smaller.
const MOST_AT_ONCE: usize = 2 * (4 << 20) + 512;

/// Remembers the longest read, which is as long as the memory that was taken for it.
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
        ReadAt::read_at(&self.bytes, buf, offset)
    }
}

/// Every name stands for the same bytes.
struct Same(Arc<Watched>);

impl Files for Same {
    fn extent(&self, _name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        Ok(Some(Arc::clone(&self.0) as Arc<dyn ReadAt>))
    }

    fn parent(&self, _hint: &str) -> io::Result<Option<ImageFile>> {
        Ok(None)
    }
}

/// Opens, maps and reads. Regions have to be in order and inside; data has to come out twice the same.
fn try_all(first: Vec<u8>, extent: Vec<u8>) -> Option<Vec<u8>> {
    let watched = Arc::new(Watched { bytes: extent, longest: AtomicUsize::new(0) });
    let image =
        ImageFile { name: "random".into(), bytes: Arc::new(first), files: Arc::new(Same(Arc::clone(&watched))) };
    let options = OpenOptions { accept_unclean: true, table_cache_bytes: 100_000, ..OpenOptions::default() };
    let device = VmdkDevice::open(image, &options).ok()?;
    let size_bytes = device.size_bytes();
    assert!(size_bytes <= vmdk::format::MAX_CAPACITY_BYTES);
    if let Ok(regions) = device.map_front(Extent::new(0, size_bytes), 5000) {
        assert!(regions.windows(2).all(|pair| pair[0].extent.end() == pair[1].extent.offset));
        assert!(regions.last().is_none_or(|last| last.extent.end() <= size_bytes));
    }
    let length = usize::try_from(size_bytes.min(1 << 20)).unwrap();
    let (mut whole, mut pieces) = (vec![1; length], vec![2; length]);
    let read = device.read_at(&mut whole, 0);
    if read.is_ok() {
        for (index, piece) in pieces.chunks_mut(70_000).enumerate() {
            device.read_at(piece, index as u64 * 70_000).unwrap();
        }
        assert!(whole == pieces);
    }
    let _ = device.read_at(&mut [0; 1000], size_bytes.saturating_sub(1000));
    assert!(watched.longest.load(Ordering::Relaxed) <= MOST_AT_ONCE);
    read.is_ok().then_some(whole)
}

fn grains(grain_bytes: usize) -> Grains {
    [0, 1, 3, 100].into_iter().map(|number| (number, Grain::Data(noise(grain_bytes, number + 1)))).collect()
}

/// A small image of each kind: the file to open, and the extent it names.
fn images() -> [(Vec<u8>, Vec<u8>); 3] {
    let of = |line: &str| descriptor("any", 1, None, line).into_bytes();
    let streamed = stream(300, &[(0, noise(65_536, 1)), (1, vec![5; 65_536])].into());
    [
        (of("RW 4096 VMFSSPARSE \"a\""), cowd(4096, 1, &grains(512))),
        (of("RW 4096 SESPARSE \"a\""), sesparse(4096, 0, &grains(4096))),
        (of("RW 300 SPARSE \"a\""), streamed),
    ]
}

/// Numbers that break things more often than others.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..200u64,
        Just(u64::MAX),
        Just(1 << 63),
        Just(u64::from(u32::MAX)),
        (0..63u32).prop_map(|bit| 1 << bit)
    ]
}

#[test]
fn the_images_are_good_before_they_are_changed() {
    for (first, extent) in images() {
        assert!(try_all(first, extent).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_after_a_magic(kind in 0..5usize, bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let magics: [&[u8]; 5] = [b"KDMV\x01\0\0\0", b"COWD\x01\0\0\0", &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0], b"# Disk DescriptorFile\n", b""];
        let mut file = magics[kind].to_vec();
        file.extend_from_slice(&bytes);
        try_all(file.clone(), file.clone());
        for line in ["RW 4096 SPARSE \"a\"", "RW 4096 SESPARSE \"a\"", "RW 2 FLAT \"a\" 1"] {
            try_all(descriptor("any", 1, None, line).into_bytes(), file.clone());
        }
    }

    #[test]
    fn numbers_of_good_images_changed(kind in 0..3usize, changes in proptest::collection::vec((0..2400usize, 0..4usize, hostile()), 1..4)) {
        let (first, mut extent) = images()[kind].clone();
        for (place, width, number) in changes {
            let width = 1 << width;
            // Headers and tables are at the beginning, except that a stream has them at its end.
            let place = if kind == 2 && place > 512 { extent.len() - place } else { place };
            let end = (place + width).min(extent.len());
            extent[place..end].copy_from_slice(&number.to_le_bytes()[..end - place]);
        }
        try_all(first, extent);
    }

    #[test]
    fn a_changed_grain_is_never_read_as_something_else(place in 0..70_000usize, mask in 1..=255u8) {
        let (first, extent) = images()[2].clone();
        let good = try_all(first.clone(), extent.clone()).unwrap();
        let mut changed = extent;
        // From the first marker on, up to the first table's marker.
        let at = 128 * 512 + place % (changed.len() - 128 * 512 - 6 * 512 - 4 * 512);
        changed[at] ^= mask;
        if let Some(read) = try_all(first, changed) {
            prop_assert!(read == good);
        }
    }

    #[test]
    fn descriptors_of_any_text(lines in proptest::collection::vec("(RW|RDONLY|CID=|parentCID=|x=)?[ -~\u{e9}]{0,40}", 0..12)) {
        let text = format!("# Disk DescriptorFile\n{}", lines.join("\n"));
        if let Ok(found) = Descriptor::parse(text.as_bytes()) {
            prop_assert!(!found.extents.is_empty());
            prop_assert!(found.size_bytes() <= vmdk::format::MAX_CAPACITY_BYTES);
        }
    }

    #[test]
    fn descriptors_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut text = b"# Disk DescriptorFile\n".to_vec();
        text.extend_from_slice(&bytes);
        let _ = Descriptor::parse(&text);
        let _ = Descriptor::parse(&bytes);
    }

    #[test]
    fn archives_of_any_bytes(header in proptest::collection::vec(any::<u8>(), 512), size in hostile(), kind in any::<u8>()) {
        let mut block = header;
        block[124..136].copy_from_slice(format!("{:011o}\0", size % (1 << 33)).as_bytes());
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut file = block.clone();
        file.extend_from_slice(&noise(2048, size));
        let bytes: Arc<dyn ReadAt> = Arc::new(file);
        let _ = vmdk::ova::open("random.ova", &bytes, &OpenOptions::default());
        let _ = vmdk::format::tar::parse_extended(&block);
    }

    #[test]
    fn appliances_of_any_text(text in "(<(References|DiskSection|File|Disk)( (id|href|capacity|fileRef)='[a-z0-9&;]{0,5}')*/?>|</[a-z]*>|[ -~]{0,9}){0,12}") {
        let _ = vmdk::format::ovf::disks(text.as_bytes());
    }
}
