//! What can go wrong while a disk is copied, and what the operator does about it.

use std::path::{Path, PathBuf};

use model::FailureKind;

/// What interrupts a copy without failing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The connection is lost, or the hub cannot be reached.
    Lost,
    /// The hub is there, and does not open the export at the moment.
    NotNow,
}

/// An error of the copy engine.
#[derive(Debug, thiserror::Error)]
pub enum MoverError {
    /// The frozen disk could not be opened.
    #[error("cannot open the source disk")]
    OpenSource {
        /// What the device said.
        #[source]
        source: block::BlockError,
    },
    /// The image that holds the source disk could not be opened.
    #[error("cannot open the image of the source disk")]
    OpenImage {
        /// What is wrong with it.
        #[source]
        source: vmdk::VmdkError,
    },
    /// A read of a local source failed.
    #[error("cannot read the source disk")]
    ReadSource {
        /// What the device said.
        #[source]
        source: block::BlockError,
    },
    /// A datastore read failed.
    #[error("cannot read the source disk from its datastore")]
    Datastore {
        /// What vSphere said.
        #[source]
        source: vsphere::VsphereError,
    },
    /// The source's NBD server failed.
    #[error("the NBD server of the source disk failed")]
    SourceNbd {
        /// What the client said.
        #[source]
        source: nbd::NbdError,
    },
    /// The command that serves the source as NBD failed.
    #[error("the command that serves the source disk as NBD {what}")]
    ServeCommand {
        /// What it did.
        what: String,
    },
    /// The source is not as large as the disk it should be.
    #[error("the source shows {found_bytes} bytes where the disk has {capacity_bytes}")]
    SourceSize {
        /// Size of the disk.
        capacity_bytes: u64,
        /// Size found.
        found_bytes: u64,
    },
    /// No connection to the export.
    #[error("there is no connection to export {export}")]
    NoConnection {
        /// The export.
        export: String,
    },
    /// Two connections to one export show different sizes.
    #[error("the connections to export {export} show different sizes")]
    SizesDiffer {
        /// The export.
        export: String,
    },
    /// The replica's volume is too small.
    #[error("export {export} has {size_bytes} bytes, the disk has {capacity_bytes}")]
    TargetTooSmall {
        /// The export.
        export: String,
        /// Size of the export.
        size_bytes: u64,
        /// Size of the disk.
        capacity_bytes: u64,
    },
    /// The replica may not be written.
    #[error("export {export} is read only")]
    TargetReadOnly {
        /// The export.
        export: String,
    },
    /// The hub could not be reached, or refused the export.
    #[error("cannot open export {export} on the hub")]
    OpenTarget {
        /// The export.
        export: String,
        /// What the client said.
        #[source]
        source: nbd::NbdError,
    },
    /// A read of the replica failed.
    #[error("cannot read the replica at byte {offset}")]
    ReadTarget {
        /// Where.
        offset: u64,
        /// What the client said.
        #[source]
        source: nbd::NbdError,
    },
    /// A write to the replica failed.
    #[error("cannot write the replica at byte {offset}")]
    WriteTarget {
        /// Where.
        offset: u64,
        /// What the client said.
        #[source]
        source: nbd::NbdError,
    },
    /// The replica could not be made durable.
    #[error("the hub could not make the replica durable")]
    Flush {
        /// What the client said.
        #[source]
        source: nbd::NbdError,
    },
    /// What the hub says is durable makes no sense.
    #[error("the ledger of export {export} cannot be used: {reason}")]
    Ledger {
        /// The export.
        export: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The digests could not be kept.
    #[error("cannot write the digests to {}", path.display())]
    Digests {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A worker of the copy ended without a result.
    #[error("a part of the copy ended unexpectedly")]
    Worker {
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
    /// A thread of the copy could not be started, or died.
    #[error("a thread of the copy failed")]
    Thread {
        /// How.
        #[source]
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("the copy was cancelled")]
    Cancelled,
}

impl MoverError {
    pub(crate) fn digests(path: &Path, source: std::io::Error) -> Self {
        Self::Digests { path: path.to_owned(), source }
    }

    /// The kind that decides on retries: a full replica is told from a lost link.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::OpenSource { source } | Self::ReadSource { source } => source.kind(),
            Self::OpenImage { source } => source.kind(),
            Self::Datastore { source } => source.kind(),
            Self::SourceNbd { source }
            | Self::OpenTarget { source, .. }
            | Self::ReadTarget { source, .. }
            | Self::WriteTarget { source, .. }
            | Self::Flush { source } => source.kind(),
            Self::NoConnection { .. } | Self::ServeCommand { .. } => FailureKind::Unavailable,
            Self::SourceSize { .. } | Self::TargetTooSmall { .. } | Self::SizesDiffer { .. } => FailureKind::Invalid,
            Self::TargetReadOnly { .. } | Self::Cancelled => FailureKind::Conflict,
            Self::Digests { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => FailureKind::Exhausted,
            Self::Ledger { .. } | Self::Digests { .. } | Self::Worker { .. } | Self::Thread { .. } => {
                FailureKind::Internal
            }
        }
    }

    /// Why the copy may go on where it is once the hub is back; `None` for everything that fails it.
    #[must_use]
    pub fn interruption(&self) -> Option<Interruption> {
        match self {
            Self::OpenTarget { source, .. }
            | Self::ReadTarget { source, .. }
            | Self::WriteTarget { source, .. }
            | Self::Flush { source } => match source {
                source if source.is_refusal_for_now() => Some(Interruption::NotNow),
                source if source.kind() == FailureKind::Unavailable => Some(Interruption::Lost),
                _ => None,
            },
            Self::NoConnection { .. } => Some(Interruption::Lost),
            _ => None,
        }
    }

    /// What the operator does, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::TargetTooSmall { .. } => {
                Some("grow the replica volume to at least the disk's size, or tear the replica down and replicate anew")
            }
            Self::WriteTarget { source, .. } | Self::Flush { source } if source.kind() == FailureKind::Exhausted => {
                Some(
                    "make room on the storage that the cause names (the replica volume's, or the hub's with its journals/ folder), then replicate again: what was committed before is as it was",
                )
            }
            Self::OpenImage { source } => source.remedy(),
            Self::OpenSource { source } | Self::ReadSource { source } => source.remedy(),
            Self::Datastore { source } => source.remedy(),
            Self::OpenTarget { source, .. }
            | Self::SourceNbd { source }
            | Self::ReadTarget { source, .. }
            | Self::WriteTarget { source, .. }
            | Self::Flush { source } => source.remedy(),
            Self::SourceSize { .. } => Some("discover the VM again: the disk was resized or replaced"),
            Self::Digests { .. } => Some("make room in the agent's state folder"),
            Self::Ledger { .. } => {
                Some("nothing was written on its word; replicate again, and report it with the gateway's log")
            }
            Self::ServeCommand { .. } => {
                Some("run the command of the agent's configuration by hand and read its output")
            }
            _ => None,
        }
    }
}
