//! Serves an axum router on TCP, on a Unix socket, or on one connection somebody else accepted. What is served, body
//! limits and what a panic answers are the router's.

mod socket;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use model::FailureKind;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

pub use socket::bind_unix;

/// Largest request body a router of ours takes unless a route says otherwise, in bytes: ten times the largest plan.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most connections of one listener; further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// Most requests at once on one HTTP/2 connection.
pub const MAX_STREAMS: u32 = 256;
/// Most bytes of a request's headers.
pub const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// How long a client may take to send a request's headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often an idle HTTP/2 connection is asked whether it lives, and how long it may take to answer.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long requests may go on after shutdown was asked for.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Pause after the system refused to accept (no file descriptors left): the next attempt would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Address or path.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The address can be reached from other machines, and what is served there is only for this one.
    #[error("{address} is not a loopback address")]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Another process serves this socket.
    #[error("another process answers on {path}")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is no socket lies where the socket belongs.
    #[error("{path} exists and is no socket")]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// No connection can be accepted any more.
    #[error("the HTTP server ended")]
    Serve(#[source] std::io::Error),
}

impl HttpError {
    /// The kind that decides on retries and exit codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Listen { source, .. } => match source.kind() {
                std::io::ErrorKind::AddrInUse => FailureKind::Conflict,
                std::io::ErrorKind::PermissionDenied => FailureKind::Forbidden,
                _ => FailureKind::Invalid,
            },
            Self::NotLoopback { .. } => FailureKind::Invalid,
            Self::SocketInUse { .. } | Self::NotASocket { .. } => FailureKind::Conflict,
            Self::Serve(_) => FailureKind::Internal,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Listen { .. } => Some("choose a free address of this machine that this user may listen on"),
            Self::NotLoopback { .. } => Some(
                "listen on 127.0.0.1 or ::1: nothing is encrypted there; from outside, the hub is reached on port 443",
            ),
            Self::SocketInUse { .. } => Some("stop the other process, or give this one another run_dir"),
            Self::NotASocket { .. } => Some("move the file away, or give this process another run_dir"),
            Self::Serve(_) => None,
        }
    }
}

/// Listens on a TCP address.
///
/// # Errors
/// [`HttpError::Listen`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| HttpError::Listen { address: address.to_string(), source })
}

/// Listens on a TCP address that only this machine reaches: no TLS is spoken there.
///
/// # Errors
/// [`HttpError::NotLoopback`], [`HttpError::Listen`].
pub async fn bind_loopback(address: SocketAddr) -> Result<TcpListener, HttpError> {
    if address.ip().is_loopback() { bind(address).await } else { Err(HttpError::NotLoopback { address }) }
}

/// Serves HTTP/1.1 and HTTP/2 (without TLS, prior knowledge) until `shutdown`, then lets requests end for
/// [`SHUTDOWN_GRACE`]. Handlers may take `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// [`HttpError::Serve`].
pub async fn serve_tcp(router: Router, listener: TcpListener, shutdown: CancellationToken) -> Result<(), HttpError> {
    serve_accepted(router, &listener, shutdown).await
}

/// Serves a Unix socket of mode 0600 at `path` as [`serve_tcp`] does, and removes it at the end.
///
/// # Errors
/// As [`bind_unix`]; [`HttpError::Serve`].
pub async fn serve_unix(router: Router, path: &Path, shutdown: CancellationToken) -> Result<(), HttpError> {
    let listener = bind_unix(path).await?;
    let served = serve_accepted(router, &listener, shutdown).await;
    // It may be gone already; a name left behind is replaced at the next start.
    let _ = std::fs::remove_file(path);
    served
}

async fn serve_accepted(router: Router, door: &impl Door, shutdown: CancellationToken) -> Result<(), HttpError> {
    let (room, tasks) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
    let ended = loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, door.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(async move {
                    serve_logged(stream, peer, router, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) if is_broken(&error) => break Err(HttpError::Serve(error)),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    tasks.close();
    tasks.wait().await;
    ended
}

/// Where connections come in.
trait Door: Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = std::io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, peer) = Self::accept(self).await?;
        // Only latency is lost when it cannot be set.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(peer)))
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> std::io::Result<(UnixStream, Option<SocketAddr>)> {
        Ok((Self::accept(self).await?.0, None))
    }
}

/// Whether the listener itself is unusable; any other refusal (a peer gone again, no descriptors left) passes.
fn is_broken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::NotConnected)
}

/// Serves one accepted connection to its end: HTTP/1.1, or HTTP/2 when the client begins with its preface. After
/// `shutdown` its requests may go on for [`SHUTDOWN_GRACE`].
pub async fn serve_stream<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_logged(stream, None, router, shutdown).await;
}

/// As [`serve_stream`] for a connection whose remote end is known: handlers may take `ConnectInfo<SocketAddr>`.
pub async fn serve_stream_from<S>(stream: S, peer: SocketAddr, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_logged(stream, Some(peer), router, shutdown).await;
}

async fn serve_logged<S>(stream: S, peer: Option<SocketAddr>, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = serve_connection(stream, peer, router, shutdown).await {
        tracing::debug!(error, "an HTTP connection broke");
    }
}

async fn serve_connection<S>(
    stream: S,
    peer: Option<SocketAddr>,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        router.clone().oneshot(request)
    });
    // The header timeout begins with the first byte; a client that never sends one is not waited for, either.
    let mut stream = BufReader::new(stream);
    tokio::select! {
        begun = tokio::time::timeout(HEADER_TIMEOUT, stream.fill_buf()) => {
            begun??;
        }
        () = shutdown.cancelled() => return Ok(()),
    }
    let builder = connection_builder();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    // What still runs after the grace is dropped with its connection.
    tokio::time::timeout(SHUTDOWN_GRACE, connection).await.unwrap_or(Ok(()))
}

fn connection_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

#[cfg(test)]
mod tests;
