//! Counters of one disk, written by the workers and read by whoever asks; speed over the last seconds, and an ETA.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The span the speed is measured over.
const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// Most samples kept: one per [`SAMPLE_INTERVAL`] of the window, and some.
const MAX_SAMPLES: usize = 64;
/// Least time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// Live counters of one disk, all in bytes.
#[derive(Debug, Default)]
pub struct DiskProgress {
    total: AtomicU64,
    done: AtomicU64,
    read: AtomicU64,
    sent: AtomicU64,
    zero: AtomicU64,
    samples: Mutex<VecDeque<(Instant, u64)>>,
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
    /// Seconds left at that speed.
    pub eta_seconds: Option<u64>,
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
        self.samples.lock().clear();
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
        let done = self.done.fetch_add(length, Relaxed) + length;
        self.sample(Instant::now(), done);
    }

    fn sample(&self, now: Instant, done: u64) {
        let mut samples = self.samples.lock();
        if samples.back().is_some_and(|(at, _)| now.duration_since(*at) < SAMPLE_INTERVAL) {
            return;
        }
        samples.push_back((now, done));
        while samples.len() > MAX_SAMPLES || samples.front().is_some_and(|(at, _)| now - *at > SPEED_WINDOW) {
            samples.pop_front();
        }
    }

    /// The counters now.
    #[must_use]
    pub fn view(&self) -> ProgressView {
        let (total, done) = (self.total.load(Relaxed), self.done.load(Relaxed));
        let speed_bps = self.speed(done);
        let left = total.saturating_sub(done);
        ProgressView {
            bytes_total: total,
            bytes_done: done,
            bytes_read: self.read.load(Relaxed),
            bytes_sent: self.sent.load(Relaxed),
            bytes_zero: self.zero.load(Relaxed),
            speed_bps,
            eta_seconds: (left == 0).then_some(0).or_else(|| left.checked_div(speed_bps)),
        }
    }

    fn speed(&self, done: u64) -> u64 {
        let samples = self.samples.lock();
        let Some((first, then)) = samples.front() else { return 0 };
        let milliseconds = u64::try_from(first.elapsed().as_millis()).unwrap_or(u64::MAX);
        done.saturating_sub(*then).saturating_mul(1000).checked_div(milliseconds).unwrap_or(0)
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
}
