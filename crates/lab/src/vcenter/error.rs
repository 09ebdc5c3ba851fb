//! What can go wrong in the laboratory itself, as opposed to the faults it answers with.

use std::io;
use std::path::PathBuf;

use model::FailureKind;

/// A failure of the simulated vCenter, of a guest or of building a disk image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcenterError {
    /// A file could not be made, read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A disk could not be read or written.
    #[error("cannot {doing} a disk of the simulated vCenter")]
    Disk {
        /// What was being done, as a verb.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A port could not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address asked for.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys or certificates could not be made.
    #[error("cannot make the certificates of the simulated vCenter")]
    Certificate(#[source] rcgen::Error),
    /// The TLS configuration was refused.
    #[error("cannot set up TLS for the simulated vCenter")]
    Tls(#[source] rustls::Error),
    /// The configuration contradicts itself.
    #[error("the configuration of the simulated vCenter is wrong: {0}")]
    Config(String),
    /// No such VM, disk or VM snapshot.
    #[error("the simulated vCenter has no {what} {name}")]
    Unknown {
        /// Kind of thing.
        what: &'static str,
        /// Name asked for.
        name: String,
    },
    /// A guest that does not run cannot write.
    #[error("the guest of {0} does not run")]
    GuestOff(String),
    /// A range outside the disk, or more distinct blocks than it holds.
    #[error("the request does not fit the disk: {0}")]
    OutOfRange(String),
    /// A program needed to build disk images is not installed.
    #[error("{program} not found: apt-get install {package}")]
    MissingProgram {
        /// Program name.
        program: &'static str,
        /// Debian package that brings it.
        package: &'static str,
    },
    /// A program ran and failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// Program name.
        program: &'static str,
        /// What it wrote to standard error.
        detail: String,
    },
}

impl VcenterError {
    /// The class of failure, which decides the HTTP status of the laboratory endpoint.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unknown { .. } => FailureKind::NotFound,
            Self::Config(_) | Self::OutOfRange(_) => FailureKind::Invalid,
            Self::GuestOff(_) => FailureKind::Conflict,
            Self::MissingProgram { .. } => FailureKind::Unavailable,
            _ => FailureKind::Internal,
        }
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err` on disk input and output.
    pub(crate) fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { doing, source }
    }
}
