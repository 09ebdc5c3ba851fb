//! How often and how long a transient failure of a step is repeated. Pure.

use std::time::Duration;

/// Bounds for repeating a step (or its undo) that failed transiently. They hold for one go: an operator's retry and a
/// recovery after a crash begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, the first included.
    pub max_attempts: u32,
    /// No attempt begins later than this after the first one began.
    pub max_elapsed: Duration,
    /// Pause after the first failure; doubled after each further one.
    pub first_delay: Duration,
    /// Longest pause.
    pub max_delay: Duration,
}

impl RetryPolicy {
    /// For steps that can be undone: about two minutes of trouble are outlasted.
    pub const PATIENT: Self = Self {
        max_attempts: 8,
        max_elapsed: Duration::from_secs(10 * 60),
        first_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
    };

    /// For steps after the pivot, where giving up costs an operator's attention: about a day.
    pub const STUBBORN: Self = Self {
        max_attempts: 300,
        max_elapsed: Duration::from_secs(24 * 60 * 60),
        first_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(5 * 60),
    };

    /// One attempt only.
    pub const ONCE: Self =
        Self { max_attempts: 1, max_elapsed: Duration::ZERO, first_delay: Duration::ZERO, max_delay: Duration::ZERO };

    /// The pause after `attempts` attempts that took `elapsed` in all, or none when the bounds are reached.
    /// `jitter` (0 to 1) spreads the pause between half and all of the exponential delay.
    #[must_use]
    pub fn pause_after(&self, attempts: u32, elapsed: Duration, jitter: f64) -> Option<Duration> {
        if attempts >= self.max_attempts {
            return None;
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let delay = self.first_delay.saturating_mul(1 << doublings).min(self.max_delay);
        let pause = delay.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        (elapsed.saturating_add(pause) <= self.max_elapsed).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy =
            RetryPolicy { max_attempts: 9, max_elapsed: 100 * SECOND, first_delay: SECOND, max_delay: 5 * SECOND };
        let pauses: Vec<_> = (1..=9).map(|n| policy.pause_after(n, Duration::ZERO, 1.0).map(|d| d.as_secs())).collect();
        assert_eq!(pauses[..4], [Some(1), Some(2), Some(4), Some(5)]);
        assert_eq!(pauses[7..], [Some(5), None]);
    }

    #[test]
    fn jitter_keeps_at_least_half() {
        let policy = RetryPolicy::PATIENT;
        assert_eq!(policy.pause_after(1, Duration::ZERO, 0.0), Some(SECOND / 2));
        assert_eq!(policy.pause_after(1, Duration::ZERO, 7.0), Some(SECOND));
    }

    #[test]
    fn time_ends_it_too() {
        let policy = RetryPolicy::PATIENT;
        assert_eq!(policy.pause_after(1, policy.max_elapsed, 1.0), None);
        assert_eq!(RetryPolicy::ONCE.pause_after(1, Duration::ZERO, 0.0), None);
        assert!(RetryPolicy::STUBBORN.pause_after(299, Duration::ZERO, 1.0).is_some(), "no overflow");
    }
}
