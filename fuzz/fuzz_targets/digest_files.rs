//! Digest files of agent and hub after anything may have happened to them: what an agent's crash left never names a leaf
//! that no run named; a hub's file is refused or read without a panic.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::extent::{normalise, total_bytes};
use model::{Extent, LEAF_SIZE_BYTES};
use mover::digest_file::{DigestFile, proven};
use mover::progress::Moved;
use proof::{DigestFolder, DiskName};

const LEAVES: u64 = 1000;
const CAPACITY_BYTES: u64 = LEAVES * LEAF_SIZE_BYTES;
/// Size of the header of a hub's file, in bytes.
const HEADER_BYTES: usize = 4096;

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzz-digest-files-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
});

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    if kind & 1 == 0 { agents_file(rest) } else { hubs_file(rest) }
});

/// Appends what the bytes say, then damages the files as the rest says.
fn agents_file(data: &[u8]) {
    let path = FOLDER.join("disk.digests");
    let Some((&appends, rest)) = data.split_first() else { return };
    let (appends, damage) = rest.split_at(rest.len().min(usize::from(appends % 32) * 4));
    let file = DigestFile::create(&path).expect("a new file");
    let (mut named, mut free) = (Vec::new(), 0);
    for &[gap, count, fill, checkpoint] in appends.as_chunks().0 {
        let first_leaf = free + u64::from(gap % 32);
        let digests: Vec<[u8; 32]> = (0..=count % 8).map(|leaf| [fill.wrapping_add(leaf / 2); 32]).collect();
        free = first_leaf + digests.len() as u64;
        if free > LEAVES {
            break;
        }
        file.append(first_leaf, &digests, fill & 1 == 1).expect("room for digests");
        let length = digests.len() as u64 * LEAF_SIZE_BYTES;
        named.push(Extent::new(first_leaf * LEAF_SIZE_BYTES, length));
        if checkpoint & 1 == 1 {
            file.checkpoint(Moved::default()).expect("room for a checkpoint");
        }
    }
    file.finish(Moved::default()).expect("room for the last checkpoint");
    drop(file);
    let whole = proven(&path, CAPACITY_BYTES).expect("files that can be read");
    assert_eq!(whole.extents, normalise(named.clone()), "all that was finished is proven");
    for &[which, high, low, change] in damage.as_chunks().0 {
        let path = if which & 1 == 0 { path.clone() } else { path.with_extension("mirror") };
        let mut bytes = fs::read(&path).expect("it is there");
        let place = usize::from(u16::from_be_bytes([high, low]));
        match which & 6 {
            0 => bytes.truncate(place),
            2 => bytes.extend_from_slice(&[change; 64]),
            _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= change),
        }
        fs::write(&path, &bytes).expect("room for it");
    }
    let left = proven(&path, CAPACITY_BYTES).expect("files that can be read");
    let both = normalise(left.extents.iter().chain(&whole.extents).copied().collect());
    assert_eq!(total_bytes(&both), total_bytes(&whole.extents), "a leaf is proven that nobody named");
    let kept = left.extents.clone();
    drop(left.keep(&kept).expect("room for what is kept"));
    assert_eq!(proven(&path, CAPACITY_BYTES).expect("files that can be read").extents, kept);
}

/// A file of the hub: as it is; with a header that says what the bytes say; and with entries that they are.
fn hubs_file(data: &[u8]) {
    let folder = DigestFolder::open(&FOLDER).expect("a folder for temporary files");
    let capacity_bytes = 3 * LEAF_SIZE_BYTES;
    let disk = DiskName { vm_disk_id: "d-1".to_owned(), disk_uuid: "6000C29".to_owned(), capacity_bytes };
    let right = format!(
        r#"{{"version":1,"vm_disk_id":"d-1","disk_uuid":"6000C29","capacity_bytes":{capacity_bytes},"leaf_size_bytes":{LEAF_SIZE_BYTES},"coverage":"full","job_id":"j"}}"#
    );
    let arbitrary = with_header(&data[..data.len().min(HEADER_BYTES - 44)], &[7; 96]);
    let known = with_header(right.as_bytes(), data);
    for (content, is_right) in [(data, false), (&arbitrary, false), (&known, true)] {
        fs::write(FOLDER.join("digests/d-1.leaves"), content).expect("room for it");
        let found = folder.committed(&disk);
        assert!(!is_right || found.is_ok(), "{found:?}");
        let Ok(Some(file)) = found else { continue };
        assert_eq!(file.leaves_total(), 3);
        let digests: Vec<[u8; 32]> = (0..3).map(|leaf| file.digest(leaf).expect("every leaf has one")).collect();
        for (leaf, digest) in file.named_from(0).expect("it can be read").map(|named| named.digests).unwrap_or_default()
        {
            assert_eq!(digests[usize::try_from(leaf).expect("one of three")], digest);
        }
    }
}

/// A file of a disk of three leaves whose header's checksum is right.
fn with_header(text: &[u8], entries: &[u8]) -> Vec<u8> {
    let mut file = vec![0; HEADER_BYTES];
    file[..8].copy_from_slice(b"MKLEAVES");
    file[40..44].copy_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    file[44..44 + text.len()].copy_from_slice(text);
    let checksum = blake3::hash(&file[40..]);
    file[8..40].copy_from_slice(checksum.as_bytes());
    file.extend_from_slice(entries);
    file.resize(HEADER_BYTES + 3 * 32, 0);
    file
}
