//! Proof: re-reads the device behind an export and compares it, leaf by leaf, with the digests of the source.
//!
//! What was just written proves nothing about what is stored, so the device is flushed first and read from the
//! medium. Memory is flat: digests are compared as they come; a bit per leaf remembers which were named.

use std::path::{Path, PathBuf};

use api::client::ResponseBody;
use api::gateway::{Coverage, DIGEST_RECORD_BYTES, DigestRecord, LeafMismatch, VerifyQuery, VerifyReport};
use block::digest::{LeafDigest, leaf_digest};
use block::{BlockDevice, FileDevice, RegionState};
use bytes::{Buf, BytesMut};
use futures::StreamExt;
use model::{Extent, LEAF_SIZE_BYTES};

use crate::error::GatewayError;

/// Largest single re-read, in leaves (1 MiB).
const LEAVES_PER_READ: u64 = 16;
/// Mismatches listed in a report; all are counted.
const MAX_LISTED: usize = 16;
/// Records taken from the stream before the device is read: bounds memory and keeps the blocking thread busy.
const BATCH_RECORDS: usize = 1024;
/// Longest stretch looked at in one map call, in bytes.
const MAP_BYTES: u64 = 1 << 30;

/// Verifies the replica of a disk.
///
/// # Errors
/// When the device cannot be read, or the digests are not what they should be (cut off, out of range, a leaf twice).
pub async fn verify(
    name: &str,
    device: &Path,
    query: VerifyQuery,
    mut digests: ResponseBody,
) -> Result<VerifyReport, GatewayError> {
    let mut check = Check::open(name, device, query)?;
    let mut buffered = BytesMut::new();
    while let Some(chunk) = digests.next().await {
        let chunk = chunk.map_err(|error| GatewayError::Digests { reason: error.to_string() })?;
        buffered.extend_from_slice(&chunk);
        while buffered.len() >= DIGEST_RECORD_BYTES {
            let records = take_records(&mut buffered)?;
            check = blocking(move || check.compare(&records).map(|()| check)).await?;
        }
    }
    if !buffered.is_empty() {
        return Err(GatewayError::Digests { reason: "the stream ends within a record".to_owned() });
    }
    blocking(move || check.finish()).await
}

fn take_records(buffered: &mut BytesMut) -> Result<Vec<DigestRecord>, GatewayError> {
    let mut records = Vec::new();
    while buffered.len() >= DIGEST_RECORD_BYTES && records.len() < BATCH_RECORDS {
        let mut wire = [0; DIGEST_RECORD_BYTES];
        buffered.copy_to_slice(&mut wire);
        let record = DigestRecord::decode(&wire).map_err(|problem| GatewayError::Digests { reason: problem.detail })?;
        records.push(record);
    }
    Ok(records)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GatewayError> + Send + 'static,
) -> Result<T, GatewayError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(GatewayError::Digests { reason: format!("the comparison did not end: {error}") }),
    }
}

/// One verification under way.
struct Check {
    name: String,
    path: PathBuf,
    device: FileDevice,
    query: VerifyQuery,
    seen: LeafSet,
    report: VerifyReport,
    buffer: Vec<u8>,
}

