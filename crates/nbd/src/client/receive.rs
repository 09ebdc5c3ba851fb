//! The receiving half of a client's connection: a task that reads replies into the buffers of their requests.

use std::sync::Arc;

use block::region::push_merged;
use tokio::io::AsyncRead;

use super::pending::{Pending, PendingRequests};
use crate::error::NbdError;
use crate::frame::FrameReader;
use crate::proto::handshake::ReplyMode;
use crate::proto::handshake::client::Opened;
use crate::proto::transmission::{ChunkHeader, HOLE_BYTES, OFFSET_BYTES, ReplyHeader, decode_error, decode_status};
use crate::proto::wire::{Command, Input, MAX_PAYLOAD_BYTES, ProtocolError, chunk};

/// Longest chunk that is no data, in bytes: 2^20 regions in extended form, the most a server should send.
const MAX_OTHER_CHUNK_BYTES: u64 = 8 + 16 * (1 << 20);

/// Reads replies until the connection ends, then fails whatever still waits.
pub(super) async fn receive<R>(mut reader: FrameReader<R>, opened: Opened, pending: Arc<PendingRequests>)
where
    R: AsyncRead + Unpin,
{
    let mut receiver = Receiver { reader: &mut reader, opened: &opened, pending: &pending };
    let cause = loop {
        match receiver.reply().await {
            Ok(true) => {}
            Ok(false) => break NbdError::Closed,
            Err(error) => break error,
        }
    };
    pending.fail_all(cause);
}

struct Receiver<'a, R> {
    reader: &'a mut FrameReader<R>,
    opened: &'a Opened,
    pending: &'a PendingRequests,
}

impl<R: AsyncRead + Unpin> Receiver<'_, R> {
    /// Reads one reply or chunk; `false` when the stream ended between two.
    async fn reply(&mut self) -> Result<bool, NbdError> {
        let failed = |source| NbdError::Stream { source };
        if !self.reader.wait_for(4).await.map_err(failed)? {
            return Ok(false);
        }
        let magic = self.reader.peek(4).first_chunk().copied().unwrap_or_default();
        let length = ReplyHeader::header_bytes(magic, self.opened.mode)?;
        self.reader.wait_for(length).await.map_err(failed)?;
        let header = ReplyHeader::decode(self.reader.take(length))?;
        let (ReplyHeader::Simple { cookie, .. } | ReplyHeader::Chunk(ChunkHeader { cookie, .. })) = header;
        let mut request = self.pending.take(cookie).ok_or(ProtocolError::UnknownCookie { cookie })?;
        let outcome = match header {
            ReplyHeader::Simple { errno, .. } => {
                request.failure = errno.map(|errno| (errno, String::new()));
                self.simple(&mut request).await.map(|()| true)
            }
            ReplyHeader::Chunk(header) => self.chunk(header, &mut request).await.map(|()| header.done),
        };
        match outcome.and_then(|done| if done { complete(&request).map(|()| true) } else { Ok(false) }) {
            Ok(true) => request.finish(Ok(())),
            Ok(false) => self.pending.put_back(cookie, request),
            // Back among the others: it fails with them, for the same cause.
            Err(error) => {
                self.pending.put_back(cookie, request);
                return Err(error);
            }
        }
        Ok(true)
    }

    async fn simple(&mut self, request: &mut Pending) -> Result<(), NbdError> {
        if request.command != Command::Read || request.failure.is_some() {
            return Ok(());
        }
        if self.opened.mode != ReplyMode::Simple {
            return Err(ProtocolError::Unexpected { what: "simple reply to a read" }.into());
        }
        request.received_bytes = request.length;
        let buffer = &mut request.completed.buffer;
        self.reader.read_exact(buffer).await.map_err(|source| NbdError::Stream { source })
    }

    async fn chunk(&mut self, header: ChunkHeader, request: &mut Pending) -> Result<(), NbdError> {
        let stream_failed = |source| NbdError::Stream { source };
        if header.kind == chunk::OFFSET_DATA && request.command == Command::Read {
            let length = header.length.checked_sub(OFFSET_BYTES).filter(|&length| length > 0);
            let length = length.ok_or(ProtocolError::Malformed { what: "data chunk" })?;
            let offset = self.reader.array().await.map_err(stream_failed)?.map(u64::from_be_bytes);
            let place = place_in(request, offset.unwrap_or(u64::MAX), length)?;
            return self.reader.read_exact(&mut request.completed.buffer[place]).await.map_err(stream_failed);
        }
        if header.length > MAX_OTHER_CHUNK_BYTES {
            let (length, limit) = (header.length, MAX_OTHER_CHUNK_BYTES);
            return Err(ProtocolError::TooLong { what: "a chunk", length, limit }.into());
        }
        let mut payload = vec![0; usize::try_from(header.length).unwrap_or(0)];
        self.reader.read_exact(&mut payload).await.map_err(stream_failed)?;
        self.small_chunk(header, &payload, request)
    }

    fn small_chunk(&self, header: ChunkHeader, payload: &[u8], request: &mut Pending) -> Result<(), NbdError> {
        match (header.kind, request.command) {
            (chunk::NONE, _) if header.done && payload.is_empty() => Ok(()),
            (chunk::OFFSET_HOLE, Command::Read) if header.length == HOLE_BYTES => {
                let mut input = Input::new(payload, "hole chunk");
                let (offset, length) = (input.u64()?, input.u32()?.into());
                let place = place_in(request, offset, length)?;
                request.completed.buffer[place].fill(0);
                Ok(())
            }
            (chunk::BLOCK_STATUS | chunk::BLOCK_STATUS_EXT, Command::BlockStatus) => {
                let extended = header.kind == chunk::BLOCK_STATUS_EXT;
                let (context, regions) = decode_status(payload, request.offset, extended)?;
                if Some(context) == self.opened.base_allocation && request.completed.regions.is_empty() {
                    for region in regions {
                        push_merged(&mut request.completed.regions, region);
                    }
                }
                Ok(())
            }
            (kind, _) if kind & chunk::ERROR_BIT != 0 => {
                request.failure.get_or_insert(decode_error(payload)?);
                Ok(())
            }
            _ => Err(ProtocolError::Unexpected { what: "kind of chunk" }.into()),
        }
    }
}

/// Where in the buffer of a read a piece of its reply belongs. Counts it.
fn place_in(request: &mut Pending, offset: u64, length: u64) -> Result<std::ops::Range<usize>, ProtocolError> {
    let start = offset.checked_sub(request.offset);
    let end = start.and_then(|start| start.checked_add(length)).filter(|&end| end <= request.length);
    request.received_bytes = request.received_bytes.saturating_add(length);
    match (start, end) {
        (Some(start), Some(end)) if length > 0 && request.received_bytes <= request.length => {
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            Ok(index(start)..index(end))
        }
        _ => Err(ProtocolError::Unexpected { what: "place of a piece of a read" }),
    }
}

/// Whether a reply that says it is complete is.
fn complete(request: &Pending) -> Result<(), NbdError> {
    let missing = match request.command {
        Command::Read => request.received_bytes != request.length,
        Command::BlockStatus => request.completed.regions.is_empty(),
        _ => false,
    };
    if missing && request.failure.is_none() {
        return Err(ProtocolError::Unexpected { what: "end of a reply with parts missing" }.into());
    }
    Ok(())
}

const _: () = assert!(MAX_OTHER_CHUNK_BYTES < MAX_PAYLOAD_BYTES as u64 + OFFSET_BYTES);
