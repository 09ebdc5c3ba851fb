//! The TLS handshake of a data plane's connection: rustls's machine, its bytes moved over a socket, and the keys it ends
//! with handed to a [`TlsChannel`].

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ExtractedSecrets, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::channel::{KeySchedule, TlsChannel};

/// Longest handshake taken, in bytes, of one side: certificates and a hybrid key exchange need a few KiB.
pub(crate) const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// A connection whose handshake is done.
pub(crate) struct Shaken {
    pub(crate) channel: TlsChannel,
    /// The other side's own.
    pub(crate) certificate: Option<CertificateDer<'static>>,
    /// The protocol that was agreed on.
    pub(crate) protocol: Option<Vec<u8>>,
}

/// Does the client's side on a fresh connection.
pub(crate) async fn client(tcp: TcpStream, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Shaken> {
    let side = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    shake(side, tcp, Vec::new()).await
}

/// Does the server's side; `received` is the client's first message.
pub(crate) async fn server(tcp: TcpStream, config: Arc<ServerConfig>, received: Vec<u8>) -> io::Result<Shaken> {
    let side = UnbufferedServerConnection::new(config).map_err(invalid)?;
    shake(side, tcp, received).await
}

/// Either side of rustls's machine.
trait Side: Sized {
    type Data;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn peer_certificate(&self) -> Option<CertificateDer<'static>>;
    fn protocol(&self) -> Option<Vec<u8>>;
    fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error>;
}

macro_rules! side {
    ($connection:ty, $data:ty) => {
        impl Side for $connection {
            type Data = $data;

            fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, $data> {
                self.process_tls_records(incoming)
            }

            fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
                self.peer_certificates()?.first().map(|certificate| certificate.clone().into_owned())
            }

            fn protocol(&self) -> Option<Vec<u8>> {
                self.alpn_protocol().map(<[u8]>::to_vec)
            }

            fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error> {
                let (secrets, keys) = self.dangerous_into_kernel_connection()?;
                Ok((secrets, Box::new(keys)))
            }
        }
    };
}

side!(UnbufferedClientConnection, ClientConnectionData);
side!(UnbufferedServerConnection, ServerConnectionData);

/// What the machine wants next.
enum Next {
    Again,
    Send,
    Receive,
    Done,
}

async fn shake<S: Side>(mut side: S, mut tcp: TcpStream, mut incoming: Vec<u8>) -> io::Result<Shaken> {
    let mut outgoing = Vec::new();
    loop {
        let UnbufferedStatus { discard, state } = side.process(&mut incoming);
        let next = match state {
            Ok(state) => step(state, &mut outgoing),
            Err(error) => {
                tell_why(&mut side, &mut tcp, &mut incoming[discard..], &mut outgoing).await;
                return Err(invalid(error));
            }
        }?;
        incoming.drain(..discard);
        match next {
            Next::Again => {}
            Next::Send => {
                tcp.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Next::Receive if incoming.len() >= MAX_HANDSHAKE_BYTES => return Err(io::ErrorKind::InvalidData.into()),
            Next::Receive => {
                if tcp.read_buf(&mut incoming).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Next::Done => break,
        }
    }
    let (certificate, protocol) = (side.peer_certificate(), side.protocol());
    let (secrets, keys) = side.into_keys().map_err(invalid)?;
    let tcp = tcp.into_std()?;
    tcp.set_nonblocking(false)?;
    Ok(Shaken { channel: TlsChannel::new(tcp, &secrets, keys, &incoming)?, certificate, protocol })
}

fn step<D>(state: ConnectionState<'_, '_, D>, outgoing: &mut Vec<u8>) -> io::Result<Next> {
    match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let end = outgoing.len();
            let length = match message.encode(&mut []) {
                Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
                Err(error) => return Err(io::Error::other(error)),
                Ok(_nothing) => 0,
            };
            outgoing.resize(end + length, 0);
            if length > 0 {
                message.encode(&mut outgoing[end..]).map_err(io::Error::other)?;
            }
            Ok(Next::Again)
        }
        ConnectionState::TransmitTlsData(sent) => {
            sent.done();
            Ok(Next::Send)
        }
        ConnectionState::BlockedHandshake => Ok(Next::Receive),
        ConnectionState::WriteTraffic(_) => Ok(Next::Done),
        ConnectionState::PeerClosed | ConnectionState::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        // The server speaks first in everything that runs on these connections.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends the alert that says why the handshake ends. The peer may be gone.
async fn tell_why<S: Side>(side: &mut S, tcp: &mut TcpStream, incoming: &mut [u8], outgoing: &mut Vec<u8>) {
    while let Ok(state @ ConnectionState::EncodeTlsData(_)) = side.process(incoming).state {
        if step(state, outgoing).is_err() {
            return;
        }
    }
    let _ = tcp.write_all(outgoing).await;
    let _ = tcp.shutdown().await;
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
