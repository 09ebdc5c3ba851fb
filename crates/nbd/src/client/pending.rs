//! The requests of a connection that wait for their replies, and the buffers their data comes in.

use std::collections::HashMap;
use std::sync::Arc;

use block::Region;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::NbdError;
use crate::proto::wire::{Command, Errno};

/// Buffers kept for the next read.
const KEPT_BUFFERS: usize = 16;
/// Longest buffer that is kept, in bytes: rare long reads must not hold memory for good.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

/// What a request yields.
#[derive(Debug, Default)]
pub(super) struct Completed {
    /// The bytes of a read; the buffer it was given.
    pub(super) buffer: Vec<u8>,
    /// The regions of a block status.
    pub(super) regions: Vec<Region>,
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) command: Command,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) completed: Completed,
    /// Bytes of a read that arrived, holes included.
    pub(super) received_bytes: u64,
    pub(super) failure: Option<(Errno, String)>,
    pub(super) done: oneshot::Sender<Result<Completed, NbdError>>,
}

impl Pending {
    /// Tells whoever waits how it ended; they may be gone.
    pub(super) fn finish(self, outcome: Result<(), NbdError>) {
        let remote = |(errno, message)| NbdError::Remote {
            command: self.command,
            offset: self.offset,
            length: self.length,
            errno,
            message,
        };
        let outcome = match (outcome, self.failure) {
            (Ok(()), None) => Ok(self.completed),
            (Ok(()), Some(failure)) => Err(remote(failure)),
            (Err(error), _) => Err(error),
        };
        let _ = self.done.send(outcome);
    }
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Pending>,
    next_cookie: u64,
    lost: Option<Arc<NbdError>>,
    kept: Vec<Vec<u8>>,
}

/// All requests of a connection that wait.
#[derive(Default)]
pub(super) struct PendingRequests {
    state: Mutex<State>,
}

impl PendingRequests {
    /// Adds a request and gives it its number.
    pub(super) fn add(&self, pending: Pending) -> Result<u64, NbdError> {
        let mut state = self.state.lock();
        if let Some(cause) = &state.lost {
            return Err(NbdError::ConnectionLost { cause: Arc::clone(cause) });
        }
        let cookie = state.next_cookie;
        state.next_cookie += 1;
        state.waiting.insert(cookie, pending);
        Ok(cookie)
    }

    /// Takes the request of a number out.
    pub(super) fn take(&self, cookie: u64) -> Option<Pending> {
        self.state.lock().waiting.remove(&cookie)
    }

    /// Puts one back that has more to come.
    pub(super) fn put_back(&self, cookie: u64, pending: Pending) {
        let mut state = self.state.lock();
        if let Some(cause) = state.lost.clone() {
            drop(state);
            pending.finish(Err(NbdError::ConnectionLost { cause }));
            return;
        }
        state.waiting.insert(cookie, pending);
    }

    /// Ends everything: all that wait fail, and so does whatever comes later. Yields the error for the caller's own.
    pub(super) fn fail_all(&self, cause: NbdError) -> NbdError {
        let (cause, waiting) = {
            let mut state = self.state.lock();
            let cause = Arc::clone(state.lost.get_or_insert_with(|| Arc::new(cause)));
            state.kept.clear();
            (cause, std::mem::take(&mut state.waiting))
        };
        for pending in waiting.into_values() {
            pending.finish(Err(NbdError::ConnectionLost { cause: Arc::clone(&cause) }));
        }
        NbdError::ConnectionLost { cause }
    }

    /// A buffer of exactly `length` bytes with any content.
    pub(super) fn buffer(&self, length: usize) -> Vec<u8> {
        let mut buffer = self.state.lock().kept.pop().unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Keeps a buffer for the next read.
    pub(super) fn keep(&self, buffer: Vec<u8>) {
        let mut state = self.state.lock();
        if state.kept.len() < KEPT_BUFFERS && buffer.capacity() <= KEPT_BUFFER_BYTES {
            state.kept.push(buffer);
        }
    }
}
