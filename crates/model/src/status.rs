//! Statuses and kinds: what a row may say, and which status may follow which.
//!
//! The texts are what the database stores and its CHECK constraints list; they come from here and nowhere else.

mod agent;
mod failover;
mod job;
mod people;
mod vm;
mod volume;

pub use agent::{AuditEvent, ConnectionStatus, EnrollmentStatus};
pub use failover::{FailoverStatus, FailoverType, MappingType, NicStrategy, ValidationStatus};
pub use job::{JobStatus, LogLevel, StepKind, StepStatus};
pub use people::Role;
pub use vm::{ChangeSource, ContextStatus, DiskSyncStatus, Firmware, ReaderKind, ReplicationStatus, ReplicationType};
pub use volume::{
    ExportKind, ExportStatus, LinuxState, OperationMode, OperationStatus, OperationType, PointState,
    VolumeSnapshotStatus, VolumeState, VolumeType,
};

use strum::VariantArray;

/// A status whose changes follow a table.
pub trait Transitions: Copy + Eq + VariantArray + Into<&'static str> {
    /// The statuses that may follow this one.
    fn next(self) -> &'static [Self];

    /// Whether `to` may follow; staying the same is always allowed (a repeated step writes the same row again).
    fn may_become(self, to: Self) -> bool {
        self == to || self.next().contains(&to)
    }

    /// Whether nothing follows.
    fn is_final(self) -> bool {
        self.next().is_empty()
    }

    /// Every status from which `to` may be reached in one move, itself included: the `WHERE status IN (…)` of an update.
    fn may_come_from(to: Self) -> Vec<Self> {
        Self::VARIANTS.iter().copied().filter(|from| from.may_become(to)).collect()
    }
}

/// The stored texts of every variant, in order: for CHECK constraints.
#[must_use]
pub fn stored_texts<T: VariantArray + Copy + Into<&'static str>>() -> Vec<&'static str> {
    T::VARIANTS.iter().map(|&variant| variant.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every status but the first is reachable from the first one.
    fn assert_connected<T: Transitions + std::fmt::Debug>() {
        let first = T::VARIANTS[0];
        let mut reached = vec![first];
        let mut at = 0;
        while at < reached.len() {
            for &next in reached[at].next() {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at += 1;
        }
        for status in T::VARIANTS {
            assert!(reached.contains(status), "{status:?} can never be reached from {first:?}");
        }
    }

    #[test]
    fn no_status_is_unreachable() {
        assert_connected::<ContextStatus>();
        assert_connected::<ReplicationStatus>();
        assert_connected::<DiskSyncStatus>();
        assert_connected::<JobStatus>();
        assert_connected::<StepStatus>();
        assert_connected::<VolumeState>();
        assert_connected::<VolumeSnapshotStatus>();
        assert_connected::<LinuxState>();
        assert_connected::<ExportStatus>();
        assert_connected::<PointState>();
        assert_connected::<OperationStatus>();
        assert_connected::<EnrollmentStatus>();
        assert_connected::<ConnectionStatus>();
        assert_connected::<FailoverStatus>();
    }

    #[test]
    fn a_job_cannot_leave_its_end() {
        assert!(ReplicationStatus::Completed.is_final());
        assert!(!ReplicationStatus::Completed.may_become(ReplicationStatus::Failed));
        assert!(ReplicationStatus::Completed.may_become(ReplicationStatus::Completed));
    }

    #[test]
    fn a_live_failover_is_never_reached_from_a_vm_without_a_replica() {
        let from = ContextStatus::may_come_from(ContextStatus::FailedOverLive);
        assert_eq!(from, [ContextStatus::ReadyForFailover, ContextStatus::FailedOverLive]);
    }

    #[test]
    fn stored_texts_are_the_schema_s() {
        assert_eq!(stored_texts::<ReplicationType>(), ["initial", "incremental", "compare"]);
        assert_eq!(stored_texts::<VolumeType>(), ["ROOT", "DATADISK"]);
        assert_eq!("ready_for_failover".parse(), Ok(ContextStatus::ReadyForFailover));
    }
}
