//! The transmission phase of a server: requests are carried out in order, on the thread that reads them.
//!
//! No request changes threads and no payload is copied: it goes to the device from where it was received, in pieces, so
//! a connection holds the same memory whatever its requests ask for. Parallel work comes from several connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use block::region::push_merged;
use block::zero::is_zero;
use block::{BlockDevice, BlockError, PageBuffer, Region};
use model::Extent;
use tokio_util::sync::CancellationToken;

use super::negotiate::Negotiated;
use super::reply::{Outcome, Piece, Replies};
use super::{CommandRecord, ConnectionObserver, ServeOptions, SessionEnd};
use crate::channel::{Channel, Conversation};
use crate::error::NbdError;
use crate::limits::{MAX_STATUS_REGIONS, PIECE_BYTES};
use crate::proto::handshake::{ExportInfo, ReplyMode};
use crate::proto::transmission::{Request, admit};
use crate::proto::wire::{Command, Errno, command_flag};

/// Granularity of the search for zeroes in what is read, in bytes; shorter reads are sent as they are.
const HOLE_UNIT_BYTES: usize = 64 * 1024;
/// Pieces of a payload end at multiples of this many bytes, so that no page of the device is written in two halves.
const PAGE_BYTES: u64 = 4096;
/// Longest buffer for reads that is kept, in bytes: rare long requests must not hold memory for good.
const KEPT_BUFFER_BYTES: usize = 2 << 20;
/// Longest region in 32 bits that is a multiple of every block size, in bytes.
const LONGEST_COMPACT_REGION_BYTES: u64 = (1 << 32) - (1 << 16);
/// Reads announced to the device ahead of their turn.
const MAX_ANNOUNCED_READS: usize = 16;

/// Serves an export until the client leaves or the shutdown is asked for.
pub(super) fn run<C: Channel>(
    conversation: Conversation<C>,
    negotiated: Negotiated,
    options: &ServeOptions,
) -> Result<SessionEnd, NbdError> {
    let Negotiated { export, info, agreed, .. } = negotiated;
    let mut session = Session {
        conversation,
        info,
        mode: agreed.mode,
        base_allocation: agreed.base_allocation,
        device: export.device,
        observer: Arc::clone(&options.observer),
        shutdown: options.shutdown.clone(),
        replies: Replies::new(agreed.mode),
        buffer: PageBuffer::new(),
        announced: 0,
        device_time: Duration::ZERO,
    };
    let ended = session.serve();
    // What was carried out is answered, however the session ends.
    let answered = session.send_replies();
    session.conversation.channel.finish();
    // A stream that broke under a reply explains the end better than what was read last.
    answered.and(ended)
}

struct Session<C> {
    conversation: Conversation<C>,
    info: ExportInfo,
    mode: ReplyMode,
    base_allocation: bool,
    device: Arc<dyn BlockDevice>,
    observer: Arc<dyn ConnectionObserver>,
    shutdown: CancellationToken,
    replies: Replies,
    /// What reads bring.
    buffer: PageBuffer,
    /// Following reads the device was told of already.
    announced: usize,
    /// What the device took for the present request.
    device_time: Duration,
}

impl<C: Channel> Session<C> {
    fn serve(&mut self) -> Result<SessionEnd, NbdError> {
        let head_bytes = Request::header_bytes(self.mode);
        loop {
            match self.wait_for(head_bytes) {
                Ok(true) => {}
                Ok(false) if self.shutdown.is_cancelled() => return Ok(SessionEnd::ShutDown),
                Ok(false) => return Ok(SessionEnd::EndOfStream),
                Err(NbdError::Stream { .. }) if self.shutdown.is_cancelled() => return Ok(SessionEnd::ShutDown),
                Err(error) => return Err(error),
            }
            let request = Request::decode(self.conversation.take(head_bytes), self.mode)?;
            if request.command == Command::Disconnect {
                return Ok(SessionEnd::Disconnected);
            }
            match self.answer(&request) {
                // The rest of its payload will not come any more.
                Err(NbdError::Stream { .. }) if self.shutdown.is_cancelled() => return Ok(SessionEnd::ShutDown),
                answered => answered?,
            }
            if self.replies.are_due() {
                self.send_replies()?;
            }
        }
    }

