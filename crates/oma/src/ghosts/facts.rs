//! What was seen with our marks, and what the rows say: values, so that judging them is pure.

use std::collections::{BTreeMap, BTreeSet};

use cloudstack::{ResourceTag, VirtualMachine, Volume, VolumeSnapshot};
use model::ownership::{CONTEXT_TAG, JOB_TAG};
use model::status::{ContextStatus, FailoverStatus, FailoverType, VolumeState};
use store::vm_disks::LinkedDisk;

/// What was seen, only of what carries our marks.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// VMs that failovers made.
    pub(super) vms: Vec<InTarget<VirtualMachine>>,
    /// Replica volumes.
    pub(super) volumes: Vec<InTarget<Volume>>,
    /// Safety snapshots.
    pub(super) volume_snapshots: Vec<InTarget<VolumeSnapshot>>,
    /// VMs in vCenter with vm_snapshots of ours.
    pub(super) sources: Vec<SeenSource>,
}

/// Something in a CloudStack target.
#[derive(Debug, Clone)]
pub(super) struct InTarget<T> {
    /// Row id of the target.
    pub(super) target_id: String,
    /// Its name.
    pub(super) target: String,
    /// What was seen.
    pub(super) found: T,
}

/// A VM in vCenter that has vm_snapshots of ours.
#[derive(Debug, Clone)]
pub(super) struct SeenSource {
    pub(super) context_id: String,
    pub(super) moref: String,
    /// Names of the vm_snapshots of ours.
    pub(super) vm_snapshots: Vec<String>,
    /// Replications whose runs its agent has not ended.
    pub(super) active_runs: Vec<String>,
}

/// What the tags of a resource say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The VM context.
    pub(super) context_id: Option<String>,
    /// The job that made it.
    pub(super) job_id: Option<String>,
}

impl Marks {
    /// Reads them.
    pub(super) fn of(tags: &[ResourceTag]) -> Self {
        let value = |key: &str| {
            let tag = tags.iter().find(|tag| tag.key == key)?;
            Some(tag.value.clone()).filter(|value| !value.is_empty())
        };
        Self { context_id: value(CONTEXT_TAG), job_id: value(JOB_TAG) }
    }
}

/// What the rows say.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// VMs by context id.
    pub(super) contexts: BTreeMap<String, ContextFacts>,
    /// Replica volumes.
    pub(super) volumes: Vec<VolumeFacts>,
    /// Disks that name a volume.
    pub(super) disks: Vec<LinkedDisk>,
    /// Failovers that hold their VM, and those the marks name.
    pub(super) failovers: Vec<FailoverFacts>,
    /// Jobs that have not ended, but for those that only remove.
    pub(super) unfinished: Vec<JobFacts>,
    /// CloudStack VMs the hub itself runs in.
    pub(super) own_vms: BTreeSet<String>,
}

/// A VM.
#[derive(Debug, Clone)]
pub(super) struct ContextFacts {
    pub(super) name: String,
    pub(super) status: ContextStatus,
    /// The replication that holds it.
    pub(super) current_job: Option<String>,
    /// Whether a replication of it was ever committed.
    pub(super) was_committed: bool,
}

impl ContextFacts {
    /// Whether a committed replica of it exists, or became the VM itself.
    pub(super) fn has_replica(&self) -> bool {
        use ContextStatus::{Completed, FailedOverLive, FailedOverTest, ReadyForFailover};
        matches!(self.status, ReadyForFailover | FailedOverTest | FailedOverLive | Completed)
    }
}

/// The row of a replica volume.
#[derive(Debug, Clone)]
pub(super) struct VolumeFacts {
    /// Row id.
    pub(super) id: String,
    /// CloudStack's uuid.
    pub(super) volume_uuid: String,
    pub(super) context_id: String,
    pub(super) state: VolumeState,
    /// The VM that holds it, as CloudStack said last.
    pub(super) vm_id: Option<String>,
    /// Its volume_snapshot.
    pub(super) snapshot_id: Option<String>,
}

