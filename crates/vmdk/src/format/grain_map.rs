//! How the grains of a sparse extent are found: a directory of tables of grains, in three codings. Pure.

use super::{FormatError, SECTOR_BYTES};

/// Larger grains are damage: 1 GiB in one piece would make sparseness pointless (64 KiB is what is written).
pub const MAX_GRAIN_BYTES: u64 = 1 << 30;
/// Packed grains have to be unpacked whole, in memory; nothing writes larger ones than 64 KiB.
pub const MAX_PACKED_GRAIN_BYTES: u64 = 4 << 20;
/// The longest tables there are (`COWD`, seSparse).
pub const MAX_TABLE_ENTRIES: u64 = 4096;

/// What the numbers in directories and tables mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `KDMV`, VDF "Hosted Sparse Extents": 32-bit sectors of the file.
    Hosted {
        /// An entry of 1 is a grain of zeroes (flag bit 2).
        zero_grains: bool,
        /// Grains are deflated and have a marker (VDF "Stream-Optimized Compressed Sparse Extents").
        packed: bool,
    },
    /// `COWD`, VDF "ESXi Host Sparse Extents": 32-bit sectors of the file.
    Cowd,
    /// seSparse: 64-bit entries with a type in the top bits, counted from two areas of the file.
    SeSparse {
        /// Where the tables begin, in bytes.
        tables_at: u64,
        /// How many tables there is room for.
        table_count: u64,
        /// Where the grains begin, in bytes.
        grains_at: u64,
    },
}

/// Where a grain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Not in this extent: the parent has it, or it reads as zeroes.
    Missing,
    /// Zeroes, whatever the parent has.
    Zero,
    /// At this byte of the file (its marker, when packed).
    At(u64),
}

/// The shape of a sparse extent's directory and tables. Made only by the headers' parsers, which check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrainMap {
    capacity_bytes: u64,
    grain_bytes: u64,
    entries_per_table: u64,
    directory_at: u64,
    directory_entries: u64,
    coding: Coding,
}

/// Numbers of a header, not yet checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub capacity_bytes: u64,
    pub grain_sectors: u64,
    pub entries_per_table: u64,
    pub directory_at: u64,
    /// As the header says; `None` when it follows from the capacity.
    pub directory_entries: Option<u64>,
    pub coding: Coding,
}

impl GrainMap {
    /// Checks that the numbers fit each other and that the directory is inside a file of `file_bytes`.
    pub(crate) fn new(shape: Shape, file_bytes: u64) -> Result<Self, FormatError> {
        let grain_bytes = shape.grain_sectors.saturating_mul(SECTOR_BYTES);
        let packed = matches!(shape.coding, Coding::Hosted { packed: true, .. });
        let limit = if packed { MAX_PACKED_GRAIN_BYTES } else { MAX_GRAIN_BYTES };
        if !shape.grain_sectors.is_power_of_two() || grain_bytes > limit {
            let reason = format!("a grain of {} sectors is no power of two up to {limit} bytes", shape.grain_sectors);
            return Err(FormatError::malformed(0, reason));
        }
        if !(1..=MAX_TABLE_ENTRIES).contains(&shape.entries_per_table) {
            let reason = format!("{} entries per grain table are not 1 to 4096", shape.entries_per_table);
            return Err(FormatError::malformed(0, reason));
        }
        // Neither overflows: 2^30 * 2^12.
        let needed_entries = shape.capacity_bytes.div_ceil(grain_bytes * shape.entries_per_table);
        let directory_entries = shape.directory_entries.unwrap_or(needed_entries);
        if directory_entries < needed_entries {
            let reason = format!("a directory of {directory_entries} tables is too small, {needed_entries} are needed");
            return Err(FormatError::malformed(0, reason));
        }
        let map = Self {
            capacity_bytes: shape.capacity_bytes,
            grain_bytes,
            entries_per_table: shape.entries_per_table,
            directory_at: shape.directory_at,
            directory_entries: needed_entries,
            coding: shape.coding,
        };
        let end = needed_entries.checked_mul(map.entry_bytes()).and_then(|bytes| bytes.checked_add(map.directory_at));
        if map.directory_at < SECTOR_BYTES || end.is_none_or(|end| end > file_bytes) {
            let reason =
                format!("the grain directory of {needed_entries} tables is not inside the file of {file_bytes} bytes");
            return Err(FormatError::malformed(map.directory_at, reason));
        }
        Ok(map)
    }

