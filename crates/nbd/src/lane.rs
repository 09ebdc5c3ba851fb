//! A client for a thread of its own: one connection to one export, requests sent one after the other without waiting for
//! their replies.
//!
//! A payload goes to the channel from where the caller has it and is not kept: what is under way are only the numbers of
//! the requests. An error of an earlier request comes out of a later call, at the latest of [`Lane::settle`].

mod open;
mod replies;

use std::collections::VecDeque;
use std::time::Duration;

use model::Extent;

use crate::channel::{Channel, Conversation, Hangup};
use crate::error::NbdError;
use crate::proto::handshake::client::Opened;
use crate::proto::handshake::{ExportInfo, ReplyMode};
use crate::proto::transmission::Request;
use crate::proto::wire::{Command, command_flag, export_flag};
use replies::Waiting;

/// Requests under way at a time: with requests of 256 KiB, more than any link between two sites holds.
const MAX_UNDER_WAY: usize = 64;
/// Bytes under way at a time on a link without length: enough that neither side ever waits for the other.
const MIN_BYTES_UNDER_WAY: u64 = 2 << 20;
/// Bytes a second that a link between two sites may carry: 10 Gbit/s. What is under way beyond that times the round trip
/// only waits in buffers, where it leaves the processor's cache.
const LINK_BYTES_PER_S: u64 = 1_250_000_000;
/// Longest read sent as one request, in bytes: the server answers the first while it reads the next.
const READ_BYTES: usize = 256 * 1024;
/// Longest write sent as one request, in bytes: on a slow link, too, a reply comes often enough to show that it moves.
const WRITE_BYTES: usize = 256 * 1024;
/// Longest request without payload, in bytes: a compact head holds it, and a server that has to write the zeroes itself
/// is done in a moment.
const MAX_EFFECT_BYTES: u64 = 1 << 30;
/// Zeroes sent at a time to a server that cannot make them itself, in bytes.
const ZEROES_BYTES: usize = 256 * 1024;
static ZEROES: [u8; ZEROES_BYTES] = [0; ZEROES_BYTES];

/// One connection to one export.
pub struct Lane {
    conversation: Conversation<Box<dyn Channel>>,
    opened: Opened,
    waiting: VecDeque<Waiting>,
    /// Bytes of writes and reads among them.
    bytes_under_way: u64,
    /// The most of them at a time.
    window_bytes: u64,
    next_cookie: u64,
    head: Vec<u8>,
}

impl Lane {
    /// Everything the server told about the export.
    #[must_use]
    pub fn export(&self) -> &ExportInfo {
        &self.opened.export
    }

