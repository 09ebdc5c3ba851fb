//! How fast work goes: over the last seconds, on the whole, and how long the rest takes. Pure: a moment is the time
//! since a beginning the caller chose; nothing here looks at a clock.

use std::collections::VecDeque;
use std::time::Duration;

/// The span the present speed is measured over.
pub const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// Work that has not moved for so long is stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Least time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// Most samples kept: one per [`SAMPLE_INTERVAL`] of the window, and some.
const MAX_SAMPLES: usize = 64;

/// The pace of one piece of work.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    began: Duration,
    began_with: u64,
    done: u64,
    moved_at: Duration,
    samples: VecDeque<(Duration, u64)>,
}

impl Pace {
    /// Forgets everything: from `now` on, with `done` bytes behind it.
    pub fn begin(&mut self, now: Duration, done: u64) {
        self.samples.clear();
        self.samples.push_back((now, done));
        (self.began, self.began_with, self.done, self.moved_at) = (now, done, done, now);
    }

    /// So many bytes are done now. Fewer than before means that the work was begun anew.
    pub fn note(&mut self, now: Duration, done: u64) {
        if self.samples.is_empty() || done < self.done {
            return self.begin(now, done);
        }
        if done > self.done {
            (self.done, self.moved_at) = (done, now);
        }
        if self.samples.back().is_some_and(|(at, _)| now.saturating_sub(*at) < SAMPLE_INTERVAL) {
            return;
        }
        self.samples.push_back((now, done));
        // One sample from before the window says where the window began.
        while self.samples.len() > MAX_SAMPLES || self.samples.get(1).is_some_and(|(at, _)| *at + SPEED_WINDOW <= now) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the last seconds.
    #[must_use]
    pub fn speed_bps(&self, now: Duration) -> u64 {
        let begin = now.saturating_sub(SPEED_WINDOW);
        // The last steps may lie between two samples.
        if self.moved_at <= begin {
            return 0;
        }
        let before = self.samples.iter().take_while(|(at, _)| *at <= begin).last();
        let Some((at, done)) = before.or(self.samples.front()) else { return 0 };
        per_second(self.done - done, now.saturating_sub((*at).max(begin)))
    }

    /// Bytes per second since the beginning.
    #[must_use]
    pub fn average_bps(&self, now: Duration) -> u64 {
        per_second(self.done - self.began_with, now.saturating_sub(self.began))
    }

    /// How long nothing has moved, once that is long enough to be told.
    #[must_use]
    pub fn stalled_for(&self, now: Duration) -> Option<Duration> {
        let still = now.saturating_sub(self.moved_at);
        (!self.samples.is_empty() && still >= STALLED_AFTER).then_some(still)
    }
}

fn per_second(bytes: u64, span: Duration) -> u64 {
    let milliseconds = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000).checked_div(milliseconds).unwrap_or(0)
}

/// Between so many seconds and so many the work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eta {
    /// At the higher of the two speeds.
    pub low_seconds: u64,
    /// At the lower one, with everything that comes after.
    pub high_seconds: u64,
}

