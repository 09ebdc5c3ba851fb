//! What can go wrong between us and vSphere, and what the operator does about it.

use model::FailureKind;

use crate::fault::Fault;
use crate::moref::MoRef;
use crate::soap::SoapError;
use crate::trust::Thumbprint;

/// An error of this crate. `doing` is the vim25 method or the HTTP request it happened in.
#[derive(Debug, thiserror::Error)]
pub enum VsphereError {
    /// The address of the server is no usable URL.
    #[error("{url:?} is not the address of a vCenter or an ESXi host: {reason}")]
    InvalidUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A thumbprint or a CA certificate cannot be used.
    #[error("the trust settings of the server cannot be used: {reason}")]
    InvalidTrust {
        /// What is wrong with them.
        reason: String,
    },
    /// The server shows another certificate than the pinned one.
    #[error("{host} shows a certificate with the thumbprint {found}, expected was {expected}")]
    ThumbprintMismatch {
        /// The server.
        host: String,
        /// The pinned thumbprint.
        expected: Thumbprint,
        /// Thumbprint of the certificate shown, by the same algorithm.
        found: Thumbprint,
    },
    /// The server's certificate leads to no trusted root, has expired, or names another host.
    #[error("the certificate of {host} (SHA-256 {found}) is not trusted: {reason}")]
    UntrustedCertificate {
        /// The server.
        host: String,
        /// SHA-256 thumbprint of the certificate shown.
        found: Thumbprint,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// The server.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTPS client")]
    ClientSetup {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the server took too long.
    #[error("{doing} got no complete answer")]
    Transport {
        /// The method or request.
        doing: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// An HTTP status that is neither success nor a SOAP fault.
    #[error("{doing} was answered with HTTP status {status}")]
    HttpStatus {
        /// The method or request.
        doing: &'static str,
        /// The status.
        status: u16,
    },
    /// The answer is larger than any answer needs to be.
    #[error("the answer to {doing} is larger than {limit_bytes} bytes")]
    AnswerTooLarge {
        /// The method or request.
        doing: &'static str,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The answer is no SOAP.
    #[error("the answer to {doing} cannot be read")]
    Malformed {
        /// The method.
        doing: &'static str,
        /// Why.
        #[source]
        source: SoapError,
    },
    /// The answer lacks something it must have, or contradicts itself.
    #[error("the answer to {doing} makes no sense: {what}")]
    Unexpected {
        /// The method.
        doing: &'static str,
        /// What is missing or wrong.
        what: String,
    },
    /// User name or password are wrong.
    #[error("{host} refuses user {username:?} or the password")]
    WrongCredentials {
        /// The server.
        host: String,
        /// The user.
        username: String,
    },
    /// The session had ended; a new one is open, but the call is not repeated, because it may not be sent twice.
    #[error("the session had ended before {doing}; a new one is open, look what happened and repeat")]
    SessionExpired {
        /// The method.
        doing: &'static str,
    },
    /// The server answered with a fault.
    #[error("{doing} was refused")]
    Refused {
        /// The method.
        doing: &'static str,
        /// The fault.
        #[source]
        source: Fault,
    },
    /// A task ended in an error.
    #[error("task {task} ({doing}) failed")]
    TaskFailed {
        /// The method that started it.
        doing: &'static str,
        /// The task's id.
        task: String,
        /// Its fault.
        #[source]
        source: Fault,
    },
    /// A task makes no progress; it may still end later.
    #[error("task {task} ({doing}) made no progress for {stalled_for_s} seconds at {progress_percent} %")]
    TaskStalled {
        /// The method that started it.
        doing: &'static str,
        /// The task's id.
        task: String,
        /// How long nothing changed, in seconds.
        stalled_for_s: u64,
        /// Where it stands.
        progress_percent: u8,
    },
    /// The power state did not come in time.
    #[error("VM {vm} did not become {wanted} in {waited_s} seconds")]
    PowerStateTimeout {
        /// The VM.
        vm: MoRef,
        /// The state waited for.
        wanted: &'static str,
        /// How long, in seconds.
        waited_s: u64,
    },
    /// There is no such VM, or the user may not see it.
    #[error("there is no VM {what:?}")]
    VmNotFound {
        /// What was looked for.
        what: String,
    },
    /// The answers about changed areas would leave bytes out or never end.
    #[error("the changed areas of disk {device_key} cannot be trusted: {reason}")]
    ChangedAreas {
        /// The disk.
        device_key: i32,
        /// What is wrong with them.
        reason: String,
    },
    /// Not a datastore path.
    #[error("{path:?} is not a datastore path (expected \"[datastore] folder/file.vmdk\")")]
    InvalidDatastorePath {
        /// What was given.
        path: String,
    },
    /// The disk's file is not there, or its datastore has no files.
    #[error("there is no file {path} to read over HTTPS")]
    FileNotFound {
        /// The file.
        path: String,
    },
    /// The server failed on the file, which is how it says that somebody writes it.
    #[error("the server cannot read {path}: it is locked, most likely because the running VM writes it")]
    FileLocked {
        /// The file.
        path: String,
    },
    /// The descriptor is not one of a plain disk.
    #[error("{path} cannot be read over HTTPS: {reason}")]
    UnsupportedDisk {
        /// The descriptor.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The file is not as large as the disk.
    #[error("{path} has {found_bytes} bytes, the disk has {capacity_bytes}")]
    FileSize {
        /// The file.
        path: String,
        /// Size found, in bytes.
        found_bytes: u64,
        /// Size expected, in bytes.
        capacity_bytes: u64,
    },
    /// The answer to a range request is not that range.
    #[error("the server did not answer with the range of {path} that was asked for: {reason}")]
    WrongRange {
        /// The file.
        path: String,
        /// What it did.
        reason: String,
    },
}

impl VsphereError {
    pub(crate) fn unexpected(doing: &'static str, what: impl Into<String>) -> Self {
        Self::Unexpected { doing, what: what.into() }
    }

    /// The kind that decides on retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::InvalidUrl { .. }
            | Self::InvalidTrust { .. }
            | Self::InvalidDatastorePath { .. }
            | Self::UnsupportedDisk { .. }
            | Self::FileSize { .. } => FailureKind::Invalid,
            Self::ThumbprintMismatch { .. } | Self::UntrustedCertificate { .. } => FailureKind::Forbidden,
            Self::WrongCredentials { .. } => FailureKind::Unauthenticated,
            Self::Connect { .. }
            | Self::Transport { .. }
            | Self::SessionExpired { .. }
            | Self::TaskStalled { .. }
            | Self::PowerStateTimeout { .. } => FailureKind::Unavailable,
            Self::HttpStatus { status, .. } => match status {
                401 => FailureKind::Unauthenticated,
                403 => FailureKind::Forbidden,
                404 => FailureKind::NotFound,
                429 | 502 | 503 | 504 => FailureKind::Unavailable,
                _ => FailureKind::Internal,
            },
            Self::Refused { source, .. } | Self::TaskFailed { source, .. } => source.kind(),
            Self::VmNotFound { .. } | Self::FileNotFound { .. } => FailureKind::NotFound,
            Self::FileLocked { .. } => FailureKind::Conflict,
            Self::ClientSetup { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Malformed { .. }
            | Self::Unexpected { .. }
            | Self::ChangedAreas { .. }
            | Self::WrongRange { .. } => FailureKind::Internal,
        }
    }

    /// What the operator does, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::InvalidUrl { .. } => "give the address as https://host or https://host:port",
            Self::InvalidTrust { .. } => {
                "give the SHA-1 or SHA-256 thumbprint in hexadecimal, or CA certificates in PEM"
            }
            Self::ThumbprintMismatch { .. } => {
                "compare the thumbprint found with the one shown in the server's own console: pin it if the certificate was renewed, else somebody is in between"
            }
            Self::UntrustedCertificate { .. } => {
                "pin the thumbprint found, after comparing it with the server's own console, or give the CA certificate that issued it"
            }
            Self::WrongCredentials { .. } => {
                "check the user name (user@domain for vCenter) and the password; too many attempts lock the user"
            }
            Self::Connect { .. } => "check the address, and that port 443 is open from here",
            Self::VmNotFound { .. } => {
                "check the name with a discovery; the user also needs System.View on the VM and its folders"
            }
            Self::TaskStalled { .. } => "look at the task in vCenter; the VM may wait for an answer to a question",
            Self::PowerStateTimeout { .. } => "look at the VM's console; it may wait for an answer to a question",
            Self::ChangedAreas { .. } => "the whole disk has to be read; resetting change tracking may help",
            Self::FileNotFound { .. } => {
                "vSAN and vVol datastores have no flat files: choose the nbd reader; else check the user's Datastore.FileManagement privilege"
            }
            Self::FileLocked { .. } => {
                "read the base link under a vm_snapshot, or power the VM off; do not mix readers on one disk"
            }
            Self::UnsupportedDisk { .. } => "choose the hotadd or an nbd reader for this disk",
            Self::FileSize { .. } => "discover the VM again: the disk was resized or replaced",
            Self::Refused { source, .. } | Self::TaskFailed { source, .. } => return source.remedy(),
            _ => return None,
        })
    }

    /// The fault behind it, when there is one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Refused { source, .. } | Self::TaskFailed { source, .. } => Some(source),
            _ => None,
        }
    }

    pub(crate) fn is_fault(&self, type_name: &str) -> bool {
        self.fault().is_some_and(|fault| fault.is(type_name))
    }
}
