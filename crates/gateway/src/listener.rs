//! The two ports: TLS for the world, plain NBD for this machine. Each connection becomes a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use model::status::EnrollmentStatus;
use nbd::server::Command;
use nbd::server::{CommandRecord, ConnectionObserver, ServeOptions, serve_connection};
use store::{Store, vma_enrollments};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::{Accepted, FrontPreface, PeerIdentity, Refusal, Route, TunnelStream, refusal};

use crate::config::GatewayConfig;
use crate::connections::{Connection, Connections};
use crate::exports::{Peer, PeerExports};
use crate::forward::forward;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) store: Store,
    pub(crate) connections: Arc<Connections>,
    pub(crate) shutdown: CancellationToken,
}

impl Listener {
    /// Serves one connection of the TLS port to its end.
    pub(crate) async fn handle(&self, accepted: Accepted) {
        let Accepted { route, stream, remote } = accepted;
        match &route {
            Route::Nbd(peer) => match self.refusal_of(peer).await {
                None => {
                    let exports = Peer::Agent { enrollment_id: peer.enrollment_id.clone() };
                    self.serve_nbd(stream, remote, exports).await;
                }
                Some(reason) => refusal::refuse(stream, reason).await,
            },
            Route::AgentControl(peer) => match self.refusal_of(peer).await {
                None => self.forward(stream, &route, remote).await,
                Some(reason) => refusal::refuse(stream, reason).await,
            },
            Route::Http => self.forward(stream, &route, remote).await,
        }
    }

    /// Why an agent with a valid certificate is turned away all the same; asked for every connection.
    async fn refusal_of(&self, peer: &PeerIdentity) -> Option<Refusal> {
        match vma_enrollments::by_fingerprint(&self.store, &peer.fingerprint).await {
            Ok(Some(row)) if row.id == peer.enrollment_id => match *row.status {
                EnrollmentStatus::Approved => None,
                EnrollmentStatus::Revoked => Some(Refusal::Revoked),
                _ => Some(Refusal::NotApproved),
            },
            Ok(_) => Some(Refusal::Unknown),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look up an agent");
                Some(Refusal::Busy)
            }
        }
    }

    async fn forward(&self, stream: TunnelStream, route: &Route, remote: SocketAddr) {
        let Some(preface) = FrontPreface::for_route(route, remote) else { return };
        let socket = self.config.front_socket();
        let forwarding = forward(stream, &preface, &socket);
        let outcome = tokio::select! {
            () = self.shutdown.cancelled() => return,
            outcome = forwarding => outcome,
        };
        if let Err(error) = outcome {
            tracing::warn!(error = &error as &dyn std::error::Error, %remote, "connection not forwarded");
        }
    }

    async fn serve_nbd<S>(&self, stream: S, remote: SocketAddr, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let enrollment_id = match &peer {
            Peer::Agent { enrollment_id } => Some(enrollment_id.clone()),
            Peer::Local { .. } => None,
        };
        let guard = self.connections.enter(remote, enrollment_id, &self.shutdown);
        let connection = Arc::clone(guard.connection());
        let options = ServeOptions {
            shutdown: connection.cut_token().clone(),
            observer: Arc::new(Counting { connection }),
            ..ServeOptions::default()
        };
        let exports = Arc::new(PeerExports::new(self.store.clone(), peer));
        match serve_connection(stream, exports, options).await {
            Ok(end) => tracing::debug!(%remote, ?end, "NBD connection ended"),
            Err(error) => tracing::info!(error = &error as &dyn std::error::Error, %remote, "NBD connection broke"),
        }
    }

    /// Serves plain NBD on the local port until shutdown.
    pub(crate) async fn serve_local(self, listener: TcpListener) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, remote)) = accepted else { continue };
            if !remote.ip().is_loopback() {
                tracing::warn!(%remote, "plain NBD is only for this machine");
                continue;
            }
            let this = self.clone();
            tasks.spawn(async move {
                let peer = Peer::Local { may_write: this.config.local_writes };
                this.serve_nbd(stream, remote, peer).await;
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

/// Counts what a connection moves.
struct Counting {
    connection: Arc<Connection>,
}

impl ConnectionObserver for Counting {
    fn export_opened(&self, name: &str) {
        self.connection.chose(name);
    }

    fn command_done(&self, record: &CommandRecord) {
        if record.error.is_some() {
            return;
        }
        match record.command {
            Command::Read => self.connection.add_read(record.length),
            Command::Write => self.connection.add_written(record.length),
            _ => {}
        }
    }
}
