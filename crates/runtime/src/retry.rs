//! Pauses between attempts: exponential, bounded, spread at random so that many clients do not return at once. Pure but
//! for the dice; whoever uses it sleeps.

use std::time::Duration;

use rand::Rng;

/// An endless sequence of pauses.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses that begin at `first`, double, and stay at `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// After a success: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after the n-th failure in a row (from 1), where `jitter` (0 to 1) spreads it between half and all of
    /// the exponential delay.
    #[must_use]
    pub fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let delay = self.first.saturating_mul(1 << doublings).min(self.longest);
        delay.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// The next pause; never none.
    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        Some(self.pause(self.failures, rand::rng().random()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::new(SECOND, 10 * SECOND);
        let pauses: Vec<u64> = (1..=6).map(|failures| backoff.pause(failures, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.pause(u32::MAX, 0.0), 5 * SECOND, "no overflow");
    }

    #[test]
    fn the_sequence_stays_within_its_bounds_and_starts_anew() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        for failures in 1..=20 {
            let pause = backoff.next().unwrap();
            let (least, most) = (backoff.pause(failures, 0.0), backoff.pause(failures, 1.0));
            assert!((least..=most).contains(&pause), "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.next().unwrap() <= SECOND);
    }
}
