//! Source and replica, compared byte by byte without the product's help.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::site::{Site, VM};

/// Bytes compared at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Every disk of the VM with real disks is what its vm_snapshot had frozen.
pub async fn assert_equal(site: &Site, progress: &serde_json::Value) {
    assert_eq!(progress["replication"]["status"], "completed", "{progress:#}");
    let vm_snapshot = progress["run"]["vm_snapshot"].as_str().unwrap();
    let replicas = site.volume_files(VM).await;
    assert_eq!(replicas.len(), site.world.disks().len());
    for (disk, replica) in site.world.disks().iter().zip(&replicas) {
        let frozen = site.world.retained(vm_snapshot, disk.key);
        assert!(same_bytes(&frozen, replica, disk.capacity_bytes) > 0, "{} is empty", disk.disk_id);
    }
    site.assert_no_vm_snapshot(VM).await;
}

/// Compares what either file has allocated; answers with the number of bytes looked at.
pub fn same_bytes(left: &Path, right: &Path, length: u64) -> u64 {
    let files = [File::open(left).unwrap(), File::open(right).unwrap()];
    let mut looked_at = 0;
    for allocated in &files {
        for (start, end) in data_extents(allocated, length) {
            let mut offset = start;
            while offset < end {
                let step = STEP_BYTES.min(end - offset);
                let [left_bytes, right_bytes] = files.each_ref().map(|file| bytes_at(file, offset, step));
                assert!(left_bytes == right_bytes, "{} and {} differ near {offset}", left.display(), right.display());
                offset += step;
            }
            looked_at += end - start;
        }
    }
    looked_at
}

fn bytes_at(file: &File, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// What a sparse file has allocated within `length` bytes.
fn data_extents(file: &File, length: u64) -> Vec<(u64, u64)> {
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < length {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) if start < length => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => panic!("SEEK_DATA: {error}"),
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap().min(length);
        extents.push((start, end));
        offset = end;
    }
    extents
}

/// Bytes a file takes from its file system.
pub fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().blocks() * 512
}
