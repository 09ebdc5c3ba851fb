//! What the hub calls durable of the content a run writes: read from an export of its own, parsed strictly, bounded.
//!
//! It only says what need not be sent again; whether the replica is right is proven elsewhere.

use model::Extent;
use nbd::Lane;

use crate::error::MoverError;

/// What a ledger begins with.
pub const LEDGER_MAGIC: &[u8; 8] = b"MKLEDGR1";
/// Magic and count, in bytes.
const HEADER_BYTES: usize = 16;
/// Offset and length of one extent, in bytes.
const ENTRY_BYTES: usize = 16;
/// Most of a ledger that is read, in bytes: four million extents. What lies beyond is sent again.
const MAX_READ_BYTES: u64 = 64 * 1024 * 1024;

/// The export a generation of content is written to: the replica's own name and the generation.
#[must_use]
pub fn writing_name(export_name: &str, generation: &str) -> String {
    format!("{export_name}@{generation}")
}

/// The export that holds the ledger of a generation.
#[must_use]
pub fn ledger_name(export_name: &str, generation: &str) -> String {
    format!("{export_name}@{generation}.ledger")
}

/// Reads the ledger a lane was opened on, sorted and without overlaps. It waits for the hub: call it on a thread that may.
///
/// # Errors
/// The hub cannot be read from, or what it says is no ledger.
pub fn read(mut lane: Lane, export_name: &str) -> Result<Vec<Extent>, MoverError> {
    let length = lane.size_bytes().min(MAX_READ_BYTES);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    lane.read(0, &mut bytes).map_err(|source| MoverError::ReadTarget { offset: 0, source })?;
    let is_whole = length == lane.size_bytes();
    lane.close();
    parse(&bytes, is_whole).map_err(|reason| MoverError::Ledger { export: export_name.to_owned(), reason })
}

/// Parses a ledger, or its beginning.
fn parse(bytes: &[u8], is_whole: bool) -> Result<Vec<Extent>, &'static str> {
    let (header, entries) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is shorter than its header")?;
    let (magic, count) = header.split_at(LEDGER_MAGIC.len());
    if magic != LEDGER_MAGIC {
        return Err("it does not begin as a ledger does");
    }
    let count = usize::try_from(number(count)).unwrap_or(usize::MAX);
    if is_whole && entries.len() / ENTRY_BYTES < count {
        return Err("it has fewer extents than it says");
    }
    let (mut extents, mut end) = (Vec::new(), 0);
    for entry in entries.chunks_exact(ENTRY_BYTES).take(count) {
        let (offset, length) = entry.split_at(ENTRY_BYTES / 2);
        let extent = Extent::new(number(offset), number(length));
        if extent.length == 0 || extent.offset.checked_add(extent.length).is_none() {
            return Err("an extent is empty or has no end");
        }
        if extent.offset < end {
            return Err("its extents are not in order");
        }
        end = extent.end();
        extents.push(extent);
    }
    Ok(extents)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ledger(count: u64, extents: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = LEDGER_MAGIC.to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(extents.iter().flat_map(|(offset, length)| [offset.to_le_bytes(), length.to_le_bytes()].concat()));
        bytes
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written() {
        let extents = [(0, 65_536), (65_536, 10), (1 << 40, 4096)];
        let read = parse(&ledger(3, &extents), true).unwrap();
        assert_eq!(read, extents.map(|(offset, length)| Extent::new(offset, length)));
        assert_eq!(parse(&ledger(0, &[]), true).unwrap(), []);
        // Of a ledger that is longer than what is read, what is there counts.
        assert_eq!(parse(&ledger(1 << 60, &extents), false).unwrap().len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut other = ledger(0, &[]);
        other[7] = b'2';
        let wrong = [
            Vec::new(),
            LEDGER_MAGIC.to_vec(),
            other,
            ledger(2, &[(0, 1)]),
            ledger(u64::MAX, &[(0, 1)]),
            ledger(2, &[(0, 10), (9, 10)]),
            ledger(2, &[(20, 10), (0, 10)]),
            ledger(1, &[(0, 0)]),
            ledger(1, &[(u64::MAX, 2)]),
        ];
        for bytes in wrong {
            assert!(parse(&bytes, true).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_hub_says_is_an_error_or_sorted_extents(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (to, from) in bytes.iter_mut().zip(LEDGER_MAGIC) {
                *to = *from;
            }
            if let Ok(extents) = parse(&bytes, true) {
                prop_assert!(extents.windows(2).all(|pair| pair[0].end() <= pair[1].offset));
            }
        }
    }
}
