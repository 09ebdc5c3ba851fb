//! The headers of space-efficient redo logs (`*-sesparse.vmdk`, VMFS6). VMware has published no document: whatever is
//! not exactly as known is refused. Pure.

use super::grain_map::{Coding, GrainMap, Shape};
use super::{FormatError, SECTOR_BYTES, capacity_to_bytes, le_u64, sectors_to_bytes};

/// The first eight bytes of such a file: `0xcafebabe` as a 64-bit number.
pub const MAGIC: &[u8; 8] = &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];
/// The size of each of the two headers, in bytes.
pub const HEADER_BYTES: usize = 512;

const VERSION: u64 = 0x0000_0002_0000_0001;
const VOLATILE_MAGIC: u64 = 0xcafe_cafe;
/// 4 KiB.
const GRAIN_SECTORS: u64 = 8;
/// 32 KiB, that is 4096 entries.
const TABLE_SECTORS: u64 = 64;
/// From here to its end the constant header is zero.
const CONST_PADDING_AT: usize = 208;
const VOLATILE_PADDING_AT: usize = 32;

/// The constant header, checked against the file's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeSparseHeader {
    /// How grains are found.
    pub map: GrainMap,
    /// Where the volatile header is, in bytes.
    pub volatile_header_at: u64,
}

impl SeSparseHeader {
    /// Reads the first 512 bytes of a file of `file_bytes`.
    ///
    /// # Errors
    /// When it is no such header, of another version, or its numbers contradict each other or the file.
    pub fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, FormatError> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(FormatError::malformed(0, "there is no seSparse header"));
        }
        for (at, expected, what) in [
            (8, VERSION, "version"),
            (24, GRAIN_SECTORS, "grain size"),
            (32, TABLE_SECTORS, "grain table size"),
            (40, 0, "flags"),
            (48, 0, "reserved field"),
            (56, 0, "reserved field"),
            (64, 0, "reserved field"),
            (72, 0, "reserved field"),
        ] {
            let found = le_u64(bytes, at);
            if found != expected {
                return Err(FormatError::unsupported(format!("the seSparse {what} {found:#x} is not known")));
            }
        }
        if bytes.iter().take(HEADER_BYTES).skip(CONST_PADDING_AT).any(|byte| *byte != 0) {
            return Err(FormatError::unsupported("the seSparse header has fields that are not known"));
        }
        let area = |at: usize, what: &str| sectors_to_bytes(le_u64(bytes, at), at as u64, what);
        let tables_at = area(144, "the offset of the grain tables")?;
        let tables_bytes = area(152, "the room of the grain tables")?;
        let shape = Shape {
            capacity_bytes: capacity_to_bytes(le_u64(bytes, 16), 16)?,
            grain_sectors: GRAIN_SECTORS,
            entries_per_table: TABLE_SECTORS * SECTOR_BYTES / 8,
            directory_at: area(128, "the offset of the grain directory")?,
            directory_entries: Some(area(136, "the grain directory")? / 8),
            coding: Coding::SeSparse {
                tables_at,
                table_count: tables_bytes / (TABLE_SECTORS * SECTOR_BYTES),
                grains_at: area(192, "the offset of the grains")?,
            },
        };
        let volatile_header_at = area(80, "the offset of the volatile header")?;
        Ok(Self { map: GrainMap::new(shape, file_bytes)?, volatile_header_at })
    }
}

/// Whether the journal holds changes that are not yet in the tables, from the 512 bytes of the volatile header at `at`.
///
/// # Errors
/// When it is no such header.
pub fn has_journal_to_replay(bytes: &[u8], at: u64) -> Result<bool, FormatError> {
    if bytes.len() < HEADER_BYTES || le_u64(bytes, 0) != VOLATILE_MAGIC {
        return Err(FormatError::malformed(at, "there is no volatile seSparse header"));
    }
    if bytes.iter().take(HEADER_BYTES).skip(VOLATILE_PADDING_AT).any(|byte| *byte != 0) {
        return Err(FormatError::unsupported("the volatile seSparse header has fields that are not known"));
    }
    Ok(le_u64(bytes, 24) != 0)
}
