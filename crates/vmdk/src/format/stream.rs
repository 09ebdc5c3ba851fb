//! Markers and the footer of stream-optimized extents (VDF "Stream-Optimized Compressed Sparse Extents"). Pure.

use super::hosted::HostedHeader;
use super::{FormatError, SECTOR_BYTES, le_u32, le_u64};

/// Footer marker, footer and end-of-stream marker: the last three sectors of the file.
pub const TAIL_BYTES: u64 = 3 * SECTOR_BYTES;
/// Before the data of a grain: 8 bytes of sector number, 4 bytes of length.
pub const GRAIN_MARKER_BYTES: u64 = 12;

const MARKER_END_OF_STREAM: u32 = 0;
const MARKER_FOOTER: u32 = 3;

/// What stands before a grain's deflated bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrainMarker {
    /// The grain's first sector within the extent.
    pub lba_sectors: u64,
    /// The number of deflated bytes that follow.
    pub packed_bytes: u32,
}

impl GrainMarker {
    /// Reads a marker from (at least) 12 bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self { lba_sectors: le_u64(bytes, 0), packed_bytes: le_u32(bytes, 8) }
    }
}

/// Reads the footer from the last [`TAIL_BYTES`] of a file, which begin at `tail_at`.
///
/// # Errors
/// When the markers around it are not there: the file is not whole, or something was appended.
pub fn parse_footer(tail: &[u8], tail_at: u64) -> Result<HostedHeader, FormatError> {
    let (Some(marker), Some(footer), Some(end)) = (tail.get(..512), tail.get(512..1024), tail.get(1024..1536)) else {
        return Err(FormatError::malformed(tail_at, "the file is too short for a footer"));
    };
    if le_u32(end, 8) != 0 || le_u32(end, 12) != MARKER_END_OF_STREAM || le_u64(end, 0) != 0 {
        return Err(FormatError::malformed(
            tail_at + 1024,
            "the end-of-stream marker is missing: the file is not whole",
        ));
    }
    if le_u32(marker, 8) != 0 || le_u32(marker, 12) != MARKER_FOOTER {
        return Err(FormatError::malformed(tail_at, "the footer marker is missing: the file is not whole"));
    }
    let header = HostedHeader::parse(footer)
        .map_err(|source| FormatError::malformed(tail_at + 512, format!("the footer is no header: {source}")))?;
    if header.is_continued_in_footer() {
        return Err(FormatError::malformed(tail_at + 512, "the footer does not say where the grain directory is"));
    }
    Ok(header)
}
