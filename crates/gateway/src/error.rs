//! What can go wrong in the gateway.

use std::path::PathBuf;

use model::FailureKind;

/// An error of the gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address or a socket could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The control plane does not answer on its socket.
    #[error("the control plane does not answer on {socket}")]
    ControlPlane {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The TLS side failed.
    #[error("the tunnel failed")]
    Tunnel {
        /// What it said.
        #[source]
        source: tunnel::TunnelError,
    },
    /// The database failed.
    #[error("the database cannot say what is exported")]
    Database {
        /// What it said.
        #[source]
        source: store::StoreError,
    },
    /// The control socket failed.
    #[error("the control socket failed")]
    Control {
        /// What the server said.
        #[source]
        source: runtime::http::HttpError,
    },
    /// There is no such export, or it is not open.
    #[error("there is no active export {name}")]
    NoExport {
        /// Its name.
        name: String,
    },
    /// The volume behind an export is not on this machine.
    #[error("the volume behind export {name} is not present on this machine")]
    NoDevice {
        /// The export.
        name: String,
    },
    /// A journal or ledger of an export failed.
    #[error("the journals beside export {name} cannot be used")]
    Journal {
        /// The export.
        name: String,
        /// What is wrong with them.
        #[source]
        source: journal::JournalError,
    },
    /// Something else works with the export or its recovery points.
    #[error("export {name} is in use: {reason}")]
    InUse {
        /// The export.
        name: String,
        /// Who or what it is.
        reason: String,
    },
    /// What is asked contradicts what was committed.
    #[error("export {name}: {reason}")]
    Refused {
        /// The export.
        name: String,
        /// What stands against it.
        reason: String,
    },
    /// There is no such recovery point, or it is not kept any more.
    #[error("there is no recovery point {id} beside export {name}")]
    NoPoint {
        /// The export.
        name: String,
        /// The id asked for.
        id: String,
    },
    /// Work on a thread of its own did not end.
    #[error("what was begun for export {name} did not end")]
    Unfinished {
        /// The export.
        name: String,
        /// Why.
        #[source]
        source: tokio::task::JoinError,
    },
    /// Requests of a connection that was cut are still with the device.
    #[error("what was written to export {name} before is still on its way to the device")]
    StillInUse {
        /// The export.
        name: String,
    },
    /// The device behind an export failed.
    #[error("the device {path} behind export {name} failed")]
    Device {
        /// The export.
        name: String,
        /// Its path.
        path: PathBuf,
        /// What the device said.
        #[source]
        source: block::BlockError,
    },
    /// The replica behind an export could not be read again.
    #[error("the replica behind export {name} cannot be read again")]
    Reread {
        /// The export.
        name: String,
        /// What the device said.
        #[source]
        source: block::BlockError,
    },
    /// The device behind an export is smaller than the export.
    #[error("the device {path} behind export {name} has {size_bytes} bytes, the export {expected_bytes}")]
    DeviceTooSmall {
        /// The export.
        name: String,
        /// Its path.
        path: PathBuf,
        /// Size of the device.
        size_bytes: u64,
        /// Size of the export.
        expected_bytes: u64,
    },
    /// The digests sent for a verification cannot be used.
    #[error("the digests cannot be used: {reason}")]
    Digests {
        /// Why.
        reason: String,
    },
}

impl GatewayError {
    /// The kind that decides the HTTP status.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Listen { .. } => FailureKind::Conflict,
            Self::ControlPlane { .. } | Self::StillInUse { .. } | Self::InUse { .. } | Self::NoDevice { .. } => {
                FailureKind::Unavailable
            }
            Self::Refused { .. } => FailureKind::Conflict,
            Self::Journal { source, .. } => source.kind(),
            Self::Tunnel { source } => source.kind(),
            Self::Database { source } => source.kind(),
            Self::Control { .. } | Self::Unfinished { .. } => FailureKind::Internal,
            Self::NoExport { .. } | Self::NoPoint { .. } => FailureKind::NotFound,
            Self::Device { source, .. } | Self::Reread { source, .. } => source.kind(),
            Self::Digests { .. } | Self::DeviceTooSmall { .. } => FailureKind::Invalid,
        }
    }

    /// What the operator can do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Listen { .. } => Some("stop the other process that listens there, or change the configuration"),
            Self::ControlPlane { .. } => Some("start the control plane, or see its log for why it stopped"),
            Self::Tunnel { source } => source.remedy(),
            Self::Database { source } => source.remedy(),
            Self::NoExport { .. } => {
                Some("see `curl http://127.0.0.1:8090/api/v1/exports` for the exports and their state")
            }
            Self::Device { source, .. } | Self::Reread { source, .. } => source.remedy(),
            Self::StillInUse { .. } => Some("the storage behind the volume does not answer: check it in CloudStack"),
            Self::DeviceTooSmall { .. } => Some("resize the volume in CloudStack to at least the disk's size"),
            Self::NoDevice { .. } => {
                Some("attach the volume to the hub again: see `migratekit vm show` and the volume daemon")
            }
            Self::Journal { source, .. } => source.remedy(),
            Self::InUse { .. } => Some("wait until it is done, or close the connections to it"),
            Self::NoPoint { .. } => {
                Some("see the recovery points that are kept: they end when they are merged or discarded")
            }
            Self::Refused { .. } | Self::Unfinished { .. } | Self::Control { .. } | Self::Digests { .. } => None,
        }
    }
}
