//! The pure part: bytes in, structures out. No file is opened here and no number of a file is trusted.
//!
//! The rules come from VMware's "Virtual Disk Format 5.0" technical note (called *VDF* here, with its section names);
//! seSparse is not in it, and only its published layout is known.

pub mod cowd;
pub mod descriptor;
pub mod grain_map;
pub mod hosted;
pub mod ovf;
pub mod sesparse;
pub mod stream;
pub mod tar;

use model::size::GIB_BYTES;

/// Bytes of a sector, the unit of nearly every number in these files.
pub const SECTOR_BYTES: u64 = 512;
/// The largest disk vSphere makes: 62 TiB. A larger number in a file is damage.
pub const MAX_CAPACITY_BYTES: u64 = 62 * 1024 * GIB_BYTES;

/// Why bytes are not the structure they should be. Offsets are bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A number or a text contradicts the format.
    #[error("{reason} (at byte {offset})")]
    Malformed {
        /// Where it stands.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a descriptor contradicts the format.
    #[error("line {line} of the descriptor: {reason}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It is well formed, but of a kind that cannot be read here.
    #[error("{what}")]
    Unsupported {
        /// What it is.
        what: String,
    },
}

impl FormatError {
    pub(crate) fn malformed(offset: u64, reason: impl Into<String>) -> Self {
        Self::Malformed { offset, reason: reason.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }
}

/// Sectors as bytes, if that many bytes can be.
pub(crate) fn sectors_to_bytes(sectors: u64, offset: u64, what: &str) -> Result<u64, FormatError> {
    sectors
        .checked_mul(SECTOR_BYTES)
        .ok_or_else(|| FormatError::malformed(offset, format!("{what} of {sectors} sectors is impossible")))
}

/// A capacity in sectors as bytes, if a disk can be that large.
pub(crate) fn capacity_to_bytes(sectors: u64, offset: u64) -> Result<u64, FormatError> {
    let bytes = sectors_to_bytes(sectors, offset, "a capacity")?;
    if bytes == 0 || bytes > MAX_CAPACITY_BYTES {
        return Err(FormatError::malformed(
            offset,
            format!("a capacity of {sectors} sectors is not between 1 sector and 62 TiB"),
        ));
    }
    Ok(bytes)
}

/// The little-endian number at `at`; bytes that are not there count as 0.
pub(crate) fn le_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// See [`le_u16`].
pub(crate) fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// See [`le_u16`].
pub(crate) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    for (target, source) in array.iter_mut().zip(bytes.iter().skip(at)) {
        *target = *source;
    }
    array
}
