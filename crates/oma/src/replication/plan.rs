//! What a replication would do, and every reason why it cannot: decided from facts, asking nobody.

use api::Problem;
use api::oma::replications::{PlannedDisk, ReplicationPlan, RequestedType, ScrubRequest};
use api::vma::{FindingSeverity, ReaderSpec, SourceVm, Stretch};
use model::status::{ContextStatus, ReplicationType};
use model::{ChangeId, FailureKind};

use super::Wanted;
use super::reader::{Choice, choose};
use super::scrub::{ScrubFacts, stretch};

/// What is known of a disk.
#[derive(Debug, Clone)]
pub struct DiskFacts {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The VMDK's uuid when it was discovered.
    pub disk_uuid: String,
    /// Size in bytes when it was discovered.
    pub capacity_bytes: u64,
    /// Its replica volume.
    pub volume_uuid: Option<String>,
    /// Size of that volume in bytes, where it is known.
    pub volume_size_bytes: Option<u64>,
    /// The change id its replica is equal to.
    pub committed: Option<ChangeId>,
    /// Why the digests of its committed content cannot be built upon, if they cannot: an increment would leave leaves
    /// nobody could certify.
    pub unproven: Option<String>,
    /// Whether the guest of a failed-over VM wrote to its replica.
    pub diverged: bool,
    /// Where its scrub stands.
    pub scrub: ScrubFacts,
}

/// What is known of a VM before a replication.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its name.
    pub vm_name: String,
    /// Where it stands.
    pub status: ContextStatus,
    /// The replication that runs, if any.
    pub running_job: Option<String>,
    /// Whether it has an agent, a credential and a target.
    pub has_agent: bool,
    /// Whether its agent is connected.
    pub agent_connected: bool,
    /// Whether a vCenter credential is set.
    pub has_credential: bool,
    /// Whether a target is set or one is active.
    pub has_target: bool,
    /// Its disks.
    pub disks: Vec<DiskFacts>,
    /// The VM as vCenter shows it now; none when it was not asked.
    pub seen: Option<SourceVm>,
}

/// Plans a replication; `blockers` holds every reason at once. `asked` is the reader somebody wants for all disks.
#[must_use]
pub fn plan(facts: &Facts, wanted: &Wanted, asked: Option<&ReaderSpec>) -> ReplicationPlan {
    let requested = wanted.replication_type;
    let mut blockers = standing_blockers(facts);
    blockers.extend(disk_blockers(facts));
    blockers.extend(facts.seen.iter().flat_map(|seen| source_blockers(facts, seen)));
    let committed = !facts.disks.is_empty() && facts.disks.iter().all(has_committed_replica);
    if requested == RequestedType::Incremental
        && let Some(reason) =
            facts.disks.iter().filter(|disk| is_unproven(disk)).find_map(|disk| disk.unproven.as_ref())
    {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("an increment of {} could not be certified", facts.vm_name))
                .evidence(reason.clone())
                .remedy("replicate with --type auto: everything is read and compared once"),
        );
    } else if requested == RequestedType::Incremental && !committed {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("{} has no committed replica to start from", facts.vm_name))
                .remedy("replicate with --type auto: the first copy makes one"),
        );
    }
    let replication_type = match requested {
        RequestedType::Initial => ReplicationType::Initial,
        RequestedType::Compare if facts.disks.iter().any(|disk| disk.volume_uuid.is_some()) => ReplicationType::Compare,
        RequestedType::Incremental => ReplicationType::Incremental,
        RequestedType::Auto if committed => ReplicationType::Incremental,
        // Nearly all of it is equal still: reading both sides is cheaper than sending everything.
        RequestedType::Auto if facts.disks.iter().any(|disk| disk.diverged || is_unproven(disk)) => {
            ReplicationType::Compare
        }
        RequestedType::Auto | RequestedType::Compare => ReplicationType::Initial,
    };
    let disks = facts.disks.iter().map(|disk| planned(disk, replication_type, wanted.scrub));
    let mut disks: Vec<PlannedDisk> = disks.collect();
    for disk in &mut disks {
        match reader_of(&disk.disk_id, facts.seen.as_ref(), asked) {
            Ok(Some(choice)) => (disk.reader, disk.reader_reason) = (Some(choice.reader), Some(choice.reason)),
            Ok(None) => {}
            Err(problem) => blockers.push(*problem),
        }
    }
    ReplicationPlan { replication_type, disks, blockers }
}

