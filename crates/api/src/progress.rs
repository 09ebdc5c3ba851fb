//! Where the time of a copy goes, and what it is bound by. Pure: whoever measures is elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the threads that copy a disk spend their time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Reading the source, or waiting for it.
    SourceRead,
    /// Looking for zeroes and taking digests.
    Hash,
    /// Sending, and waiting for replies while the target did nothing.
    Network,
    /// Sending, and waiting for replies while the target's device worked.
    TargetWrite,
}

impl Activity {
    /// As a label of metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SourceRead => "source_read",
            Self::Hash => "hash",
            Self::Network => "network",
            Self::TargetWrite => "target_write",
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceRead => "source read",
            Self::Hash => "hash",
            Self::Network => "network",
            Self::TargetWrite => "target write",
        })
    }
}

/// What the agent can tell: the time of all threads of a disk, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TimeSpent {
    /// Reading the source, or waiting for it.
    pub source_read_ms: u64,
    /// Looking for zeroes and taking digests.
    pub hash_ms: u64,
    /// Sending and waiting for replies: the network and the target, which only the hub can tell apart.
    pub deliver_ms: u64,
}

impl TimeSpent {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            source_read_ms: self.source_read_ms.saturating_add(other.source_read_ms),
            hash_ms: self.hash_ms.saturating_add(other.hash_ms),
            deliver_ms: self.deliver_ms.saturating_add(other.deliver_ms),
        }
    }
}

/// Shares of the time, in per cent; they add up to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TimeShares {
    /// See [`Activity::SourceRead`].
    pub source_read: u8,
    /// See [`Activity::Hash`].
    pub hash: u8,
    /// See [`Activity::Network`].
    pub network: u8,
    /// See [`Activity::TargetWrite`]: at most the time that went into delivering, since a device may also work while
    /// the agent reads.
    pub target_write: u8,
}

impl TimeShares {
    /// Of what the agent spent while the target's device worked for `device_ms`; `None` before there is anything to
    /// share.
    #[must_use]
    pub fn of(spent: TimeSpent, device_ms: u64) -> Option<Self> {
        let target = spent.deliver_ms.min(device_ms);
        let times = [spent.source_read_ms, spent.hash_ms, spent.deliver_ms - target, target].map(u128::from);
        let total: u128 = times.iter().sum();
        if total == 0 {
            return None;
        }
        let mut shares = times.map(|time| time * 100 / total);
        // What rounding took goes to those it took most from.
        let mut by_rest = [0, 1, 2, 3];
        by_rest.sort_by_key(|&index| std::cmp::Reverse(times[index] * 100 % total));
        let missing = 100_usize.saturating_sub(usize::try_from(shares.iter().sum::<u128>()).unwrap_or(100));
        by_rest.iter().take(missing).for_each(|&index| shares[index] += 1);
        let [source_read, hash, network, target_write] = shares.map(|share| u8::try_from(share).unwrap_or(100));
        Some(Self { source_read, hash, network, target_write })
    }

    /// Each activity with its share.
    #[must_use]
    pub fn parts(self) -> [(Activity, u8); 4] {
        [
            (Activity::SourceRead, self.source_read),
            (Activity::Hash, self.hash),
            (Activity::Network, self.network),
            (Activity::TargetWrite, self.target_write),
        ]
    }

    /// What takes most of the time: the copy is bound by it. The first one where several take the same.
    #[must_use]
    pub fn largest(self) -> Activity {
        let [first, rest @ ..] = self.parts();
        rest.into_iter().fold(first, |most, part| if part.1 > most.1 { part } else { most }).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(source_read_ms: u64, hash_ms: u64, deliver_ms: u64, device_ms: u64) -> Option<[u8; 4]> {
        let shares = TimeShares::of(TimeSpent { source_read_ms, hash_ms, deliver_ms }, device_ms);
        shares.map(|shares| shares.parts().map(|(_, share)| share))
    }

    #[test]
    fn what_the_device_took_is_taken_from_what_delivering_took() {
        assert_eq!(shares(0, 0, 0, 500), None);
        assert_eq!(shares(60, 20, 20, 0), Some([60, 20, 20, 0]));
        assert_eq!(shares(60, 20, 20, 5), Some([60, 20, 15, 5]));
        assert_eq!(shares(60, 20, 20, 900), Some([60, 20, 0, 20]), "it also worked while the agent read");
    }

    #[test]
    fn the_largest_names_what_the_copy_is_bound_by() {
        let largest = |a, b, c, d| TimeShares { source_read: a, hash: b, network: c, target_write: d }.largest();
        assert_eq!(largest(70, 10, 10, 10), Activity::SourceRead);
        assert_eq!(largest(10, 20, 30, 40), Activity::TargetWrite);
        assert_eq!(largest(10, 40, 40, 10), Activity::Hash);
        assert_eq!(Activity::TargetWrite.to_string(), "target write");
    }

    proptest::proptest! {
        #[test]
        fn shares_always_add_up(a: u64, b: u64, c: u64, d: u64) {
            if let Some(shares) = shares(a, b, c, d) {
                proptest::prop_assert_eq!(shares.iter().map(|share| u32::from(*share)).sum::<u32>(), 100);
            }
        }
    }
}
