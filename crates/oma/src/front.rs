//! What comes in: the gateway's hand-over socket and the local HTTP port. Each connection is served as what it is.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::front::FrontKind;
use tunnel::{FrontPreface, Refusal};

use crate::agents::session::{self, Peer};
use crate::error::OmaError;
use crate::serve::{Origin, serve_connection};
use crate::state::OmaState;

/// Connections served at once on each of the two listeners; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Only the service's user may hand connections over.
const MODE_PRIVATE: u32 = 0o600;
/// Pause after an `accept` that failed, which happens when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The two listeners, bound.
pub struct Front {
    gateway: UnixListener,
    local: TcpListener,
}

impl Front {
    /// Binds the front socket (replacing one that a dead process left) and the local port.
    ///
    /// # Errors
    /// [`OmaError::Listen`].
    pub async fn bind(front_socket: &Path, listen: SocketAddr) -> Result<Self, OmaError> {
        let gateway = bind_private(front_socket)
            .map_err(|source| OmaError::Listen { address: front_socket.display().to_string(), source })?;
        let local = TcpListener::bind(listen)
            .await
            .map_err(|source| OmaError::Listen { address: listen.to_string(), source })?;
        Ok(Self { gateway, local })
    }

    /// Where local HTTP is served: the configured address with its real port.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.local.local_addr()
    }

    /// Serves both until `shutdown`, then waits for the connections to end.
    pub async fn serve(self, state: OmaState, router: Router, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let served = async {
            tokio::join!(
                accept_from_gateway(self.gateway, &state, &router, &connections, &shutdown),
                accept_locally(self.local, &router, &connections, &shutdown),
            )
        };
        tokio::select! {
            _ = served => {}
            () = shutdown.cancelled() => {}
        }
        connections.close();
        connections.wait().await;
    }
}

fn bind_private(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(MODE_PRIVATE))?;
    Ok(listener)
}

async fn accept_from_gateway(
    listener: UnixListener,
    state: &OmaState,
    router: &Router,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
        let (state, router, shutdown) = (state.clone(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            serve_handed_over(stream, state, router, shutdown).await;
            drop(place);
        });
    }
}

async fn accept_locally(
    listener: TcpListener,
    router: &Router,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some((stream, remote)) = accepted(listener.accept().await).await else { continue };
        // Nagle's algorithm would hold small answers back; without the option they are only slower.
        let _ = stream.set_nodelay(true);
        let served = serve_connection(stream, router.clone(), Origin { remote, public: false }, shutdown.clone());
        connections.spawn(async move {
            served.await;
            drop(place);
        });
    }
}

async fn accepted<T>(outcome: io::Result<T>) -> Option<T> {
    match outcome {
        Ok(connection) => Some(connection),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Reads who it is and serves it as such.
async fn serve_handed_over(stream: UnixStream, state: OmaState, router: Router, shutdown: CancellationToken) {
    let (preface, stream) = match FrontPreface::read(stream).await {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a connection was not handed over properly");
            return;
        }
    };
    match (preface.kind, preface.enrollment_id, preface.fingerprint) {
        (FrontKind::Http, ..) => {
            serve_connection(stream, router, Origin { remote: preface.remote, public: true }, shutdown).await;
        }
        (FrontKind::Agent, Some(enrollment_id), Some(fingerprint)) => {
            let peer = Peer { enrollment_id, fingerprint, remote: preface.remote };
            session::serve(stream, peer, state, shutdown).await;
        }
        // The preface is checked to name both; should that ever change, nobody unnamed comes in.
        (FrontKind::Agent, ..) => tunnel::refusal::refuse(stream, Refusal::Unknown).await,
    }
}