/// How a disk is read; nothing is chosen for one that was not looked at.
fn reader_of(
    disk_id: &str,
    seen: Option<&SourceVm>,
    asked: Option<&ReaderSpec>,
) -> Result<Option<Choice>, Box<Problem>> {
    if let Some(reader) = asked {
        return Ok(Some(Choice { reader: reader.clone(), reason: "it was asked for".to_owned() }));
    }
    let Some((seen, disk)) =
        seen.and_then(|seen| Some((seen, seen.disks.iter().find(|disk| disk.disk_id == disk_id)?)))
    else {
        return Ok(None);
    };
    let Some(readers) = &seen.readers else {
        let reason = "the agent does not tell how it could read".to_owned();
        return Ok(Some(Choice { reader: ReaderSpec::Folder, reason }));
    };
    choose(disk, readers).map(Some)
}

impl DiskFacts {
    /// What is read of it beside what change tracking names: only an increment leaves anything out.
    fn scrub_of(&self, replication_type: ReplicationType, requested: ScrubRequest) -> Option<Stretch> {
        let is_increment = replication_type == ReplicationType::Incremental && has_committed_replica(self);
        let wanted = is_increment && !self.scrub.is_distrusted;
        wanted.then(|| stretch(self.capacity_bytes, &self.scrub, requested)).flatten()
    }
}

/// Whether its replica is equal to a committed point of the source.
fn has_replica(disk: &DiskFacts) -> bool {
    disk.volume_uuid.is_some() && disk.committed.is_some()
}

/// Whether it has such a replica, and an increment of it could not be certified.
fn is_unproven(disk: &DiskFacts) -> bool {
    has_replica(disk) && disk.unproven.is_some()
}

/// Whether an increment may build on it.
fn has_committed_replica(disk: &DiskFacts) -> bool {
    has_replica(disk) && disk.unproven.is_none()
}

fn planned(disk: &DiskFacts, replication_type: ReplicationType, scrub: ScrubRequest) -> PlannedDisk {
    let usable = has_replica(disk).then(|| disk.committed.clone()).flatten();
    let unproven = disk.unproven.as_deref().filter(|_| is_unproven(disk));
    let (previous_change_id, reason) = match (replication_type, usable) {
        (ReplicationType::Initial, _) => (None, "everything allocated is copied".to_owned()),
        (ReplicationType::Incremental, Some(_)) if unproven.is_some() => {
            (None, "its digests are not known: everything allocated is copied".to_owned())
        }
        (ReplicationType::Incremental, Some(id)) if disk.scrub.is_distrusted => {
            (Some(id), "change tracking left out changes: everything is read, what differs is written".to_owned())
        }
        (ReplicationType::Incremental, Some(id)) => {
            let what = if disk.scrub_of(replication_type, scrub).is_some() { " and a stretch is scrubbed" } else { "" };
            (Some(id), format!("what changed since the last commit is copied{what}"))
        }
        (ReplicationType::Incremental, None) => {
            (None, "it has no committed replica: everything allocated is copied".to_owned())
        }
        (ReplicationType::Compare, Some(id)) => {
            let why = unproven.map_or_else(String::new, |why| format!("{why}: "));
            (Some(id), format!("{why}everything is read, what differs is written"))
        }
        (ReplicationType::Compare, None) if disk.diverged => {
            (None, "a failed-over VM wrote to it: everything is read, what differs is written".to_owned())
        }
        (ReplicationType::Compare, None) => {
            (None, "it has no committed replica: everything is read, what differs is written".to_owned())
        }
    };
    PlannedDisk {
        disk_id: disk.disk_id.clone(),
        capacity_bytes: disk.capacity_bytes,
        volume_uuid: disk.volume_uuid.clone(),
        previous_change_id,
        scrub: disk.scrub_of(replication_type, scrub),
        reason,
        reader: None,
        reader_reason: None,
    }
}

