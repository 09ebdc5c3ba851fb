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
            Self::ControlPlane { .. } | Self::StillInUse { .. } => FailureKind::Unavailable,
            Self::Tunnel { source } => source.kind(),
            Self::Database { source } => source.kind(),
            Self::Control { .. } => FailureKind::Internal,
            Self::NoExport { .. } => FailureKind::NotFound,
            Self::Device { source, .. } => source.kind(),
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
            Self::Device { source, .. } => source.remedy(),
            Self::StillInUse { .. } => Some("the storage behind the volume does not answer: check it in CloudStack"),
            Self::DeviceTooSmall { .. } => Some("resize the volume in CloudStack to at least the disk's size"),
            Self::Control { .. } | Self::Digests { .. } => None,
        }
    }
}
