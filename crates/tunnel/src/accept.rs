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
use rustls::server::{Accepted as Hello, Acceptor as HelloReader};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::StartHandshake;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificate::PeerIdentity;
use crate::data::DataChannel;
use crate::error::TunnelError;
use crate::handshake::{self, MAX_HANDSHAKE_BYTES};
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
pub enum Incoming {
    /// HTTP or an agent's control connection.
    Stream(Box<Accepted>),
    /// NBD.
    Nbd(Box<AcceptedNbd>),
}

impl Incoming {
    /// Where it goes, and who is on it.
    #[must_use]
    pub fn route(&self) -> Route {
        match self {
            Self::Stream(accepted) => accepted.route.clone(),
            Self::Nbd(accepted) => Route::Nbd(accepted.peer.clone()),
        }
    }
}

/// A connection of the data plane.
#[derive(Debug)]
pub struct AcceptedNbd {
    /// Who is on it.
    pub peer: PeerIdentity,
    /// The decrypted bytes, for a thread.
    pub channel: DataChannel,
    /// Where it came from.
    pub remote: SocketAddr,
}

/// A connection that is a stream for tasks.
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
    pub async fn accept(&self, tcp: TcpStream) -> Result<Incoming, TunnelError> {
        self.within_deadline(tcp, None).await
    }

    /// Takes connections from `listener` until shutdown and gives each finished one to `handle`, in a task of its own.
    /// Failed handshakes are logged. Returns when all handlers have ended: they must watch the same shutdown.
    pub async fn serve<H, F>(self: Arc<Self>, listener: TcpListener, handle: H, shutdown: CancellationToken)
    where
        H: Fn(Incoming) -> F + Send + Sync + 'static,
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
    ) -> Result<Incoming, TunnelError> {
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

    async fn handshake(&self, mut tcp: TcpStream, remote: SocketAddr) -> Result<Incoming, TunnelError> {
        let _slot = self.slot(remote)?;
        let failed = |source: io::Error| TunnelError::PeerHandshake { remote, source };
        socket::prepare(&tcp).map_err(failed)?;
        let (hello, received) = read_hello(&mut tcp).await.map_err(failed)?;
        let class = hello.client_hello().alpn().map_or(RouteClass::Http, RouteClass::of);
        let config = self.tls.config(class);
        if class == RouteClass::Nbd {
            let shaken = handshake::server(tcp, config, received).await.map_err(failed)?;
            let peer = peer_identity(shaken.certificate.as_ref(), remote)?;
            let channel = DataChannel::accepted(shaken);
            return Ok(Incoming::Nbd(Box::new(AcceptedNbd { peer, channel, remote })));
        }
        let stream = StartHandshake::from_parts(hello, tcp).into_stream(config).await.map_err(failed)?;
        let route = if class == RouteClass::AgentControl {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            Route::AgentControl(peer_identity(certificates.first(), remote)?)
        } else {
            Route::Http
        };
        Ok(Incoming::Stream(Box::new(Accepted { route, stream, remote })))
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

/// Reads the first message of a client, and keeps its bytes: a connection of the data plane is made from them anew.
async fn read_hello(tcp: &mut TcpStream) -> io::Result<(Hello, Vec<u8>)> {
    let mut reader = HelloReader::default();
    let mut received = Vec::new();
    loop {
        let known = received.len();
        if tcp.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = &received[known..];
        while !fresh.is_empty() {
            reader.read_tls(&mut fresh)?;
        }
        match reader.accept() {
            Ok(Some(hello)) => return Ok((hello, received)),
            Ok(None) if received.len() < MAX_HANDSHAKE_BYTES => {}
            Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
            Err((error, mut alert)) => {
                let mut told = Vec::new();
                let _ = alert.write(&mut told);
                // The peer may be gone.
                let _ = tcp.write_all(&told).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn peer_identity(certificate: Option<&CertificateDer<'_>>, remote: SocketAddr) -> Result<PeerIdentity, TunnelError> {
    let refused = |reason| TunnelError::PeerCertificate { remote, reason };
    let certificate = certificate.ok_or_else(|| refused("there is none".to_owned()))?;
    PeerIdentity::from_certificate(certificate).map_err(refused)
}

/// Stands for the address of a peer that is gone before it could be asked for.
fn unknown() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}
