//! A channel of `nbd+zstd`: sends frames, compressed where `judge` says so, and takes the other side's apart.
//!
//! Bytes that go uncompressed are not copied at either end: they are sealed from where the caller has them, and opened
//! where the caller wants them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use model::CompressionMode;
use nbd::channel::{Channel, Hangup, Intake};
use nbd::limits::MIN_SPARE_BYTES;

use crate::channel::TlsChannel;
use crate::frames::{FrameHead, HEAD_BYTES, MAX_FRAME_BYTES, PLAIN_LENGTH_BYTES, Packer, Unpacker};
use crate::judge::{Judge, Trial, Verdict};
use crate::meter::WireMeter;
use crate::record::MAX_PLAINTEXT_BYTES;

/// What is shorter is not worth compressing, in bytes: requests, replies.
const MIN_PACKED_BYTES: usize = 4096;
/// Short messages collected before they are sent, in bytes.
const MAX_HEADS_BYTES: usize = 64 * 1024;
/// Compressed to see whether it pays, in bytes.
const LOOK_BYTES: usize = 16 * 1024;
/// Room for a whole compressed frame and the record after it, in bytes.
const INBOX_BYTES: usize = HEAD_BYTES + MAX_FRAME_BYTES + 2 * MIN_SPARE_BYTES;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It sends requests: what it waits for has to do with the link.
    Asking,
    /// It answers: waiting for requests tells nothing.
    Answering,
}

/// NBD in frames over a connection of its own.
pub struct Framed {
    tls: TlsChannel,
    side: Side,
    judge: Judge,
    meter: Arc<WireMeter>,
    packer: Option<Packer>,
    /// Frames to be sent before the next block: heads, and short messages.
    heads: Vec<u8>,
    unpacker: Option<Unpacker>,
    /// Received, not taken apart.
    inbox: Intake,
    /// Left of the frame that is being received as it is, in bytes.
    raw_left: usize,
    /// Decompressed, and from where on it was not handed out.
    plain: Vec<u8>,
    plain_start: usize,
}

impl fmt::Debug for Framed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("tls", &self.tls).field("judge", &self.judge).finish_non_exhaustive()
    }
}

impl Framed {
    pub(crate) fn new(tls: TlsChannel, side: Side, mode: CompressionMode, meter: Arc<WireMeter>) -> Self {
        Self {
            tls,
            side,
            judge: Judge::new(mode),
            meter,
            packer: None,
            heads: Vec::new(),
            unpacker: None,
            inbox: Intake::new(INBOX_BYTES),
            raw_left: 0,
            plain: Vec::new(),
            plain_start: 0,
        }
    }

    pub(crate) fn into_tls(self) -> TlsChannel {
        self.tls
    }

