//! A device that is equal, one flipped bit, what is not named, and digests that cannot be used.

use std::io::{Seek, SeekFrom, Write};

use futures::stream;

use block::FileDevice;
use block::digest::leaf_digest;

use super::*;

const LEAF: usize = LEAF_SIZE_BYTES as usize;

/// A disk of four and a bit leaves: data, zero, data, zero, a short tail of data.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0u8; 4 * LEAF + 100];
    bytes[..LEAF].fill(1);
    bytes[2 * LEAF + 5] = 9;
    bytes[4 * LEAF..].fill(3);
    bytes
}

fn records(disk: &[u8], leaves: &[usize]) -> Vec<u8> {
    let mut wire = Vec::new();
    for &leaf in leaves {
        let end = ((leaf + 1) * LEAF).min(disk.len());
        let digest = leaf_digest(&disk[leaf * LEAF..end]);
        DigestRecord { first_leaf: leaf as u64, leaf_count: 1, is_scrubbed: false, digest }.encode(&mut wire);
    }
    wire
}

async fn check(device: &[u8], wire: Vec<u8>, coverage: Coverage) -> Result<VerifyReport, GatewayError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device");
    let mut file = std::fs::File::create(&path).unwrap();
    // The volume is larger than the disk and sparse where the disk is zero.
    file.set_len(1 << 20).unwrap();
    for (index, leaf) in device.chunks(LEAF).enumerate() {
        if !block::zero::is_zero(leaf) {
            file.seek(SeekFrom::Start((index * LEAF) as u64)).unwrap();
            file.write_all(leaf).unwrap();
        }
    }
    let query = VerifyQuery { capacity_bytes: device.len() as u64, coverage };
    // In pieces that do not fall on the records' borders.
    let pieces: Vec<_> = wire.chunks(17).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    verify(
        "e",
        Arc::new(FileDevice::open(&path, false).unwrap()),
        query,
        stream::iter(pieces).boxed(),
        Counter::default(),
    )
    .await
}

#[tokio::test]
async fn an_equal_device_is_proven_equal() {
    let disk = disk();
    let report = check(&disk, records(&disk, &[4, 0, 2]), Coverage::Full).await.unwrap();
    assert_eq!((report.mismatch_count, report.leaves_verified, report.leaves_total), (0, 5, 5));
    let report = check(&disk, records(&disk, &[0, 1]), Coverage::Named).await.unwrap();
    assert_eq!((report.mismatch_count, report.leaves_verified), (0, 2));
}

#[tokio::test]
async fn one_flipped_bit_names_its_leaf() {
    let disk = disk();
    let wire = records(&disk, &[0, 2, 4]);
    for (offset, leaf) in [(5, 0), (2 * LEAF + LEAF - 1, 2), (4 * LEAF + 99, 4), (3 * LEAF + 7, 3)] {
        let mut device = disk.clone();
        device[offset] ^= 0x10;
        let report = check(&device, wire.clone(), Coverage::Full).await.unwrap();
        assert_eq!(report.mismatch_count, 1, "offset {offset}");
        assert_eq!(report.mismatches[0].leaf, leaf as u64);
        assert_ne!(report.mismatches[0].expected, report.mismatches[0].found);
    }
}

#[tokio::test]
async fn a_long_run_of_equal_leaves_is_read_in_bounded_pieces() {
    let disk = vec![0u8; 41 * LEAF];
    let mut wire = Vec::new();
    DigestRecord { first_leaf: 0, leaf_count: 41, is_scrubbed: false, digest: leaf_digest(&disk[..LEAF]) }
        .encode(&mut wire);
    let folder_size = disk.len();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device");
    std::fs::write(&path, vec![0u8; folder_size]).unwrap();
    let query = VerifyQuery { capacity_bytes: folder_size as u64, coverage: Coverage::Named };
    let body = stream::iter([Ok(bytes::Bytes::from(wire))]).boxed();
    let report =
        verify("e", Arc::new(FileDevice::open(&path, false).unwrap()), query, body, Counter::default()).await.unwrap();
    assert_eq!((report.leaves_verified, report.mismatch_count, report.bytes_read), (41, 0, folder_size as u64));
}

#[tokio::test]
async fn digests_that_cannot_be_used_are_refused() {
    let disk = disk();
    let cut = records(&disk, &[0])[..20].to_vec();
    let twice = records(&disk, &[0, 0]);
    let mut beyond = Vec::new();
    DigestRecord { first_leaf: 5, leaf_count: 1, is_scrubbed: false, digest: [0; 32] }.encode(&mut beyond);
    for wire in [cut, twice, beyond] {
        let outcome = check(&disk, wire, Coverage::Named).await;
        assert!(matches!(outcome, Err(GatewayError::Digests { .. })), "{outcome:?}");
    }
}