    /// The export's size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.opened.export.size_bytes
    }

    /// Whether the server refuses changes.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.opened.export.is_read_only()
    }

    /// Whether a flush on one connection covers the writes of all connections to this export.
    #[must_use]
    pub fn can_multi_conn(&self) -> bool {
        self.opened.export.has(export_flag::CAN_MULTI_CONN)
    }

    /// What other threads can end a call by that waits.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn hangup(&self) -> Result<Hangup, NbdError> {
        self.conversation.channel.hangup().map_err(|source| NbdError::Stream { source })
    }

    /// Sends `data` to be written at `offset`.
    ///
    /// # Errors
    /// When the range is not inside the export or the export is read-only; when the connection is lost; when an earlier
    /// request failed.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.opened.export.check_change(offset, data.len() as u64)?;
        let flags = if self.opened.mode == ReplyMode::Extended { command_flag::PAYLOAD_LEN } else { 0 };
        let longest = (self.opened.export.max_request_bytes() as usize).min(WRITE_BYTES);
        let mut at = offset;
        for piece in data.chunks(longest) {
            self.send(Command::Write, flags, Extent::new(at, piece.len() as u64), piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Asks that an extent read as zeroes; the server may give its room back. One that cannot is sent zeroes.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_zeroes(&mut self, extent: Extent) -> Result<(), NbdError> {
        self.opened.export.check_change(extent.offset, extent.length)?;
        let mut at = extent.offset;
        while at < extent.end() {
            let left = extent.end() - at;
            if self.opened.export.has(export_flag::SEND_WRITE_ZEROES) {
                let piece = Extent::new(at, left.min(MAX_EFFECT_BYTES));
                self.send(Command::WriteZeroes, 0, piece, &[])?;
                at = piece.end();
            } else {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROES_BYTES);
                self.write(at, &ZEROES[..length])?;
                at += length as u64;
            }
        }
        Ok(())
    }

    /// Fills `buf` from `offset`. Changes sent before are seen for certain only once they are settled: a server may carry
    /// out in any order what is under way at once.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), NbdError> {
        self.opened.export.check(offset, buf.len() as u64)?;
        let longest = (self.opened.export.max_request_bytes() as usize).min(READ_BYTES);
        let (mut asked, mut done) = (0, 0);
        let pieces = buf.len().div_ceil(longest);
        while done < pieces {
            let from = asked * longest;
            let length = longest.min(buf.len().saturating_sub(from));
            if asked < pieces && self.has_room(length as u64) {
                self.send(Command::Read, 0, Extent::new(offset + from as u64, length as u64), &[])?;
                asked += 1;
            } else if self.receive_reply(Some((offset, &mut *buf)))? == Some(Command::Read) {
                done += 1;
            }
        }
        Ok(())
    }

    /// Waits until everything sent is answered.
    ///
    /// # Errors
    /// When a request failed or the connection is lost.
    pub fn settle(&mut self) -> Result<(), NbdError> {
        while !self.waiting.is_empty() {
            self.receive_reply(None)?;
        }
        Ok(())
    }

    /// Everything sent before is durable when this returns: on this connection, and what was settled on all others where
    /// [`can_multi_conn`](Self::can_multi_conn).
    ///
    /// # Errors
    /// As for [`settle`](Self::settle), and when the server does not offer it.
    pub fn flush(&mut self) -> Result<(), NbdError> {
        if !self.opened.export.has(export_flag::SEND_FLUSH) {
            return Err(NbdError::NotOffered { command: Command::Flush });
        }
        self.settle()?;
        self.send(Command::Flush, 0, Extent::new(0, 0), &[])?;
        self.settle()
    }

    /// Says goodbye.
    pub fn close(mut self) {
        // The other side may have gone first.
        let _ = self.transmit(Command::Disconnect, 0, Extent::new(0, 0), &[]);
        self.conversation.channel.finish();
    }

    /// Sends a request as soon as there is room for one more.
    fn send(&mut self, command: Command, flags: u16, extent: Extent, payload: &[u8]) -> Result<(), NbdError> {
        let waiting = Waiting::new(self.next_cookie, command, extent);
        while !self.has_room(waiting.bytes()) {
            self.receive_reply(None)?;
        }
        self.bytes_under_way += waiting.bytes();
        self.waiting.push_back(waiting);
        self.transmit(command, flags, extent, payload)
    }

    /// Whether a request that moves so many bytes may be sent before another is answered.
    fn has_room(&self, bytes: u64) -> bool {
        let fits = self.bytes_under_way + bytes <= self.window_bytes || self.waiting.is_empty();
        fits && self.waiting.len() < MAX_UNDER_WAY
    }

    fn transmit(&mut self, command: Command, flags: u16, extent: Extent, payload: &[u8]) -> Result<(), NbdError> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.head.clear();
        let request = Request { flags, command, cookie, offset: extent.offset, length: extent.length };
        request.encode(self.opened.mode, &mut self.head);
        self.conversation.send(&[&self.head, payload]).map_err(|source| NbdError::Stream { source })
    }
}

/// Bytes under way that fill a link whose round trip is this long.
fn window_bytes(round_trip: Duration) -> u64 {
    let microseconds = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    microseconds.saturating_mul(LINK_BYTES_PER_S / 1_000_000).saturating_add(MIN_BYTES_UNDER_WAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_under_way_as_the_link_holds() {
        let windows = [0, 1_000, 10_000].map(|us| window_bytes(Duration::from_micros(us)));
        assert_eq!(windows, [2 << 20, (2 << 20) + 1_250_000, (2 << 20) + 12_500_000]);
        assert_eq!(window_bytes(Duration::MAX), u64::MAX);
    }
}
