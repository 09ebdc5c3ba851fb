//! The agent's side of the one port: dialling the hub for NBD, for the control connection, and for plain HTTPS.
//!
//! In TLS 1.3 a client is done before the server has looked at its certificate, so a dial for NBD or control ends only
//! when the hub's first byte is there: both protocols begin on the hub's side. What a hub refuses is said here, with its
//! reason, and not by whoever reads first.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::client::{ResponseBody, Transport, TransportError};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use model::CompressionMode;
use nbd::channel::Channel;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::channel::TlsChannel;
use crate::data::{DataChannel, DataLink};
use crate::error::TunnelError;
use crate::h2_connection::H2Connection;
use crate::handshake::{self, Shaken};
use crate::identity::AgentIdentity;
use crate::refusal::{MAX_REFUSAL_BYTES, REFUSAL_PREFIX, Refusal};
use crate::route::{ALPN_AGENT, ALPN_HTTP2, ALPN_NBD, ALPN_NBD_ZSTD};
use crate::socket;
use crate::stall::{Pulse, STALL_DEADLINE};
use crate::tls::client::{HubTrust, agent_config, http_config};

/// A decrypted connection on the agent.
pub type HubStream = tokio_rustls::client::TlsStream<TcpStream>;

/// The hub's port.
pub const DEFAULT_HUB_PORT: u16 = 443;
/// For the TCP connection, over all addresses of the name.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For the TLS handshake.
const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// For the hub's first byte.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);

const INVALID_HOST: &str = "the host is neither a DNS name nor an IP address";

/// Host and port of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    host: String,
    port: u16,
}

impl HubAddress {
    /// Reads `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; without a port it is 443.
    ///
    /// # Errors
    /// [`TunnelError::HubAddress`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, TunnelError> {
        let wrong = |reason| TunnelError::HubAddress { text: text.to_owned(), reason };
        let trimmed = text.trim();
        let (host, port) = match trimmed.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong("a closing bracket is missing"))?,
            None if trimmed.matches(':').count() > 1 => (trimmed, ""),
            None => trimmed.find(':').map_or((trimmed, ""), |at| trimmed.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?,
            None if port.is_empty() => DEFAULT_HUB_PORT,
            None => return Err(wrong("something else than a port follows the bracket")),
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        ServerName::try_from(host.to_owned()).map_err(|_| wrong(INVALID_HOST))?;
        Ok(Self { host: host.to_owned(), port })
    }

    fn server_name(&self) -> Result<ServerName<'static>, TunnelError> {
        ServerName::try_from(self.host.clone()).map_err(|_| self.invalid_host())
    }

    fn invalid_host(&self) -> TunnelError {
        TunnelError::HubAddress { text: self.to_string(), reason: INVALID_HOST }
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

struct AgentTls {
    nbd: Arc<ClientConfig>,
    /// NBD in frames, or as it is with a hub that knows no frames.
    nbd_zstd: Arc<ClientConfig>,
    control: Arc<ClientConfig>,
}

/// Dials the hub as an enrolled agent.
pub struct Dialer {
    hub: HubAddress,
    tls: ArcSwap<AgentTls>,
    /// Of all data connections: one that waits is no trouble while another moves.
    pulse: Arc<Pulse>,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Dialer {
    /// A dialer with this identity.
    ///
    /// # Errors
    /// When rustls does not take the key or certificate.
    pub fn new(hub: HubAddress, identity: &AgentIdentity) -> Result<Self, TunnelError> {
        Ok(Self { hub, tls: ArcSwap::from_pointee(agent_tls(identity)?), pulse: Pulse::new(STALL_DEADLINE) })
    }

    /// Uses a renewed identity for every dial from now on.
    ///
    /// # Errors
    /// See [`Dialer::new`]; the old one then stays in use.
    pub fn replace_identity(&self, identity: &AgentIdentity) -> Result<(), TunnelError> {
        self.tls.store(Arc::new(agent_tls(identity)?));
        Ok(())
    }

    /// The hub that is dialled.
    #[must_use]
    pub fn hub(&self) -> &HubAddress {
        &self.hub
    }

    /// A connection for NBD whose first bytes from the server are there, unread. It is for a thread of its own. A wait on
    /// it fails when no data connection of this dialer has moved a byte for half a minute.
    ///
    /// # Errors
    /// Who could not be reached, trusted or persuaded; see [`TunnelError`].
    pub async fn dial_nbd(&self) -> Result<TlsChannel, TunnelError> {
        let config = Arc::clone(&self.tls.load().nbd);
        Ok(self.dial_channel(config).await?.channel)
    }

    /// The same as [`Dialer::dial_nbd`], compressed, counted and held back as `link` says.
    ///
    /// # Errors
    /// See [`Dialer::dial_nbd`].
    pub async fn dial_data(&self, link: &DataLink) -> Result<DataChannel, TunnelError> {
        let tls = self.tls.load();
        let config = if link.compression == CompressionMode::Off { &tls.nbd } else { &tls.nbd_zstd };
        let shaken = self.dial_channel(Arc::clone(config)).await?;
        Ok(DataChannel::dialled(shaken, link))
    }

    async fn dial_channel(&self, config: Arc<ClientConfig>) -> Result<Shaken, TunnelError> {
        let (name, tcp) = (self.hub.server_name()?, connect_tcp(&self.hub).await?);
        let shaken = tokio::time::timeout(TLS_DEADLINE, handshake::client(tcp, config, name))
            .await
            .map_err(|_| silent(&self.hub, "agreeing on TLS", TLS_DEADLINE))?
            .and_then(|shaken| {
                let channel = shaken.channel.watched(Arc::clone(&self.pulse))?;
                Ok(Shaken { channel, ..shaken })
            })
            .map_err(|error| explained(&self.hub, error))?;
        let hangup = shaken.channel.hangup().map_err(|error| explained(&self.hub, error))?;
        let hub = self.hub.clone();
        let mut greeted = tokio::task::spawn_blocking(move || greeted(shaken, &hub));
        match tokio::time::timeout(GREETING_DEADLINE, &mut greeted).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(_panicked)) => Err(TunnelError::HubClosedEarly { hub: self.hub.to_string() }),
            Err(_elapsed) => {
                // Wakes the thread that waits.
                hangup.cut();
                Err(silent(&self.hub, "waiting for the hub's first word", GREETING_DEADLINE))
            }
        }
    }

    /// The same as [`Dialer::dial_nbd`], as a stream for tasks: for whoever only passes the bytes on.
    ///
    /// # Errors
    /// See [`Dialer::dial_nbd`].
    pub async fn dial_nbd_stream(&self) -> Result<HubStream, TunnelError> {
        let config = Arc::clone(&self.tls.load().nbd);
        self.dial(config).await
    }

    /// A connection on which the hub's HTTP/2 client has begun to speak; see [`crate::serve_control`].
    ///
    /// # Errors
    /// See [`Dialer::dial_nbd`].
    pub async fn dial_control(&self) -> Result<HubStream, TunnelError> {
        let config = Arc::clone(&self.tls.load().control);
        self.dial(config).await
    }

    async fn dial(&self, config: Arc<ClientConfig>) -> Result<HubStream, TunnelError> {
        let mut stream = connect(&self.hub, config).await?;
        tokio::time::timeout(GREETING_DEADLINE, await_greeting(&mut stream, &self.hub))
            .await
            .unwrap_or_else(|_| Err(silent(&self.hub, "waiting for the hub's first word", GREETING_DEADLINE)))?;
        Ok(stream)
    }
}

