//! Counters of one disk, written by the workers and read by whoever asks: bytes, speeds, and where the time went.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::progress::TimeSpent;
use model::pace::Pace;
use parking_lot::Mutex;

/// Live counters of one disk, all in bytes but for the time.
#[derive(Debug, Default)]
pub struct DiskProgress {
    total: AtomicU64,
    done: AtomicU64,
    read: AtomicU64,
    sent: AtomicU64,
    zero: AtomicU64,
    spent: SpentNanos,
    clocked: Mutex<Clocked>,
}

/// The pace, and the moment it is counted from.
#[derive(Debug, Default)]
struct Clocked {
    origin: Option<Instant>,
    pace: Pace,
}

impl Clocked {
    fn now(&mut self) -> Duration {
        self.origin.get_or_insert_with(Instant::now).elapsed()
    }
}

/// See [`TimeSpent`], in nanoseconds: a chunk takes less than a millisecond.
#[derive(Debug, Default)]
struct SpentNanos {
    source_read: AtomicU64,
    hash: AtomicU64,
    deliver: AtomicU64,
}

/// What a thread spent its time on while it worked on a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Reading the source, or waiting for it.
    pub source_read: Duration,
    /// Looking for zeroes and taking digests.
    pub hash: Duration,
    /// Sending, and waiting for replies.
    pub deliver: Duration,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressView {
    /// Bytes to look at.
    pub bytes_total: u64,
    /// Bytes looked at.
    pub bytes_done: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of data sent.
    pub bytes_sent: u64,
    /// Bytes found zero and sent as such.
    pub bytes_zero: u64,
    /// Bytes per second looked at, over the last seconds.
    pub speed_bps: u64,
    /// Bytes per second looked at since the copy began.
    pub average_bps: u64,
    /// Seconds left at the present speed.
    pub eta_seconds: Option<u64>,
    /// Where the time of all threads went.
    pub time: TimeSpent,
}

/// What was moved so far, in bytes: it outlasts interruptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Read from the source.
    pub read: u64,
    /// Sent as data.
    pub sent: u64,
    /// Found zero and sent as such.
    pub zero: u64,
}

impl DiskProgress {
    /// This much is to be looked at, of which so much is done already. What was moved before still counts.
    pub fn begin(&self, bytes_total: u64, bytes_done: u64) {
        self.total.store(bytes_total, Relaxed);
        self.done.store(bytes_done, Relaxed);
        let mut clocked = self.clocked.lock();
        let now = clocked.now();
        clocked.pace.begin(now, bytes_done);
    }

    /// What an earlier process of the same run had moved.
    pub fn restore(&self, moved: Moved) {
        for (counter, value) in [(&self.read, moved.read), (&self.sent, moved.sent), (&self.zero, moved.zero)] {
            counter.store(value, Relaxed);
        }
    }

    /// What was moved so far.
    #[must_use]
    pub fn moved(&self) -> Moved {
        Moved { read: self.read.load(Relaxed), sent: self.sent.load(Relaxed), zero: self.zero.load(Relaxed) }
    }

    /// A chunk of `length` bytes was read.
    pub fn add_read(&self, length: u64) {
        self.read.fetch_add(length, Relaxed);
    }

    /// A chunk of `length` bytes is finished, of which so much was sent as data and so much as zeroes.
    pub fn add_done(&self, length: u64, sent: u64, zero: u64) {
        self.sent.fetch_add(sent, Relaxed);
        self.zero.fetch_add(zero, Relaxed);
        let mut clocked = self.clocked.lock();
        // Within the lock: another thread's older sum would look like a new beginning.
        let done = self.done.fetch_add(length, Relaxed) + length;
        let now = clocked.now();
        clocked.pace.note(now, done);
    }

    /// A thread spent its time like this; what earlier copies of this disk took stays counted.
    pub fn add_spent(&self, spent: Spent) {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.spent.source_read.fetch_add(nanos(spent.source_read), Relaxed);
        self.spent.hash.fetch_add(nanos(spent.hash), Relaxed);
        self.spent.deliver.fetch_add(nanos(spent.deliver), Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn view(&self) -> ProgressView {
        let (total, done) = (self.total.load(Relaxed), self.done.load(Relaxed));
        let (speed_bps, average_bps) = {
            let mut clocked = self.clocked.lock();
            let now = clocked.now();
            (clocked.pace.speed_bps(now), clocked.pace.average_bps(now))
        };
        let left = total.saturating_sub(done);
        let milliseconds = |nanos: &AtomicU64| nanos.load(Relaxed) / 1_000_000;
        ProgressView {
            bytes_total: total,
            bytes_done: done,
            bytes_read: self.read.load(Relaxed),
            bytes_sent: self.sent.load(Relaxed),
            bytes_zero: self.zero.load(Relaxed),
            speed_bps,
            average_bps,
            eta_seconds: (left == 0).then_some(0).or_else(|| left.checked_div(speed_bps)),
            time: TimeSpent {
                source_read_ms: milliseconds(&self.spent.source_read),
                hash_ms: milliseconds(&self.spent.hash),
                deliver_ms: milliseconds(&self.spent.deliver),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_the_end_has_no_time_left() {
        let progress = DiskProgress::default();
        progress.begin(300, 0);
        assert_eq!(progress.view().eta_seconds, None);
        progress.add_read(300);
        progress.add_done(100, 60, 40);
        progress.add_done(200, 0, 200);
        let view = progress.view();
        assert_eq!((view.bytes_done, view.bytes_sent, view.bytes_zero, view.bytes_read), (300, 60, 240, 300));
        assert_eq!(view.eta_seconds, Some(0));
    }

    #[test]
    fn what_was_moved_before_an_interruption_still_counts() {
        let progress = DiskProgress::default();
        progress.restore(Moved { read: 100, sent: 60, zero: 40 });
        progress.begin(300, 90);
        progress.add_read(210);
        progress.add_done(210, 210, 0);
        let view = progress.view();
        assert_eq!((view.bytes_done, view.bytes_total, view.bytes_sent), (300, 300, 270));
        assert_eq!(progress.moved(), Moved { read: 310, sent: 270, zero: 40 });
    }

    #[test]
    fn time_adds_up_over_chunks_and_begins() {
        let progress = DiskProgress::default();
        let spent = Spent {
            source_read: Duration::from_micros(1700),
            hash: Duration::from_micros(600),
            deliver: Duration::from_millis(7),
        };
        progress.add_spent(spent);
        progress.begin(10, 0);
        progress.add_spent(spent);
        assert_eq!(progress.view().time, TimeSpent { source_read_ms: 3, hash_ms: 1, deliver_ms: 14 });
    }
}
