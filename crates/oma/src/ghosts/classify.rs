//! What of the things with our marks is a ghost, why, and whether it may be removed. Pure.
//!
//! Whatever a row still needs is no ghost. In doubt a ghost is listed and kept: the obstacle says what the doubt is.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::oma::ghosts::GhostKind;
use cloudstack::{VirtualMachine, VmState, Volume, VolumeSnapshot};
use model::status::{ContextStatus, FailoverStatus, VolumeState};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::facts::{FailoverFacts, InTarget, Marks, Rows, Seen, SeenSource, VolumeFacts};

/// Said of what another hub may have made.
const MAYBE_ANOTHERS: &str = "another hub with this account, or one whose database was lost, may have made it";

/// What was decided about one thing with our marks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a look has a few hundred of them at a time: boxing them saves nothing that matters"
)]
pub(super) enum Verdict {
    /// No ghost, and why.
    Needed(String),
    /// A ghost.
    Ghost(Ghost),
}

/// Something of ours that nothing needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ghost {
    /// What it is called: its kind and its id.
    pub(crate) id: String,
    pub(crate) kind: GhostKind,
    pub(crate) resource_id: String,
    pub(crate) name: String,
    /// Name of its target.
    pub(crate) target: Option<String>,
    pub(crate) vm_context_id: Option<String>,
    /// Name of that VM, when it is known.
    pub(crate) vm_name: Option<String>,
    pub(crate) job_id: Option<String>,
    pub(crate) created: Option<OffsetDateTime>,
    /// What it is, and why nothing needs it.
    pub(crate) reason: String,
    pub(crate) fate: Fate,
}

/// What may become of a ghost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An operator may have it removed, like this.
    Removable(Removal),
    /// It stays for now.
    Kept {
        /// Why.
        obstacle: String,
        /// What an operator can do.
        remedy: String,
    },
}

/// How a ghost is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "removes", rename_all = "snake_case")]
pub(crate) enum Removal {
    /// A VM is destroyed.
    Vm { target_id: String, vm_id: String },
    /// A volume whose row is deleted with it.
    KnownVolume { volume_uuid: String },
    /// A volume no row needs.
    StrayVolume { target_id: String, volume_uuid: String },
    /// The volume_snapshot that a volume's row names.
    KnownSnapshot { volume_uuid: String, snapshot_id: String },
    /// A volume_snapshot no row names.
    StraySnapshot { target_id: String, volume_uuid: String, snapshot_id: String },
    /// The vm_snapshots of ours on a VM.
    VmSnapshots { context_id: String },
}

impl Removal {
    /// Whether nothing else that touches the VM's replica may be under way beside it.
    pub(crate) fn excludes_others(&self) -> bool {
        matches!(self, Self::KnownVolume { .. } | Self::VmSnapshots { .. })
    }
}

/// The id of a ghost.
pub(super) fn ghost_id(kind: GhostKind, resource_id: &str) -> String {
    let prefix = match kind {
        GhostKind::Vm => "vm",
        GhostKind::Volume => "volume",
        GhostKind::VolumeSnapshot => "snapshot",
        GhostKind::VmSnapshot => "vmsnapshot",
    };
    format!("{prefix}-{resource_id}")
}

/// Judges everything that was seen, by id. What two targets show is judged once.
pub(super) fn classify(seen: &Seen, rows: &Rows) -> BTreeMap<String, Verdict> {
    let judge = Judge { seen, rows };
    let mut verdicts = BTreeMap::new();
    let mut add = |kind, resource_id: &str, verdict: Verdict| {
        verdicts.entry(ghost_id(kind, resource_id)).or_insert(verdict);
    };
    for vm in seen.vms.iter().filter(|vm| !is_going(&vm.found.state)) {
        add(GhostKind::Vm, &vm.found.id, judge.vm(vm));
    }
    for volume in seen.volumes.iter().filter(|volume| !volume.found.state.is_gone()) {
        add(GhostKind::Volume, &volume.found.id, judge.volume(volume));
    }
    for snapshot in seen.volume_snapshots.iter().filter(|snapshot| !snapshot.found.state.is_gone()) {
        add(GhostKind::VolumeSnapshot, &snapshot.found.id, judge.volume_snapshot(snapshot));
    }
    for source in seen.sources.iter().filter(|source| !source.vm_snapshots.is_empty()) {
        add(GhostKind::VmSnapshot, &source.context_id, judge.vm_snapshots(source));
    }
    verdicts
}

