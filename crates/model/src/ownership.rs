//! How what we make in a target cloud is marked as ours: the same tags on volumes, VMs and volume snapshots.

/// Tag that marks a resource as ours; its value says what it is for: see [`OwnedAs`].
pub const OWNER_TAG: &str = "migratekit";
/// Tag with the VM context a resource belongs to.
pub const CONTEXT_TAG: &str = "migratekit-context";
/// Tag with the job that made a resource.
pub const JOB_TAG: &str = "migratekit-job";

/// What a resource of ours is for: the value of [`OWNER_TAG`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnedAs {
    /// A volume that holds a disk's replica.
    Replica,
    /// A VM made by a failover.
    FailoverVm,
    /// A volume snapshot that a failover can go back to.
    SafetySnapshot,
}

impl OwnedAs {
    /// The tag's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::FailoverVm => "failover-vm",
            Self::SafetySnapshot => "safety-snapshot",
        }
    }

    /// The three tags of a resource.
    #[must_use]
    pub fn tags<'a>(self, vm_context_id: &'a str, job_id: &'a str) -> [(&'static str, &'a str); 3] {
        [(OWNER_TAG, self.as_str()), (CONTEXT_TAG, vm_context_id), (JOB_TAG, job_id)]
    }
}