/// A failover.
#[derive(Debug, Clone)]
pub(super) struct FailoverFacts {
    pub(super) job_id: String,
    pub(super) context_id: String,
    pub(super) vm_name: String,
    pub(super) failover_type: FailoverType,
    pub(super) status: FailoverStatus,
    /// Whether it holds its VM.
    pub(super) holds: bool,
    /// The VM it made.
    pub(super) vm_id: Option<String>,
    /// Its safety snapshots.
    pub(super) snapshot_ids: Vec<String>,
}

impl FailoverFacts {
    /// The failover as people name it.
    pub(super) fn named(&self) -> String {
        format!("the {} failover {} of {}", self.failover_type, self.job_id, self.vm_name)
    }

    /// How an operator has it put back, where that is possible.
    pub(super) fn way_back(&self) -> Option<String> {
        let verb = match self.failover_type {
            FailoverType::Test => "cleanup",
            FailoverType::Live => "rollback",
        };
        let is_open = self.status == FailoverStatus::Failed;
        is_open.then(|| format!("migratekit failover {verb} {}", self.job_id))
    }
}

/// A job that has not ended.
#[derive(Debug, Clone)]
pub(super) struct JobFacts {
    /// Id in the JobLog.
    pub(super) id: String,
    pub(super) job_type: String,
    /// Id in the domain's table.
    pub(super) external_id: Option<String>,
    pub(super) context_id: Option<String>,
}

impl JobFacts {
    fn named(&self) -> String {
        format!("{} {}", self.job_type, self.external_id.as_deref().unwrap_or(&self.id))
    }

    fn is(&self, job_id: &str) -> bool {
        self.id == job_id || self.external_id.as_deref() == Some(job_id)
    }
}

impl Rows {
    /// The row of a volume.
    pub(super) fn volume(&self, volume_uuid: &str) -> Option<&VolumeFacts> {
        self.volumes.iter().find(|row| row.volume_uuid == volume_uuid)
    }

    /// A disk that names a volume.
    pub(super) fn disk_on(&self, volume_uuid: &str) -> Option<&LinkedDisk> {
        let row_id = self.volume(volume_uuid).map(|row| row.id.as_str());
        self.disks.iter().find(|disk| {
            let by_row = row_id.is_some() && disk.ossea_volume_id.as_deref() == row_id;
            disk.volume_uuid.as_deref() == Some(volume_uuid) || by_row
        })
    }

    /// The failover the marks name.
    pub(super) fn failover(&self, marks: &Marks) -> Option<&FailoverFacts> {
        let job_id = marks.job_id.as_deref()?;
        self.failovers.iter().find(|failover| failover.job_id == job_id)
    }

    /// Whether the failover was made final: its VM stays, its way back is given up.
    pub(super) fn is_final(&self, failover: &FailoverFacts) -> bool {
        let context = self.contexts.get(&failover.context_id);
        failover.failover_type == FailoverType::Live
            && failover.status == FailoverStatus::Completed
            && context.is_some_and(|context| context.status == ContextStatus::Completed)
    }

    /// That a job which made something has not ended.
    pub(super) fn being_made_by(&self, marks: &Marks) -> Option<String> {
        let job_id = marks.job_id.as_deref()?;
        let job = self.unfinished.iter().find(|job| job.is(job_id))?;
        Some(format!("{}, which made it, has not ended", job.named()))
    }

    /// What is under way for a VM, or stands.
    pub(super) fn busy(&self, context_id: &str) -> Option<String> {
        let replication = self.contexts.get(context_id).and_then(|context| context.current_job.as_deref());
        if let Some(job_id) = replication {
            return Some(format!("{job_id} has not ended"));
        }
        if let Some(job) = self.unfinished.iter().find(|job| job.context_id.as_deref() == Some(context_id)) {
            return Some(format!("{} has not ended", job.named()));
        }
        None
    }

    /// The failover that holds a VM.
    pub(super) fn holding(&self, context_id: &str) -> Option<&FailoverFacts> {
        self.failovers.iter().find(|failover| failover.holds && failover.context_id == context_id)
    }

    /// A VM context as people name it.
    pub(super) fn vm_name<'a>(&'a self, context_id: &'a str) -> &'a str {
        self.contexts.get(context_id).map_or(context_id, |context| context.name.as_str())
    }
}
