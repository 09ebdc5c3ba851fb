//! The reversed control connection: the agent dialled it, and serves HTTP/2 on it to the hub, which is the client.
//!
//! Both sides ping, so each notices a dead link within 20 seconds even when neither has anything to say.

use std::pin::pin;
use std::time::Duration;

use api::client::{ResponseBody, Transport, TransportError};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::error::{BoxedError, TunnelError};
use crate::h2_connection::{H2Connection, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT};

/// How long requests in flight may take to end after a shutdown was asked for.
const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// Largest set of request headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// The name requests carry as their authority; nobody resolves it.
const AGENT_AUTHORITY: &str = "agent";

/// Serves `service` (an axum router, for one) to the hub on a dialled connection, until the connection ends or
/// `shutdown` is cancelled; then requests in flight have five seconds.
///
/// # Errors
/// [`TunnelError::Http2`] when the connection broke, also when pings were not answered.
pub async fn serve_control<S, V, B>(stream: S, service: V, shutdown: CancellationToken) -> Result<(), TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    V::Error: Into<BoxedError>,
    V::Future: Send + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxedError>,
{
    let broke = |source| TunnelError::Http2 { peer: "the hub".to_owned(), source };
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
    );
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(broke),
        () = shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // The hub may close before the last frame is out; a connection that was to end has not failed by that.
    if let Ok(Err(error)) = tokio::time::timeout(GRACE_PERIOD, connection).await {
        tracing::debug!(%error, "control connection ended roughly after a shutdown");
    }
    Ok(())
}

/// The hub's end of an agent's control connection.
pub struct ControlConnection {
    connection: H2Connection,
}

impl ControlConnection {
    /// Begins HTTP/2 as the client on a connection the agent dialled. `peer` names the agent in errors.
    ///
    /// # Errors
    /// [`TunnelError::Http2`] when the connection is gone already.
    pub async fn from_stream<S>(stream: S, peer: impl Into<String>) -> Result<Self, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let authority = Authority::from_static(AGENT_AUTHORITY);
        let connection = H2Connection::open(stream, peer.into(), Scheme::HTTP, authority).await?;
        Ok(Self { connection })
    }

    /// Whether requests would fail because the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Ends when the connection is gone, for whatever reason.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Cuts the connection at once; requests and bodies in flight fail. For revocation and for replacement by a newer
    /// connection of the same agent.
    pub fn close(&self) {
        self.connection.abort();
    }
}

impl Transport for ControlConnection {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<ResponseBody>, TransportError>> {
        self.connection.send(request)
    }
}
