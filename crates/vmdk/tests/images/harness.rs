//! What the tests share: programs, content, and comparing a device with what qemu-img makes of the same image.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use block::{BlockDevice, RegionState};
use model::Extent;
use vmdk::{OpenOptions, VmdkDevice};

/// Runs a program that has to succeed, in `folder`, and returns what it printed.
pub fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let package = match program {
        "tar" | "python3" => program,
        "mkfifo" => "coreutils",
        _ => "qemu-utils",
    };
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|_| panic!("{program} not found: apt-get install {package}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether qemu-img succeeds.
pub fn qemu_img_succeeds(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("qemu-img").args(arguments).current_dir(folder).output();
    output.expect("qemu-img not found: apt-get install qemu-utils").status.success()
}

/// Bytes that do not deflate, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A raw file with noise, text, zeroes that are written, and holes.
pub fn raw_content(path: &Path, size_bytes: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    let end = usize::try_from(size_bytes).unwrap();
    let put = |bytes: &[u8], at: u64| {
        if at + bytes.len() as u64 <= size_bytes {
            file.write_all_at(bytes, at).unwrap();
        }
    };
    put(&noise(300_000, 1), 0);
    put(&"all work and no play makes jack a dull boy\n".repeat(9000).into_bytes(), 400_000);
    put(&[0; 200_000], 1 << 20);
    put(&noise(512, 2), 2_000_384);
    put(&noise(70_000, 3), size_bytes.saturating_sub(70_000));
    put(&noise(65_536, 4), 3 * 65_536 + (1 << 31));
    put(&noise(100, 5), (end as u64).saturating_sub(200_000));
}

/// Opens an image as nobody does anything special.
pub fn open(path: &Path) -> VmdkDevice {
    vmdk::open(path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()))
}

/// The error that opening ends in.
pub fn open_error(path: &Path) -> vmdk::VmdkError {
    match vmdk::open(path, &OpenOptions::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

/// All bytes of a small device, in reads that begin and end anywhere.
pub fn all_bytes(device: &VmdkDevice) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(device.size_bytes()).unwrap()];
    let mut at = 0;
    let mut lengths = [65_536, 1, 511, 4096, 200_000, 65_535, 1 << 20].iter().cycle();
    while at < bytes.len() {
        let end = bytes.len().min(at + lengths.next().unwrap());
        device.read_at(&mut bytes[at..end], at as u64).unwrap();
        at = end;
    }
    bytes
}

/// Fails unless the device has the bytes of a raw file.
pub fn assert_bytes(device: &VmdkDevice, raw: &Path) {
    let file = File::open(raw).unwrap();
    assert_eq!(device.size_bytes(), file.metadata().unwrap().len(), "size of {}", raw.display());
    let (mut ours, mut theirs) = (vec![0xee; 3_000_001], vec![0; 3_000_001]);
    let mut at = 0;
    while at < device.size_bytes() {
        let length = usize::try_from((device.size_bytes() - at).min(ours.len() as u64)).unwrap();
        device.read_at(&mut ours[..length], at).unwrap();
        file.read_exact_at(&mut theirs[..length], at).unwrap();
        if ours[..length] != theirs[..length] {
            let within = ours.iter().zip(&theirs).position(|(a, b)| a != b);
            panic!("byte {within:?} after {at} differs from {}", raw.display());
        }
        at += length as u64;
    }
}

/// Fails unless the data of a large device is that of a raw file, and the beginning of each of its holes zero in both.
pub fn assert_data(device: &VmdkDevice, raw: &Path) {
    let file = File::open(raw).unwrap();
    for region in device.map(Extent::new(0, device.size_bytes())).unwrap() {
        let is_data = region.state == RegionState::Data;
        let length = if is_data { region.extent.length } else { region.extent.length.min(1 << 20) };
        let (mut ours, mut theirs) = (vec![0xee; usize::try_from(length).unwrap()], vec![0; length as usize]);
        device.read_at(&mut ours, region.extent.offset).unwrap();
        file.read_exact_at(&mut theirs, region.extent.offset).unwrap();
        assert!(ours == theirs && (is_data || block::zero::is_zero(&ours)), "{region:?}");
    }
}

/// Ranges of a device and whether they read as zeroes, joined.
fn zero_map(regions: impl Iterator<Item = (u64, u64, bool)>) -> Vec<(u64, u64, bool)> {
    let mut joined: Vec<(u64, u64, bool)> = Vec::new();
    for (start, length, zero) in regions {
        match joined.last_mut() {
            Some(last) if last.2 == zero => {
                assert_eq!(last.0 + last.1, start);
                last.1 += length;
            }
            _ => joined.push((start, length, zero)),
        }
    }
    joined
}

/// The map by way of `map_front` with few regions at a time.
pub fn our_map(device: &VmdkDevice) -> Vec<(u64, u64, bool)> {
    let size_bytes = device.size_bytes();
    let whole = device.map(Extent::new(0, size_bytes)).unwrap();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size_bytes {
        let some = device.map_front(Extent::new(at, size_bytes - at), 2).unwrap();
        assert!(!some.is_empty() && some.len() <= 2);
        at = some.last().unwrap().extent.end();
        pieces.extend(some);
    }
    let plain = |regions: &[block::Region]| {
        let zero =
            regions.iter().map(|region| (region.extent.offset, region.extent.length, region.state.reads_as_zero()));
        zero_map(zero)
    };
    assert_eq!(plain(&whole), plain(&pieces));
    assert_eq!(whole.iter().map(|region| region.extent.length).sum::<u64>(), size_bytes);
    plain(&whole)
}

/// Fails unless the device and qemu-img agree about every byte and about what is a hole.
pub fn assert_as_qemu_has_it(image: &Path, device: &VmdkDevice) {
    let folder = image.parent().unwrap();
    let name = image.file_name().unwrap().to_str().unwrap();
    let raw = folder.join(format!("{name}.by-qemu.raw"));
    run(folder, "qemu-img", &["convert", "-f", "vmdk", "-O", "raw", name, raw.to_str().unwrap()]);
    assert_bytes(device, &raw);
    assert_map_as_qemu_has_it(image, device);
}

/// Fails unless the device and qemu-img agree about what is a hole.
pub fn assert_map_as_qemu_has_it(image: &Path, device: &VmdkDevice) {
    let folder = image.parent().unwrap();
    let name = image.file_name().unwrap().to_str().unwrap();
    let map = run(folder, "qemu-img", &["map", "-f", "vmdk", "--output=json", name]);
    let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
    let number = |entry: &serde_json::Value, key: &str| entry[key].as_u64().unwrap();
    let theirs = map.iter().map(|entry| (number(entry, "start"), number(entry, "length"), entry["zero"] == true));
    assert_eq!(our_map(device), zero_map(theirs), "map of {name}");
}

/// How many bytes are known to be data.
pub fn data_bytes(device: &VmdkDevice) -> u64 {
    let regions = device.map(Extent::new(0, device.size_bytes())).unwrap();
    regions.iter().filter(|region| region.state == RegionState::Data).map(|region| region.extent.length).sum()
}

/// Writes a file and returns its path.
pub fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).unwrap().write_all(content).unwrap();
    path
}
