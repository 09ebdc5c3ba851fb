//! The header of hosted sparse extents, `KDMV`: monolithic, split, and stream-optimized (VDF "Hosted Sparse Extents",
//! "Stream-Optimized Compressed Sparse Extents"). Pure.

use super::grain_map::{Coding, GrainMap, Shape};
use super::{FormatError, capacity_to_bytes, le_u16, le_u32, le_u64, sectors_to_bytes};

/// The first four bytes of such a file.
pub const MAGIC: &[u8; 4] = b"KDMV";
/// In place of the directory's sector: the footer has it.
const DIRECTORY_AT_END: u64 = u64::MAX;
/// VDF: a grain table has 512 entries. Smaller ones would do no harm, larger ones are damage.
const MAX_TABLE_ENTRIES: u32 = 512;
/// VDF: `\n`, one that is no line end, `\r\n`. A transfer in text mode changes them.
const LINE_END_CHECK: [u8; 4] = *b"\n \r\n";

const FLAG_LINE_END_CHECK: u32 = 1;
const FLAG_REDUNDANT: u32 = 1 << 1;
const FLAG_ZERO_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
/// Flags that change how grains are read are in the upper half; unknown ones of the lower half do no harm to readers.
const UNKNOWN_INCOMPATIBLE: u32 = 0xffff_0000 & !(FLAG_COMPRESSED | FLAG_MARKERS);
const COMPRESSION_DEFLATE: u16 = 1;

/// A header, or the copy of it in a footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostedHeader {
    /// The format's version, 1 to 3. Version 3 is like 1 for readers (VMware KB 2064959).
    pub version: u32,
    /// Size of the extent, in sectors; 0 when the file holds only a descriptor.
    pub capacity_sectors: u64,
    /// Where the embedded descriptor is, in bytes; `None` when there is none.
    pub descriptor_at: Option<u64>,
    /// The room of the embedded descriptor, in bytes.
    pub descriptor_bytes: u64,
    /// The extent was not closed by whoever wrote it last.
    pub is_unclean: bool,
    /// Where the second directory is, in bytes, when the header says that there is one.
    pub redundant_directory_at: Option<u64>,
    flags: u32,
    grain_sectors: u64,
    entries_per_table: u32,
    directory_sector: u64,
    compression: u16,
}

impl HostedHeader {
    /// Reads a header from the first 512 bytes of a file, or of a footer.
    ///
    /// # Errors
    /// When it is no such header, was changed by a transfer in text mode, or is of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < 512 || !bytes.starts_with(MAGIC) {
            return Err(FormatError::malformed(0, "there is no sparse header"));
        }
        let version = le_u32(bytes, 4);
        if !(1..=3).contains(&version) {
            return Err(FormatError::unsupported(format!("version {version} of the sparse format is not known")));
        }
        let flags = le_u32(bytes, 8);
        if flags & FLAG_LINE_END_CHECK != 0 && bytes.get(73..77) != Some(&LINE_END_CHECK) {
            return Err(FormatError::malformed(73, "the line ends were changed by a transfer in text mode"));
        }
        if flags & UNKNOWN_INCOMPATIBLE != 0 {
            return Err(FormatError::unsupported(format!("the flags {flags:#x} are not known")));
        }
        let descriptor_sector = le_u64(bytes, 28);
        let descriptor_at = sectors_to_bytes(descriptor_sector, 28, "a descriptor offset")?;
        let redundant_sector = le_u64(bytes, 48);
        Ok(Self {
            version,
            capacity_sectors: le_u64(bytes, 12),
            descriptor_at: (descriptor_at > 0).then_some(descriptor_at),
            descriptor_bytes: sectors_to_bytes(le_u64(bytes, 36), 36, "a descriptor")?,
            is_unclean: bytes.get(72).is_some_and(|byte| *byte != 0),
            redundant_directory_at: (flags & FLAG_REDUNDANT != 0).then_some(redundant_sector.saturating_mul(512)),
            flags,
            grain_sectors: le_u64(bytes, 20),
            entries_per_table: le_u32(bytes, 44),
            directory_sector: le_u64(bytes, 56),
            compression: le_u16(bytes, 77),
        })
    }

    /// Whether the real directory is named by the footer at the file's end.
    #[must_use]
    pub fn is_continued_in_footer(&self) -> bool {
        self.directory_sector == DIRECTORY_AT_END
    }

    /// Whether its grains are deflated.
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.flags & FLAG_COMPRESSED != 0 || self.compression != 0
    }

    /// How grains are found in a file of `file_bytes`.
    ///
    /// # Errors
    /// When the numbers contradict each other or the file, or the compression is not known.
    pub fn grain_map(&self, file_bytes: u64) -> Result<GrainMap, FormatError> {
        let packed = self.is_packed();
        if packed && (self.compression != COMPRESSION_DEFLATE || self.flags & FLAG_MARKERS == 0) {
            let what = format!("compression {} with flags {:#x} is not known", self.compression, self.flags);
            return Err(FormatError::unsupported(what));
        }
        if self.entries_per_table > MAX_TABLE_ENTRIES {
            let reason = format!("{} entries per grain table are not 1 to 512", self.entries_per_table);
            return Err(FormatError::malformed(44, reason));
        }
        let shape = Shape {
            capacity_bytes: capacity_to_bytes(self.capacity_sectors, 12)?,
            grain_sectors: self.grain_sectors,
            entries_per_table: u64::from(self.entries_per_table),
            directory_at: sectors_to_bytes(self.directory_sector, 56, "a directory offset")?,
            directory_entries: None,
            coding: Coding::Hosted { zero_grains: self.flags & FLAG_ZERO_GRAINS != 0, packed },
        };
        GrainMap::new(shape, file_bytes)
    }

    /// Whether footer and header tell of the same extent: what must be equal is.
    #[must_use]
    pub fn agrees_with(&self, footer: &Self) -> bool {
        let fixed = |header: &Self| {
            (header.capacity_sectors, header.grain_sectors, header.entries_per_table, header.compression)
        };
        fixed(self) == fixed(footer)
    }
}
