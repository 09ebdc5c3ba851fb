//! A bucket of tokens that may go into debt. Pure: the caller brings the time.

use std::time::Duration;

/// What may be sent at once after a pause, as a time of sending.
const BURST: Duration = Duration::from_millis(50);
/// The level is counted in bytes times nanoseconds, so that no rounding adds up.
const UNIT: i128 = 1_000_000_000;

/// Lets a number of bytes per second through. What is taken may be more than is there: whoever comes next waits for it.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    bytes_per_s: Option<u64>,
    level: i128,
    filled_at: Duration,
}

impl Bucket {
    /// Without a rate nothing is held back.
    pub(super) fn new(bytes_per_s: Option<u64>, now: Duration) -> Self {
        Self { bytes_per_s, level: 0, filled_at: now }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.bytes_per_s.is_some()
    }

    /// Another rate from now on; a debt stays one.
    pub(super) fn set_rate(&mut self, bytes_per_s: Option<u64>, now: Duration) {
        self.fill(now);
        self.bytes_per_s = bytes_per_s;
        if bytes_per_s.is_none() {
            self.level = 0;
        }
    }

    /// Adds what has come since the last time.
    pub(super) fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let Some(rate) = self.bytes_per_s else { return };
        let most = product(rate, BURST);
        self.level = self.level.saturating_add(product(rate, passed)).min(most);
    }

    /// Whether the next may go.
    pub(super) fn is_ready(&self) -> bool {
        self.level >= 0
    }

    /// Whether more was sent ahead than so many bytes.
    pub(super) fn owes_more_than(&self, bytes: u64) -> bool {
        self.level < -product(bytes, Duration::from_secs(1))
    }

    /// How long until the next may go.
    pub(super) fn ready_in(&self) -> Duration {
        let debt = self.level.min(0).unsigned_abs();
        let Some(rate) = self.bytes_per_s.filter(|rate| *rate > 0) else { return Duration::ZERO };
        Duration::from_nanos(u64::try_from(debt.div_ceil(u128::from(rate))).unwrap_or(u64::MAX))
    }

    /// Takes bytes out.
    pub(super) fn take(&mut self, bytes: u64) {
        if self.is_limited() {
            self.level -= i128::from(bytes) * UNIT;
        }
    }
}

fn product(bytes_per_s: u64, time: Duration) -> i128 {
    i128::from(bytes_per_s).saturating_mul(i128::try_from(time.as_nanos()).unwrap_or(i128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn over_any_longer_time_exactly_the_rate_goes_through() {
        let mut bucket = Bucket::new(Some(10_000_019), Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0_u64);
        while now < 20 * SECOND {
            bucket.fill(now);
            assert!(bucket.is_ready());
            bucket.take(271_360);
            sent += 271_360;
            now += bucket.ready_in();
        }
        let expected = 20 * 10_000_019;
        assert!(sent.abs_diff(expected) < 2 * 271_360, "{sent} of {expected}");
    }

    #[test]
    fn a_pause_saves_up_little_and_a_new_rate_counts_at_once() {
        let mut bucket = Bucket::new(Some(1_000_000), Duration::ZERO);
        bucket.fill(100 * SECOND);
        bucket.take(150_000);
        assert_eq!(bucket.ready_in(), SECOND / 10, "50 ms were saved");
        bucket.set_rate(Some(2_000_000), 100 * SECOND);
        assert_eq!(bucket.ready_in(), SECOND / 20);
        bucket.set_rate(None, 100 * SECOND);
        assert!(bucket.is_ready() && bucket.ready_in().is_zero());
        bucket.take(u64::MAX);
        assert!(bucket.is_ready());
    }

    #[test]
    fn a_clock_that_seems_to_go_back_takes_nothing_away() {
        let mut bucket = Bucket::new(Some(1_000_000), 5 * SECOND);
        bucket.take(1_000_000);
        bucket.fill(4 * SECOND);
        assert_eq!(bucket.ready_in(), SECOND);
    }
}
