//! What comes in: the gateway's hand-over socket and the local HTTP port. Each connection is served as what it is.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use runtime::http::{MAX_CONNECTIONS, bind_loopback, bind_unix, serve_stream_from, serve_tcp};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::front::FrontKind;
use tunnel::{FrontPreface, Refusal};

use crate::agents::session::{self, Peer};
use crate::error::OmaError;
use crate::origin::locally;
use crate::state::OmaState;

/// Pause after an `accept` that failed, which happens when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The two listeners, bound.
pub struct Front {
    gateway: UnixListener,
    local: TcpListener,
}

impl Front {
    /// Binds the front socket (replacing one that a dead process left) and the local port.
    ///
    /// # Errors
    /// [`OmaError::Listening`].
    pub async fn bind(front_socket: &Path, listen: SocketAddr) -> Result<Self, OmaError> {
        Ok(Self { gateway: bind_unix(front_socket).await?, local: bind_loopback(listen).await? })
    }

    /// Where local HTTP is served: the configured address with its real port.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.local.local_addr()
    }

    /// Serves both until `shutdown`, then waits for the connections to end.
    ///
    /// # Errors
    /// [`OmaError::Listening`] when the local port broke; both end then.
    pub async fn serve(self, state: OmaState, router: Router, shutdown: CancellationToken) -> Result<(), OmaError> {
        // A half that ends early takes the other one with it.
        let stop = shutdown.child_token();
        let local = async {
            let served = serve_tcp(locally(router.clone()), self.local, stop.clone()).await;
            stop.cancel();
            served
        };
        let (served, ()) = tokio::join!(local, serve_gateway(self.gateway, state, router.clone(), stop.clone()));
        Ok(served?)
    }
}

async fn serve_gateway(listener: UnixListener, state: OmaState, router: Router, shutdown: CancellationToken) {
    let (room, connections) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = serve_handed_over(stream, state.clone(), router.clone(), shutdown.clone());
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the gateway's connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
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
            serve_stream_from(stream, preface.remote, router, shutdown).await;
        }
        (FrontKind::Agent, Some(enrollment_id), Some(fingerprint)) => {
            let peer = Peer { enrollment_id, fingerprint, remote: preface.remote };
            session::serve(stream, peer, state, shutdown).await;
        }
        // The preface is checked to name both; should that ever change, nobody unnamed comes in.
        (FrontKind::Agent, ..) => tunnel::refusal::refuse(stream, Refusal::Unknown).await,
    }
}
