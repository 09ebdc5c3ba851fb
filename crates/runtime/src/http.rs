//! Serving an axum router on TCP, on a Unix socket, or on one connection that somebody else accepted.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Largest request body handlers take, in bytes, unless a route says otherwise.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Permission bits of a socket: its owner alone.
const SOCKET_MODE: u32 = 0o600;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// An address or socket is taken or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A socket is served by a process that is alive.
    #[error("another process serves {path}")]
    SocketInUse {
        /// Which.
        path: PathBuf,
    },
    /// The server broke.
    #[error("the HTTP server ended")]
    Serve(#[source] io::Error),
}

/// Listens on a TCP address.
///
/// # Errors
/// [`HttpError::Listen`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| HttpError::Listen { address: address.to_string(), source })
}

/// Serves `router` until shutdown; requests under way are answered first. Handlers may ask for
/// `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// [`HttpError::Serve`].
pub async fn serve_tcp(router: Router, listener: TcpListener, shutdown: CancellationToken) -> Result<(), HttpError> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await.map_err(HttpError::Serve)
}

/// Listens on a Unix socket that only its owner may use. One that a dead process left is replaced.
///
/// # Errors
/// [`HttpError::SocketInUse`] when somebody answers there; [`HttpError::Listen`].
pub async fn bind_unix(path: &Path) -> Result<UnixListener, HttpError> {
    let failed = |source| HttpError::Listen { address: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(HttpError::SocketInUse { path: path.to_owned() });
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

/// Serves `router` on a Unix socket until shutdown, and removes the socket.
///
/// # Errors
/// As [`bind_unix`], or [`HttpError::Serve`].
pub async fn serve_unix(router: Router, path: &Path, shutdown: CancellationToken) -> Result<(), HttpError> {
    let listener = bind_unix(path).await?;
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    // It may be gone already; a stale one is replaced at the next start.
    let _ = std::fs::remove_file(path);
    served.map_err(HttpError::Serve)
}

/// Serves `router` on one connection (HTTP/1.1 or HTTP/2 without TLS) to its end or until shutdown.
pub async fn serve_stream<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request).await }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn router() -> Router {
        Router::new().route("/", get(|| async { "hello" }))
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let shutdown = CancellationToken::new();
        let first = bind_unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert!(matches!(bind_unix(&path).await, Err(HttpError::SocketInUse { .. })));
        drop(first);
        let serving = tokio::spawn({
            let (path, shutdown) = (path.clone(), shutdown.clone());
            async move { serve_unix(router(), &path, shutdown).await }
        });
        let stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(ask(stream).await.ends_with("hello"));
        shutdown.cancel();
        serving.await.unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn one_accepted_connection_is_served() {
        let (client, server) = tokio::io::duplex(4096);
        tokio::spawn(serve_stream(server, router(), CancellationToken::new()));
        assert!(ask(client).await.ends_with("hello"));
    }
}
