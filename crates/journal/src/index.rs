//! The index file: a header that says whose run it is, then one frame for each barrier. Pure but for reading it.
//!
//! Numbers are little-endian. Header, 1024 bytes: magic, BLAKE3 of everything after it, length of the text u32, the text
//! (JSON), zeroes. Frame: magic u32, number of entries u32, sequence u64, end of the data u64, entries of 40 bytes each,
//! then 16 bytes of BLAKE3 over the checksum of the frame (or header) before it and over this frame. So a frame counts
//! only where it was written, after what was written before it: the first that does not fit ends the log. 32 MiB in
//! pieces of 256 KiB make a frame of 5 KiB, in pieces of 4 KiB one of 320 KiB.

use std::ops::ControlFlow;

use model::Extent;
use serde::{Deserialize, Serialize};

use crate::map::Payload;
use crate::medium::Medium;

/// Size of the header in bytes; the frames begin after it.
pub const HEADER_BYTES: usize = 1024;
/// First bytes of every index.
const MAGIC: &[u8; 8] = b"MKJOURNL";
/// The only version there is.
const VERSION: u32 = 1;
/// Where the header's checksum ends; then comes the length of the text.
const CHECKSUM_END: usize = MAGIC.len() + 32;
/// Where the text begins.
const TEXT_BEGIN: usize = CHECKSUM_END + 4;
/// First bytes of a frame: `MKBF`.
const FRAME_MAGIC: u32 = 0x4642_4b4d;
/// Magic, number of entries, sequence, end of the data.
const FRAME_HEAD_BYTES: usize = 24;
/// Size of an entry in bytes.
const ENTRY_BYTES: usize = 40;
/// Size of a frame's checksum in bytes.
const SUM_BYTES: usize = 16;
/// Most entries of a frame: bounds what a reader takes into memory at once (2.5 MiB).
pub(crate) const MAX_FRAME_ENTRIES: usize = 65_536;
/// Longest payload in bytes: what has to be read to check one.
pub(crate) const MAX_PAYLOAD_BYTES: u32 = 1 << 20;
/// Payloads begin at multiples of this, in bytes, so that none shares a page with another.
pub(crate) const DATA_ALIGNMENT_BYTES: u64 = 4096;
/// Longest generation, in characters.
pub const MAX_GENERATION_CHARS: usize = 64;

/// What an index is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Increments beside the volume.
    Journal,
    /// A note of what was written in place.
    Ledger,
}

/// One run of one disk: what the header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Journal or ledger.
    pub kind: Kind,
    /// The VMDK's uuid.
    pub disk_uuid: String,
    /// Size of the device that is written, in bytes.
    pub capacity_bytes: u64,
    /// The replication.
    pub job_id: String,
    /// The frozen content the run writes: hex, at most [`MAX_GENERATION_CHARS`].
    pub generation: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    run: Run,
}

/// Checksum of a frame, to which the next one is tied.
pub(crate) type Chain = [u8; SUM_BYTES];

/// The checksum of a payload.
pub(crate) fn payload_sum(bytes: &[u8]) -> u64 {
    let mut sum = [0; 8];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(sum)
}

/// Whether a text may name a generation.
#[must_use]
pub fn is_generation(text: &str) -> bool {
    (1..=MAX_GENERATION_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Run {
    /// The bytes of the header; `None` when its names are too long for it.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let text = serde_json::to_vec(&Text { version: VERSION, run: self.clone() }).ok()?;
        let mut block = vec![0; HEADER_BYTES];
        block.get_mut(TEXT_BEGIN..TEXT_BEGIN + text.len())?.copy_from_slice(&text);
        block[..MAGIC.len()].copy_from_slice(MAGIC);
        block[CHECKSUM_END..TEXT_BEGIN].copy_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        let checksum = blake3::hash(&block[CHECKSUM_END..]);
        block[MAGIC.len()..CHECKSUM_END].copy_from_slice(checksum.as_bytes());
        Some(block)
    }

    fn decode(block: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if &block[..MAGIC.len()] != MAGIC {
            return Err("it does not begin like one".to_owned());
        }
        if blake3::hash(&block[CHECKSUM_END..]).as_bytes() != &block[MAGIC.len()..CHECKSUM_END] {
            return Err("the checksum of its header is wrong".to_owned());
        }
        let mut length = [0; 4];
        length.copy_from_slice(&block[CHECKSUM_END..TEXT_BEGIN]);
        let end = TEXT_BEGIN.saturating_add(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX));
        let text = block.get(TEXT_BEGIN..end).ok_or_else(|| "its header is longer than it can be".to_owned())?;
        let text: Text = serde_json::from_slice(text).map_err(|error| format!("its header says nothing: {error}"))?;
        if text.version != VERSION {
            return Err(format!("version {} is not known here", text.version));
        }
        if !is_generation(&text.run.generation) {
            return Err("its generation is none".to_owned());
        }
        Ok(text.run)
    }
}

