//! What can go wrong with digest files and certificates, of what kind it is, and what helps.

use std::io;
use std::path::{Path, PathBuf};

use block::BlockError;
use model::FailureKind;

/// An error of a digest file, a key or a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A digest file that is not one, or not whole.
    #[error("the digest file {} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A digest file of another disk than the one it is named after.
    #[error("the digest file {} is not of this disk: {reason}", path.display())]
    OtherDisk {
        /// Which file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Digests that no disk of that size can have.
    #[error("the digests to be staged are wrong: {reason}")]
    Digests {
        /// What is wrong with them.
        reason: String,
    },
    /// The digests could not be put together to a root.
    #[error("cannot compute the root of {}", path.display())]
    Root {
        /// Of which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BlockError,
    },
    /// An id that cannot be part of a file's name.
    #[error("{id:?} cannot name a digest file")]
    Name {
        /// The id.
        id: String,
    },
    /// The file of the signing key holds none.
    #[error("{} does not hold the key for certificates", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The system gave no random bytes, or refused to sign.
    #[error("{doing} failed")]
    Crypto {
        /// `making the key`, `signing`.
        doing: &'static str,
    },
    /// Not a certificate as they are written.
    #[error("{name} is not a certificate of equality: {reason}")]
    Malformed {
        /// File or id.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The signature is not that of the key over these bytes.
    #[error("the signature of {name} is wrong: the document was changed, or another key signed it")]
    Signature {
        /// File or id.
        name: String,
    },
    /// Signed by another key than the one that is trusted.
    #[error("{name} is signed by {found}, not by {expected}")]
    OtherKey {
        /// File or id.
        name: String,
        /// The key of the certificate.
        found: String,
        /// The one that was asked for.
        expected: String,
    },
    /// Certificates that do not follow one another.
    #[error("{name} does not follow {before}: {reason}")]
    Chain {
        /// The later one.
        name: String,
        /// The one given before it.
        before: String,
        /// What does not fit.
        reason: String,
    },
}

impl ProofError {
    /// For `map_err`: the system refused to do this to this file.
    pub(crate) fn file<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// The kind that decides on status codes, exit codes and retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => FailureKind::Exhausted,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
            Self::File { .. }
            | Self::Damaged { .. }
            | Self::OtherDisk { .. }
            | Self::Digests { .. }
            | Self::Root { .. }
            | Self::Name { .. }
            | Self::NoKey { .. }
            | Self::Crypto { .. } => FailureKind::Internal,
            Self::Malformed { .. } | Self::Signature { .. } | Self::OtherKey { .. } | Self::Chain { .. } => {
                FailureKind::Invalid
            }
        }
    }

    /// Whether the digests of a disk are lost, so that everything has to be compared again.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::OtherDisk { .. } | Self::Root { .. })
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("check the path, its permissions and the room left on its file system"),
            Self::Damaged { .. } | Self::OtherDisk { .. } | Self::Root { .. } => {
                Some("replicate again: everything is read and compared, which makes the digests anew")
            }
            Self::NoKey { .. } => Some(
                "put certificate.key back from its backup; without it new certificates are signed by a new key, which \
                 must be made known to whoever verifies them",
            ),
            Self::Malformed { .. } => {
                Some("fetch it again: migratekit certificate get ID --output-file FILE, and keep the file as it is")
            }
            Self::Signature { .. } => {
                Some("do not rely on it; fetch it again from the hub: migratekit certificate get ID --output-file FILE")
            }
            Self::OtherKey { .. } => {
                Some("give the key of the hub that issued it, or find out who signed it before you rely on it")
            }
            Self::Chain { .. } => Some("give the certificates of one disk, oldest first, none left out"),
            Self::Digests { .. } | Self::Name { .. } | Self::Crypto { .. } => None,
        }
    }
}
