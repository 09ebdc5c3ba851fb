//! The transmission phase of a server: requests in, work handed out, replies out, until the end.
//!
//! What a connection may hold at a time is bounded by two budgets: requests, and bytes of payloads.

use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::buffers::Buffers;
use super::negotiate::Negotiated;
use super::reply::{Outcome, Reply, write_replies};
use super::work::{Job, Share, Workplace};
use super::{ServeOptions, SessionEnd};
use crate::error::NbdError;
use crate::frame::FrameReader;
use crate::proto::handshake::ExportInfo;
use crate::proto::handshake::ReplyMode;
use crate::proto::transmission::{Request, admit};
use crate::proto::wire::{Command, Errno};

/// Serves an export until the client leaves or the shutdown is asked for.
pub(super) async fn run<R, W>(
    reader: FrameReader<R>,
    mut writer: W,
    negotiated: Negotiated,
    options: &ServeOptions,
) -> Result<SessionEnd, NbdError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let limits = &options.limits;
    let Negotiated { export, info, agreed, .. } = negotiated;
    let buffers = Buffers::new(limits.bytes_in_flight);
    let observer = Arc::clone(&options.observer);
    let place = Arc::new(Workplace::new(export.device, agreed.mode, observer, buffers, limits.workers));
    let (replies, ready) = unbounded_channel();
    let mut intake = Intake {
        reader,
        info,
        mode: agreed.mode,
        base_allocation: agreed.base_allocation,
        place: Arc::clone(&place),
        replies,
        max_requests: limits.requests_in_flight.max(1),
        max_bytes: limits.bytes_in_flight.max(1),
        requests: Arc::new(Semaphore::new(limits.requests_in_flight.max(1) as usize)),
        bytes: Arc::new(Semaphore::new(limits.bytes_in_flight.max(1) as usize)),
        shutdown: options.shutdown.clone(),
    };
    let stream_failed = CancellationToken::new();
    let input_over = CancellationToken::new();
    let output = async {
        let written = write_replies(&mut writer, ready, &place).await;
        if written.is_err() {
            stream_failed.cancel();
        }
        written
    };
    let input = async {
        let ended = tokio::select! {
            biased;
            () = stream_failed.cancelled() => Ok(SessionEnd::EndOfStream),
            ended = intake.accept_all() => ended,
        };
        // The last sender besides the workers' goes: the output ends with the last reply.
        drop(intake);
        input_over.cancel();
        ended
    };
    let overdue = async {
        tokio::select! {
            () = options.shutdown.cancelled() => {}
            () = input_over.cancelled() => {}
        }
        tokio::time::sleep(limits.drain_timeout).await;
    };
    let ended = tokio::select! {
        (ended, written) = async { tokio::join!(input, output) } => {
            // A stream that broke under a reply explains the end better than what was read last.
            written.map_err(|source| NbdError::Stream { source }).and(ended)
        }
        // A client that does not read its replies, or a device that hangs, must not hold the connection for ever.
        () = overdue => Err(NbdError::Stream { source: std::io::ErrorKind::TimedOut.into() }),
    };
    // The other side may be gone already.
    let _ = writer.shutdown().await;
    ended
}

/// Reads requests and hands them out.
struct Intake<R> {
    reader: FrameReader<R>,
    info: ExportInfo,
    mode: ReplyMode,
    base_allocation: bool,
    place: Arc<Workplace>,
    replies: UnboundedSender<Reply>,
    max_requests: u32,
    max_bytes: u32,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl<R: AsyncRead + Unpin> Intake<R> {
    async fn accept_all(&mut self) -> Result<SessionEnd, NbdError> {
        let stream_failed = |source| NbdError::Stream { source };
        let header_bytes = Request::header_bytes(self.mode);
        let mut draining = false;
        loop {
            // Once a shutdown is asked for, the loop ends when nothing is under way; until then requests are still
            // read, so that the client learns why they are not carried out.
            let arrived = tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if !draining => {
                    draining = true;
                    continue;
                }
                _all = self.requests.acquire_many(self.max_requests), if draining => return Ok(SessionEnd::ShutDown),
                arrived = self.reader.wait_for(header_bytes) => arrived.map_err(stream_failed)?,
            };
            if !arrived {
                return Ok(SessionEnd::EndOfStream);
            }
            let request = Request::decode(self.reader.take(header_bytes), self.mode)?;
            if request.command == Command::Disconnect {
                return Ok(SessionEnd::Disconnected);
            }
            self.accept(request, draining).await?;
        }
    }

    async fn accept(&mut self, request: Request, draining: bool) -> Result<(), NbdError> {
        let arrived = Instant::now();
        let payload_bytes = request.payload_bytes(self.mode, self.info.block_sizes.maximum)?;
        let verdict = admit(&request, &self.info, self.mode, self.base_allocation);
        let refused = match verdict {
            Ok(()) if draining => Some((Errno::Shutdown, "the server is shutting down")),
            Ok(()) => None,
            Err(refusal) => Some((refusal.errno, refusal.message)),
        };
        if let Some((errno, message)) = refused {
            self.reader.skip(payload_bytes.into()).await.map_err(|source| NbdError::Stream { source })?;
            let share = self.share(0).await?;
            self.place.observe(&request, Some(errno), arrived);
            let outcome = Outcome::Failed { errno, message: message.into() };
            let _ = self.replies.send(Reply { request, outcome, share });
            return Ok(());
        }
        let held = if request.command == Command::Read { request.length } else { payload_bytes.into() };
        let share = self.share(held).await?;
        let mut payload = Vec::new();
        if payload_bytes > 0 {
            payload = self.place.buffers.get(payload_bytes as usize);
            self.reader.read_exact(&mut payload).await.map_err(|source| NbdError::Stream { source })?;
        }
        self.place.submit(Job { request, payload, share, arrived }, &self.replies);
        Ok(())
    }

    /// Waits until the budgets have room for a request that holds this many bytes.
    async fn share(&self, held_bytes: u64) -> Result<Share, NbdError> {
        // The semaphores are never closed.
        let closed = |_closed| NbdError::Closed;
        let request = Arc::clone(&self.requests).acquire_owned().await.map_err(closed)?;
        let wanted = u32::try_from(held_bytes).unwrap_or(u32::MAX).min(self.max_bytes);
        let bytes = match wanted {
            0 => None,
            wanted => Some(Arc::clone(&self.bytes).acquire_many_owned(wanted).await.map_err(closed)?),
        };
        Ok(Share { _request: request, _bytes: bytes })
    }
}