/// What a header's bytes tie the first frame to.
pub(crate) fn chain_of_header(block: &[u8]) -> Chain {
    let mut chain = [0; SUM_BYTES];
    chain.copy_from_slice(&blake3::hash(block).as_bytes()[..SUM_BYTES]);
    chain
}

/// What happened to an extent of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// These bytes were written.
    Data(Payload),
    /// Zeroes that keep their room.
    Zero,
    /// Zeroes whose room may be given back.
    Hole,
    /// Written in place.
    Written,
}

/// A line of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) extent: Extent,
    pub(crate) change: Change,
}

impl Entry {
    /// The end of the data this entry needs.
    pub(crate) fn data_end(&self) -> u64 {
        match self.change {
            Change::Data(payload) => payload.at.saturating_add(payload.length.into()),
            _ => 0,
        }
    }

    fn encode(&self, to: &mut Vec<u8>) {
        let (kind, at, sum) = match self.change {
            Change::Data(payload) => (1u64, payload.at, payload.sum),
            Change::Zero => (2, 0, 0),
            Change::Hole => (3, 0, 0),
            Change::Written => (4, 0, 0),
        };
        for number in [kind, self.extent.offset, self.extent.length, at, sum] {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads an entry; `None` when no run writes such a one.
    fn decode(bytes: &[u8], run: &Run, data_end: u64) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?));
        let extent = Extent::new(number(1)?, number(2)?);
        let inside = extent.offset.checked_add(extent.length).is_some_and(|end| end <= run.capacity_bytes);
        let (at, sum) = (number(3)?, number(4)?);
        let change = match (number(0)?, run.kind) {
            (1, Kind::Journal) => {
                let length = u32::try_from(extent.length).ok().filter(|&length| length <= MAX_PAYLOAD_BYTES)?;
                let there = at.is_multiple_of(DATA_ALIGNMENT_BYTES) && at.checked_add(extent.length)? <= data_end;
                there.then_some(Change::Data(Payload { at, length, sum }))?
            }
            (2, Kind::Journal) => Change::Zero,
            (3, Kind::Journal) => Change::Hole,
            (4, Kind::Ledger) => Change::Written,
            _ => return None,
        };
        let plain = matches!(change, Change::Data(_)) || (at, sum) == (0, 0);
        (inside && plain && extent.length > 0).then_some(Self { extent, change })
    }
}

/// The bytes of a frame, and what the next one is tied to. At most [`MAX_FRAME_ENTRIES`] entries.
pub(crate) fn encode_frame(chain: &Chain, sequence: u64, data_end: u64, entries: &[Entry]) -> (Vec<u8>, Chain) {
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + entries.len() * ENTRY_BYTES + SUM_BYTES);
    frame.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&sequence.to_le_bytes());
    frame.extend_from_slice(&data_end.to_le_bytes());
    entries.iter().for_each(|entry| entry.encode(&mut frame));
    let sum = frame_sum(chain, &frame);
    frame.extend_from_slice(&sum);
    (frame, sum)
}

fn frame_sum(chain: &Chain, frame: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain).update(frame);
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..SUM_BYTES]);
    sum
}

