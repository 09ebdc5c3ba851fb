//! HTTP/1.1 and HTTP/2 on one stream, each request marked with where it came from. Accepts nothing itself.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long a peer may take to send the head of a request; also ends idle HTTP/1.1 connections.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// Between two HTTP/2 pings, and for the answer to one: dead connections do not stay.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Largest set of request headers over HTTP/2, in bytes.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// How long requests in flight may take to end after a shutdown was asked for.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Where a request came from; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Whether it came in from outside, through the gateway.
    pub public: bool,
}

/// Serves `router` on one connection until it ends, or `shutdown` is cancelled and requests in flight have ended.
pub async fn serve_connection<S>(stream: S, router: Router, origin: Origin, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(origin);
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE_PERIOD, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, remote = %origin.remote, "an HTTP connection broke");
    }
}
