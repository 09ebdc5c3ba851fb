//! What can go wrong with a device, and what kind of failure that is.

use std::io;
use std::path::PathBuf;

use model::FailureKind;

/// An error of a device. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The file or device could not be opened or made.
    #[error("cannot open {}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The path names something that has no fixed bytes (a folder, a pipe).
    #[error("{} is neither a regular file nor a block device", path.display())]
    NotADevice {
        /// What was to be opened.
        path: PathBuf,
    },
    /// An access reaches past the end.
    #[error("{length} bytes at {offset} are not inside the device's {size_bytes} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// The device's size.
        size_bytes: u64,
    },
    /// A change was asked of a device that was opened for reading.
    #[error("the device is read-only")]
    ReadOnly,
    /// The medium has no room left.
    #[error("no room left while writing {length} bytes at {offset}")]
    Full {
        /// First byte of the write.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// The hub's own storage, where journals lie, has no room left.
    #[error("no room left on the hub's storage for the journal while writing {length} bytes at {offset}")]
    JournalFull {
        /// First byte of the write.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// An earlier flush failed, so nothing is sure of what was written since.
    #[error("an earlier flush failed: what is durable is not known any more")]
    Poisoned,
    /// The medium could not be read.
    #[error("cannot read {length} bytes at {offset}")]
    Read {
        /// First byte of the read.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The medium could not be written (or zeroed, or trimmed).
    #[error("cannot write {length} bytes at {offset}")]
    Write {
        /// First byte of the write.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was written may not be durable.
    #[error("cannot make the written data durable")]
    Flush {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The medium could not say where its data is.
    #[error("cannot find the data and holes from {offset} on")]
    Map {
        /// Where the search began.
        offset: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The image that holds the device's content is damaged, or a file of it cannot be read.
    #[error("cannot make out {length} bytes at {offset} of the disk from its image")]
    Image {
        /// First byte of the disk that was needed.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// What kind of failure it is.
        kind: FailureKind,
        /// What an operator can do about it.
        remedy: Option<&'static str>,
        /// What is wrong, where in which file.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Leaf digests were given in an impossible order or beyond the end.
    #[error("leaves {first_leaf}..{end_leaf} do not fit after leaf {next_leaf} of {leaf_count}")]
    LeafOrder {
        /// First leaf given.
        first_leaf: u64,
        /// First leaf after those given.
        end_leaf: u64,
        /// The smallest leaf that could have come.
        next_leaf: u64,
        /// Leaves there are.
        leaf_count: u64,
    },
}

impl BlockError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FailureKind::NotFound,
                io::ErrorKind::PermissionDenied => FailureKind::Forbidden,
                io::ErrorKind::AlreadyExists => FailureKind::Conflict,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::Exhausted,
                _ => FailureKind::Internal,
            },
            Self::NotADevice { .. } | Self::OutOfRange { .. } | Self::LeafOrder { .. } => FailureKind::Invalid,
            Self::ReadOnly => FailureKind::Forbidden,
            Self::Full { .. } | Self::JournalFull { .. } => FailureKind::Exhausted,
            Self::Image { kind, .. } => *kind,
            Self::Read { .. } | Self::Write { .. } | Self::Flush { .. } | Self::Map { .. } | Self::Poisoned => {
                FailureKind::Internal
            }
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("Check the path; a device that was just attached may need a moment to appear.")
            }
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("Run as a user that may open it (root, or a member of the disk group).")
            }
            Self::Image { remedy, .. } => *remedy,
            Self::Full { .. } => Some("Make room on the storage that holds this device, then repeat."),
            Self::JournalFull { .. } => {
                Some("Make room on the hub's storage that holds its state folder (journals/), then repeat.")
            }
            Self::Read { .. } | Self::Write { .. } | Self::Flush { .. } | Self::Poisoned => {
                Some("Look at the kernel log of this machine for errors of the device.")
            }
            _ => None,
        }
    }

    /// The error of a failed write: a full medium is told apart from a broken one.
    pub(crate) fn of_write(offset: u64, length: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { offset, length },
            _ => Self::Write { offset, length, source },
        }
    }
}
