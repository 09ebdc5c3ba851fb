//! From an address to an open export: dialling, and the handshake's bytes moved between the stream and its state
//! machine.

use std::future::Future;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::pending::PendingRequests;
use super::receive::receive;
use super::send::Sender;
use super::{Client, ClientOptions, ListedExport};
use crate::error::NbdError;
use crate::frame::{FrameReader, write_all};
use crate::proto::handshake::client::{ClientHandshake, MAX_OPTION_REPLY_BYTES, Opened, Progress, encode_abort};
use crate::proto::handshake::{GREETING_BYTES, OPTION_REPLY_HEADER_BYTES, OptionReplyHeader};
use crate::proto::wire::ProtocolError;
use crate::uri::{Address, NbdUri};

/// How long connecting and the handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before the connection counts as dead, in milliseconds.
const UNACKNOWLEDGED_TIMEOUT_MS: u32 = 60_000;
/// How long a silent connection is left alone before it is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Either way to end a handshake.
enum Ended {
    Opened(Opened),
    Listed(Vec<ListedExport>),
}

pub(super) async fn dial(uri: &NbdUri, options: &ClientOptions) -> Result<Client, NbdError> {
    match &uri.address {
        Address::Tcp { .. } => {
            let (reader, writer) = tcp(&uri.address).await?.into_split();
            handshake(reader, writer, &uri.export, options).await
        }
        Address::Unix { .. } => {
            let (reader, writer) = unix(&uri.address).await?.into_split();
            handshake(reader, writer, &uri.export, options).await
        }
    }
}

/// The exports a server lists; the export of the URI does not matter.
///
/// # Errors
/// When the server cannot be reached, is no NBD server, or does not list.
pub async fn list_exports(uri: &NbdUri) -> Result<Vec<ListedExport>, NbdError> {
    let machine = ClientHandshake::list();
    match &uri.address {
        Address::Tcp { .. } => {
            let (reader, mut writer) = tcp(&uri.address).await?.into_split();
            listing(&mut FrameReader::new(reader), &mut writer, machine).await
        }
        Address::Unix { .. } => {
            let (reader, mut writer) = unix(&uri.address).await?.into_split();
            listing(&mut FrameReader::new(reader), &mut writer, machine).await
        }
    }
}

async fn listing<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    machine: ClientHandshake,
) -> Result<Vec<ListedExport>, NbdError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let ended = in_time(negotiate(reader, writer, machine, "")).await?;
    // The answer to the goodbye is of no interest.
    let _ = write_all(writer, &mut [IoSlice::new(&encode_abort())]).await;
    match ended {
        Ended::Listed(exports) => Ok(exports),
        Ended::Opened(_) => Err(ProtocolError::Unexpected { what: "opened export" }.into()),
    }
}

pub(super) async fn handshake<R, W>(
    reader: R,
    mut writer: W,
    export: &str,
    options: &ClientOptions,
) -> Result<Client, NbdError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let machine = ClientHandshake::open(export, options.wishes)?;
    let mut reader = FrameReader::new(reader);
    let Ended::Opened(opened) = in_time(negotiate(&mut reader, &mut writer, machine, export)).await? else {
        return Err(ProtocolError::Unexpected { what: "listing" }.into());
    };
    let pending = Arc::new(PendingRequests::default());
    let receiver = tokio::spawn(receive(reader, opened.clone(), Arc::clone(&pending)));
    Ok(Client {
        sender: Sender::new(Box::new(writer), opened.mode),
        opened,
        pending,
        slots: Semaphore::new(options.requests_in_flight.max(1)),
        receiver,
    })
}

async fn in_time<T>(work: impl Future<Output = Result<T, NbdError>>) -> Result<T, NbdError> {
    tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(|_elapsed| NbdError::HandshakeTimeout)?
}

async fn negotiate<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    mut machine: ClientHandshake,
    export: &str,
) -> Result<Ended, NbdError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let greeting = array::<GREETING_BYTES, _>(reader).await?;
    let mut progress = machine.on_greeting(&greeting)?;
    loop {
        match progress {
            Progress::Wait => {}
            Progress::Send(bytes) => send(writer, &bytes).await?,
            Progress::SendExportName(bytes, answer_bytes) => {
                send(writer, &bytes).await?;
                let mut answer = vec![0; answer_bytes];
                reader.read_exact(&mut answer).await.map_err(|source| NbdError::Handshake { source })?;
                return Ok(Ended::Opened(machine.on_export_name_answer(&answer)?));
            }
            Progress::Opened(opened) => return Ok(Ended::Opened(opened)),
            Progress::Listed(exports) => return Ok(Ended::Listed(exports)),
            Progress::Refused(code, message) => {
                let _ = send(writer, &encode_abort()).await;
                return Err(NbdError::Refused { export: export.to_owned(), code, message });
            }
        }
        let header = OptionReplyHeader::decode(&array::<OPTION_REPLY_HEADER_BYTES, _>(reader).await?)?;
        if header.length > MAX_OPTION_REPLY_BYTES {
            let (length, limit) = (header.length.into(), MAX_OPTION_REPLY_BYTES.into());
            return Err(ProtocolError::TooLong { what: "a reply to an option", length, limit }.into());
        }
        let mut data = vec![0; usize::try_from(header.length).unwrap_or(0)];
        reader.read_exact(&mut data).await.map_err(|source| NbdError::Handshake { source })?;
        progress = machine.on_reply(header, &data)?;
    }
}

async fn array<const N: usize, R: AsyncRead + Unpin>(reader: &mut FrameReader<R>) -> Result<[u8; N], NbdError> {
    let read = reader.array().await.and_then(|found| found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
    read.map_err(|source| NbdError::Handshake { source })
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Result<(), NbdError> {
    write_all(writer, &mut [IoSlice::new(bytes)]).await.map_err(|source| NbdError::Handshake { source })
}

async fn tcp(address: &Address) -> Result<TcpStream, NbdError> {
    let Address::Tcp { host, port } = address else { return Err(failed(address, io::ErrorKind::InvalidInput.into())) };
    let connecting = TcpStream::connect((host.as_str(), *port));
    let stream = in_connect_time(connecting).await.map_err(|source| failed(address, source))?;
    tune(&stream).map_err(|source| failed(address, source))?;
    Ok(stream)
}

/// Requests go out at once, and a peer that vanished is noticed.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_TIMEOUT_MS)?;
    Ok(())
}

async fn unix(address: &Address) -> Result<UnixStream, NbdError> {
    let Address::Unix { path } = address else { return Err(failed(address, io::ErrorKind::InvalidInput.into())) };
    in_connect_time(UnixStream::connect(path)).await.map_err(|source| failed(address, source))
}

async fn in_connect_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_elapsed| io::ErrorKind::TimedOut)?
}

fn failed(address: &Address, source: io::Error) -> NbdError {
    NbdError::Connect { address: address.to_string(), source }
}
