//! The replies of a lane: matched with the requests that wait, what was read put where it belongs.

use model::Extent;

use super::Lane;
use crate::error::NbdError;
use crate::proto::handshake::ReplyMode;
use crate::proto::transmission::{ChunkHeader, HOLE_BYTES, OFFSET_BYTES, ReplyHeader, decode_error};
use crate::proto::wire::{Command, Errno, Input, ProtocolError, chunk};

/// Longest chunk that is no data, in bytes: an error with its words.
const MAX_OTHER_CHUNK_BYTES: u64 = 8 * 1024;

/// A request without its reply.
#[derive(Debug)]
pub(super) struct Waiting {
    cookie: u64,
    command: Command,
    extent: Extent,
    /// Bytes of a read that arrived, holes included.
    received_bytes: u64,
    failure: Option<(Errno, String)>,
}

impl Waiting {
    pub(super) fn new(cookie: u64, command: Command, extent: Extent) -> Self {
        Self { cookie, command, extent, received_bytes: 0, failure: None }
    }

    /// Bytes that it moves in either direction.
    pub(super) fn bytes(&self) -> u64 {
        if matches!(self.command, Command::Write | Command::Read) { self.extent.length } else { 0 }
    }

    /// How it ended, once its reply is complete.
    fn finish(self) -> Result<Command, NbdError> {
        let Self { command, extent: Extent { offset, length }, .. } = self;
        if let Some((errno, message)) = self.failure {
            return Err(NbdError::Remote { command, offset, length, errno, message });
        }
        if command == Command::Read && self.received_bytes != length {
            return Err(ProtocolError::Unexpected { what: "end of a reply with parts missing" }.into());
        }
        Ok(command)
    }
}

/// Where the bytes of reads go: an offset of the export and the buffer that begins there.
type Destination<'a> = Option<(u64, &'a mut [u8])>;

impl Lane {
    /// Waits for one reply, or one chunk of it. What it completed, if anything.
    pub(super) fn receive_reply(&mut self, mut destination: Destination<'_>) -> Result<Option<Command>, NbdError> {
        let failed = |source| NbdError::Stream { source };
        if !self.conversation.wait_for(4).map_err(failed)? {
            return Err(NbdError::Closed);
        }
        let magic = self.conversation.arrived().first_chunk().copied().unwrap_or_default();
        let length = ReplyHeader::header_bytes(magic, self.opened.mode)?;
        self.conversation.wait_for(length).map_err(failed)?;
        let header = ReplyHeader::decode(self.conversation.take(length))?;
        let (ReplyHeader::Simple { cookie, .. } | ReplyHeader::Chunk(ChunkHeader { cookie, .. })) = header;
        // Nearly always the first.
        let place = self.waiting.iter().position(|waiting| waiting.cookie == cookie);
        let place = place.ok_or(ProtocolError::UnknownCookie { cookie })?;
        let is_complete = match header {
            ReplyHeader::Simple { errno, .. } => {
                self.simple(place, errno, &mut destination)?;
                true
            }
            ReplyHeader::Chunk(header) => {
                self.chunk(place, header, &mut destination)?;
                header.done
            }
        };
        if !is_complete {
            return Ok(None);
        }
        let Some(waiting) = self.waiting.remove(place) else { return Ok(None) };
        self.bytes_under_way = self.bytes_under_way.saturating_sub(waiting.bytes());
        waiting.finish().map(Some)
    }

    fn simple(
        &mut self,
        place: usize,
        errno: Option<Errno>,
        destination: &mut Destination<'_>,
    ) -> Result<(), NbdError> {
        let mode = self.opened.mode;
        let waiting = &mut self.waiting[place];
        waiting.failure = errno.map(|errno| (errno, String::new()));
        if waiting.command != Command::Read || waiting.failure.is_some() {
            return Ok(());
        }
        if mode != ReplyMode::Simple {
            return Err(ProtocolError::Unexpected { what: "simple reply to a read" }.into());
        }
        let extent = waiting.extent;
        let room = room_for(waiting, extent, destination)?;
        self.conversation.read_exact(room).map_err(|source| NbdError::Stream { source })
    }

    fn chunk(&mut self, place: usize, header: ChunkHeader, destination: &mut Destination<'_>) -> Result<(), NbdError> {
        let failed = |source| NbdError::Stream { source };
        let waiting = &mut self.waiting[place];
        if header.kind == chunk::OFFSET_DATA && waiting.command == Command::Read {
            let length = header.length.checked_sub(OFFSET_BYTES).filter(|&length| length > 0);
            let length = length.ok_or(ProtocolError::Malformed { what: "data chunk" })?;
            let offset = self.conversation.array().map_err(failed)?.map_or(u64::MAX, u64::from_be_bytes);
            let room = room_for(waiting, Extent { offset, length }, destination)?;
            return self.conversation.read_exact(room).map_err(failed);
        }
        if header.length > MAX_OTHER_CHUNK_BYTES {
            let (length, limit) = (header.length, MAX_OTHER_CHUNK_BYTES);
            return Err(ProtocolError::TooLong { what: "a chunk", length, limit }.into());
        }
        let mut payload = vec![0; usize::try_from(header.length).unwrap_or(0)];
        self.conversation.read_exact(&mut payload).map_err(failed)?;
        match (header.kind, waiting.command) {
            (chunk::NONE, _) if header.done && payload.is_empty() => Ok(()),
            (chunk::OFFSET_HOLE, Command::Read) if header.length == HOLE_BYTES => {
                let mut input = Input::new(&payload, "hole chunk");
                let hole = Extent { offset: input.u64()?, length: input.u32()?.into() };
                room_for(waiting, hole, destination)?.fill(0);
                Ok(())
            }
            (kind, _) if kind & chunk::ERROR_BIT != 0 => {
                waiting.failure.get_or_insert(decode_error(&payload)?);
                Ok(())
            }
            _ => Err(ProtocolError::Unexpected { what: "kind of chunk" }.into()),
        }
    }
}

/// Where in the destination a piece of the reply to a read belongs. Counts it.
fn room_for<'a>(
    waiting: &mut Waiting,
    piece: Extent,
    destination: &'a mut Destination<'_>,
) -> Result<&'a mut [u8], ProtocolError> {
    let unexpected = ProtocolError::Unexpected { what: "place of a piece of a read" };
    let end = piece.offset.checked_add(piece.length).filter(|&end| end <= waiting.extent.end());
    waiting.received_bytes = waiting.received_bytes.saturating_add(piece.length);
    let fits = piece.length > 0 && piece.offset >= waiting.extent.offset;
    if end.is_none() || !fits || waiting.received_bytes > waiting.extent.length {
        return Err(unexpected);
    }
    let Some((base, buffer)) = destination else { return Err(unexpected) };
    let start = piece.offset.checked_sub(*base).and_then(|start| usize::try_from(start).ok());
    let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
    start.and_then(|start| buffer.get_mut(start..start.checked_add(length)?)).ok_or(unexpected)
}
