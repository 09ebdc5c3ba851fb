//! The API's connections: served one by one, so that a fault can drop one or learn that its answer was written.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::CloudstackSimError;
use super::target_process::TargetProcess;

/// How long connections may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// When a process is killed although its answer does not leave: its receive buffer is full and it is stopped.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// A connection as far as faults reach into it.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    dropped: Notify,
    doomed: Mutex<Option<TargetProcess>>,
}

impl Connection {
    /// Ends the connection without another byte.
    pub(crate) fn drop_it(&self) {
        self.dropped.notify_one();
    }

    /// Kills the process once everything written so far, and the answer being made, has left this one.
    pub(crate) fn kill_when_written(self: Arc<Self>, process: TargetProcess) {
        *self.doomed.lock() = Some(process);
        tokio::spawn(async move {
            tokio::time::sleep(WRITE_LIMIT).await;
            self.all_is_written();
        });
    }

    fn all_is_written(&self) {
        if let Some(process) = self.doomed.lock().take() {
            process.kill();
        }
    }
}

/// Listens and serves until cancelled.
pub(crate) async fn serve(
    address: SocketAddr,
    router: Router,
    cancel: CancellationToken,
) -> Result<(SocketAddr, JoinHandle<()>), CloudstackSimError> {
    let failed = |source| CloudstackSimError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((bound, tokio::spawn(accept(listener, router, cancel))))
}

async fn accept(listener: TcpListener, router: Router, cancel: CancellationToken) {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else { continue };
        tracker.spawn(one_client(stream, router.clone(), cancel.clone()));
    }
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::debug!("connections of the simulated CloudStack did not end in time");
    }
}

async fn one_client(stream: TcpStream, router: Router, cancel: CancellationToken) {
    let connection = Arc::new(Connection::default());
    let service = TowerToHyperService::new(router.layer(Extension(Arc::clone(&connection))));
    let io = TokioIo::new(Watched { stream, connection: Arc::clone(&connection) });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = connection.dropped.notified() => return,
        () = cancel.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A socket that tells when it is shut down, which comes after the last byte of the last answer.
struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.all_is_written();
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.connection.all_is_written();
    }
}
