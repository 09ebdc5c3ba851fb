//! Where the threads of a copy get their next chunk from: read by themselves, or fetched ahead by tasks.

use std::sync::Arc;

use api::vma::SyncMode;
use block::{BlockDevice, PageBuffer};
use model::Extent;
use parking_lot::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::DiskCopy;
use crate::error::MoverError;
use crate::plan::{Chunk, Cursor, MAX_CHUNK_BYTES, Plan, Walk};
use crate::progress::DiskProgress;
use crate::reader::{Reader, Source};

/// Chunks of a local disk, in bytes: small enough to stay in the processor's cache from the read to the write.
const LOCAL_CHUNK_BYTES: u64 = 256 * 1024;
/// Longest zeroing request, in bytes: bounded so that progress and cancellation are seen.
const MAX_ZERO_BYTES: u64 = 1 << 30;

/// A chunk that was fetched, or why it was not.
type Fetched = Result<(Chunk, Vec<u8>), MoverError>;

/// Where a thread has the bytes of its chunk.
#[derive(Default)]
pub(super) struct Room {
    read: PageBuffer,
    fetched: Vec<u8>,
}

/// Hands out what is to be done, each piece once.
pub(super) struct Feed {
    zeroes: Mutex<Cursor>,
    chunks: Chunks,
}

enum Chunks {
    Local { device: Arc<dyn BlockDevice>, walk: Mutex<Walk> },
    Remote { ready: Mutex<Receiver<Fetched>>, spent: Arc<Mutex<Vec<Vec<u8>>>> },
}

impl Feed {
    /// A feed for so many threads, and the tasks that fetch for it: none for a local disk. Dropped, they stop.
    pub(super) fn start(copy: &Arc<DiskCopy>, threads: usize) -> (Self, JoinSet<()>) {
        let mut fetching = JoinSet::new();
        let chunks = match &copy.source {
            Source::Local(device) => {
                // A comparison waits for the replica's bytes once per chunk.
                let compares = copy.mode == SyncMode::Compare;
                let longest = if compares { MAX_CHUNK_BYTES } else { LOCAL_CHUNK_BYTES };
                Chunks::Local { device: Arc::clone(device), walk: Mutex::new(Walk::new(longest)) }
            }
            Source::Remote(reader) => {
                let (done, ready) = channel(threads);
                let spent = Arc::default();
                let walk = Arc::new(Mutex::new(Walk::new(MAX_CHUNK_BYTES)));
                for _ in 0..reader.parallelism().max(1) {
                    let fetcher = Fetcher {
                        copy: Arc::clone(copy),
                        reader: Arc::clone(reader),
                        walk: Arc::clone(&walk),
                        spent: Arc::clone(&spent),
                        done: done.clone(),
                    };
                    fetching.spawn(fetcher.fetch());
                }
                Chunks::Remote { ready: Mutex::new(ready), spent }
            }
        };
        (Self { zeroes: Mutex::new(Cursor::new(MAX_ZERO_BYTES)), chunks }, fetching)
    }

    /// The next extent that is to be zero without being read.
    pub(super) fn next_zeroes(&self, plan: &Plan) -> Option<Extent> {
        self.zeroes.lock().next(&plan.zeroes)
    }

    /// The next chunk and its bytes, which are in `room`; `None` when there is no more. If it has to be waited for,
    /// `before_waiting` is called first.
    pub(super) fn next_chunk<'r>(
        &self,
        plan: &Plan,
        progress: &DiskProgress,
        room: &'r mut Room,
        before_waiting: impl FnOnce() -> Result<(), MoverError>,
    ) -> Result<Option<(Chunk, &'r [u8])>, MoverError> {
        match &self.chunks {
            Chunks::Local { device, walk } => {
                let Some(chunk) = walk.lock().next(plan) else { return Ok(None) };
                room.read.set_length(length_of(chunk.extent));
                let read = device.read_at(&mut room.read, chunk.extent.offset);
                read.map_err(|source| MoverError::ReadSource { source })?;
                progress.add_read(chunk.extent.length);
                Ok(Some((chunk, &room.read)))
            }
            Chunks::Remote { ready, spent } => {
                let at_hand = ready.try_lock().and_then(|mut ready| ready.try_recv().ok());
                let fetched = match at_hand {
                    Some(fetched) => Some(fetched),
                    None => {
                        before_waiting()?;
                        ready.lock().blocking_recv()
                    }
                };
                let Some(fetched) = fetched else { return Ok(None) };
                let (chunk, bytes) = fetched?;
                spent.lock().push(std::mem::replace(&mut room.fetched, bytes));
                Ok(Some((chunk, &room.fetched)))
            }
        }
    }
}

/// One of the tasks that keep reads under way.
struct Fetcher {
    copy: Arc<DiskCopy>,
    reader: Arc<dyn Reader>,
    walk: Arc<Mutex<Walk>>,
    spent: Arc<Mutex<Vec<Vec<u8>>>>,
    done: Sender<Fetched>,
}

impl Fetcher {
    async fn fetch(self) {
        loop {
            let Some(chunk) = self.walk.lock().next(&self.copy.plan) else { return };
            let mut buffer = self.spent.lock().pop().unwrap_or_default();
            buffer.resize(length_of(chunk.extent), 0);
            let read = self.reader.read_into(chunk.extent.offset, buffer).await;
            let is_failed = read.is_err();
            if !is_failed {
                self.copy.progress.add_read(chunk.extent.length);
            }
            // Nobody takes it any more when the copy has stopped.
            if self.done.send(read.map(|bytes| (chunk, bytes))).await.is_err() || is_failed {
                return;
            }
        }
    }
}

pub(super) fn length_of(extent: Extent) -> usize {
    usize::try_from(extent.length).unwrap_or(usize::MAX)
}
