//! What can go wrong with journals and ledgers, of what kind it is, and what helps.

use std::io;
use std::path::{Path, PathBuf};

use block::BlockError;
use model::{Extent, FailureKind};

/// What helps when a journal is damaged.
const DAMAGED_REMEDY: &str = "discard the recovery points of this disk, then replicate it comparing everything";

/// An error of a journal or a ledger.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read`, `make`, …
        doing: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that is not what was written.
    #[error("the journal {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A journal of another disk, job or kind than the one it is named after.
    #[error("the journal {} is another one: {reason}", path.display())]
    Other {
        /// Which file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A name or an id that cannot be part of a path, or does not fit into the header.
    #[error("{name:?} cannot name a journal")]
    Name {
        /// The name.
        name: String,
    },
}

impl JournalError {
    /// For `map_err`: the system refused to do this to this file.
    pub(crate) fn file<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// The kind that decides on status codes, exit codes and retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::File { source, .. } if is_full(source) => FailureKind::Exhausted,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
            Self::File { .. } | Self::Damaged { .. } | Self::Other { .. } => FailureKind::Internal,
            Self::Name { .. } => FailureKind::Invalid,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("check the hub's state folder, its permissions and the room on its file system"),
            Self::Damaged { .. } | Self::Other { .. } => Some(DAMAGED_REMEDY),
            Self::Name { .. } => None,
        }
    }

    /// The same as an error of the device whose bytes could not be had.
    pub(crate) fn of_read(self, extent: Extent) -> BlockError {
        let (kind, remedy) = (self.kind(), self.remedy());
        let Extent { offset, length } = extent;
        BlockError::Image { offset, length, kind, remedy, source: Box::new(self) }
    }
}

/// Whether a file could not grow: no room, a quota, or a limit on its size.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
