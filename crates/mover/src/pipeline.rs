//! Copies one disk: a thread per connection takes chunks of the plan, reads, tests for zero and digests leaf by leaf, and
//! sends without waiting for replies.
//!
//! A byte is read into the buffer it is sent from and changes threads only where it comes from afar (see
//! [`crate::reader`]). Nothing here knows vSphere or TLS.

mod feed;
mod work;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::vma::SyncMode;
use nbd::Lane;
use nbd::channel::Hangup;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::digest_file::DigestFile;
use crate::error::MoverError;
use crate::plan::Plan;
use crate::progress::{DiskProgress, Spent};
use crate::reader::Source;
use crate::target::Target;
use feed::Feed;
use work::work;

/// Stack of a copying thread, in bytes: its buffers are on the heap.
const STACK_BYTES: usize = 512 * 1024;
/// How long a copy that was told to stop waits for its threads: one may hang in a read of a dead disk.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// One disk's copy: where from, where to, what, and where it is noted.
pub struct DiskCopy {
    /// The frozen disk.
    pub source: Source,
    /// The replica.
    pub target: Target,
    /// What to do.
    pub plan: Plan,
    /// Full and incremental write everything they read; a comparison writes what differs.
    pub mode: SyncMode,
    /// Where the source's digests go; without it none are taken, and the copy cannot be proven.
    pub digests: Option<Arc<DigestFile>>,
    /// Live counters.
    pub progress: Arc<DiskProgress>,
}

/// How a thread ended, and its connection.
type Ended = (Lane, Result<(), MoverError>);

impl DiskCopy {
    /// Runs to the end: [`transfer`](Self::transfer), then [`make_durable`](Self::make_durable).
    ///
    /// # Errors
    /// As for both.
    pub async fn run(self, cancel: &CancellationToken) -> Result<(), MoverError> {
        let copy = Arc::new(self);
        copy.transfer(cancel).await?;
        copy.make_durable().await
    }

    /// Reads and writes all of the plan. Nothing of it may be called done before [`make_durable`](Self::make_durable).
    ///
    /// # Errors
    /// The first error of any thread, or `Cancelled`; the other threads are stopped. The replica is then incomplete.
    pub async fn transfer(self: &Arc<Self>, cancel: &CancellationToken) -> Result<(), MoverError> {
        self.progress.begin(self.plan.bytes_total, self.plan.bytes_kept);
        let lanes = self.target.take_lanes()?;
        let stop = Stop::of(&lanes)?;
        let (feed, mut fetching) = Feed::start(self, lanes.len());
        let feed = Arc::new(feed);
        let (ended, mut endings) = unbounded_channel();
        let mut missing = lanes.len();
        for lane in lanes {
            self.start_thread(lane, &feed, &stop.asked, ended.clone())?;
        }
        drop(ended);
        let mut settled = Vec::new();
        let mut failure = None;
        while missing > 0 {
            let (lane, outcome) = tokio::select! {
                biased;
                () = cancel.cancelled(), if failure.is_none() => {
                    failure = Some(MoverError::Cancelled);
                    stop.now();
                    fetching.abort_all();
                    continue;
                }
                ending = next_ending(&mut endings, failure.is_some()) => match ending {
                    Some(ending) => ending,
                    None => break,
                },
            };
            missing -= 1;
            match outcome {
                Ok(()) => settled.push(lane),
                Err(error) if failure.is_none() => {
                    failure = Some(error);
                    stop.now();
                    fetching.abort_all();
                }
                Err(_follows_from_the_first) => {}
            }
        }
        match failure {
            Some(error) => Err(error),
            None if missing > 0 => Err(MoverError::Thread { source: io::Error::other("it ended without a word") }),
            None => {
                stop.disarm();
                self.target.give_back(settled);
                Ok(())
            }
        }
    }

    /// All that was transferred is durable on the hub, and every digest is in its file, when this returns `Ok`.
    ///
    /// # Errors
    /// The hub cannot make it durable, or the digests cannot be written.
    pub async fn make_durable(&self) -> Result<(), MoverError> {
        let begun = Instant::now();
        let flushed = self.target.flush().await;
        self.progress.add_spent(Spent { deliver: begun.elapsed(), ..Spent::default() });
        flushed?;
        self.keep_digests().await
    }

    /// Every digest taken so far is in its file for good: what the hub calls durable need not be read again.
    ///
    /// # Errors
    /// The digests cannot be written.
    pub async fn keep_digests(&self) -> Result<(), MoverError> {
        let Some(digests) = self.digests.clone() else { return Ok(()) };
        let moved = self.progress.moved();
        let keeping = tokio::task::spawn_blocking(move || digests.finish(moved));
        keeping.await.map_err(|source| MoverError::Worker { source })?
    }

    fn start_thread(
        self: &Arc<Self>,
        mut lane: Lane,
        feed: &Arc<Feed>,
        stop: &Arc<AtomicBool>,
        ended: UnboundedSender<Ended>,
    ) -> Result<(), MoverError> {
        let (copy, feed, stop) = (Arc::clone(self), Arc::clone(feed), Arc::clone(stop));
        let copying = move || {
            let outcome = work(&copy, &feed, &mut lane, &stop);
            drop((copy, feed));
            // Whoever started this may be gone.
            let _ = ended.send((lane, outcome));
        };
        let started = std::thread::Builder::new().name("mover".into()).stack_size(STACK_BYTES).spawn(copying);
        started.map(drop).map_err(|source| MoverError::Thread { source })
    }
}

/// The next thread that ended; `None` when no more will, or none did in time after all were told to.
async fn next_ending(endings: &mut UnboundedReceiver<Ended>, is_stopping: bool) -> Option<Ended> {
    if is_stopping {
        return tokio::time::timeout(STOP_DEADLINE, endings.recv()).await.ok().flatten();
    }
    endings.recv().await
}

/// Stops the threads of a copy: when asked, and when the copy is given up.
struct Stop {
    asked: Arc<AtomicBool>,
    hangups: Vec<Hangup>,
}

impl Stop {
    fn of(lanes: &[Lane]) -> Result<Self, MoverError> {
        let hangups = lanes.iter().map(Lane::hangup).collect::<Result<_, _>>();
        Ok(Self { asked: Arc::default(), hangups: hangups.map_err(|source| MoverError::Flush { source })? })
    }

    /// Between two chunks they see the flag; those that wait for the hub are woken.
    fn now(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.hangups.iter().for_each(Hangup::cut);
    }

    /// Leaves the connections as they are.
    fn disarm(mut self) {
        self.hangups.clear();
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}