impl Eta {
    /// For `left` bytes at the present speed and the average one, and `after` bytes of which nothing is known but that
    /// they will go no slower. `None` while nothing moves: nobody knows then.
    #[must_use]
    pub fn of(left: u64, after: u64, speed_bps: u64, average_bps: u64) -> Option<Self> {
        if left == 0 && after == 0 {
            return Some(Self { low_seconds: 0, high_seconds: 0 });
        }
        let (slow, fast) = (speed_bps.min(average_bps), speed_bps.max(average_bps));
        if slow == 0 {
            return None;
        }
        Some(Self { low_seconds: left / fast, high_seconds: left.saturating_add(after).div_ceil(slow) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_present_speed_is_that_of_the_window_and_the_average_that_of_all() {
        let mut pace = Pace::default();
        assert_eq!((pace.speed_bps(at(1)), pace.average_bps(at(1)), pace.stalled_for(at(99))), (0, 0, None));
        pace.begin(at(0), 0);
        for second in 1..=20 {
            pace.note(at(second), second * 2 * MIB);
        }
        for second in 21..=30 {
            pace.note(at(second), 40 * MIB + (second - 20) * MIB);
        }
        assert_eq!(pace.speed_bps(at(30)), MIB);
        assert_eq!(pace.average_bps(at(30)), 50 * MIB / 30);
    }

    #[test]
    fn what_stands_still_slows_down_is_told_and_forgets_it_when_it_moves_again() {
        let mut pace = Pace::default();
        pace.begin(at(0), 0);
        pace.note(at(1), 10 * MIB);
        assert_eq!(pace.speed_bps(at(5)), 2 * MIB);
        assert_eq!((pace.speed_bps(at(12)), pace.stalled_for(at(30))), (0, None));
        for second in 2..=40 {
            pace.note(at(second), 10 * MIB);
        }
        assert_eq!((pace.speed_bps(at(40)), pace.stalled_for(at(40))), (0, Some(at(39))));
        pace.note(at(41), 20 * MIB);
        assert_eq!((pace.speed_bps(at(41)), pace.stalled_for(at(41))), (MIB, None));
    }

    #[test]
    fn what_moved_between_two_samples_is_past_once_the_window_is() {
        let mut pace = Pace::default();
        pace.begin(at(0), 0);
        pace.note(at(5), MIB);
        pace.note(at(5) + SAMPLE_INTERVAL / 2, 2 * MIB);
        assert!(pace.speed_bps(at(14)) > 0);
        assert_eq!(pace.speed_bps(at(16)), 0);
    }

    #[test]
    fn fewer_bytes_than_before_are_a_new_beginning() {
        let mut pace = Pace::default();
        pace.note(at(0), 100 * MIB);
        pace.note(at(10), 200 * MIB);
        pace.note(at(11), 5 * MIB);
        assert_eq!((pace.speed_bps(at(12)), pace.average_bps(at(12))), (0, 0));
        pace.note(at(12), 6 * MIB);
        assert_eq!((pace.speed_bps(at(12)), pace.average_bps(at(12))), (MIB, MIB));
    }

    #[test]
    fn the_time_left_is_a_range_and_unknown_while_nothing_moves() {
        let eta =
            |left, after, speed, average| Eta::of(left, after, speed, average).map(|e| (e.low_seconds, e.high_seconds));
        assert_eq!(eta(100, 0, 10, 10), Some((10, 10)));
        assert_eq!(eta(100, 0, 20, 10), Some((5, 10)));
        assert_eq!(eta(100, 0, 10, 20), Some((5, 10)));
        assert_eq!(eta(100, 100, 10, 10), Some((10, 20)));
        assert_eq!(eta(1, 0, 1000, 1000), Some((0, 1)));
        assert_eq!((eta(0, 0, 0, 0), eta(1, 0, 0, 5), eta(1, 0, 5, 0)), (Some((0, 0)), None, None));
        assert_eq!(eta(u64::MAX, u64::MAX, 1, 1), Some((u64::MAX, u64::MAX)));
    }

    proptest! {
        #[test]
        fn whatever_is_noted_memory_is_bounded_and_ranges_are_in_order(
            steps in proptest::collection::vec((0_u64..5000, 0_u64..1 << 40), 0..300),
            left in any::<u64>(), after in any::<u64>(),
        ) {
            let (mut pace, mut now) = (Pace::default(), Duration::ZERO);
            for (milliseconds, done) in steps {
                now += Duration::from_millis(milliseconds);
                pace.note(now, done);
                prop_assert!(pace.samples.len() <= MAX_SAMPLES);
            }
            if let Some(eta) = Eta::of(left, after, pace.speed_bps(now), pace.average_bps(now)) {
                prop_assert!(eta.low_seconds <= eta.high_seconds);
            }
        }
    }
}
