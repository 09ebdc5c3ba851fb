//! Taking connections on the hub's one port: the ClientHello chooses the route, one deadline bounds the handshake.
//!
//! What happens on a connection afterwards, and whether its enrolment may do it, is the caller's.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::server::Acceptor as HelloReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::PeerIdentity;
use crate::error::TunnelError;
use crate::route::{Route, RouteClass};
use crate::socket;
use crate::tls::server::ServerTls;

/// A decrypted connection on the hub.
pub type TunnelStream = tokio_rustls::server::TlsStream<TcpStream>;

/// After the system could not give a connection (too many open files): before it is asked again.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What unauthenticated peers may occupy.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// From the TCP connection to the finished TLS handshake.
    pub handshake_deadline: Duration,
    /// Handshakes at one time; further connections wait in the system's queue.
    pub max_handshakes: usize,
    /// Handshakes at one time from one address; further ones are closed.
    pub max_handshakes_per_address: usize,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self { handshake_deadline: Duration::from_secs(10), max_handshakes: 256, max_handshakes_per_address: 64 }
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// Where it goes, and who is on it.
    pub route: Route,
    /// The decrypted bytes.
    pub stream: TunnelStream,
    /// Where it came from.
    pub remote: SocketAddr,
}

/// Does the handshakes.
#[derive(Debug)]
pub struct Acceptor {
    tls: Arc<ServerTls>,
    limits: AcceptLimits,
    handshakes: Arc<Semaphore>,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Acceptor {
    /// An acceptor with the certificates of `tls`, which may be replaced meanwhile.
    #[must_use]
    pub fn new(tls: Arc<ServerTls>, limits: AcceptLimits) -> Self {
        let handshakes = Arc::new(Semaphore::new(limits.max_handshakes));
        Self { tls, limits, handshakes, per_address: Mutex::default() }
    }

    /// Does the handshake on a fresh TCP connection.
    ///
    /// # Errors
    /// When the peer is too slow, does not speak TLS 1.3, holds no certificate of our CA where one is required, or one
    /// that names no enrolment. The connection is closed then.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Accepted, TunnelError> {
        self.within_deadline(tcp, None).await
    }

    /// Takes connections from `listener` until shutdown and gives each finished one to `handle`, in a task of its own.
    /// Failed handshakes are logged. Returns when all handlers have ended: they must watch the same shutdown.
    pub async fn serve<H, F>(self: Arc<Self>, listener: TcpListener, handle: H, shutdown: CancellationToken)
    where
        H: Fn(Accepted) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = Arc::new(handle);
        let connections = TaskTracker::new();
        while let Some((tcp, permit)) = self.next(&listener, &shutdown).await {
            let (acceptor, handle, shutdown) = (Arc::clone(&self), Arc::clone(&handle), shutdown.clone());
            connections.spawn(async move {
                let accepted = tokio::select! {
                    () = shutdown.cancelled() => return,
                    accepted = acceptor.within_deadline(tcp, Some(permit)) => accepted,
                };
                match accepted {
                    Ok(accepted) => handle(accepted).await,
                    Err(error) => tracing::info!(error = &error as &dyn std::error::Error, "connection not taken"),
                }
            });
        }
        connections.close();
        connections.wait().await;
    }

    /// Waits for room, then for a connection: what cannot be served stays in the system's queue.
    async fn next(
        &self,
        listener: &TcpListener,
        shutdown: &CancellationToken,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        loop {
            let taken = async {
                let permit = Arc::clone(&self.handshakes).acquire_owned().await.ok()?;
                Some((listener.accept().await, permit))
            };
            let (accepted, permit) = tokio::select! {
                () = shutdown.cancelled() => return None,
                taken = taken => taken?,
            };
            match accepted {
                Ok((tcp, _)) => return Some((tcp, permit)),
                Err(error) => {
                    tracing::warn!(%error, "the system gives no connection");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn within_deadline(
        &self,
        tcp: TcpStream,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Accepted, TunnelError> {
        let remote = tcp.peer_addr().map_err(|source| TunnelError::PeerHandshake { remote: unknown(), source })?;
        let after = self.limits.handshake_deadline;
        let handshake = async {
            let _permit = match permit {
                Some(permit) => Ok(permit),
                None => Arc::clone(&self.handshakes).acquire_owned().await,
            };
            self.handshake(tcp, remote).await
        };
        tokio::time::timeout(after, handshake).await.unwrap_or(Err(TunnelError::HandshakeTimeout { remote, after }))
    }

    async fn handshake(&self, tcp: TcpStream, remote: SocketAddr) -> Result<Accepted, TunnelError> {
        let _slot = self.slot(remote)?;
        let failed = |source: io::Error| TunnelError::PeerHandshake { remote, source };
        socket::prepare(&tcp).map_err(failed)?;
        let hello = LazyConfigAcceptor::new(HelloReader::default(), tcp).await.map_err(failed)?;
        let class = hello.client_hello().alpn().map_or(RouteClass::Http, RouteClass::of);
        let stream = hello.into_stream(self.tls.config(class)).await.map_err(failed)?;
        let route = match class {
            RouteClass::Http => Route::Http,
            RouteClass::Nbd => Route::Nbd(peer_identity(&stream, remote)?),
            RouteClass::AgentControl => Route::AgentControl(peer_identity(&stream, remote)?),
        };
        Ok(Accepted { route, stream, remote })
    }

    fn slot(&self, remote: SocketAddr) -> Result<AddressSlot<'_>, TunnelError> {
        let address = remote.ip();
        let mut counts = self.per_address.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limits.max_handshakes_per_address {
            return Err(TunnelError::TooManyHandshakes { remote });
        }
        *count += 1;
        Ok(AddressSlot { counts: &self.per_address, address })
    }
}

/// One handshake of an address; it is counted until this is dropped.
struct AddressSlot<'a> {
    counts: &'a Mutex<HashMap<IpAddr, usize>>,
    address: IpAddr,
}

impl Drop for AddressSlot<'_> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let left = counts.get_mut(&self.address).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            counts.remove(&self.address);
        }
    }
}

fn peer_identity(stream: &TunnelStream, remote: SocketAddr) -> Result<PeerIdentity, TunnelError> {
    let refused = |reason| TunnelError::PeerCertificate { remote, reason };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or_else(|| refused("there is none".to_owned()))?;
    PeerIdentity::from_certificate(certificate).map_err(refused)
}

/// Stands for the address of a peer that is gone before it could be asked for.
fn unknown() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}