/// Where a log ends: what has to be known to append to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) chain: Chain,
    /// Of the next frame.
    pub(crate) sequence: u64,
    /// Length of the index that counts, in bytes.
    pub(crate) index_bytes: u64,
    /// Length of the data that counts, in bytes.
    pub(crate) data_bytes: u64,
}

impl Tail {
    pub(crate) fn after_header(block: &[u8]) -> Self {
        Self { chain: chain_of_header(block), sequence: 0, index_bytes: HEADER_BYTES as u64, data_bytes: 0 }
    }
}

/// Why an index could not be read.
#[derive(Debug)]
pub(crate) enum ReplayError {
    /// The system refused.
    Io(std::io::Error),
    /// The header is no header.
    Header(String),
}

/// The run an index says it is of.
pub(crate) fn read_header(index: &dyn Medium) -> Result<(Run, Tail), ReplayError> {
    let mut block = [0; HEADER_BYTES];
    if index.length().map_err(ReplayError::Io)? < block.len() as u64 {
        return Err(ReplayError::Header("it is shorter than its header".to_owned()));
    }
    index.read_at(&mut block, 0).map_err(ReplayError::Io)?;
    let run = Run::decode(&block).map_err(ReplayError::Header)?;
    Ok((run, Tail::after_header(&block)))
}

/// Reads the first `limit` bytes of an index, beside data of `data_length` bytes, up to the first frame that does not fit;
/// `each` is shown the entries of every frame that does, in the order they were written.
pub(crate) fn replay(
    index: &dyn Medium,
    limit: u64,
    data_length: u64,
    mut each: impl FnMut(&Entry),
) -> Result<(Run, Tail), ReplayError> {
    let limit = limit.min(index.length().map_err(ReplayError::Io)?);
    let (run, mut tail) = read_header(index)?;
    let mut frame = Vec::new();
    loop {
        match next_frame(index, limit, data_length, (&run, &tail), &mut frame).map_err(ReplayError::Io)? {
            ControlFlow::Break(()) => return Ok((run, tail)),
            ControlFlow::Continue((next, entries)) => {
                tail = next;
                entries.iter().for_each(&mut each);
            }
        }
    }
}

/// The frame at `tail`, with the tail after it; `Break` when none fits there.
fn next_frame(
    index: &dyn Medium,
    limit: u64,
    data_length: u64,
    (run, tail): (&Run, &Tail),
    frame: &mut Vec<u8>,
) -> std::io::Result<ControlFlow<(), (Tail, Vec<Entry>)>> {
    let ended = Ok(ControlFlow::Break(()));
    let room = limit.saturating_sub(tail.index_bytes);
    if room < (FRAME_HEAD_BYTES + SUM_BYTES) as u64 {
        return ended;
    }
    let mut head = [0; FRAME_HEAD_BYTES];
    index.read_at(&mut head, tail.index_bytes)?;
    let Some((count, data_end)) = decode_head(&head, tail.sequence) else { return ended };
    let length = FRAME_HEAD_BYTES + count * ENTRY_BYTES + SUM_BYTES;
    if length as u64 > room || data_end > data_length || data_end < tail.data_bytes {
        return ended;
    }
    frame.resize(length, 0);
    index.read_at(frame, tail.index_bytes)?;
    let (body, sum) = frame.split_at(length - SUM_BYTES);
    let chain = frame_sum(&tail.chain, body);
    if sum != chain {
        return ended;
    }
    let lines = body[FRAME_HEAD_BYTES..].chunks_exact(ENTRY_BYTES);
    let entries: Option<Vec<Entry>> = lines.map(|line| Entry::decode(line, run, data_end)).collect();
    let Some(entries) = entries else { return ended };
    let index_bytes = tail.index_bytes + length as u64;
    let next = Tail { chain, sequence: tail.sequence + 1, index_bytes, data_bytes: data_end };
    Ok(ControlFlow::Continue((next, entries)))
}

fn decode_head(head: &[u8; FRAME_HEAD_BYTES], sequence: u64) -> Option<(usize, u64)> {
    let half = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let whole = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let count = usize::try_from(half(4)?).ok()?;
    let fits = half(0)? == FRAME_MAGIC && whole(8)? == sequence && (1..=MAX_FRAME_ENTRIES).contains(&count);
    fits.then_some((count, whole(16)?))
}