fn agent_tls(identity: &AgentIdentity) -> Result<AgentTls, TunnelError> {
    Ok(AgentTls {
        nbd: Arc::new(agent_config(identity, &[ALPN_NBD])?),
        nbd_zstd: Arc::new(agent_config(identity, &[ALPN_NBD_ZSTD, ALPN_NBD])?),
        control: Arc::new(agent_config(identity, &[ALPN_AGENT])?),
    })
}

/// HTTP/2 to the hub's public API, for enrolment and renewal.
pub struct HubHttp {
    connection: H2Connection,
    hub_ca: CertificateDer<'static>,
}

impl HubHttp {
    /// The hub's CA: the one its chain ended in.
    #[must_use]
    pub fn hub_ca(&self) -> &CertificateDer<'static> {
        &self.hub_ca
    }
}

impl Transport for HubHttp {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<ResponseBody>, TransportError>> {
        self.connection.send(request)
    }
}

/// Opens an HTTP/2 connection to the hub, trusting only its CA; no client certificate is shown.
///
/// # Errors
/// Who could not be reached or trusted; see [`TunnelError`].
pub async fn dial_http(hub: &HubAddress, trust: HubTrust) -> Result<HubHttp, TunnelError> {
    let mut config = http_config(trust.clone())?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    let stream = connect(hub, Arc::new(config)).await?;
    let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let Some(hub_ca) = trust.anchor(sent).map(|anchor| anchor.clone().into_owned()) else {
        return Err(TunnelError::HubClosedEarly { hub: hub.to_string() });
    };
    let authority = Authority::try_from(hub.to_string()).map_err(|_| hub.invalid_host())?;
    let connection = H2Connection::open(stream, hub.to_string(), Scheme::HTTPS, authority).await?;
    Ok(HubHttp { connection, hub_ca })
}