fn standing_blockers(facts: &Facts) -> Vec<Problem> {
    let name = &facts.vm_name;
    let mut blockers = Vec::new();
    if let Some(job) = &facts.running_job {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("{name} is being replicated"))
                .evidence(format!("{job} runs"))
                .remedy(format!("wait for it (migratekit job show {job}) or cancel it"))
                .job(job),
        );
    }
    if matches!(facts.status, ContextStatus::FailedOverTest | ContextStatus::FailedOverLive | ContextStatus::Completed)
    {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("{name} is {}", facts.status))
                .remedy("end the failover first: its volumes are in use by the VM in CloudStack"),
        );
    }
    if !facts.has_agent {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("{name} has no agent"))
                .remedy("add it again through an approved agent: migratekit vm add"),
        );
    } else if !facts.agent_connected {
        blockers.push(
            Problem::new(FailureKind::Unavailable, format!("the agent of {name} is not connected"))
                .remedy("look at the agent's log and at `migratekit agent list`"),
        );
    }
    if !facts.has_credential {
        blockers.push(
            Problem::new(FailureKind::Conflict, format!("{name} has no vCenter credential"))
                .remedy("add one with migratekit vcenter add, then add the VM again"),
        );
    }
    if !facts.has_target {
        blockers
            .push(Problem::new(FailureKind::Conflict, "there is no CloudStack target").remedy("migratekit target add"));
    }
    blockers
}

fn disk_blockers(facts: &Facts) -> Vec<Problem> {
    if facts.disks.is_empty() {
        return vec![Problem::new(FailureKind::Invalid, format!("{} has no disks", facts.vm_name))];
    }
    let too_small = facts.disks.iter().filter_map(|disk| {
        let size = disk.volume_size_bytes.filter(|size| *size < disk.capacity_bytes)?;
        Some(
            Problem::new(
                FailureKind::Invalid,
                format!("the replica volume of {} is smaller than the disk", disk.disk_id),
            )
            .evidence(format!("volume {size} bytes, disk {} bytes", disk.capacity_bytes))
            .remedy("resize the volume in CloudStack to at least the disk's size, or tear the replica down"),
        )
    });
    too_small.collect()
}

/// What vCenter shows now against what was discovered, and preflight's own findings.
fn source_blockers(facts: &Facts, seen: &SourceVm) -> Vec<Problem> {
    let mut blockers: Vec<Problem> = seen
        .findings
        .iter()
        .filter(|finding| finding.severity == FindingSeverity::Blocker)
        .map(|finding| {
            Problem::new(FailureKind::Conflict, finding.message.clone())
                .evidence(
                    finding
                        .disk_id
                        .clone()
                        .map_or_else(|| finding.code.clone(), |disk| format!("{} on {disk}", finding.code)),
                )
                .remedy(finding.remedy.clone())
        })
        .collect();
    for disk in &facts.disks {
        let same = |other: &&api::vma::SourceDisk| other.disk_id == disk.disk_id && other.disk_uuid == disk.disk_uuid;
        let changed = match seen.disks.iter().find(same) {
            None => Some("it is gone or was replaced".to_owned()),
            Some(now) if now.capacity_bytes != disk.capacity_bytes => {
                Some(format!("it had {} bytes and has {} now", disk.capacity_bytes, now.capacity_bytes))
            }
            Some(_) => None,
        };
        blockers.extend(changed.map(|evidence| rediscover(&facts.vm_name, &disk.disk_id, evidence)));
    }
    for new in seen.disks.iter().filter(|new| facts.disks.iter().all(|known| known.disk_id != new.disk_id)) {
        blockers.push(rediscover(&facts.vm_name, &new.disk_id, "it is new".to_owned()));
    }
    blockers
}

fn rediscover(vm_name: &str, disk_id: &str, evidence: String) -> Problem {
    Problem::new(FailureKind::Conflict, format!("{disk_id} of {vm_name} is not what was discovered"))
        .evidence(evidence)
        .remedy(format!("refresh it: migratekit vm discover && migratekit vm add {vm_name}"))
}

#[cfg(test)]
mod tests;