impl Check {
    fn open(name: &str, path: &Path, query: VerifyQuery) -> Result<Self, GatewayError> {
        let failed = |source| GatewayError::Device { name: name.to_owned(), path: path.to_owned(), source };
        // Opened for writing so that the flush reaches the medium, whoever wrote.
        let device = FileDevice::open(path, false).map_err(failed)?;
        device.flush().map_err(failed)?;
        if device.size_bytes() < query.capacity_bytes {
            let reason = format!("the device has {} bytes, the disk {}", device.size_bytes(), query.capacity_bytes);
            return Err(GatewayError::Digests { reason });
        }
        let leaves_total = query.capacity_bytes.div_ceil(LEAF_SIZE_BYTES);
        let report =
            VerifyReport { leaves_total, leaves_verified: 0, bytes_read: 0, mismatch_count: 0, mismatches: Vec::new() };
        let largest = usize::try_from(LEAVES_PER_READ * LEAF_SIZE_BYTES).unwrap_or(usize::MAX);
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            device,
            query,
            seen: LeafSet::new(leaves_total),
            report,
            buffer: vec![0; largest],
        })
    }

    fn compare(&mut self, records: &[DigestRecord]) -> Result<(), GatewayError> {
        let mut at = 0;
        while let Some(record) = records.get(at) {
            // Neighbouring records are read together.
            let mut expected = vec![record.digest; record.leaf_count.min(LEAVES_PER_READ as u32) as usize];
            let mut rest = u64::from(record.leaf_count) - expected.len() as u64;
            let mut first = record.first_leaf;
            at += 1;
            while let Some(next) = records.get(at) {
                let adjoins = rest == 0 && next.first_leaf == first + expected.len() as u64;
                if !adjoins || expected.len() as u64 + u64::from(next.leaf_count) > LEAVES_PER_READ {
                    break;
                }
                expected.extend(std::iter::repeat_n(next.digest, next.leaf_count as usize));
                at += 1;
            }
            self.compare_leaves(first, &expected)?;
            while rest > 0 {
                first += LEAVES_PER_READ;
                expected.truncate(usize::try_from(rest).unwrap_or(usize::MAX));
                self.compare_leaves(first, &expected)?;
                rest -= expected.len() as u64;
            }
        }
        Ok(())
    }

    fn compare_leaves(&mut self, first: u64, expected: &[LeafDigest]) -> Result<(), GatewayError> {
        for leaf in first..first + expected.len() as u64 {
            if !self.seen.insert(leaf) {
                return Err(GatewayError::Digests { reason: format!("leaf {leaf} is beyond the disk or named twice") });
            }
        }
        let extent = Extent::new(first * LEAF_SIZE_BYTES, expected.len() as u64 * LEAF_SIZE_BYTES);
        let Some(extent) = extent.clamp_to(self.query.capacity_bytes) else { return Ok(()) };
        let bytes = self.read(extent)?;
        let found: Vec<LeafDigest> = bytes.chunks(LEAF_SIZE_BYTES as usize).map(leaf_digest).collect();
        for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
            if expected != found {
                self.note(first + index as u64, expected, found);
            }
        }
        self.report.leaves_verified += expected.len() as u64;
        Ok(())
    }

    fn read(&mut self, extent: Extent) -> Result<&[u8], GatewayError> {
        let length = usize::try_from(extent.length).unwrap_or(usize::MAX).min(self.buffer.len());
        let buffer = &mut self.buffer[..length];
        self.device.read_from_medium(buffer, extent.offset).map_err(|source| GatewayError::Device {
            name: self.name.clone(),
            path: self.path.clone(),
            source,
        })?;
        self.report.bytes_read += extent.length;
        Ok(buffer)
    }

    fn note(&mut self, leaf: u64, expected: &LeafDigest, found: &LeafDigest) {
        self.report.mismatch_count += 1;
        if self.report.mismatches.len() < MAX_LISTED {
            let mismatch = LeafMismatch { leaf, expected: hex::encode(expected), found: hex::encode(found) };
            self.report.mismatches.push(mismatch);
        }
    }

    /// With full coverage, every leaf nobody named must be zero; holes need not be read to know that.
    fn finish(mut self) -> Result<VerifyReport, GatewayError> {
        if self.query.coverage == Coverage::Full {
            let mut offset = 0;
            while let Some(stretch) = Extent::new(offset, MAP_BYTES).clamp_to(self.query.capacity_bytes) {
                offset = stretch.end();
                self.check_unnamed(stretch)?;
            }
            self.report.leaves_verified = self.report.leaves_total;
        }
        Ok(self.report)
    }

    fn check_unnamed(&mut self, stretch: Extent) -> Result<(), GatewayError> {
        let regions = self.device.map(stretch).map_err(|source| GatewayError::Device {
            name: self.name.clone(),
            path: self.path.clone(),
            source,
        })?;
        for region in regions.iter().filter(|region| region.state == RegionState::Data) {
            let first = region.extent.offset / LEAF_SIZE_BYTES;
            for leaf in first..region.extent.end().div_ceil(LEAF_SIZE_BYTES) {
                if self.seen.insert(leaf) {
                    self.check_zero(leaf)?;
                }
            }
        }
        Ok(())
    }

    fn check_zero(&mut self, leaf: u64) -> Result<(), GatewayError> {
        let extent = Extent::new(leaf * LEAF_SIZE_BYTES, LEAF_SIZE_BYTES);
        let Some(extent) = extent.clamp_to(self.query.capacity_bytes) else { return Ok(()) };
        let bytes = self.read(extent)?;
        if block::zero::is_zero(bytes) {
            return Ok(());
        }
        let (expected, found) = (leaf_digest(&vec![0; bytes.len()]), leaf_digest(bytes));
        self.note(leaf, &expected, &found);
        Ok(())
    }
}

/// A bit per leaf.
struct LeafSet {
    words: Vec<u64>,
    leaves: u64,
}

impl LeafSet {
    fn new(leaves: u64) -> Self {
        let words = usize::try_from(leaves.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: vec![0; words], leaves }
    }

    /// `false` when it is beyond the end or there already.
    fn insert(&mut self, leaf: u64) -> bool {
        if leaf >= self.leaves {
            return false;
        }
        let word = &mut self.words[(leaf / 64) as usize];
        let bit = 1 << (leaf % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

#[cfg(test)]
mod tests;
