//! Replies as bytes: collected while requests are at hand, and sent with as few system calls as possible.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use block::Region;

use crate::channel::{Channel, Conversation};
use crate::proto::handshake::ReplyMode;
use crate::proto::handshake::server::CONTEXT_ID;
use crate::proto::transmission::{
    ChunkHeader, HOLE_BYTES, OFFSET_BYTES, Request, encode_error, encode_simple, encode_status,
};
use crate::proto::wire::{Errno, chunk};

/// Replies collected at most before they are sent, in bytes.
const MAX_COLLECTED_BYTES: usize = 4096;
/// Replies held back at most while more requests come: half of what our own client has under way on a short link.
const MAX_HELD: usize = 4;

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
    /// Bytes read, in this order; they are in the session's buffer until the replies are sent.
    Data(Vec<Piece>),
    /// What is known about a range.
    Status(Vec<Region>),
}

impl Outcome {
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Failed { errno, .. } => Some(*errno),
            Self::Done | Self::Data(_) | Self::Status(_) => None,
        }
    }
}

/// Replies that are ready.
pub(super) struct Replies {
    mode: ReplyMode,
    heads: Vec<u8>,
    /// After how many bytes of the heads which part of the buffer comes.
    bodies: Vec<(usize, Range<usize>)>,
    /// How many replies there are.
    held: usize,
}

impl Replies {
    pub(super) fn new(mode: ReplyMode) -> Self {
        Self { mode, heads: Vec::new(), bodies: Vec::new(), held: 0 }
    }

    /// Whether they should be sent before the next request is carried out.
    pub(super) fn are_due(&self) -> bool {
        !self.bodies.is_empty() || self.heads.len() >= MAX_COLLECTED_BYTES
    }

    /// Whether they may be held back while more has arrived.
    pub(super) fn may_wait(&self) -> bool {
        self.held < MAX_HELD
    }

    /// Sends all of them; `buffer` holds what was read.
    pub(super) fn send<C: Channel>(&mut self, conversation: &mut Conversation<C>, buffer: &[u8]) -> io::Result<()> {
        if self.heads.is_empty() {
            return Ok(());
        }
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * self.bodies.len() + 1);
        let mut at = 0;
        for (after, body) in &self.bodies {
            parts.push(&self.heads[at..*after]);
            parts.push(&buffer[body.clone()]);
            at = *after;
        }
        parts.push(&self.heads[at..]);
        let sent = conversation.send(&parts);
        self.heads.clear();
        self.bodies.clear();
        self.held = 0;
        sent
    }

    /// Adds the reply to a request.
    pub(super) fn push(&mut self, request: &Request, outcome: &Outcome) {
        self.held += 1;
        match outcome {
            Outcome::Done => self.end(request),
            Outcome::Failed { errno, message } => self.failed(request, *errno, message),
            Outcome::Status(regions) => {
                let extended = self.mode == ReplyMode::Extended;
                let kind = if extended { chunk::BLOCK_STATUS_EXT } else { chunk::BLOCK_STATUS };
                self.chunk(request, kind, &encode_status(CONTEXT_ID, regions, extended));
            }
            Outcome::Data(_) if self.mode == ReplyMode::Simple => {
                encode_simple(request.cookie, None, &mut self.heads);
                self.body(0..usize::try_from(request.length).unwrap_or(0));
            }
            Outcome::Data(pieces) => self.pieces(request, pieces),
        }
    }

    /// A reply without anything in it.
    fn end(&mut self, request: &Request) {
        match self.mode {
            ReplyMode::Extended => self.chunk(request, chunk::NONE, &[]),
            ReplyMode::Simple | ReplyMode::Structured => encode_simple(request.cookie, None, &mut self.heads),
        }
    }

    fn failed(&mut self, request: &Request, errno: Errno, message: &str) {
        match self.mode {
            ReplyMode::Simple => encode_simple(request.cookie, Some(errno), &mut self.heads),
            // Only reads and block status have to be answered in chunks; for the rest words are worth some bytes.
            ReplyMode::Structured | ReplyMode::Extended => {
                self.chunk(request, chunk::ERROR, &encode_error(errno, message));
            }
        }
    }

    fn pieces(&mut self, request: &Request, pieces: &[Piece]) {
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
            ChunkHeader { done: number == last, kind, cookie, offset, length }.encode(extended, &mut self.heads);
            self.heads.extend_from_slice(&(offset + range.start as u64).to_be_bytes());
            if kind == chunk::OFFSET_HOLE {
                self.heads.extend_from_slice(&u32::try_from(range.len()).unwrap_or(u32::MAX).to_be_bytes());
            } else {
                self.body(range.clone());
            }
        }
    }

    /// The only chunk of a reply.
    fn chunk(&mut self, request: &Request, kind: u16, payload: &[u8]) {
        let Request { cookie, offset, .. } = *request;
        let header = ChunkHeader { done: true, kind, cookie, offset, length: payload.len() as u64 };
        header.encode(self.mode == ReplyMode::Extended, &mut self.heads);
        self.heads.extend_from_slice(payload);
    }

    fn body(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.bodies.push((self.heads.len(), range));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::Command;

    #[test]
    fn so_many_replies_are_held_back_and_no_more() {
        let request = Request { flags: 0, command: Command::Write, cookie: 7, offset: 0, length: 512 };
        let mut replies = Replies::new(ReplyMode::Simple);
        for _ in 0..MAX_HELD {
            assert!(replies.may_wait());
            replies.push(&request, &Outcome::Done);
        }
        assert!(!replies.may_wait());
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        replies.send(&mut Conversation::new(ours, 0), &[]).unwrap();
        assert!(replies.may_wait(), "nothing is left once they are sent");
    }
}
