//! A server of one connection at a time over any channel: exports come from an [`ExportSource`], bytes from devices.
//!
//! Whoever calls listens, encrypts, authenticates and decides which exports a peer may see; none of that is here. Each
//! connection has a thread of its own, from the first byte to the last.

mod negotiate;
mod reply;
mod session;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use block::BlockDevice;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::channel::{Channel, Conversation, Hangup};
use crate::error::NbdError;
use crate::limits::INTAKE_BYTES;
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
    /// How much of that the device took; the rest is waiting for the payload.
    pub device_time: Duration,
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
    /// When cancelled, nothing new is accepted and the connection ends once what has arrived is answered.
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
    /// The shutdown was asked for; everything that had arrived was answered.
    ShutDown,
}

/// Stack of a connection's thread, in bytes: its buffers are on the heap.
const STACK_BYTES: usize = 512 * 1024;

/// Serves one connection to its end, on a thread of its own. Dropped, it cuts the connection.
///
/// # Errors
/// When the client does not keep to the protocol, is too slow with the handshake, or the stream fails. The connection is
/// closed either way. After a shutdown a device that hangs is not waited for longer than [`Limits::drain_timeout`]; its
/// thread ends when the device lets it.
pub async fn serve_connection<C>(
    channel: C,
    exports: Arc<dyn ExportSource>,
    options: ServeOptions,
) -> Result<SessionEnd, NbdError>
where
    C: Channel + 'static,
{
    let no_thread = |source| NbdError::Stream { source };
    let hangup = CutWhenDropped(channel.hangup().map_err(no_thread)?);
    let (opened, is_open) = oneshot::channel();
    let (end, mut ended) = oneshot::channel();
    let (runtime, limits, shutdown) = (Handle::current(), options.limits.clone(), options.shutdown.clone());
    let serving = move || {
        // Nobody may be left to hear of it.
        let _ = end.send(serve(channel, exports.as_ref(), &options, &runtime, opened));
    };
    std::thread::Builder::new().name("nbd".into()).stack_size(STACK_BYTES).spawn(serving).map_err(no_thread)?;
    let handshake = tokio::time::timeout(limits.handshake_timeout, is_open);
    tokio::select! {
        ended = &mut ended => return outcome(ended),
        () = shutdown.cancelled() => {}
        in_time = handshake => match in_time {
            Err(_elapsed) => return Err(NbdError::HandshakeTimeout),
            Ok(Err(_ended_before)) => return outcome(ended.await),
            Ok(Ok(())) => tokio::select! {
                ended = &mut ended => return outcome(ended),
                () = shutdown.cancelled() => {}
            },
        }
    }
    hangup.0.stop_receiving();
    match tokio::time::timeout(limits.drain_timeout, ended).await {
        Ok(ended) => outcome(ended),
        Err(_elapsed) => Err(NbdError::Stream { source: io::ErrorKind::TimedOut.into() }),
    }
}

/// How the thread ended, or that it did so without a word: a device panicked.
fn outcome(ended: Result<Result<SessionEnd, NbdError>, oneshot::error::RecvError>) -> Result<SessionEnd, NbdError> {
    ended.unwrap_or_else(|_panicked| Err(NbdError::Stream { source: io::Error::other("the connection's thread died") }))
}

struct CutWhenDropped(Hangup);

impl Drop for CutWhenDropped {
    fn drop(&mut self) {
        self.0.cut();
    }
}

fn serve<C: Channel>(
    channel: C,
    source: &dyn ExportSource,
    options: &ServeOptions,
    runtime: &Handle,
    opened: oneshot::Sender<()>,
) -> Result<SessionEnd, NbdError> {
    let mut conversation = Conversation::new(channel, INTAKE_BYTES);
    let exports = negotiate::Exports { source, runtime };
    let negotiated = match negotiate::negotiate(&mut conversation, exports, &options.limits) {
        Err(NbdError::Handshake { .. }) if options.shutdown.is_cancelled() => return Ok(SessionEnd::ShutDown),
        negotiated => negotiated?,
    };
    let Some(negotiated) = negotiated else {
        conversation.channel.finish();
        return Ok(SessionEnd::NoExport);
    };
    // Whoever watches the clock may have gone already.
    let _ = opened.send(());
    options.observer.export_opened(&negotiated.name);
    session::run(conversation, negotiated, options)
}
