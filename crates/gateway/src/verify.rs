//! Proof: re-reads the device behind an export and compares it, leaf by leaf, with the digests of the source.
//!
//! What was just written proves nothing about what is stored, so the device, which the caller has flushed, is read from
//! the medium. Memory is flat: digests are compared as they come; a bit per leaf remembers which were named.

pub(crate) mod progress;
mod reread;

use std::sync::Arc;

use api::client::ResponseBody;
use api::gateway::{Coverage, DIGEST_RECORD_BYTES, DigestRecord, LeafMismatch, VerifyQuery, VerifyReport};
use block::digest::{leaf_extent, zero_leaf_digest};
use block::{BlockDevice, BlockError, RegionState};
use bytes::{Buf, BytesMut};
use futures::StreamExt;
use model::{Extent, LEAF_SIZE_BYTES};

use crate::error::GatewayError;
use progress::Counter;
use reread::{Difference, LEAVES_PER_READ, Stretch, compare_all};

/// Mismatches listed in a report; all are counted.
const MAX_LISTED: usize = 16;
/// Records taken from the stream before the device is read: bounds memory and keeps the blocking thread busy.
const BATCH_RECORDS: usize = 1024;
/// Stretches compared together: bounds memory and keeps several threads busy.
const BATCH_STRETCHES: usize = 256;
/// Longest range looked at in one map call, in bytes.
const MAP_BYTES: u64 = 1 << 30;

/// Verifies the replica of a disk; `verified` counts the leaves as they are compared.
///
/// # Errors
/// When the device cannot be read, or the digests are not what they should be (cut off, out of range, a leaf twice).
pub async fn verify(
    name: &str,
    device: Arc<dyn BlockDevice>,
    query: VerifyQuery,
    mut digests: ResponseBody,
    verified: Counter,
) -> Result<VerifyReport, GatewayError> {
    let mut check = Check::new(name, device, query, verified)?;
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
    device: Arc<dyn BlockDevice>,
    query: VerifyQuery,
    seen: LeafSet,
    report: VerifyReport,
    verified: Counter,
}

impl Check {
    fn new(
        name: &str,
        device: Arc<dyn BlockDevice>,
        query: VerifyQuery,
        verified: Counter,
    ) -> Result<Self, GatewayError> {
        if device.size_bytes() < query.capacity_bytes {
            let reason = format!("the device has {} bytes, the disk {}", device.size_bytes(), query.capacity_bytes);
            return Err(GatewayError::Digests { reason });
        }
        let leaves_total = query.capacity_bytes.div_ceil(LEAF_SIZE_BYTES);
        let report = VerifyReport { leaves_total, ..VerifyReport::default() };
        Ok(Self { name: name.to_owned(), device, query, seen: LeafSet::new(leaves_total), report, verified })
    }

    /// Compares what the records name; neighbours are read together.
    fn compare(&mut self, records: &[DigestRecord]) -> Result<(), GatewayError> {
        let mut batch: Vec<Stretch> = Vec::new();
        for record in records {
            let (mut leaf, end) = (record.first_leaf, record.first_leaf.saturating_add(record.leaf_count.into()));
            while leaf < end {
                let last = batch.last_mut().filter(|last| {
                    last.first_leaf + last.expected.len() as u64 == leaf
                        && last.is_scrubbed == record.is_scrubbed
                        && (last.expected.len() as u64) < LEAVES_PER_READ
                });
                let stretch = match last {
                    Some(stretch) => stretch,
                    None => {
                        if batch.len() == BATCH_STRETCHES {
                            self.look_at(&std::mem::take(&mut batch))?;
                        }
                        let is_scrubbed = record.is_scrubbed;
                        batch.push(Stretch { first_leaf: leaf, is_scrubbed, expected: Vec::new() });
                        let Some(begun) = batch.last_mut() else { break };
                        begun
                    }
                };
                let count = (LEAVES_PER_READ - stretch.expected.len() as u64).min(end - leaf);
                let same = std::iter::repeat_n(record.digest, usize::try_from(count).unwrap_or(0));
                stretch.expected.extend(same);
                leaf += count;
            }
        }
        self.look_at(&batch)
    }

    fn look_at(&mut self, stretches: &[Stretch]) -> Result<(), GatewayError> {
        for stretch in stretches {
            for leaf in stretch.first_leaf..stretch.first_leaf + stretch.expected.len() as u64 {
                if !self.seen.insert(leaf) {
                    let reason = format!("leaf {leaf} is beyond the disk or named twice");
                    return Err(GatewayError::Digests { reason });
                }
            }
            self.report.leaves_verified += stretch.expected.len() as u64;
        }
        let seen = compare_all(self.device.as_ref(), self.query.capacity_bytes, stretches);
        let seen = seen.map_err(|source| self.failed(source))?;
        self.report.bytes_read += seen.bytes_read;
        self.verified.is_at(self.report.leaves_verified);
        seen.differences.iter().for_each(|difference| self.note(difference));
        Ok(())
    }

    fn failed(&self, source: BlockError) -> GatewayError {
        GatewayError::Reread { name: self.name.clone(), source }
    }

    fn note(&mut self, difference: &Difference) {
        self.report.mismatch_count += 1;
        self.report.omission_count += u64::from(difference.is_scrubbed);
        if self.report.mismatches.len() < MAX_LISTED {
            let Difference { leaf, expected, found, is_scrubbed } = *difference;
            let (expected, found) = (hex::encode(expected), hex::encode(found));
            self.report.mismatches.push(LeafMismatch { leaf, expected, found, is_scrubbed });
        }
    }

    /// With full coverage, every leaf nobody named must be zero; holes need not be read to know that.
    fn finish(mut self) -> Result<VerifyReport, GatewayError> {
        if self.query.coverage == Coverage::Full {
            let mut offset = 0;
            while let Some(range) = Extent::new(offset, MAP_BYTES).clamp_to(self.query.capacity_bytes) {
                offset = range.end();
                self.check_unnamed(range)?;
            }
            self.report.leaves_verified = self.report.leaves_total;
        }
        Ok(self.report)
    }

    fn check_unnamed(&mut self, range: Extent) -> Result<(), GatewayError> {
        let regions = self.device.map(range).map_err(|source| self.failed(source))?;
        let mut unnamed = Vec::new();
        for region in regions.iter().filter(|region| region.state == RegionState::Data) {
            let first = region.extent.offset / LEAF_SIZE_BYTES;
            for leaf in first..region.extent.end().div_ceil(LEAF_SIZE_BYTES) {
                if self.seen.contains(leaf) {
                    continue;
                }
                let Some(extent) = leaf_extent(leaf, self.query.capacity_bytes) else { continue };
                let digest = zero_leaf_digest(extent.length);
                unnamed.push(DigestRecord { first_leaf: leaf, leaf_count: 1, is_scrubbed: false, digest });
                if unnamed.len() == BATCH_RECORDS {
                    self.compare(&std::mem::take(&mut unnamed))?;
                }
            }
        }
        self.compare(&unnamed)
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

    fn contains(&self, leaf: u64) -> bool {
        self.words
            .get(usize::try_from(leaf / 64).unwrap_or(usize::MAX))
            .is_some_and(|word| word & (1 << (leaf % 64)) != 0)
    }
}

#[cfg(test)]
mod tests;
