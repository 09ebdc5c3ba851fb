//! Replies as bytes, and their way out: as many as are ready go into one system call.

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use block::Region;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::UnboundedReceiver;

use super::work::{Share, Workplace};
use crate::frame::write_all;
use crate::proto::handshake::ReplyMode;
use crate::proto::handshake::server::CONTEXT_ID;
use crate::proto::transmission::{
    ChunkHeader, HOLE_BYTES, OFFSET_BYTES, Request, encode_error, encode_simple, encode_status,
};
use crate::proto::wire::{Errno, chunk};

/// Replies written together at most: bounded so that their shares are given back soon.
const MAX_BATCH: usize = 32;

/// A piece of what was read, counted from the buffer's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes to send.
    Data(Range<usize>),
    /// Zeroes, only named.
    Hole(Range<usize>),
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// It was not done.
    Failed {
        /// The error on the wire.
        errno: Errno,
        /// Words for people, where the reply has room for them.
        message: Cow<'static, str>,
    },
    /// Bytes read.
    Data {
        /// All of them.
        buffer: Vec<u8>,
        /// In this order.
        pieces: Vec<Piece>,
    },
    /// What is known about a range.
    Status(Vec<Region>),
}

impl Outcome {
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Failed { errno, .. } => Some(*errno),
            Self::Done | Self::Data { .. } | Self::Status(_) => None,
        }
    }
}

/// A reply that is ready.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// What the request holds of the connection's budgets.
    pub(super) share: Share,
}

/// A part of the outgoing bytes.
enum Part {
    /// Of the heads.
    Head(Range<usize>),
    /// Of the buffer of a reply.
    Body(usize, Range<usize>),
}

/// Writes replies until all who could send one are gone, or the stream fails.
pub(super) async fn write_replies<W>(
    writer: &mut W,
    mut replies: UnboundedReceiver<Reply>,
    place: &Arc<Workplace>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut encoder = Encoder { mode: place.mode, heads: Vec::new(), parts: Vec::new() };
    while replies.recv_many(&mut batch, MAX_BATCH).await > 0 {
        encoder.heads.clear();
        encoder.parts.clear();
        for (index, reply) in batch.iter().enumerate() {
            encoder.encode(index, reply);
        }
        let mut slices: Vec<IoSlice<'_>> =
            encoder.parts.iter().map(|part| slice(part, &encoder.heads, &batch)).collect();
        write_all(writer, &mut slices).await?;
        for Reply { outcome, share, .. } in batch.drain(..) {
            if let Outcome::Data { buffer, .. } = outcome {
                place.buffers.put(buffer);
            }
            drop(share);
        }
    }
    Ok(())
}

fn slice<'a>(part: &Part, heads: &'a [u8], batch: &'a [Reply]) -> IoSlice<'a> {
    match part {
        Part::Head(range) => IoSlice::new(&heads[range.clone()]),
        Part::Body(index, range) => match &batch[*index].outcome {
            Outcome::Data { buffer, .. } => IoSlice::new(&buffer[range.clone()]),
            Outcome::Done | Outcome::Failed { .. } | Outcome::Status(_) => IoSlice::new(&[]),
        },
    }
}

struct Encoder {
    mode: ReplyMode,
    heads: Vec<u8>,
    parts: Vec<Part>,
}

impl Encoder {
    fn encode(&mut self, index: usize, reply: &Reply) {
        let request = &reply.request;
        match &reply.outcome {
            Outcome::Done => self.end(request),
            Outcome::Failed { errno, message } => self.failed(request, *errno, message),
            Outcome::Status(regions) => {
                let extended = self.mode == ReplyMode::Extended;
                let kind = if extended { chunk::BLOCK_STATUS_EXT } else { chunk::BLOCK_STATUS };
                self.chunk(request, kind, &encode_status(CONTEXT_ID, regions, extended));
            }
            Outcome::Data { .. } if self.mode == ReplyMode::Simple => {
                self.head(|out| encode_simple(request.cookie, None, out));
                self.body(index, 0..usize::try_from(request.length).unwrap_or(0));
            }
            Outcome::Data { pieces, .. } => self.pieces(index, request, pieces),
        }
    }

    /// A reply without anything in it.
    fn end(&mut self, request: &Request) {
        match self.mode {
            ReplyMode::Extended => self.chunk(request, chunk::NONE, &[]),
            ReplyMode::Simple | ReplyMode::Structured => self.head(|out| encode_simple(request.cookie, None, out)),
        }
    }

    fn failed(&mut self, request: &Request, errno: Errno, message: &str) {
        match self.mode {
            ReplyMode::Simple => self.head(|out| encode_simple(request.cookie, Some(errno), out)),
            // Only reads and block status have to be answered in chunks; for the rest words are worth some bytes.
            ReplyMode::Structured | ReplyMode::Extended => {
                self.chunk(request, chunk::ERROR, &encode_error(errno, message));
            }
        }
    }

    fn pieces(&mut self, index: usize, request: &Request, pieces: &[Piece]) {
        let extended = self.mode == ReplyMode::Extended;
        let last = pieces.len().saturating_sub(1);
        for (number, piece) in pieces.iter().enumerate() {
            let (kind, range) = match piece {
                Piece::Data(range) => (chunk::OFFSET_DATA, range),
                Piece::Hole(range) => (chunk::OFFSET_HOLE, range),
            };
            if range.is_empty() {
                // A chunk describes at least one byte.
                return self.chunk(request, chunk::NONE, &[]);
            }
            let length = if kind == chunk::OFFSET_DATA { OFFSET_BYTES + range.len() as u64 } else { HOLE_BYTES };
            let Request { cookie, offset, .. } = *request;
            let header = ChunkHeader { done: number == last, kind, cookie, offset, length };
            self.head(|out| {
                header.encode(extended, out);
                out.extend_from_slice(&(offset + range.start as u64).to_be_bytes());
                if kind == chunk::OFFSET_HOLE {
                    out.extend_from_slice(&u32::try_from(range.len()).unwrap_or(u32::MAX).to_be_bytes());
                }
            });
            if kind == chunk::OFFSET_DATA {
                self.body(index, range.clone());
            }
        }
    }

    /// The only chunk of a reply.
    fn chunk(&mut self, request: &Request, kind: u16, payload: &[u8]) {
        let Request { cookie, offset, .. } = *request;
        let header = ChunkHeader { done: true, kind, cookie, offset, length: payload.len() as u64 };
        let extended = self.mode == ReplyMode::Extended;
        self.head(|out| {
            header.encode(extended, out);
            out.extend_from_slice(payload);
        });
    }

    fn head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.heads.len();
        write(&mut self.heads);
        let end = self.heads.len();
        match self.parts.last_mut() {
            Some(Part::Head(range)) if range.end == start => range.end = end,
            _ => self.parts.push(Part::Head(start..end)),
        }
    }

    fn body(&mut self, index: usize, range: Range<usize>) {
        if !range.is_empty() {
            self.parts.push(Part::Body(index, range));
        }
    }
}