    /// Sends one block as a frame, with everything that was collected before it.
    fn send_block(&mut self, block: &[u8]) -> io::Result<()> {
        if self.is_to_be_packed(block)? {
            let packer = packer(&mut self.packer, self.judge.level())?;
            let begun = Instant::now();
            let packed = packer.pack(block);
            let trial =
                Trial { plain: block.len(), packed: packed.map_or(block.len(), <[u8]>::len), took: begun.elapsed() };
            self.judge.packed(trial);
            if let Some(packed) = packed {
                FrameHead::Packed { length: PLAIN_LENGTH_BYTES + packed.len() }.encode(&mut self.heads);
                self.heads.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes());
                self.meter.add_packed(block.len(), packed.len());
                return send_timed(&mut self.tls, &mut self.judge, &mut self.heads, packed);
            }
        }
        FrameHead::Raw { length: block.len() }.encode(&mut self.heads);
        self.meter.add_raw(block.len());
        send_timed(&mut self.tls, &mut self.judge, &mut self.heads, block)
    }

    fn is_to_be_packed(&mut self, block: &[u8]) -> io::Result<bool> {
        match self.judge.verdict() {
            Verdict::Pack => Ok(true),
            Verdict::Raw => Ok(false),
            Verdict::Look => {
                let part = &block[..block.len().min(LOOK_BYTES)];
                let packer = packer(&mut self.packer, self.judge.level())?;
                let begun = Instant::now();
                let packed = packer.pack(part).map_or(part.len(), <[u8]>::len);
                let trial = Trial { plain: part.len(), packed, took: begun.elapsed() };
                Ok(self.judge.looked(trial) == Verdict::Pack)
            }
        }
    }

    /// Receives into the inbox, at most `most` bytes; `false` at the end of the stream.
    fn fill_inbox(&mut self, most: usize) -> io::Result<bool> {
        self.inbox.make_room(MIN_SPARE_BYTES);
        let begun = Instant::now();
        let received = self.tls.receive_up_to(most, &mut self.inbox)?;
        self.waited_since(begun);
        Ok(received > 0)
    }

    /// The same in the middle of a frame, where no stream may end.
    fn fill_inbox_further(&mut self, most: usize) -> io::Result<()> {
        if self.fill_inbox(most)? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn waited_since(&mut self, begun: Instant) {
        if self.side == Side::Asking {
            self.judge.waited(0, begun.elapsed());
        }
    }

    /// Reads the next head; a compressed frame is waited for and taken apart. `false` at the end of the stream.
    fn begin_frame(&mut self) -> io::Result<bool> {
        let head = loop {
            if let Some(head) = self.inbox.filled().first_chunk::<HEAD_BYTES>() {
                break FrameHead::decode(*head)?;
            }
            // One record: what follows it may be for the caller's own buffer.
            match (self.fill_inbox(MAX_PLAINTEXT_BYTES)?, self.inbox.filled().is_empty()) {
                (true, _) => {}
                (false, true) => return Ok(false),
                (false, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        self.inbox.take(HEAD_BYTES);
        match head {
            FrameHead::Raw { length } => self.raw_left = length,
            FrameHead::Packed { length } => {
                while self.inbox.filled().len() < length {
                    let missing = length - self.inbox.filled().len();
                    self.fill_inbox_further(missing.max(MAX_PLAINTEXT_BYTES))?;
                }
                let unpacker = match &mut self.unpacker {
                    Some(unpacker) => unpacker,
                    none => none.insert(Unpacker::new()?),
                };
                self.plain_start = 0;
                unpacker.unpack(self.inbox.take(length), &mut self.plain)?;
            }
        }
        Ok(true)
    }

    /// Hands out bytes of a frame that is received as it is; its end that is no whole record comes by the inbox.
    fn receive_raw(&mut self, intake: &mut Intake) -> io::Result<usize> {
        let at_hand = self.inbox.filled().len();
        let received = if at_hand > 0 {
            let now = self.raw_left.min(at_hand).min(intake.spare().len());
            hand_out(self.inbox.take(now), intake)
        } else if self.raw_left >= MAX_PLAINTEXT_BYTES {
            let begun = Instant::now();
            let received = self.tls.receive_up_to(self.raw_left, intake)?;
            self.waited_since(begun);
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received
        } else {
            self.fill_inbox_further(MAX_PLAINTEXT_BYTES)?;
            return Ok(0);
        };
        self.raw_left -= received;
        Ok(received)
    }
}

fn packer(slot: &mut Option<Packer>, level: i32) -> io::Result<&mut Packer> {
    let packer = match slot {
        Some(packer) => packer,
        none => none.insert(Packer::new(level)?),
    };
    packer.set_level(level)?;
    Ok(packer)
}

fn send_timed(tls: &mut TlsChannel, judge: &mut Judge, heads: &mut Vec<u8>, body: &[u8]) -> io::Result<()> {
    let begun = Instant::now();
    let sent = tls.send(&[heads, body]);
    judge.waited(heads.len() + body.len(), begun.elapsed());
    heads.clear();
    sent
}

fn hand_out(bytes: &[u8], intake: &mut Intake) -> usize {
    intake.spare()[..bytes.len()].copy_from_slice(bytes);
    intake.advance(bytes.len());
    bytes.len()
}

impl Channel for Framed {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts.iter().filter(|part| !part.is_empty()) {
            if part.len() >= MIN_PACKED_BYTES {
                for block in part.chunks(MAX_FRAME_BYTES) {
                    self.send_block(block)?;
                }
                continue;
            }
            FrameHead::Raw { length: part.len() }.encode(&mut self.heads);
            self.heads.extend_from_slice(part);
            if self.heads.len() >= MAX_HEADS_BYTES {
                send_timed(&mut self.tls, &mut self.judge, &mut self.heads, &[])?;
            }
        }
        if self.heads.is_empty() {
            return Ok(());
        }
        send_timed(&mut self.tls, &mut self.judge, &mut self.heads, &[])
    }

    fn receive(&mut self, intake: &mut Intake) -> io::Result<usize> {
        loop {
            let left = &self.plain[self.plain_start..];
            if !left.is_empty() {
                let now = left.len().min(intake.spare().len());
                self.plain_start += hand_out(&left[..now], intake);
                return Ok(now);
            }
            if self.raw_left == 0 {
                if !self.begin_frame()? {
                    return Ok(0);
                }
                continue;
            }
            let received = self.receive_raw(intake)?;
            if received > 0 {
                return Ok(received);
            }
        }
    }

    fn has_arrived(&self) -> bool {
        self.plain_start < self.plain.len() || !self.inbox.filled().is_empty() || self.tls.has_arrived()
    }

    fn finish(&mut self) {
        self.tls.finish();
    }

    fn hangup(&self) -> io::Result<Hangup> {
        self.tls.hangup()
    }
}

#[cfg(test)]
mod tests;