    /// The extent's size by its own header, in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The size of a grain, in bytes; a power of two. The last one of the extent may be cut short.
    #[must_use]
    pub fn grain_bytes(&self) -> u64 {
        self.grain_bytes
    }

    /// How many bytes of the extent one table is for.
    #[must_use]
    pub fn table_coverage_bytes(&self) -> u64 {
        self.grain_bytes * self.entries_per_table
    }

    /// How many grains a table has.
    #[must_use]
    pub fn entries_per_table(&self) -> u64 {
        self.entries_per_table
    }

    /// How many tables the directory names.
    #[must_use]
    pub fn directory_entries(&self) -> u64 {
        self.directory_entries
    }

    /// Where the directory is in the file, in bytes.
    #[must_use]
    pub fn directory_at(&self) -> u64 {
        self.directory_at
    }

    /// The size of one entry of a directory or a table, in bytes.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        if matches!(self.coding, Coding::SeSparse { .. }) { 8 } else { 4 }
    }

    /// Whether grains are deflated.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        matches!(self.coding, Coding::Hosted { packed: true, .. })
    }

    /// The entry at `index` of a directory's or a table's bytes.
    #[must_use]
    pub fn entry(&self, bytes: &[u8], index: usize) -> u64 {
        match self.coding {
            Coding::SeSparse { .. } => super::le_u64(bytes, index.saturating_mul(8)),
            _ => u64::from(super::le_u32(bytes, index.saturating_mul(4))),
        }
    }

    /// Where the table of a directory's entry is, in bytes of the file; `None` when none of its grains is here.
    ///
    /// # Errors
    /// What is wrong with the entry.
    pub fn table_of(&self, entry: u64) -> Result<Option<u64>, String> {
        if entry == 0 {
            return Ok(None);
        }
        match self.coding {
            // VDF: a sector of the file. 1 could be no table, as the header is followed by a descriptor or a directory.
            Coding::Hosted { zero_grains: true, .. } if entry == 1 => {
                Err("the directory entry 1 names no grain table".into())
            }
            Coding::Hosted { .. } | Coding::Cowd => Ok(Some(entry * SECTOR_BYTES)),
            Coding::SeSparse { tables_at, table_count, .. } => {
                let index = entry & 0xffff_ffff;
                if entry >> 32 != 0x1000_0000 {
                    return Err(format!("the directory entry {entry:#018x} is of an unknown kind"));
                }
                if index >= table_count {
                    return Err(format!("the directory names grain table {index} of {table_count}"));
                }
                let at = tables_at.checked_add(index * self.entries_per_table * 8);
                at.map(Some).ok_or_else(|| format!("grain table {index} is at an impossible place"))
            }
        }
    }

    /// Where the grain of a table's entry is.
    ///
    /// # Errors
    /// What is wrong with the entry.
    pub fn slot_of(&self, entry: u64) -> Result<Slot, String> {
        match self.coding {
            Coding::Hosted { .. } | Coding::Cowd if entry == 0 => Ok(Slot::Missing),
            // VDF "Grain Table Entries": the zeroed-grain entry, valid only with its flag.
            Coding::Hosted { zero_grains, .. } if entry == 1 => {
                if zero_grains {
                    Ok(Slot::Zero)
                } else {
                    Err("a grain is said to be at the file's sector 1".into())
                }
            }
            Coding::Cowd if entry < 4 => Err(format!("a grain is said to be in the header, at sector {entry}")),
            Coding::Hosted { .. } | Coding::Cowd => Ok(Slot::At(entry * SECTOR_BYTES)),
            Coding::SeSparse { grains_at, .. } => match entry >> 60 {
                0 if entry == 0 => Ok(Slot::Missing),
                1 | 2 => Ok(Slot::Zero),
                3 => {
                    let grain = ((entry & 0x0fff_0000_0000_0000) >> 48) | ((entry & 0x0000_ffff_ffff_ffff) << 12);
                    grain
                        .checked_mul(self.grain_bytes)
                        .and_then(|bytes| bytes.checked_add(grains_at))
                        .map(Slot::At)
                        .ok_or_else(|| format!("the grain number {grain} is impossible"))
                }
                _ => Err(format!("the table entry {entry:#018x} is of an unknown kind")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