    /// Waits for bytes; nobody waits for a reply meanwhile: replies are held back only while there is more to do, and a
    /// client that waits for them sends nothing. `false` when there will be none.
    fn wait_for(&mut self, length: usize) -> Result<bool, NbdError> {
        while self.conversation.arrived().len() < length {
            let is_stopping = self.shutdown.is_cancelled();
            if is_stopping || !self.replies.may_wait() || !self.conversation.channel.has_arrived() {
                self.send_replies()?;
            }
            let more = !is_stopping
                && self.conversation.wait_for_some(length).map_err(|source| NbdError::Stream { source })?;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send_replies(&mut self) -> Result<(), NbdError> {
        let sent = self.replies.send(&mut self.conversation, &self.buffer);
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        sent.map_err(|source| NbdError::Stream { source })
    }

    fn answer(&mut self, request: &Request) -> Result<(), NbdError> {
        let arrived = Instant::now();
        let payload_bytes = request.payload_bytes(self.mode, self.info.block_sizes.maximum)?;
        let outcome = match admit(request, &self.info, self.mode, self.base_allocation) {
            Ok(()) => self.carry_out(request)?,
            Err(refusal) => {
                self.send_replies()?;
                let skipped = self.conversation.skip(payload_bytes.into());
                skipped.map_err(|source| NbdError::Stream { source })?;
                Outcome::Failed { errno: refusal.errno, message: refusal.message.into() }
            }
        };
        self.replies.push(request, &outcome);
        let Request { command, offset, length, .. } = *request;
        let device_time = std::mem::take(&mut self.device_time);
        let (error, duration) = (outcome.errno(), arrived.elapsed());
        let record = CommandRecord { command, offset, length, error, duration, device_time };
        self.observer.command_done(&record);
        Ok(())
    }

    /// What the device did, as an outcome; only a broken stream is an error.
    fn carry_out(&mut self, request: &Request) -> Result<Outcome, NbdError> {
        let done = if request.command == Command::Write {
            self.write(request)?.map(|()| Outcome::Done)
        } else {
            let begun = Instant::now();
            let done = self.effect(request);
            self.device_time += begun.elapsed();
            done
        };
        let done = done.and_then(|outcome| {
            if request.command.changes_content() && request.has(command_flag::FUA) {
                let begun = Instant::now();
                self.device.flush()?;
                self.device_time += begun.elapsed();
            }
            Ok(outcome)
        });
        Ok(done.unwrap_or_else(|error| {
            tracing::warn!(
                command = request.command.name(),
                offset = request.offset,
                length = request.length,
                error = &error as &dyn std::error::Error,
                "a request failed on the device"
            );
            Outcome::Failed { errno: errno_of(&error), message: error.to_string().into() }
        }))
    }

    /// Moves a payload to the device as it comes. After an error of the device the rest is read past.
    fn write(&mut self, request: &Request) -> Result<Result<(), BlockError>, NbdError> {
        let mut written = Ok(());
        let (mut at, end) = (request.offset, request.offset + request.length);
        while at < end {
            let longest = PIECE_BYTES - usize::try_from(at % PAGE_BYTES).unwrap_or(0);
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(longest);
            if !self.wait_for(length)? {
                return Err(NbdError::Stream { source: std::io::ErrorKind::UnexpectedEof.into() });
            }
            let piece = self.conversation.take(length);
            if written.is_ok() {
                let begun = Instant::now();
                written = self.device.write_at(piece, at);
                self.device_time += begun.elapsed();
            }
            at += length as u64;
        }
        Ok(written)
    }

    /// Carries out a request without a payload.
    fn effect(&mut self, request: &Request) -> Result<Outcome, BlockError> {
        let extent = Extent::new(request.offset, request.length);
        match request.command {
            Command::Read => return self.read(request),
            Command::BlockStatus => return self.status(request, extent),
            Command::WriteZeroes => {
                let may_punch_holes = !request.has(command_flag::NO_HOLE);
                if !request.has(command_flag::FAST_ZERO) {
                    self.device.write_zeroes(extent, may_punch_holes)?;
                } else if !self.device.try_write_zeroes_fast(extent, may_punch_holes)? {
                    let message = "zeroes would have to be written one by one".into();
                    return Ok(Outcome::Failed { errno: Errno::NotSupported, message });
                }
            }
            Command::Trim => self.device.trim(extent)?,
            Command::Flush => self.device.flush()?,
            Command::Write | Command::Disconnect | Command::Cache | Command::Unknown(_) => {}
        }
        Ok(Outcome::Done)
    }

    fn read(&mut self, request: &Request) -> Result<Outcome, BlockError> {
        match self.announced.checked_sub(1) {
            Some(rest) => self.announced = rest,
            None => self.announce_reads(),
        }
        let length = usize::try_from(request.length).unwrap_or(0);
        self.buffer.set_length(length);
        self.device.read_at(&mut self.buffer, request.offset)?;
        let whole = self.mode == ReplyMode::Simple || request.has(command_flag::DF);
        Ok(Outcome::Data(if whole { vec![Piece::Data(0..length)] } else { pieces_of(&self.buffer) }))
    }

    /// Tells the device of the reads that have arrived behind this one, so that the medium works on all of them.
    fn announce_reads(&mut self) {
        for head in self.conversation.arrived().chunks_exact(Request::header_bytes(self.mode)).take(MAX_ANNOUNCED_READS)
        {
            match Request::decode(head, self.mode) {
                Ok(next) if next.command == Command::Read => {
                    self.device.will_read(Extent::new(next.offset, next.length.min(self.info.size_bytes)));
                    self.announced += 1;
                }
                // What follows a payload is not looked for.
                _ => return,
            }
        }
    }

    fn status(&self, request: &Request, extent: Extent) -> Result<Outcome, BlockError> {
        let one = request.has(command_flag::REQ_ONE);
        let mapped = self.device.map_front(extent, if one { 1 } else { MAX_STATUS_REGIONS })?;
        let longest = if self.mode == ReplyMode::Extended { u64::MAX } else { LONGEST_COMPACT_REGION_BYTES };
        let mut regions: Vec<Region> = Vec::with_capacity(mapped.len());
        for region in mapped {
            // A region too long for its field ends the answer: the client asks on from there.
            let length = region.extent.length.min(longest);
            push_merged(&mut regions, Region::new(region.extent.offset, length, region.state));
            if length < region.extent.length {
                break;
            }
        }
        if regions.is_empty() {
            // An answer holds at least one region, also for a request without length.
            let failed = Outcome::Failed { errno: Errno::Invalid, message: "nothing was asked for".into() };
            return Ok(failed);
        }
        Ok(Outcome::Status(regions))
    }
}

/// Cuts what was read into data and runs of zeroes, which need not be sent.
fn pieces_of(buffer: &[u8]) -> Vec<Piece> {
    if buffer.len() < HOLE_UNIT_BYTES {
        return vec![Piece::Data(0..buffer.len())];
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    for unit in buffer.chunks(HOLE_UNIT_BYTES) {
        let end = at + unit.len();
        match (is_zero(unit), pieces.last_mut()) {
            (true, Some(Piece::Hole(range))) | (false, Some(Piece::Data(range))) => range.end = end,
            (true, _) => pieces.push(Piece::Hole(at..end)),
            (false, _) => pieces.push(Piece::Data(at..end)),
        }
        at = end;
    }
    pieces
}

fn errno_of(error: &BlockError) -> Errno {
    match error {
        BlockError::Full { .. } | BlockError::JournalFull { .. } => Errno::NoSpace,
        BlockError::ReadOnly => Errno::NotPermitted,
        BlockError::OutOfRange { .. } | BlockError::LeafOrder { .. } => Errno::Invalid,
        BlockError::Open { .. }
        | BlockError::NotADevice { .. }
        | BlockError::Read { .. }
        | BlockError::Write { .. }
        | BlockError::Flush { .. }
        | BlockError::Image { .. }
        | BlockError::Poisoned
        | BlockError::Map { .. } => Errno::Io,
    }
}
