//! Which bytes of a disk must be looked at, decided from change ids alone. Pure: asks nobody.

use api::vma::SyncMode;
use model::status::ChangeSource;
use model::{ChangeId, Lineage};

/// What is known before a disk is copied.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the hub asks for.
    pub requested: ChangeSource,
    /// The change id the replica is equal to; none when there is no committed replica.
    pub committed: Option<&'a ChangeId>,
    /// The change id of the new vm_snapshot; none when the disk is not tracked.
    pub current: Option<&'a ChangeId>,
    /// Whether `*` names all that is allocated: not while the VM has other vm_snapshots, whose links hold data too.
    pub is_allocation_known: bool,
}

/// Where the list of bytes comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `QueryChangedDiskAreas` since this change id.
    Since(ChangeId),
    /// `QueryChangedDiskAreas` with `*`: what is allocated.
    Allocated,
    /// No query: the whole disk.
    Everything,
}

/// What to do with a disk, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How it is copied.
    pub mode: SyncMode,
    /// Where the list of bytes comes from.
    pub query: Query,
    /// Why, for the operator.
    pub reason: &'static str,
}

/// Decides how a disk is copied.
#[must_use]
pub fn decide(known: Known<'_>) -> Decision {
    let decision = |mode, query, reason| Decision { mode, query, reason };
    match (known.requested, known.committed, known.current) {
        // Whether there is a commit does not matter: whatever the volume holds is read and compared.
        (ChangeSource::Compare, _, _) => decision(SyncMode::Compare, Query::Everything, "a comparison was asked for"),
        (ChangeSource::Cbt, None, Some(_)) if !known.is_allocation_known => decision(
            SyncMode::Full,
            Query::Everything,
            "first copy of a VM with vm_snapshots of others: the whole disk is read",
        ),
        (ChangeSource::Cbt, None, Some(_)) => {
            decision(SyncMode::Full, Query::Allocated, "first copy: what change tracking says is allocated")
        }
        (ChangeSource::Cbt, None, None) => decision(
            SyncMode::Full,
            Query::Everything,
            "first copy of a disk whose changes are not tracked: the whole disk is read",
        ),
        (ChangeSource::Cbt, Some(_), None) => decision(
            SyncMode::Compare,
            Query::Everything,
            "the disk's changes are not tracked any more: the whole disk is compared",
        ),
        (ChangeSource::Cbt, Some(committed), Some(current)) => match committed.lineage(current) {
            Lineage::Continues => decision(
                SyncMode::Incremental,
                Query::Since(committed.clone()),
                "what changed since the last committed change id",
            ),
            Lineage::EpochChanged => decision(
                SyncMode::Compare,
                Query::Everything,
                "change tracking was reset since the last commit: the whole disk is compared",
            ),
            Lineage::Reverted => decision(
                SyncMode::Compare,
                Query::Everything,
                "the VM was reverted to an older vm_snapshot: the whole disk is compared",
            ),
        },
    }
}

/// What to do when the query of `decision` is refused: never "assume no changes".
#[must_use]
pub fn after_refusal(decision: &Decision) -> Decision {
    match decision.query {
        Query::Since(_) => Decision {
            mode: SyncMode::Compare,
            query: Query::Everything,
            reason: "the changed areas could not be had: the whole disk is compared",
        },
        Query::Allocated | Query::Everything => Decision {
            mode: decision.mode,
            query: Query::Everything,
            reason: "the allocated areas could not be had: the whole disk is read",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_decided_on_the_safe_side() {
        let id = |text: &str| text.parse::<ChangeId>().unwrap();
        let (old, next, reset, older) = (id("52 aa/5"), id("52 aa/6"), id("52 bb/6"), id("52 aa/4"));
        use ChangeSource::{Cbt, Compare};
        let cases = [
            (Cbt, None, Some(&next), SyncMode::Full, Query::Allocated),
            (Cbt, None, None, SyncMode::Full, Query::Everything),
            (Cbt, Some(&old), Some(&next), SyncMode::Incremental, Query::Since(old.clone())),
            (Cbt, Some(&old), Some(&old), SyncMode::Incremental, Query::Since(old.clone())),
            (Cbt, Some(&old), Some(&reset), SyncMode::Compare, Query::Everything),
            (Cbt, Some(&old), Some(&older), SyncMode::Compare, Query::Everything),
            (Cbt, Some(&old), None, SyncMode::Compare, Query::Everything),
            (Compare, Some(&old), Some(&next), SyncMode::Compare, Query::Everything),
            (Compare, None, Some(&next), SyncMode::Compare, Query::Everything),
        ];
        for (requested, committed, current, mode, query) in cases {
            let decision = decide(Known { requested, committed, current, is_allocation_known: true });
            assert_eq!((decision.mode, &decision.query), (mode, &query), "{requested} {committed:?} {current:?}");
        }
        let first = Known { requested: Cbt, committed: None, current: Some(&next), is_allocation_known: false };
        assert_eq!((decide(first).mode, decide(first).query), (SyncMode::Full, Query::Everything));
        let later = Known { committed: Some(&old), ..first };
        assert_eq!(decide(later).query, Query::Since(old.clone()), "what changed since a commit is known all the same");
    }

    #[test]
    fn a_refused_query_never_reads_less() {
        let since =
            Decision { mode: SyncMode::Incremental, query: Query::Since("52 aa/5".parse().unwrap()), reason: "" };
        assert_eq!(after_refusal(&since).mode, SyncMode::Compare);
        let allocated = Decision { mode: SyncMode::Full, query: Query::Allocated, reason: "" };
        let fallen_back = after_refusal(&allocated);
        assert_eq!((fallen_back.mode, fallen_back.query), (SyncMode::Full, Query::Everything));
    }
}
