//! The two ports: TLS for the world, plain NBD for this machine. Each connection becomes a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::status::EnrollmentStatus;
use nbd::channel::{self, Channel};
use nbd::server::{Command, CommandRecord, ConnectionObserver, ServeOptions, serve_connection};
use store::{Store, vma_enrollments};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::{Accepted, AcceptedNbd, FrontPreface, Incoming, PeerIdentity, Refusal, Route, TunnelStream, refusal};

use crate::config::GatewayConfig;
use crate::connections::{Connection, ConnectionGuard, Connections};
use crate::exports::{Peer, PeerExports};
use crate::forward::forward;
use crate::replicas::Replicas;
use crate::room::Room;

/// Connections to the local port at once; further ones wait in the system's queue.
const MAX_LOCAL_CONNECTIONS: usize = 256;
/// Pause after the system gave no connection (too many open files): the next attempt would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) store: Store,
    pub(crate) connections: Arc<Connections>,
    pub(crate) replicas: Arc<Replicas>,
    /// For HTTP of unknown peers.
    pub(crate) public_room: Arc<Room>,
    pub(crate) shutdown: CancellationToken,
}

impl Listener {
    /// Serves one connection of the TLS port to its end.
    pub(crate) async fn handle(&self, incoming: Incoming) {
        let Accepted { route, stream, remote } = match incoming {
            Incoming::Nbd(accepted) => return self.handle_nbd(*accepted).await,
            Incoming::Stream(accepted) => *accepted,
        };
        match &route {
            // The acceptor hands these over as channels.
            Route::Nbd(_) => {}
            Route::AgentControl(peer) => match self.refusal_of(peer).await {
                None => self.forward(stream, &route, remote).await,
                Some(reason) => refusal::refuse(stream, reason).await,
            },
            Route::Http => match self.public_room.enter(remote.ip()) {
                Some(_place) => self.forward(stream, &route, remote).await,
                None => tracing::info!(%remote, "too many HTTP connections; this one is closed"),
            },
        }
    }

    async fn handle_nbd(&self, accepted: AcceptedNbd) {
        let AcceptedNbd { peer, channel, remote } = accepted;
        let enrollment_id = peer.enrollment_id.clone();
        // Entered before its enrolment is looked up: a revocation is seen there or finds this to cut.
        let guard = self.connections.enter(remote, Some(enrollment_id.clone()), &self.shutdown);
        match self.refusal_of(&peer).await {
            None => self.serve_nbd(channel, guard, Peer::Agent { enrollment_id }).await,
            Some(reason) => refusal::refuse_channel(channel, reason).await,
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

    async fn serve_nbd(&self, channel: impl Channel + 'static, guard: ConnectionGuard, peer: Peer) {
        let connection = Arc::clone(guard.connection());
        let remote = connection.remote();
        let exports =
            Arc::new(PeerExports::new(self.store.clone(), Arc::clone(&self.replicas), peer, Arc::clone(&connection)));
        let options = ServeOptions {
            shutdown: connection.cut_token().clone(),
            observer: Arc::new(Counting { connection }),
            ..ServeOptions::default()
        };
        match serve_connection(channel, exports, options).await {
            Ok(end) => tracing::debug!(%remote, ?end, "NBD connection ended"),
            Err(error) => tracing::info!(error = &error as &dyn std::error::Error, %remote, "NBD connection broke"),
        }
    }

    /// Serves plain NBD on the local port until shutdown.
    pub(crate) async fn serve_local(self, listener: TcpListener) {
        let (room, tasks) = (Arc::new(Semaphore::new(MAX_LOCAL_CONNECTIONS)), TaskTracker::new());
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = self.shutdown.cancelled() => break,
                next = next => next,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a local connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !remote.ip().is_loopback() {
                tracing::warn!(%remote, "plain NBD is only for this machine");
                continue;
            }
            let this = self.clone();
            tasks.spawn(async move {
                let peer = Peer::Local { may_write: this.config.local_writes };
                let guard = this.connections.enter(remote, None, &this.shutdown);
                match channel::tcp(stream) {
                    Ok(channel) => this.serve_nbd(channel, guard, peer).await,
                    Err(error) => tracing::warn!(%error, %remote, "a local connection cannot be served"),
                }
                drop(permit);
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
    fn command_done(&self, record: &CommandRecord) {
        self.connection.add_device_time(record.device_time);
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
