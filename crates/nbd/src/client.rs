//! A client: one connection to one export, any number of tasks sharing it, many requests under way.
//!
//! Requests longer than the server accepts are cut; nothing is retried and no connection is made again.

mod connect;
mod pending;
mod receive;
mod requests;
mod send;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::error::NbdError;
use crate::proto::handshake::client::Opened;
pub use crate::proto::handshake::client::{ListedExport, Wishes};
use crate::proto::handshake::{BlockSizes, ExportInfo, ReplyMode};
use crate::proto::wire::export_flag;
use crate::uri::NbdUri;
pub use connect::list_exports;
use pending::PendingRequests;
use send::Sender;

/// Requests one connection keeps under way unless told otherwise.
pub const DEFAULT_REQUESTS_IN_FLIGHT: usize = 64;

/// How to connect.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What to ask the server for beyond the basics.
    pub wishes: Wishes,
    /// Requests under way at a time; further ones wait.
    pub requests_in_flight: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { wishes: Wishes::default(), requests_in_flight: DEFAULT_REQUESTS_IN_FLIGHT }
    }
}

/// One connection to one export.
///
/// Dropping it closes the connection; [`close`](Self::close) says goodbye first. A future of a request may be dropped;
/// if that happens while its bytes are being sent, the connection is of no more use and further requests fail.
pub struct Client {
    opened: Opened,
    sender: Sender,
    pending: Arc<PendingRequests>,
    slots: Semaphore,
    receiver: JoinHandle<()>,
}

impl Client {
    /// Connects to an export.
    ///
    /// # Errors
    /// When the server cannot be reached, is no NBD server, or refuses the export.
    pub async fn connect(uri: &NbdUri) -> Result<Self, NbdError> {
        Self::connect_with(uri, &ClientOptions::default()).await
    }

    /// Connects to an export with options.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub async fn connect_with(uri: &NbdUri, options: &ClientOptions) -> Result<Self, NbdError> {
        connect::dial(uri, options).await
    }

    /// Opens an export over a stream that is connected already (a TLS stream, for example).
    ///
    /// # Errors
    /// When the other side is no NBD server or refuses the export.
    pub async fn over<S>(stream: S, export: &str, options: &ClientOptions) -> Result<Self, NbdError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        connect::handshake(reader, writer, export, options).await
    }

    /// The export's size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.opened.export.size_bytes
    }

    /// Everything the server told about the export.
    #[must_use]
    pub fn export(&self) -> &ExportInfo {
        &self.opened.export
    }

    /// The form of the replies.
    #[must_use]
    pub fn reply_mode(&self) -> ReplyMode {
        self.opened.mode
    }

    /// Whether the server refuses changes.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.opened.export.is_read_only()
    }

    /// Whether a flush on one connection covers the writes of all connections to this export.
    #[must_use]
    pub fn can_multi_conn(&self) -> bool {
        self.opened.export.has(export_flag::CAN_MULTI_CONN)
    }

    /// Whether [`flush`](Self::flush) is offered.
    #[must_use]
    pub fn can_flush(&self) -> bool {
        self.opened.export.has(export_flag::SEND_FLUSH)
    }

    /// Whether [`trim`](Self::trim) is offered.
    #[must_use]
    pub fn can_trim(&self) -> bool {
        self.opened.export.has(export_flag::SEND_TRIM)
    }

    /// Whether zeroes can be written without sending them.
    #[must_use]
    pub fn can_write_zeroes(&self) -> bool {
        self.opened.export.has(export_flag::SEND_WRITE_ZEROES)
    }

    /// Whether the server tells holes from data (`base:allocation`).
    #[must_use]
    pub fn can_block_status(&self) -> bool {
        self.opened.base_allocation.is_some()
    }

    /// Sizes requests have to keep to, in bytes.
    #[must_use]
    pub fn block_sizes(&self) -> BlockSizes {
        self.opened.export.block_sizes
    }

    /// The longest read or write that is sent as one request, in bytes, a multiple of the minimum block size.
    #[must_use]
    pub fn max_request_bytes(&self) -> u32 {
        self.opened.export.max_request_bytes()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.receiver.abort();
        self.pending.fail_all(NbdError::Closed);
    }
}
