//! From a channel to an open export: the handshake's bytes moved between the channel and its state machine.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::{Lane, window_bytes};
use crate::channel::{Channel, Conversation};
use crate::error::NbdError;
use crate::limits::MIN_SPARE_BYTES;
use crate::proto::handshake::client::{
    ClientHandshake, MAX_OPTION_REPLY_BYTES, Opened, Progress, Wishes, encode_abort,
};
use crate::proto::handshake::{GREETING_BYTES, OPTION_REPLY_HEADER_BYTES, OptionReplyHeader};
use crate::proto::wire::ProtocolError;

/// How long the handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes kept of what the server sent: replies to writes are small, and what is read is copied from here.
const INTAKE_BYTES: usize = 8 * MIN_SPARE_BYTES;

impl Lane {
    /// Opens an export over a channel.
    ///
    /// # Errors
    /// When the other side is no NBD server, is too slow, or refuses the export.
    pub async fn open(channel: Box<dyn Channel>, export: &str, wishes: Wishes) -> Result<Self, NbdError> {
        let machine = ClientHandshake::open(export, wishes)?;
        let hangup = channel.hangup().map_err(|source| NbdError::Handshake { source })?;
        let export = export.to_owned();
        let mut opening = tokio::task::spawn_blocking(move || {
            let mut conversation = Conversation::new(channel, INTAKE_BYTES);
            let (opened, round_trip) = negotiate(&mut conversation, machine, &export)?;
            Ok(Self {
                conversation,
                opened,
                waiting: VecDeque::new(),
                bytes_under_way: 0,
                window_bytes: window_bytes(round_trip),
                next_cookie: 0,
                head: Vec::new(),
            })
        });
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, &mut opening).await {
            Ok(opened) => opened.unwrap_or(Err(NbdError::Closed)),
            Err(_elapsed) => {
                // Wakes the thread that waits.
                hangup.cut();
                Err(NbdError::HandshakeTimeout)
            }
        }
    }
}

/// Opens the export; answers also with the shortest time between an option and its reply, which is the link's round trip or
/// more.
fn negotiate(
    conversation: &mut Conversation<Box<dyn Channel>>,
    mut machine: ClientHandshake,
    export: &str,
) -> Result<(Opened, Duration), NbdError> {
    let failed = |source| NbdError::Handshake { source };
    let (mut asked, mut shortest) = (None, Duration::MAX);
    let mut progress = machine.on_greeting(&array::<GREETING_BYTES>(conversation)?)?;
    loop {
        match progress {
            Progress::Wait => {}
            Progress::Send(bytes) => {
                asked = Some(Instant::now());
                conversation.send(&[&bytes]).map_err(failed)?;
            }
            Progress::SendExportName(bytes, answer_bytes) => {
                conversation.send(&[&bytes]).map_err(failed)?;
                let mut answer = vec![0; answer_bytes];
                conversation.read_exact(&mut answer).map_err(failed)?;
                return Ok((machine.on_export_name_answer(&answer)?, shortest));
            }
            Progress::Opened(opened) => return Ok((opened, shortest)),
            Progress::Listed(_) => return Err(ProtocolError::Unexpected { what: "listing" }.into()),
            Progress::Refused(code, message) => {
                let _ = conversation.send(&[&encode_abort()]);
                return Err(NbdError::Refused { export: export.to_owned(), code, message });
            }
        }
        let header = OptionReplyHeader::decode(&array::<OPTION_REPLY_HEADER_BYTES>(conversation)?)?;
        // Only the first reply to an option tells; others may have waited here already.
        shortest = asked.take().map_or(shortest, |asked: Instant| asked.elapsed().min(shortest));
        if header.length > MAX_OPTION_REPLY_BYTES {
            let (length, limit) = (header.length.into(), MAX_OPTION_REPLY_BYTES.into());
            return Err(ProtocolError::TooLong { what: "a reply to an option", length, limit }.into());
        }
        let mut data = vec![0; usize::try_from(header.length).unwrap_or(0)];
        conversation.read_exact(&mut data).map_err(failed)?;
        progress = machine.on_reply(header, &data)?;
    }
}

fn array<const N: usize>(conversation: &mut Conversation<Box<dyn Channel>>) -> Result<[u8; N], NbdError> {
    let read = conversation.array().and_then(|found| found.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
    read.map_err(|source| NbdError::Handshake { source })
}