/// An index of one frame whose checksums are right and whose entries are these bytes, whatever they say: for tests with
/// random bytes, which would not get past a checksum. `None` when the names are too long.
#[must_use]
pub fn framed(run: &Run, entries: &[u8], data_end: u64) -> Option<Vec<u8>> {
    let mut index = run.encode()?;
    let chain = chain_of_header(&index);
    let count = (entries.len() / ENTRY_BYTES).min(MAX_FRAME_ENTRIES);
    let (head, _) = encode_frame(&chain, 0, data_end, &[]);
    let mut frame = head.get(..FRAME_HEAD_BYTES)?.to_vec();
    frame[4..8].copy_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
    frame.extend_from_slice(entries.get(..count * ENTRY_BYTES)?);
    let sum = frame_sum(&chain, &frame);
    index.extend_from_slice(&frame);
    index.extend_from_slice(&sum);
    Some(index)
}

/// Reads an arbitrary index held in memory: for tests with random bytes.
///
/// # Errors
/// What is wrong with its header.
pub fn read_any(index: &[u8], data_length: u64) -> Result<(Run, Vec<Extent>), String> {
    let mut extents = Vec::new();
    let read = replay(&InMemory(index), u64::MAX, data_length, |entry| extents.push(entry.extent));
    match read {
        Ok((run, _tail)) => Ok((run, extents)),
        Err(ReplayError::Header(reason)) => Err(reason),
        Err(ReplayError::Io(error)) => Err(error.to_string()),
    }
}

/// Bytes that only are read.
struct InMemory<'a>(&'a [u8]);

impl Medium for InMemory<'_> {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = start.checked_add(buf.len()).and_then(|end| self.0.get(start..end));
        buf.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _data: &[u8], _offset: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn set_length(&self, _length: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(kind: Kind) -> Run {
        let generation = "ab".repeat(16);
        Run { kind, disk_uuid: "6000C29".to_owned(), capacity_bytes: 1 << 40, job_id: "job-1".to_owned(), generation }
    }

    #[test]
    fn names_that_do_not_fit_are_noticed() {
        assert!(Run { disk_uuid: "d".repeat(HEADER_BYTES), ..run(Kind::Journal) }.encode().is_none());
        assert!(is_generation("0af") && !is_generation("") && !is_generation("xyz") && !is_generation(&"a".repeat(65)));
    }

    #[test]
    fn every_change_survives_its_frame() {
        let payload = Payload { at: 8192, length: 700, sum: 7 };
        let journal = [Change::Data(payload), Change::Zero, Change::Hole];
        for (kind, changes) in [(Kind::Journal, &journal[..]), (Kind::Ledger, &[Change::Written])] {
            let entries: Vec<Entry> =
                changes.iter().map(|&change| Entry { extent: Extent::new(512, 700), change }).collect();
            let mut index = run(kind).encode().unwrap();
            let (frame, _) = encode_frame(&chain_of_header(&index), 0, 8892, &entries);
            index.extend_from_slice(&frame);
            let mut found = Vec::new();
            let (_, tail) = replay(&InMemory(&index), u64::MAX, 8892, |entry| found.push(*entry)).unwrap();
            assert_eq!((found, tail.index_bytes, tail.data_bytes), (entries, index.len() as u64, 8892));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_as_nothing_that_cannot_be(
            bytes in proptest::collection::vec(any::<u8>(), 0..4000), is_ledger: bool
        ) {
            let _ = read_any(&bytes, u64::MAX);
            let run = run(if is_ledger { Kind::Ledger } else { Kind::Journal });
            // Small numbers, so that some entries are possible ones.
            let small: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| if at % 8 < 2 { byte % 5 } else { 0 }).collect();
            for entries in [&bytes, &small] {
                let (found, extents) = read_any(&framed(&run, entries, 1 << 40).unwrap(), 1 << 40).unwrap();
                prop_assert_eq!(&found, &run);
                prop_assert!(extents.iter().all(|extent| extent.length > 0 && extent.end() <= run.capacity_bytes));
            }
        }
    }
}