async fn connect(hub: &HubAddress, config: Arc<ClientConfig>) -> Result<HubStream, TunnelError> {
    let (name, tcp) = (hub.server_name()?, connect_tcp(hub).await?);
    tokio::time::timeout(TLS_DEADLINE, TlsConnector::from(config).connect(name, tcp))
        .await
        .map_err(|_| silent(hub, "agreeing on TLS", TLS_DEADLINE))?
        .map_err(|error| explained(hub, error))
}

fn silent(hub: &HubAddress, doing: &'static str, after: Duration) -> TunnelError {
    TunnelError::HubSilent { hub: hub.to_string(), doing, after }
}

async fn connect_tcp(hub: &HubAddress) -> Result<TcpStream, TunnelError> {
    let unreachable = |source| TunnelError::HubUnreachable { hub: hub.to_string(), source };
    let tcp = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect((hub.host.as_str(), hub.port)))
        .await
        .map_err(|_| silent(hub, "opening a TCP connection", CONNECT_DEADLINE))?
        .map_err(unreachable)?;
    socket::prepare(&tcp).map_err(unreachable)?;
    Ok(tcp)
}

/// Waits for the first decrypted bytes and leaves them unread, unless they are a refusal.
async fn await_greeting(stream: &mut HubStream, hub: &HubAddress) -> Result<(), TunnelError> {
    let first = stream.fill_buf().await.map_err(|error| explained(hub, error))?.first().copied();
    let Some(first) = first else {
        return Err(TunnelError::HubClosedEarly { hub: hub.to_string() });
    };
    if Some(&first) != REFUSAL_PREFIX.as_bytes().first() {
        return Ok(());
    }
    let mut line = Vec::with_capacity(MAX_REFUSAL_BYTES);
    let bound = u64::try_from(MAX_REFUSAL_BYTES).unwrap_or(u64::MAX);
    stream.take(bound).read_until(b'\n', &mut line).await.map_err(|error| explained(hub, error))?;
    Err(refused(hub, &line))
}

/// The same for a connection of the data plane, on a thread that may wait.
fn greeted(mut shaken: Shaken, hub: &HubAddress) -> Result<Shaken, TunnelError> {
    let channel = &mut shaken.channel;
    let explained = |error| explained(hub, error);
    let Some(&first) = channel.first_bytes().map_err(explained)?.first() else {
        return Err(TunnelError::HubClosedEarly { hub: hub.to_string() });
    };
    if Some(&first) != REFUSAL_PREFIX.as_bytes().first() {
        return Ok(shaken);
    }
    loop {
        let line = channel.first_bytes().map_err(explained)?;
        if line.contains(&b'\n') || line.len() >= MAX_REFUSAL_BYTES {
            return Err(refused(hub, line));
        }
        if !channel.more_early().map_err(explained)? {
            return Err(refused(hub, channel.first_bytes().map_err(explained)?));
        }
    }
}

fn refused(hub: &HubAddress, line: &[u8]) -> TunnelError {
    let reason = Refusal::parse(line).unwrap_or(Refusal::Busy);
    TunnelError::Refused { hub: hub.to_string(), reason }
}

/// What a failure of TLS means for an agent.
pub(crate) fn explained(hub: &HubAddress, error: io::Error) -> TunnelError {
    let hub = hub.to_string();
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                TunnelError::HubClosedEarly { hub }
            }
            _ => TunnelError::HubHandshake { hub, source: error },
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(reason) if is_about_time(reason) => {
            TunnelError::HubCertificateExpired { hub, source: tls.clone().into() }
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            TunnelError::NotThePinnedHub { hub, source: tls.clone().into() }
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            TunnelError::AgentCertificateExpired { hub }
        }
        rustls::Error::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            TunnelError::AgentCertificateRefused { hub, source: tls.clone().into() }
        }
        _ => TunnelError::HubHandshake { hub, source: error },
    }
}

fn is_about_time(reason: &CertificateError) -> bool {
    matches!(
        reason,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateRequired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("hub.example", "hub.example:443"),
            (" hub.example:8443 ", "hub.example:8443"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("[2001:db8::1]", "[2001:db8::1]:443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
        ] {
            assert_eq!(HubAddress::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", ":443", "hub:0", "hub:65536", "hub:x", "[::1", "[::1]x", "https://hub", "a b", "hub/"] {
            let error = HubAddress::parse(text).unwrap_err();
            assert!(matches!(error, TunnelError::HubAddress { .. }) && error.remedy().is_some(), "{text}");
        }
    }
}
