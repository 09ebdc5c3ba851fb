//! Limits of what an agent sends: one for everything, one for each job, shared fairly by disks. Threads that must wait do
//! so here; whose turn it is, is decided in `turns`.
//!
//! Counted are the bytes that are given to TCP. Where no limit is set, a connection pays one look at a flag.

mod bucket;
mod turns;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use turns::{DiskKey, JobKey, Ticket, Turns};

/// What is shorter goes at once and is counted afterwards, in bytes: requests without payload, goodbyes.
const AT_ONCE_BYTES: usize = 4096;
/// How often a thread that waits looks whether its connection was cut.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The limits of an agent.
#[derive(Debug)]
pub struct Pacer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Somebody's turn has come, or a limit has changed.
    changed: Condvar,
    begun: Instant,
    is_limited: AtomicBool,
    next_key: AtomicU64,
}

#[derive(Debug)]
struct State {
    turns: Turns,
    /// Whose turn has come and who has not noticed yet.
    granted: HashSet<Ticket>,
}

/// The limit of a job; it ends when this is dropped.
#[derive(Debug)]
pub struct JobPace {
    shared: Arc<Shared>,
    job: JobKey,
}

/// What the connections of a disk send within.
#[derive(Debug)]
pub struct DiskPace {
    job: Arc<JobPace>,
    disk: DiskKey,
}

impl Default for Pacer {
    fn default() -> Self {
        let turns = Turns::new(Duration::ZERO);
        let shared = Shared {
            state: Mutex::new(State { turns, granted: HashSet::new() }),
            changed: Condvar::new(),
            begun: Instant::now(),
            is_limited: AtomicBool::new(false),
            next_key: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Pacer {
    /// Limits everything together to so many bytes per second, from now on; `None` is no limit.
    pub fn set_limit(&self, bytes_per_s: Option<u64>) {
        self.shared.change(|turns, now| turns.set_limit(bytes_per_s, now));
    }

    /// A job that sends so many bytes per second at most.
    #[must_use]
    pub fn job(&self, bytes_per_s: Option<u64>) -> Arc<JobPace> {
        let job = JobPace { shared: Arc::clone(&self.shared), job: self.shared.key() };
        job.set_limit(bytes_per_s);
        Arc::new(job)
    }
}

impl JobPace {
    /// Another limit, from now on.
    pub fn set_limit(&self, bytes_per_s: Option<u64>) {
        self.shared.change(|turns, now| turns.set_job_limit(self.job, bytes_per_s, now));
    }

    /// A disk of the job.
    #[must_use]
    pub fn disk(self: &Arc<Self>) -> Arc<DiskPace> {
        Arc::new(DiskPace { job: Arc::clone(self), disk: self.shared.key() })
    }
}

impl Drop for JobPace {
    fn drop(&mut self) {
        self.shared.change(|turns, _now| turns.forget_job(self.job));
    }
}

impl DiskPace {
    /// Returns when that many bytes may be sent. Few go at once.
    ///
    /// # Errors
    /// `is_cut` said so while this waited.
    pub(crate) fn wait_for(&self, length: usize, is_cut: impl Fn() -> bool) -> io::Result<()> {
        let shared = &*self.job.shared;
        if !shared.is_limited.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (job, bytes) = (self.job.job, length as u64);
        let mut state = shared.state.lock();
        // What is small does not wait for its turn, unless much that was small has gone so already.
        if length < AT_ONCE_BYTES && state.turns.charge_if_small_debt(job, bytes, shared.begun.elapsed()) {
            return Ok(());
        }
        let ticket = shared.key();
        state.turns.ask(job, self.disk, ticket, bytes);
        loop {
            let granted = state.turns.grant(shared.begun.elapsed());
            let is_for_others = granted.tickets.iter().any(|other| *other != ticket);
            state.granted.extend(granted.tickets);
            if is_for_others {
                shared.changed.notify_all();
            }
            if state.granted.remove(&ticket) {
                return Ok(());
            }
            if is_cut() {
                state.turns.withdraw(ticket);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            shared.changed.wait_for(&mut state, granted.next.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
        }
    }
}

impl Shared {
    fn key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    fn change(&self, how: impl FnOnce(&mut Turns, Duration)) {
        let mut state = self.state.lock();
        how(&mut state.turns, self.begun.elapsed());
        self.is_limited.store(state.turns.is_limited(), Ordering::Relaxed);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_lifted_lets_everybody_go_and_one_that_was_cut_leaves() {
        let pacer = Pacer::default();
        pacer.set_limit(Some(1));
        let disk = pacer.job(None).disk();
        // The first goes on credit; the next would wait for hours.
        disk.wait_for(1 << 20, || false).unwrap();
        assert_eq!(disk.wait_for(1 << 20, || true).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        disk.wait_for(100, || true).unwrap();
        let waiting = std::thread::spawn(move || disk.wait_for(1 << 20, || false));
        pacer.set_limit(None);
        waiting.join().unwrap().unwrap();
    }
}
