//! How much of a disk is read again although change tracking calls it unchanged, and where. Pure: decided from what the
//! last commits left.

use std::time::Duration;

use api::oma::replications::ScrubRequest;
use api::vma::Stretch;
use model::LEAF_SIZE_BYTES;

/// Every leaf of a disk is looked at within this time, if its VM is replicated at all.
const WHOLE_DISK_WITHIN: Duration = Duration::from_secs(15 * 24 * 60 * 60);

/// Where the scrub of a disk stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubFacts {
    /// Where the next stretch begins, in bytes.
    pub position_bytes: u64,
    /// How long ago it moved last.
    pub idle: Duration,
    /// Whether change tracking was caught lying and the disk was not compared as a whole since.
    pub is_distrusted: bool,
}

/// The stretch an increment of a disk of `capacity_bytes` reads beside what changed; it ends with the disk, and the next one
/// begins at its start.
#[must_use]
pub fn stretch(capacity_bytes: u64, facts: &ScrubFacts, requested: ScrubRequest) -> Option<Stretch> {
    match requested {
        ScrubRequest::Off => None,
        ScrubRequest::Full => (capacity_bytes > 0).then_some(Stretch { offset: 0, length: capacity_bytes }),
        ScrubRequest::Auto => {
            let offset = facts.position_bytes - facts.position_bytes % LEAF_SIZE_BYTES;
            let due = u128::from(capacity_bytes) * facts.idle.as_millis() / WHOLE_DISK_WITHIN.as_millis();
            // Less than a leaf is left to accumulate.
            let due = due - due % u128::from(LEAF_SIZE_BYTES);
            let length = u64::try_from(due).unwrap_or(u64::MAX).min(capacity_bytes.saturating_sub(offset));
            (length > 0).then_some(Stretch { offset, length })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const GIB: u64 = 1 << 30;

    fn after(idle: Duration, position_bytes: u64) -> ScrubFacts {
        ScrubFacts { position_bytes, idle, is_distrusted: false }
    }

    #[test]
    fn a_day_is_a_fifteenth_of_the_disk() {
        let found = stretch(150 * GIB, &after(DAY, 20 * GIB), ScrubRequest::Auto);
        assert_eq!(found, Some(Stretch { offset: 20 * GIB, length: 10 * GIB }));
    }

    #[test]
    fn a_stretch_ends_with_the_disk() {
        let found = stretch(150 * GIB, &after(40 * DAY, 149 * GIB), ScrubRequest::Auto);
        assert_eq!(found, Some(Stretch { offset: 149 * GIB, length: GIB }));
    }

    #[test]
    fn increments_in_quick_succession_let_it_accumulate() {
        // A leaf of this disk is due each 1296 s.
        let capacity = 1000 * LEAF_SIZE_BYTES;
        assert_eq!(stretch(capacity, &after(Duration::from_secs(1295), 0), ScrubRequest::Auto), None);
        let due = Some(Stretch { offset: 0, length: LEAF_SIZE_BYTES });
        assert_eq!(stretch(capacity, &after(Duration::from_secs(1297), 0), ScrubRequest::Auto), due);
    }

    #[test]
    fn all_and_nothing_are_what_they_say() {
        let facts = after(DAY, 5 * GIB);
        assert_eq!(stretch(9 * GIB, &facts, ScrubRequest::Full), Some(Stretch { offset: 0, length: 9 * GIB }));
        assert_eq!(stretch(9 * GIB, &facts, ScrubRequest::Off), None);
        assert_eq!(stretch(0, &facts, ScrubRequest::Full), None);
    }

    #[test]
    fn a_disk_that_never_rests_is_looked_at_wholly_within_the_time() {
        let (capacity, mut position, mut seen, mut days) = (64 * GIB + 512, 0, 0, 0);
        while seen < capacity {
            let Some(found) = stretch(capacity, &after(DAY, position), ScrubRequest::Auto) else { break };
            assert_eq!(found.offset, position);
            (position, seen, days) = (found.offset + found.length, seen + found.length, days + 1);
        }
        // The last leaves, less than a day's worth, take one more.
        assert!(seen == capacity && days <= 16, "{days} days, {seen} bytes");
    }
}
