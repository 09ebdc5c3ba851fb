//! Carries out requests on the device, on blocking threads: as many as there is work for, none when there is none.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use block::region::push_merged;
use block::zero::is_zero;
use block::{BlockDevice, BlockError, Region};
use model::Extent;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::buffers::Buffers;
use super::reply::{Outcome, Piece, Reply};
use super::{CommandRecord, ConnectionObserver};
use crate::limits::MAX_STATUS_REGIONS;
use crate::proto::handshake::ReplyMode;
use crate::proto::transmission::Request;
use crate::proto::wire::{Command, Errno, command_flag};

/// Granularity of the search for zeroes in what is read, in bytes; shorter reads are sent as they are.
const HOLE_UNIT_BYTES: usize = 64 * 1024;

/// The request's share of the connection's budgets; given back when the reply is on its way.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) _request: OwnedSemaphorePermit,
    pub(super) _bytes: Option<OwnedSemaphorePermit>,
}

/// A request that waits for a thread.
pub(super) struct Job {
    pub(super) request: Request,
    /// The bytes to write.
    pub(super) payload: Vec<u8>,
    pub(super) share: Share,
    pub(super) arrived: Instant,
}

/// What all requests of a connection need.
pub(super) struct Workplace {
    pub(super) device: Arc<dyn BlockDevice>,
    pub(super) mode: ReplyMode,
    pub(super) observer: Arc<dyn ConnectionObserver>,
    pub(super) buffers: Buffers,
    pub(super) max_workers: usize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(Job, UnboundedSender<Reply>)>,
    workers: usize,
}

impl Workplace {
    pub(super) fn new(
        device: Arc<dyn BlockDevice>,
        mode: ReplyMode,
        observer: Arc<dyn ConnectionObserver>,
        buffers: Buffers,
        max_workers: usize,
    ) -> Self {
        Self { device, mode, observer, buffers, max_workers: max_workers.max(1), queue: Mutex::default() }
    }

    /// Queues a request. Threads at work take it when they are free; there may be one more as long as fewer than the
    /// most are working, because those at work may be held up by the medium.
    pub(super) fn submit(self: &Arc<Self>, job: Job, replies: &UnboundedSender<Reply>) {
        {
            let mut queue = self.queue.lock();
            queue.jobs.push_back((job, replies.clone()));
            if queue.workers >= self.max_workers {
                return;
            }
            queue.workers += 1;
        }
        let place = Arc::clone(self);
        tokio::task::spawn_blocking(move || place.work());
    }

    fn work(&self) {
        // If a device panics, the count must not stay up: nobody would work any more.
        let at_work = AtWork(&self.queue);
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let next = queue.jobs.pop_front();
                if next.is_none() {
                    queue.workers -= 1;
                }
                next
            };
            let Some((job, replies)) = next else { break };
            let reply = self.carry_out(job);
            // The connection may be gone; the work is done all the same.
            let _ = replies.send(reply);
        }
        std::mem::forget(at_work);
    }

    fn carry_out(&self, job: Job) -> Reply {
        let Job { request, payload, share, arrived } = job;
        let outcome = self.outcome(&request, &payload).unwrap_or_else(|error| {
            tracing::warn!(
                command = request.command.name(),
                offset = request.offset,
                length = request.length,
                error = &error as &dyn std::error::Error,
                "a request failed on the device"
            );
            Outcome::Failed { errno: errno_of(&error), message: error.to_string().into() }
        });
        self.buffers.put(payload);
        self.observe(&request, outcome.errno(), arrived);
        Reply { request, outcome, share }
    }

    /// Tells the observer that a request was answered.
    pub(super) fn observe(&self, request: &Request, error: Option<Errno>, arrived: Instant) {
        let Request { command, offset, length, .. } = *request;
        self.observer.command_done(&CommandRecord { command, offset, length, error, duration: arrived.elapsed() });
    }

    fn outcome(&self, request: &Request, payload: &[u8]) -> Result<Outcome, BlockError> {
        let extent = Extent::new(request.offset, request.length);
        match request.command {
            Command::Read => return self.read(request),
            Command::BlockStatus => return self.status(request, extent),
            Command::Write => self.device.write_at(payload, request.offset)?,
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
            Command::Disconnect | Command::Cache | Command::Unknown(_) => {}
        }
        if request.command.changes_content() && request.has(command_flag::FUA) {
            self.device.flush()?;
        }
        Ok(Outcome::Done)
    }

    fn read(&self, request: &Request) -> Result<Outcome, BlockError> {
        let mut buffer = self.buffers.get(usize::try_from(request.length).unwrap_or(0));
        if let Err(error) = self.device.read_at(&mut buffer, request.offset) {
            self.buffers.put(buffer);
            return Err(error);
        }
        let whole = self.mode == ReplyMode::Simple || request.has(command_flag::DF);
        let pieces = if whole { vec![Piece::Data(0..buffer.len())] } else { pieces_of(&buffer) };
        Ok(Outcome::Data { buffer, pieces })
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

/// Longest region in 32 bits that is a multiple of every block size, in bytes.
const LONGEST_COMPACT_REGION_BYTES: u64 = (1 << 32) - (1 << 16);

struct AtWork<'a>(&'a Mutex<Queue>);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
    }
}

/// Cuts what was read into data and runs of zeroes, which need not be sent.
fn pieces_of(buffer: &[u8]) -> Vec<Piece> {
    if buffer.len() < HOLE_UNIT_BYTES {
        return vec![Piece::Data(0..buffer.len())];
    }
    let mut pieces: Vec<(bool, Range<usize>)> = Vec::new();
    let mut at = 0;
    for unit in buffer.chunks(HOLE_UNIT_BYTES) {
        let hole = is_zero(unit);
        let end = at + unit.len();
        match pieces.last_mut() {
            Some((last, range)) if *last == hole => range.end = end,
            _ => pieces.push((hole, at..end)),
        }
        at = end;
    }
    pieces.into_iter().map(|(hole, range)| if hole { Piece::Hole(range) } else { Piece::Data(range) }).collect()
}

fn errno_of(error: &BlockError) -> Errno {
    match error {
        BlockError::Full { .. } => Errno::NoSpace,
        BlockError::ReadOnly => Errno::NotPermitted,
        BlockError::OutOfRange { .. } | BlockError::LeafOrder { .. } => Errno::Invalid,
        BlockError::Open { .. }
        | BlockError::NotADevice { .. }
        | BlockError::Read { .. }
        | BlockError::Write { .. }
        | BlockError::Flush { .. }
        | BlockError::Map { .. }
        | BlockError::Image { .. } => Errno::Io,
    }
}
