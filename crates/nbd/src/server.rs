//! A server of one connection at a time over any stream: exports come from an [`ExportSource`], bytes from devices.
//!
//! Whoever calls listens, encrypts, authenticates and decides which exports a peer may see; none of that is here.

mod buffers;
mod negotiate;
mod reply;
mod session;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use block::BlockDevice;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::error::NbdError;
pub use crate::limits::Limits;
pub use crate::proto::wire::{Command, Errno};

/// An export, open for one connection. It is closed when dropped.
pub struct OpenExport {
    /// The bytes.
    pub device: Arc<dyn BlockDevice>,
    /// Refuse changes, even if the device would take them.
    pub read_only: bool,
    /// Whether a flush on one connection covers the writes of all: true wherever all connections share the device.
    pub multi_conn: bool,
    /// For people.
    pub description: Option<String>,
}

impl OpenExport {
    /// A device as an export that may be written over several connections.
    #[must_use]
    pub fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, read_only: false, multi_conn: true, description: None }
    }

    /// The same, refusing changes.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The same, with words for people.
    #[must_use]
    pub fn described(mut self, description: &str) -> Self {
        self.description = Some(description.to_owned());
        self
    }
}

/// Why an export is not opened. The reason is shown to the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenRefused {
    /// There is none of this name, as far as this peer may know.
    Unknown,
    /// This peer may not open it.
    Forbidden {
        /// For the peer.
        reason: String,
    },
    /// It cannot be opened now.
    Busy {
        /// For the peer.
        reason: String,
    },
}

/// An export in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportListing {
    /// Its name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

/// Knows the exports one peer may see.
#[async_trait]
pub trait ExportSource: Send + Sync {
    /// Opens an export; the empty name is the default one. Called for descriptions, too.
    ///
    /// # Errors
    /// Why not.
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused>;

    /// Every export this peer may open.
    async fn list(&self) -> Vec<ExportListing>;
}

/// A command that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandRecord {
    /// What it was.
    pub command: Command,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub length: u64,
    /// How it ended.
    pub error: Option<Errno>,
    /// From its arrival to its answer being ready.
    pub duration: Duration,
}

/// Sees what a connection does; called on its path, so it must return at once.
pub trait ConnectionObserver: Send + Sync {
    /// Transmission begins.
    fn export_opened(&self, name: &str) {
        let _ = name;
    }

    /// A command was carried out or refused.
    fn command_done(&self, record: &CommandRecord) {
        let _ = record;
    }
}

/// Sees nothing.
struct NoObserver;

impl ConnectionObserver for NoObserver {}

/// How to serve a connection.
#[derive(Clone)]
pub struct ServeOptions {
    /// What the connection is granted.
    pub limits: Limits,
    /// When cancelled, nothing new is accepted and the connection ends once what is under way is answered.
    pub shutdown: CancellationToken,
    /// Who watches.
    pub observer: Arc<dyn ConnectionObserver>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), shutdown: CancellationToken::new(), observer: Arc::new(NoObserver) }
    }
}

/// How a connection ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client left before it opened an export.
    NoExport,
    /// The client said goodbye.
    Disconnected,
    /// The client ended its stream without a word; everything it had asked for was answered.
    EndOfStream,
    /// The shutdown was asked for; everything under way was answered.
    ShutDown,
}

/// Serves one connection to its end.
///
/// # Errors
/// When the client does not keep to the protocol or the stream fails. The connection is closed either way.
pub async fn serve_connection<S>(
    stream: S,
    exports: Arc<dyn ExportSource>,
    options: ServeOptions,
) -> Result<SessionEnd, NbdError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    serve_halves(reader, writer, exports, options).await
}

/// Serves one connection whose halves are apart already: cheaper for TCP and Unix sockets (`into_split`).
///
/// # Errors
/// As for [`serve_connection`].
pub async fn serve_halves<R, W>(
    reader: R,
    writer: W,
    exports: Arc<dyn ExportSource>,
    options: ServeOptions,
) -> Result<SessionEnd, NbdError>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin,
{
    let mut reader = crate::frame::FrameReader::new(reader);
    let mut writer = writer;
    let negotiating = negotiate::negotiate(&mut reader, &mut writer, exports.as_ref(), &options.limits);
    let negotiated = tokio::select! {
        biased;
        () = options.shutdown.cancelled() => return Ok(SessionEnd::ShutDown),
        negotiated = tokio::time::timeout(options.limits.handshake_timeout, negotiating) => {
            negotiated.map_err(|_elapsed| NbdError::HandshakeTimeout)??
        }
    };
    let Some(negotiated) = negotiated else { return Ok(SessionEnd::NoExport) };
    options.observer.export_opened(&negotiated.name);
    session::run(reader, writer, negotiated, &options).await
}