/// What is a ghost by the rows read before the look and by those read after it: whatever began or ended meanwhile is
/// needed by one of them.
pub(super) fn agreed(
    before: &BTreeMap<String, Verdict>,
    mut after: BTreeMap<String, Verdict>,
) -> BTreeMap<String, Verdict> {
    for (id, verdict) in &mut after {
        if let (Verdict::Ghost(_), Some(needed @ Verdict::Needed(_))) = (&*verdict, before.get(id)) {
            *verdict = needed.clone();
        }
    }
    after
}

/// Whether the cloud is erasing a VM already.
fn is_going(state: &VmState) -> bool {
    matches!(state, VmState::Destroyed | VmState::Expunging)
}

struct Judge<'a> {
    seen: &'a Seen,
    rows: &'a Rows,
}

impl Judge<'_> {
    fn vm(&self, seen: &InTarget<VirtualMachine>) -> Verdict {
        let (vm, marks) = (&seen.found, Marks::of(&seen.found.tags));
        if self.rows.own_vms.contains(&vm.id) {
            return Verdict::Needed("it is the hub's own VM".to_owned());
        }
        let made_by = self.rows.failover(&marks);
        let uses = |failover: &&FailoverFacts| {
            failover.holds
                && (failover.vm_id.as_ref() == Some(&vm.id) || Some(&failover.job_id) == marks.job_id.as_ref())
        };
        if let Some(failover) = self.rows.failovers.iter().find(uses) {
            return Verdict::Needed(format!("{} ({}) uses it", failover.named(), failover.status));
        }
        if let Some(why) = self.rows.being_made_by(&marks) {
            return Verdict::Needed(why);
        }
        let reason = self.origin("a VM", "made", &marks);
        let replicas = self.replicas_on(&vm.id);
        let fate = if !replicas.is_empty() {
            let remedy = made_by.and_then(FailoverFacts::way_back);
            let by_hand = "find out whose volumes they are and detach them in CloudStack, then look again";
            Fate::Kept {
                obstacle: format!(
                    "replica volumes hang on it ({}): its root would be erased with it",
                    replicas.join(", ")
                ),
                remedy: remedy.unwrap_or_else(|| by_hand.to_owned()),
            }
        } else if matches!(vm.state, VmState::Stopped | VmState::Error) {
            Fate::Removable(Removal::Vm { target_id: seen.target_id.clone(), vm_id: vm.id.clone() })
        } else {
            Fate::Kept {
                obstacle: format!("it is {}: somebody may use it", vm.state),
                remedy: "if nobody does, stop it in CloudStack, then look again".to_owned(),
            }
        };
        self.ghost((GhostKind::Vm, &vm.id), &vm.name, seen, marks, vm.created, reason, fate)
    }

    fn volume(&self, seen: &InTarget<Volume>) -> Verdict {
        let (volume, marks) = (&seen.found, Marks::of(&seen.found.tags));
        if let Some(disk) = self.rows.disk_on(&volume.id) {
            let vm = self.rows.vm_name(&disk.vm_context_id);
            return Verdict::Needed(format!("it is the replica of {} of {vm}", disk.disk_id));
        }
        if let Some(why) = self.rows.being_made_by(&marks) {
            return Verdict::Needed(why);
        }
        let row = self.rows.volume(&volume.id).filter(|row| row.state != VolumeState::Deleted);
        let (marks, reason, fate) = match row {
            None => {
                let reason = format!("{}; no row of this hub knows it", self.origin("a volume", "made", &marks));
                let fate = self.fate_of_stray(seen, &marks);
                (marks, reason, fate)
            }
            Some(row) => {
                let vm = self.rows.vm_name(&row.context_id);
                let holding = self.rows.holding(&row.context_id).map(|failover| format!("{} stands", failover.named()));
                if let Some(why) = self.rows.busy(&row.context_id).or(holding) {
                    return Verdict::Needed(format!("it belongs to {vm}, and {why}"));
                }
                let reason =
                    format!("a volume made for {vm} that no disk of it names: nothing is copied to it any more");
                (
                    Marks { context_id: Some(row.context_id.clone()), ..marks },
                    reason,
                    self.fate_of_unlinked(volume, row),
                )
            }
        };
        let fate = self.unless_attached(volume, fate);
        self.ghost((GhostKind::Volume, &volume.id), &volume.name, seen, marks, volume.created, reason, fate)
    }

    /// A volume that a VM holds stays.
    fn unless_attached(&self, volume: &Volume, fate: Fate) -> Fate {
        let Some(vm_id) = &volume.virtual_machine_id else { return fate };
        let whose =
            if self.rows.own_vms.contains(vm_id) { "the hub's own VM".to_owned() } else { format!("VM {vm_id}") };
        Fate::Kept {
            obstacle: format!("it is attached to {whose}"),
            remedy: "find out what that VM does with it; detach it in CloudStack, then look again".to_owned(),
        }
    }

    /// A volume without a row. It may hold the only copy there is, if its VM has no replica here, or is not known here:
    /// then it may be another hub's replica, or this one's from before its database was lost.
    fn fate_of_stray(&self, seen: &InTarget<Volume>, marks: &Marks) -> Fate {
        let holds_nothing = seen.found.state == cloudstack::VolumeState::Allocated;
        match marks.context_id.as_ref().and_then(|id| self.rows.contexts.get(id)) {
            _ if holds_nothing => {}
            Some(vm) if vm.has_replica() => {}
            Some(vm) => {
                return Fate::Kept {
                    obstacle: format!("{} has no complete replica, so it may hold the only copy there is", vm.name),
                    remedy: format!("replicate it first: migratekit replicate {}", vm.name),
                };
            }
            None => {
                return Fate::Kept {
                    obstacle: "its VM is not known here, so it may be the only replica another hub has".to_owned(),
                    remedy: "look at what is on it; if nobody needs that, delete it in CloudStack".to_owned(),
                };
            }
        }
        let (target_id, volume_uuid) = (seen.target_id.clone(), seen.found.id.clone());
        Fate::Removable(Removal::StrayVolume { target_id, volume_uuid })
    }

    /// A volume with a row and without a disk. It goes only when it is certain that it never held a replica.
    fn fate_of_unlinked(&self, volume: &Volume, row: &VolumeFacts) -> Fate {
        let never_attached = volume.state == cloudstack::VolumeState::Allocated;
        let context = self.rows.contexts.get(&row.context_id);
        let never_committed = context.is_some_and(|context| !context.was_committed);
        if never_attached || never_committed {
            return Fate::Removable(Removal::KnownVolume { volume_uuid: volume.id.clone() });
        }
        Fate::Kept {
            obstacle: "it may hold what a disk that is not known any more was replicated to".to_owned(),
            remedy: "look at what is on it; if nobody needs that, delete it in CloudStack".to_owned(),
        }
    }

    fn volume_snapshot(&self, seen: &InTarget<VolumeSnapshot>) -> Verdict {
        let (snapshot, marks) = (&seen.found, Marks::of(&seen.found.tags));
        let row = self.rows.volumes.iter().find(|row| row.snapshot_id.as_ref() == Some(&snapshot.id));
        let is_of = |failover: &FailoverFacts| {
            Some(&failover.job_id) == marks.job_id.as_ref() || failover.snapshot_ids.contains(&snapshot.id)
        };
        let holds = |failover: &&FailoverFacts| {
            let by_row = row.is_some_and(|row| row.context_id == failover.context_id);
            failover.holds && !self.rows.is_final(failover) && (is_of(failover) || by_row)
        };
        if let Some(failover) = self.rows.failovers.iter().find(holds) {
            return Verdict::Needed(format!("{} ({}) may go back to it", failover.named(), failover.status));
        }
        if let Some(why) = self.rows.being_made_by(&marks) {
            return Verdict::Needed(why);
        }
        let given_up = self.rows.failovers.iter().find(|failover| is_of(failover) && self.is_open(failover));
        let fate = match (given_up, &snapshot.volume_id) {
            (Some(failover), _) => kept_for_the_way_back(failover),
            (None, _) if snapshot.state.is_being_made() => Fate::Kept {
                obstacle: format!("it is {}: CloudStack has not finished with it", snapshot.state),
                remedy: "look again later".to_owned(),
            },
            (None, None) => Fate::Kept {
                obstacle: "CloudStack does not tell which volume it is of".to_owned(),
                remedy: "delete it in CloudStack by hand".to_owned(),
            },
            (None, Some(volume_uuid)) => Fate::Removable(removal_of_snapshot(seen, row, volume_uuid)),
        };
        let reason = self.origin("a volume_snapshot", "taken", &marks);
        self.ghost(
            (GhostKind::VolumeSnapshot, &snapshot.id),
            &snapshot.name,
            seen,
            marks,
            snapshot.created,
            reason,
            fate,
        )
    }

    /// Whether a failover was given up half way and can still be put back.
    fn is_open(&self, failover: &FailoverFacts) -> bool {
        let context = self.rows.contexts.get(&failover.context_id);
        failover.status == FailoverStatus::Failed
            && context.is_some_and(|context| context.status == ContextStatus::CleanupRequired)
    }

    fn vm_snapshots(&self, source: &SeenSource) -> Verdict {
        let vm = self.rows.vm_name(&source.context_id);
        let run = source.active_runs.iter().find(|job_id| {
            let name = model::id::vm_snapshot_name(job_id);
            source.vm_snapshots.contains(&name)
        });
        let run = run.map(|job_id| format!("the agent's run of {job_id} has not ended"));
        if let Some(why) = self.rows.busy(&source.context_id).or(run) {
            return Verdict::Needed(format!("{vm}: {why}"));
        }
        let (count, names) = (source.vm_snapshots.len(), source.vm_snapshots.join(", "));
        let what = if count == 1 { "a vm_snapshot".to_owned() } else { format!("{count} vm_snapshots") };
        let job_id = source.vm_snapshots.iter().find_map(|name| name.strip_prefix(model::id::VM_SNAPSHOT_PREFIX));
        Verdict::Ghost(Ghost {
            id: ghost_id(GhostKind::VmSnapshot, &source.context_id),
            kind: GhostKind::VmSnapshot,
            resource_id: source.moref.clone(),
            name: names,
            target: None,
            vm_context_id: Some(source.context_id.clone()),
            vm_name: Some(vm.to_owned()),
            job_id: job_id.map(str::to_owned),
            created: None,
            reason: format!(
                "{what} of {vm} in vCenter with our name, and no replication of it runs: it grows with every write"
            ),
            fate: Fate::Removable(Removal::VmSnapshots { context_id: source.context_id.clone() }),
        })
    }

    /// What something is and what became of the job that made it.
    fn origin(&self, what: &str, made: &str, marks: &Marks) -> String {
        let Some(job_id) = &marks.job_id else {
            return format!("{what} with our tag that names no job; {MAYBE_ANOTHERS}");
        };
        match self.rows.failover(marks) {
            Some(failover) if failover.holds => format!("{what} {made} by {}, which is final", failover.named()),
            Some(failover) => format!("{what} {made} by {}, which is {}", failover.named(), failover.status),
            None => format!("{what} {made} by {job_id}, which is no job of this hub that goes on; {MAYBE_ANOTHERS}"),
        }
    }

    /// The volumes of ours that hang on a VM: as CloudStack shows them, else as the rows say.
    fn replicas_on(&self, vm_id: &str) -> Vec<String> {
        let shown = |uuid: &str| self.seen.volumes.iter().find(|volume| volume.found.id == uuid);
        let seen = self.seen.volumes.iter().filter(|volume| volume.found.virtual_machine_id.as_deref() == Some(vm_id));
        let rows = self.rows.volumes.iter().filter(|row| row.vm_id.as_deref() == Some(vm_id));
        let rows = rows.filter(|row| shown(&row.volume_uuid).is_none());
        seen.map(|volume| volume.found.id.clone()).chain(rows.map(|row| row.volume_uuid.clone())).collect()
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of what it makes")]
    fn ghost<T>(
        &self,
        (kind, resource_id): (GhostKind, &str),
        name: &str,
        seen: &InTarget<T>,
        marks: Marks,
        created: Option<OffsetDateTime>,
        reason: String,
        fate: Fate,
    ) -> Verdict {
        let vm_name = marks.context_id.as_ref().and_then(|id| self.rows.contexts.get(id));
        Verdict::Ghost(Ghost {
            id: ghost_id(kind, resource_id),
            kind,
            resource_id: resource_id.to_owned(),
            name: name.to_owned(),
            target: Some(seen.target.clone()),
            vm_name: vm_name.map(|context| context.name.clone()),
            vm_context_id: marks.context_id,
            job_id: marks.job_id,
            created,
            reason,
            fate,
        })
    }
}

fn kept_for_the_way_back(failover: &FailoverFacts) -> Fate {
    let remedy = failover.way_back();
    Fate::Kept {
        obstacle: format!("{} was given up half way, and its volumes can only go back to this", failover.named()),
        remedy: remedy.unwrap_or_else(|| format!("migratekit failover show {}", failover.job_id)),
    }
}

fn removal_of_snapshot(seen: &InTarget<VolumeSnapshot>, row: Option<&VolumeFacts>, volume_uuid: &str) -> Removal {
    let (volume_uuid, snapshot_id) = (volume_uuid.to_owned(), seen.found.id.clone());
    match row {
        Some(row) => Removal::KnownSnapshot { volume_uuid: row.volume_uuid.clone(), snapshot_id },
        None => Removal::StraySnapshot { target_id: seen.target_id.clone(), volume_uuid, snapshot_id },
    }
}
