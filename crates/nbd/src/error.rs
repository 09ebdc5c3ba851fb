//! What can go wrong between an NBD client and a server, and what kind of failure that is.

use std::io;
use std::sync::Arc;

use model::FailureKind;

use crate::proto::wire::{Command, Errno, ProtocolError, option_reply};

/// An error of a connection or of one request. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    /// A text is no NBD URI.
    #[error("{uri:?} is not an NBD URI: {reason}")]
    Uri {
        /// The text.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where it should be.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The handshake was not over in time.
    #[error("the other side did not finish the NBD handshake in time")]
    HandshakeTimeout,
    /// The stream failed or ended during the handshake.
    #[error("the connection ended during the NBD handshake")]
    Handshake {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side does not keep to the protocol.
    #[error("the other side does not keep to the NBD protocol")]
    Protocol {
        /// How.
        #[from]
        source: ProtocolError,
    },
    /// The server does not open the export.
    #[error("the server refused export {export:?}: {}", refusal(*code, message))]
    Refused {
        /// The name asked for.
        export: String,
        /// The error of the reply ([`option_reply`]).
        code: u32,
        /// The server's words; may be empty.
        message: String,
    },
    /// The stream failed during transmission.
    #[error("the NBD connection failed")]
    Stream {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection is gone; every request that was under way failed with it.
    #[error("the NBD connection is lost")]
    ConnectionLost {
        /// What ended it.
        #[source]
        cause: Arc<NbdError>,
    },
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// A request was given up half-way while it was sent, so nothing can follow it.
    #[error("a request was given up while it was being sent")]
    Interrupted,
    /// The server answered a request with an error.
    #[error("the server failed to {} {length} bytes at {offset}: {errno}{}", command.name(), words(message))]
    Remote {
        /// The request.
        command: Command,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// The server's error.
        errno: Errno,
        /// The server's words; may be empty.
        message: String,
    },
    /// A request reaches past the end of the export. Nothing was sent.
    #[error("{length} bytes at {offset} are not inside the export's {size_bytes} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// The export's size.
        size_bytes: u64,
    },
    /// A request does not keep to the export's minimum block size. Nothing was sent.
    #[error("{length} bytes at {offset} are not whole blocks of {minimum} bytes, which this server demands")]
    Unaligned {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// The minimum block size.
        minimum: u32,
    },
    /// A change was asked of a read-only export. Nothing was sent.
    #[error("the export is read-only")]
    ReadOnly,
    /// The server did not offer this. Nothing was sent.
    #[error("the server does not offer {}", command.name())]
    NotOffered {
        /// What was asked for.
        command: Command,
    },
}

fn words(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn refusal(code: u32, message: &str) -> String {
    let meaning = match code {
        option_reply::ERR_UNSUP => "not supported",
        option_reply::ERR_POLICY => "not allowed",
        option_reply::ERR_INVALID => "invalid request",
        option_reply::ERR_TLS_REQD => "TLS is required",
        option_reply::ERR_UNKNOWN => "no such export",
        option_reply::ERR_SHUTDOWN => "the server is shutting down",
        option_reply::ERR_BLOCK_SIZE_REQD => "block sizes have to be agreed on",
        option_reply::ERR_TOO_BIG => "request too long",
        option_reply::ERR_EXT_HEADER_REQD => "extended headers are required",
        _ => "unknown error",
    };
    format!("{meaning}{}", words(message))
}

impl NbdError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Uri { .. } | Self::OutOfRange { .. } | Self::Unaligned { .. } | Self::NotOffered { .. } => {
                FailureKind::Invalid
            }
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => FailureKind::Forbidden,
                _ => FailureKind::Unavailable,
            },
            Self::HandshakeTimeout
            | Self::Handshake { .. }
            | Self::Stream { .. }
            | Self::Closed
            | Self::Interrupted => FailureKind::Unavailable,
            Self::ConnectionLost { cause } => cause.kind(),
            Self::Protocol { .. } => FailureKind::Internal,
            Self::Refused { code, .. } => match *code {
                option_reply::ERR_UNKNOWN => FailureKind::NotFound,
                option_reply::ERR_POLICY | option_reply::ERR_TLS_REQD => FailureKind::Forbidden,
                option_reply::ERR_SHUTDOWN => FailureKind::Unavailable,
                _ => FailureKind::Invalid,
            },
            Self::Remote { errno, .. } => match errno {
                Errno::NotPermitted => FailureKind::Forbidden,
                Errno::NoSpace => FailureKind::Exhausted,
                Errno::Shutdown | Errno::OutOfMemory => FailureKind::Unavailable,
                Errno::Io => FailureKind::Internal,
                Errno::Invalid | Errno::Overflow | Errno::NotSupported => FailureKind::Invalid,
            },
            Self::ReadOnly => FailureKind::Forbidden,
        }
    }

    /// Whether the server knows the export and does not open it at the moment: another client has it, for one.
    #[must_use]
    pub fn is_refusal_for_now(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(*code, option_reply::ERR_POLICY | option_reply::ERR_SHUTDOWN))
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Uri { .. } => Some("Write nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=/PATH."),
            Self::Connect { .. } => Some("Check that the server runs and that its address and port are right."),
            Self::Refused { code, .. } if *code == option_reply::ERR_UNKNOWN => {
                Some("List the server's exports (`migratekit nbd info URI`) and use one of their names.")
            }
            Self::Refused { code, .. } if *code == option_reply::ERR_TLS_REQD => Some(
                "This server wants TLS inside NBD (STARTTLS), which is not supported; use its plain or tunnelled port.",
            ),
            Self::Remote { errno: Errno::NoSpace, .. } => {
                Some("Make room on the storage behind the export, then repeat.")
            }
            Self::Remote { errno: Errno::Io, .. } => {
                Some("Look at the log of the NBD server for its storage's errors.")
            }
            Self::ConnectionLost { cause } => cause.remedy(),
            _ => None,
        }
    }
}
