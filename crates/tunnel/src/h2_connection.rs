//! One HTTP/2 connection on which this side is the client: many requests at once, bodies as they come, liveness.

use std::time::Duration;

use api::client::{ResponseBody, Transport, TransportError};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{StreamExt, TryStreamExt};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::abort_io::AbortIo;
use crate::error::TunnelError;

/// Between two HTTP/2 pings.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// For the answer to a ping; with the interval, a dead link is noticed within 20 s.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests in flight on one connection.
pub(crate) const MAX_STREAMS: u32 = 128;
/// Bytes a peer may send ahead on one stream, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

pub(crate) struct H2Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    peer: String,
    scheme: Scheme,
    authority: Authority,
    closed: CancellationToken,
    abort: CancellationToken,
}

impl H2Connection {
    pub(crate) async fn open<S>(
        stream: S,
        peer: String,
        scheme: Scheme,
        authority: Authority,
    ) -> Result<Self, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (closed, abort) = (CancellationToken::new(), CancellationToken::new());
        let io = TokioIo::new(AbortIo::new(stream, abort.clone()));
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(io)
            .await
            .map_err(|source| TunnelError::Http2 { peer: peer.clone(), source })?;
        let (ended, name) = (closed.clone(), peer.clone());
        tokio::spawn(async move {
            match connection.await {
                Ok(()) => tracing::debug!(peer = %name, "HTTP/2 connection ended"),
                Err(error) => {
                    tracing::debug!(peer = %name, error = &error as &dyn std::error::Error, "HTTP/2 connection broke");
                }
            }
            ended.cancel();
        });
        Ok(Self { sender, peer, scheme, authority, closed, abort })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.abort.is_cancelled() || self.sender.is_closed()
    }

    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }

    async fn request(&self, request: Request<Bytes>) -> Result<Response<ResponseBody>, TransportError> {
        let (mut parts, body) = request.into_parts();
        parts.uri = self.absolute(parts.uri)?;
        parts.version = http::Version::HTTP_2;
        let mut sender = self.sender.clone();
        if self.is_closed() || sender.ready().await.is_err() {
            return Err(TransportError::Closed { peer: self.peer.clone() });
        }
        let response = sender
            .send_request(Request::from_parts(parts, Full::new(body)))
            .await
            .map_err(|source| unreachable(&self.peer, source))?;
        let peer = self.peer.clone();
        Ok(response.map(|body| body.into_data_stream().map_err(move |source| unreachable(&peer, source)).boxed()))
    }

    /// HTTP/2 requests name scheme and authority; typed clients give only path and query.
    fn absolute(&self, uri: Uri) -> Result<Uri, TransportError> {
        let path = uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|source| TransportError::Request { peer: self.peer.clone(), source: source.into() })
    }
}

impl Transport for H2Connection {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<ResponseBody>, TransportError>> {
        Box::pin(self.request(request))
    }
}

fn unreachable(peer: &str, source: hyper::Error) -> TransportError {
    TransportError::Unreachable { peer: peer.to_owned(), source: source.into() }
}
