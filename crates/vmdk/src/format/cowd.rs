//! The header of ESXi's redo logs, `COWD` (VDF "ESXi Host Sparse Extents"): `*-delta.vmdk`. Pure.

use super::grain_map::{Coding, GrainMap, Shape};
use super::{FormatError, SECTOR_BYTES, capacity_to_bytes, le_u32};

/// The first four bytes of such a file.
pub const MAGIC: &[u8; 4] = b"COWD";
/// The size of the header, in bytes.
pub const HEADER_BYTES: usize = 2048;
/// VDF: every grain table has this many entries.
const TABLE_ENTRIES: u64 = 4096;

/// A header, checked against the file's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CowdHeader {
    /// How grains are found.
    pub map: GrainMap,
    /// The redo log was not closed by the host that wrote it.
    pub is_unclean: bool,
}

impl CowdHeader {
    /// Reads the first [`HEADER_BYTES`] of a file of `file_bytes`.
    ///
    /// # Errors
    /// When it is no such header or its numbers contradict each other or the file.
    pub fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, FormatError> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return Err(FormatError::malformed(0, "there is no COWD header"));
        }
        let version = le_u32(bytes, 4);
        if version != 1 {
            return Err(FormatError::unsupported(format!("version {version} of the COWD format is not known")));
        }
        let shape = Shape {
            capacity_bytes: capacity_to_bytes(u64::from(le_u32(bytes, 12)), 12)?,
            grain_sectors: u64::from(le_u32(bytes, 16)),
            entries_per_table: TABLE_ENTRIES,
            directory_at: u64::from(le_u32(bytes, 20)) * SECTOR_BYTES,
            directory_entries: Some(u64::from(le_u32(bytes, 24))),
            coding: Coding::Cowd,
        };
        Ok(Self { map: GrainMap::new(shape, file_bytes)?, is_unclean: le_u32(bytes, 1648) != 0 })
    }
}
