//! The requests of a client: checked here, cut to what the server accepts, sent, awaited.

use std::time::Duration;

use block::region::push_merged;
use block::{Region, RegionState};
use model::Extent;
use tokio::sync::oneshot;

use super::Client;
use super::pending::{Completed, Pending};
use crate::error::NbdError;
use crate::proto::handshake::ReplyMode;
use crate::proto::transmission::Request;
use crate::proto::wire::{Command, command_flag};

/// Zeroes sent at a time to a server that cannot make them itself, in bytes.
const ZEROES_BYTES: usize = 1 << 20;
static ZEROES: [u8; ZEROES_BYTES] = [0; ZEROES_BYTES];
/// Longest request without payload, in bytes: a compact head holds it, it is a multiple of every minimum block size,
/// and a server that has to write the zeroes itself is done in a moment.
const MAX_EFFECT_BYTES: u64 = 1 << 31;
/// How long a goodbye waits for the server to end the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// Fills `buf` from `offset`. The bytes are copied once; [`read_into`](Self::read_into) saves that.
    ///
    /// # Errors
    /// When the range is not inside the export, the server fails, or the connection is lost.
    pub async fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), NbdError> {
        self.opened.export.check(offset, buf.len() as u64)?;
        let mut at = offset;
        for piece in buf.chunks_mut(self.max_request_bytes() as usize) {
            let completed = self.read_piece(at, self.pending.buffer(piece.len())).await?;
            piece.copy_from_slice(&completed.buffer);
            self.pending.keep(completed.buffer);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Fills all of `buf` (its length says how much) from `offset` and gives it back; nothing is copied as long as
    /// it fits one request. On an error the buffer is lost.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn read_into(&self, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>, NbdError> {
        if buf.len() <= self.max_request_bytes() as usize {
            self.opened.export.check(offset, buf.len() as u64)?;
            if buf.is_empty() {
                return Ok(buf);
            }
            return self.read_piece(offset, buf).await.map(|completed| completed.buffer);
        }
        self.read(offset, &mut buf).await?;
        Ok(buf)
    }

    async fn read_piece(&self, offset: u64, buffer: Vec<u8>) -> Result<Completed, NbdError> {
        let request = Plan { command: Command::Read, flags: 0, offset, length: buffer.len() as u64 };
        self.request(request, &[], buffer).await
    }

    /// Writes all of `data` at `offset`; durable after the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// As for [`read`](Self::read), and when the export is read-only.
    pub async fn write(&self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        self.opened.export.check_change(offset, data.len() as u64)?;
        let mut at = offset;
        for piece in data.chunks(self.max_request_bytes() as usize) {
            self.write_piece(at, piece).await?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    async fn write_piece(&self, offset: u64, data: &[u8]) -> Result<(), NbdError> {
        let flags = if self.reply_mode() == ReplyMode::Extended { command_flag::PAYLOAD_LEN } else { 0 };
        let request = Plan { command: Command::Write, flags, offset, length: data.len() as u64 };
        self.request(request, data, Vec::new()).await.map(drop)
    }

    /// Makes an extent read as zeroes; with `may_punch_holes` the server may give its room back. A server that cannot
    /// is sent zeroes.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub async fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), NbdError> {
        self.opened.export.check_change(extent.offset, extent.length)?;
        let able = self.can_write_zeroes();
        let longest =
            if able { MAX_EFFECT_BYTES } else { u64::from(self.max_request_bytes()).min(ZEROES_BYTES as u64) };
        let flags = if may_punch_holes { 0 } else { command_flag::NO_HOLE };
        for piece in pieces(extent, longest) {
            if able {
                let (offset, length) = (piece.offset, piece.length);
                let request = Plan { command: Command::WriteZeroes, flags, offset, length };
                self.request(request, &[], Vec::new()).await?;
            } else {
                let length = usize::try_from(piece.length).unwrap_or(ZEROES_BYTES);
                self.write_piece(piece.offset, &ZEROES[..length]).await?;
            }
        }
        Ok(())
    }

    /// Says that the content of an extent is no longer needed.
    ///
    /// # Errors
    /// As for [`write`](Self::write), and when the server does not offer it.
    pub async fn trim(&self, extent: Extent) -> Result<(), NbdError> {
        self.opened.export.check_change(extent.offset, extent.length)?;
        if !self.can_trim() {
            return Err(NbdError::NotOffered { command: Command::Trim });
        }
        for piece in pieces(extent, MAX_EFFECT_BYTES) {
            let request = Plan { command: Command::Trim, flags: 0, offset: piece.offset, length: piece.length };
            self.request(request, &[], Vec::new()).await?;
        }
        Ok(())
    }

    /// Everything whose write had returned before this call is durable when it returns: of this connection, and of
    /// all where [`can_multi_conn`](Self::can_multi_conn).
    ///
    /// # Errors
    /// When the server fails or does not offer it, or the connection is lost.
    pub async fn flush(&self) -> Result<(), NbdError> {
        if !self.can_flush() {
            return Err(NbdError::NotOffered { command: Command::Flush });
        }
        let request = Plan { command: Command::Flush, flags: 0, offset: 0, length: 0 };
        self.request(request, &[], Vec::new()).await.map(drop)
    }

    /// What is known about an extent: regions in order, without gaps, covering it wholly. All of it is data where
    /// the server does not say.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub async fn block_status(&self, extent: Extent) -> Result<Vec<Region>, NbdError> {
        self.opened.export.check(extent.offset, extent.length)?;
        let mut regions = Vec::new();
        if !self.can_block_status() {
            push_merged(&mut regions, Region { extent, state: RegionState::Data });
            return Ok(regions);
        }
        let longest = if self.reply_mode() == ReplyMode::Extended { u64::MAX } else { MAX_EFFECT_BYTES };
        let mut at = extent.offset;
        while at < extent.end() {
            let length = (extent.end() - at).min(longest);
            let request = Plan { command: Command::BlockStatus, flags: 0, offset: at, length };
            for region in self.request(request, &[], Vec::new()).await?.regions {
                // The last region may reach past what was asked for.
                let Some(inside) = region.extent.clamp_to(extent.end()) else { break };
                push_merged(&mut regions, Region { extent: inside, state: region.state });
                at = inside.end();
            }
        }
        Ok(regions)
    }

    /// Says goodbye and waits until the server has ended the connection (a moment at most).
    pub async fn close(mut self) {
        let request = Request { flags: 0, command: Command::Disconnect, cookie: u64::MAX, offset: 0, length: 0 };
        if self.sender.send(&request, &[]).await.is_ok() {
            self.sender.shut_down().await;
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, &mut self.receiver).await;
        }
    }

    async fn request(&self, plan: Plan, payload: &[u8], buffer: Vec<u8>) -> Result<Completed, NbdError> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.map_err(|_closed| NbdError::Closed)?;
        let (done, outcome) = oneshot::channel();
        let Plan { command, flags, offset, length } = plan;
        let completed = Completed { buffer, regions: Vec::new() };
        let pending = Pending { command, offset, length, completed, received_bytes: 0, failure: None, done };
        let cookie = self.pending.add(pending)?;
        let request = Request { flags, command, cookie, offset, length };
        if let Err(error) = self.sender.send(&request, payload).await {
            // Nothing can be sent any more: everything that waits fails for the same cause.
            return Err(self.pending.fail_all(error));
        }
        outcome.await.unwrap_or(Err(NbdError::Closed))
    }
}

/// A request before it has its number.
struct Plan {
    command: Command,
    flags: u16,
    offset: u64,
    length: u64,
}

fn pieces(extent: Extent, longest: u64) -> impl Iterator<Item = Extent> {
    let mut at = extent.offset;
    std::iter::from_fn(move || {
        let length = (extent.end() - at).min(longest);
        let piece = Extent::new(at, length);
        at += length;
        (length > 0).then_some(piece)
    })
}
