//! What is a ghost, case by case, and what never is one in any world.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};
use serde_json::{Value, from_value, json};
use store::vm_disks::LinkedDisk;

use super::*;
use crate::ghosts::facts::{ContextFacts, JobFacts};
use model::status::FailoverType;

const CONTEXT: &str = "context-1";
const JOB: &str = "failover-20260304-050607-a1b2c3";

fn tags(job_id: &str) -> Value {
    json!([{ "key": "migratekit", "value": "x" }, { "key": "migratekit-context", "value": CONTEXT },
        { "key": "migratekit-job", "value": job_id }])
}

fn in_target<T: serde::de::DeserializeOwned>(row: Value) -> InTarget<T> {
    InTarget { target_id: "target-1".to_owned(), target: "cloud".to_owned(), found: from_value(row).unwrap() }
}

fn vm(id: &str, state: &str) -> InTarget<VirtualMachine> {
    in_target(json!({ "id": id, "name": "web1", "state": state, "tags": tags(JOB) }))
}

fn volume(id: &str, state: &str, attached_to: Option<&str>) -> InTarget<Volume> {
    let job = "0190-create";
    in_target(json!({ "id": id, "name": id, "state": state, "virtualmachineid": attached_to, "tags": tags(job) }))
}

fn snapshot(id: &str, volume_id: Option<&str>, state: &str) -> InTarget<VolumeSnapshot> {
    in_target(json!({ "id": id, "name": id, "state": state, "volumeid": volume_id, "tags": tags(JOB) }))
}

fn rows() -> Rows {
    let context = ContextFacts {
        name: "web1".to_owned(),
        status: ContextStatus::ReadyForFailover,
        current_job: None,
        was_committed: true,
    };
    Rows { contexts: [(CONTEXT.to_owned(), context)].into(), own_vms: ["hub".to_owned()].into(), ..Rows::default() }
}

fn with_status(status: ContextStatus) -> Rows {
    let mut rows = rows();
    rows.contexts.get_mut(CONTEXT).unwrap().status = status;
    rows
}

fn volume_row(volume_uuid: &str) -> VolumeFacts {
    VolumeFacts {
        id: format!("row of {volume_uuid}"),
        volume_uuid: volume_uuid.to_owned(),
        context_id: CONTEXT.to_owned(),
        state: VolumeState::Detached,
        vm_id: None,
        snapshot_id: None,
    }
}

fn failover(failover_type: FailoverType, status: FailoverStatus) -> FailoverFacts {
    use FailoverStatus::{Cancelled, CleanedUp, Failed, RolledBack};
    FailoverFacts {
        job_id: JOB.to_owned(),
        context_id: CONTEXT.to_owned(),
        vm_name: "web1".to_owned(),
        failover_type,
        status,
        holds: !matches!(status, Cancelled | CleanedUp | Failed | RolledBack),
        vm_id: Some("made".to_owned()),
        snapshot_ids: vec!["named".to_owned()],
    }
}

fn unfinished(id: &str, context_id: Option<&str>) -> JobFacts {
    JobFacts {
        id: id.to_owned(),
        job_type: "replication".to_owned(),
        external_id: Some(format!("external of {id}")),
        context_id: context_id.map(str::to_owned),
    }
}

/// The verdict about the only thing there is.
fn judge(seen: &Seen, rows: &Rows) -> Verdict {
    let mut verdicts = classify(seen, rows);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    verdicts.pop_first().unwrap().1
}

fn judge_vm(vm: InTarget<VirtualMachine>, volumes: Vec<InTarget<Volume>>, rows: &Rows) -> Verdict {
    let seen = Seen { vms: vec![vm], volumes, ..Seen::default() };
    classify(&seen, rows).into_iter().find(|(id, _)| id.starts_with("vm-")).unwrap().1
}

fn judge_volume(volume: InTarget<Volume>, rows: &Rows) -> Verdict {
    judge(&Seen { volumes: vec![volume], ..Seen::default() }, rows)
}

fn judge_snapshot(snapshot: InTarget<VolumeSnapshot>, rows: &Rows) -> Verdict {
    judge(&Seen { volume_snapshots: vec![snapshot], ..Seen::default() }, rows)
}

fn judge_source(names: &[&str], active_runs: &[&str], rows: &Rows) -> Verdict {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let source = SeenSource {
        context_id: CONTEXT.to_owned(),
        moref: "vm-42".to_owned(),
        vm_snapshots: texts(names),
        active_runs: texts(active_runs),
    };
    judge(&Seen { sources: vec![source], ..Seen::default() }, rows)
}

/// That something is needed, with a part of why.
fn needed(verdict: &Verdict, why: &str) {
    let Verdict::Needed(said) = verdict else { panic!("{verdict:#?}") };
    assert!(said.contains(why), "{said}");
}

/// That something is a ghost and may be removed, with a part of the reason.
fn removable(verdict: &Verdict, reason: &str) -> Removal {
    match verdict {
        Verdict::Ghost(Ghost { fate: Fate::Removable(removal), reason: said, .. }) => {
            assert!(said.contains(reason), "{said}");
            removal.clone()
        }
        other => panic!("{other:#?}"),
    }
}

/// That something is a ghost that stays, with a part of the obstacle and of the remedy.
fn kept(verdict: &Verdict, because: &str, advice: &str) {
    let Verdict::Ghost(Ghost { fate: Fate::Kept { obstacle, remedy }, .. }) = verdict else { panic!("{verdict:#?}") };
    assert!(obstacle.contains(because), "{obstacle}");
    assert!(remedy.contains(advice), "{remedy}");
}

#[test]
fn a_vm_is_needed_while_its_failover_stands_or_goes_on() {
    for status in [FailoverStatus::CreatingVm, FailoverStatus::Completed, FailoverStatus::Cleanup] {
        let rows = Rows { failovers: vec![failover(FailoverType::Test, status)], ..rows() };
        needed(&judge_vm(vm("other", "Running"), Vec::new(), &rows), JOB);
        let by_id = in_target(json!({ "id": "made", "name": "x", "state": "Stopped" }));
        needed(&judge_vm(by_id, Vec::new(), &rows), "uses it");
    }
    let by_job = Rows { unfinished: vec![unfinished(JOB, None)], ..rows() };
    needed(&judge_vm(vm("a", "Stopped"), Vec::new(), &by_job), "has not ended");
    needed(&judge_vm(vm("hub", "Running"), Vec::new(), &rows()), "the hub's own");
}

#[test]
fn a_vm_of_an_ended_or_unknown_failover_is_a_ghost() {
    let removal = removable(&judge_vm(vm("a", "Stopped"), Vec::new(), &rows()), "no job of this hub");
    assert_eq!(removal, Removal::Vm { target_id: "target-1".to_owned(), vm_id: "a".to_owned() });
    let rows = Rows { failovers: vec![failover(FailoverType::Test, FailoverStatus::CleanedUp)], ..rows() };
    removable(&judge_vm(vm("made", "Error"), Vec::new(), &rows), "of web1, which is cleaned_up");
    let nameless = in_target(json!({ "id": "a", "name": "x", "state": "Stopped" }));
    removable(&judge_vm(nameless, Vec::new(), &rows), "names no job");
    kept(&judge_vm(vm("a", "Running"), Vec::new(), &rows), "Running", "stop it");
    let erased = Seen { vms: vec![vm("a", "Destroyed"), vm("b", "Expunging")], ..Seen::default() };
    assert!(classify(&erased, &rows).is_empty());
}

#[test]
fn a_vm_with_a_replica_on_it_stays() {
    let marked = vec![volume("v", "Ready", Some("a"))];
    kept(&judge_vm(vm("a", "Stopped"), marked.clone(), &rows()), "v", "detach");
    let by_row = VolumeFacts { vm_id: Some("a".to_owned()), ..volume_row("untagged") };
    let rows = Rows { volumes: vec![by_row], ..rows() };
    kept(&judge_vm(vm("a", "Stopped"), Vec::new(), &rows), "untagged", "detach");
    let moved = vec![volume("untagged", "Ready", None)];
    removable(&judge_vm(vm("a", "Stopped"), moved, &rows), "");
    for (failover_type, verb) in [(FailoverType::Test, "cleanup"), (FailoverType::Live, "rollback")] {
        let failovers = vec![failover(failover_type, FailoverStatus::Failed)];
        let rows = Rows { failovers, ..rows.clone() };
        let verdict = judge_vm(vm("a", "Stopped"), marked.clone(), &rows);
        kept(&verdict, "its root would be erased", &format!("migratekit failover {verb} {JOB}"));
    }
}

#[test]
fn a_replica_is_no_ghost_whatever_else_is_said_of_it() {
    let disk = |volume_uuid: Option<&str>, row: Option<&str>| LinkedDisk {
        vm_context_id: CONTEXT.to_owned(),
        disk_id: "disk-2000".to_owned(),
        volume_uuid: volume_uuid.map(str::to_owned),
        ossea_volume_id: row.map(str::to_owned),
    };
    let by_uuid = Rows { disks: vec![disk(Some("v"), None)], ..rows() };
    needed(&judge_volume(volume("v", "Ready", None), &by_uuid), "the replica of disk-2000 of web1");
    let row = VolumeFacts { state: VolumeState::Error, ..volume_row("v") };
    let by_row = Rows { disks: vec![disk(None, Some("row of v"))], volumes: vec![row], ..rows() };
    needed(&judge_volume(volume("v", "Allocated", None), &by_row), "disk-2000");
}

#[test]
fn a_volume_with_a_row_and_no_disk_goes_only_when_it_never_held_a_replica() {
    let with_row = Rows { volumes: vec![volume_row("v")], ..rows() };
    let known = Removal::KnownVolume { volume_uuid: "v".to_owned() };
    assert_eq!(removable(&judge_volume(volume("v", "Allocated", None), &with_row), "no disk of it names"), known);
    kept(&judge_volume(volume("v", "Ready", None), &with_row), "it may hold", "look at what is on it");
    kept(&judge_volume(volume("v", "Allocated", Some("hub")), &with_row), "the hub's own VM", "detach");
    let mut never = with_row.clone();
    never.contexts.get_mut(CONTEXT).unwrap().was_committed = false;
    assert_eq!(removable(&judge_volume(volume("v", "Ready", None), &never), ""), known);
    let replicating = Rows { unfinished: vec![unfinished("job", Some(CONTEXT))], ..with_row.clone() };
    needed(&judge_volume(volume("v", "Allocated", None), &replicating), "external of job");
    let failovers = vec![failover(FailoverType::Live, FailoverStatus::Completed)];
    needed(&judge_volume(volume("v", "Ready", None), &Rows { failovers, ..with_row }), "stands");
}

#[test]
fn a_volume_without_a_row_is_a_stray_unless_it_may_be_the_only_copy() {
    let stray = Removal::StrayVolume { target_id: "target-1".to_owned(), volume_uuid: "v".to_owned() };
    assert_eq!(removable(&judge_volume(volume("v", "Ready", None), &rows()), "no row of this hub"), stray);
    let deleted = VolumeFacts { state: VolumeState::Deleted, ..volume_row("v") };
    let with_deleted = Rows { volumes: vec![deleted], ..rows() };
    assert_eq!(removable(&judge_volume(volume("v", "Ready", None), &with_deleted), ""), stray);
    kept(&judge_volume(volume("v", "Ready", Some("x")), &rows()), "attached to VM x", "detach");
    let without_replica = with_status(ContextStatus::Failed);
    kept(&judge_volume(volume("v", "Ready", None), &without_replica), "the only copy", "migratekit replicate web1");
    assert_eq!(removable(&judge_volume(volume("v", "Allocated", None), &without_replica), ""), stray);
    let unknown_vm = Rows { contexts: BTreeMap::new(), ..rows() };
    kept(&judge_volume(volume("v", "Ready", None), &unknown_vm), "another hub", "delete it in CloudStack");
    assert_eq!(removable(&judge_volume(volume("v", "Allocated", None), &unknown_vm), ""), stray);
    let creating = Rows { unfinished: vec![unfinished("0190-create", None)], ..rows() };
    needed(&judge_volume(volume("v", "Ready", None), &creating), "has not ended");
}

#[test]
fn a_snapshot_is_needed_while_a_failover_may_go_back_to_it() {
    let standing = |failover_type, status| Rows { failovers: vec![failover(failover_type, status)], ..rows() };
    let test = standing(FailoverType::Test, FailoverStatus::Completed);
    needed(&judge_snapshot(snapshot("any", Some("v"), "BackedUp"), &test), JOB);
    let untagged = |id: &str| in_target(json!({ "id": id, "state": "BackedUp", "volumeid": "v" }));
    needed(&judge_snapshot(untagged("named"), &test), "may go back");
    let row = VolumeFacts { snapshot_id: Some("by row".to_owned()), ..volume_row("v") };
    needed(&judge_snapshot(untagged("by row"), &Rows { volumes: vec![row], ..test }), "may go back");
    let live = standing(FailoverType::Live, FailoverStatus::Completed);
    needed(&judge_snapshot(untagged("named"), &live), "may go back");
    let failovers = vec![failover(FailoverType::Live, FailoverStatus::Completed)];
    let made_final = Rows { failovers, ..with_status(ContextStatus::Completed) };
    removable(&judge_snapshot(snapshot("named", Some("v"), "BackedUp"), &made_final), "final");
}

#[test]
fn a_snapshot_nothing_goes_back_to_is_a_ghost() {
    let taken = |volume_id: Option<&str>, state: &str| snapshot("s", volume_id, state);
    let (target_id, volume_uuid, snapshot_id) = ("target-1".to_owned(), "v".to_owned(), "s".to_owned());
    let stray =
        Removal::StraySnapshot { target_id, volume_uuid: volume_uuid.clone(), snapshot_id: snapshot_id.clone() };
    assert_eq!(removable(&judge_snapshot(taken(Some("v"), "BackedUp"), &rows()), "no job of this hub"), stray);
    let row = VolumeFacts { snapshot_id: Some("s".to_owned()), ..volume_row("v") };
    let with_row = Rows { volumes: vec![row], ..rows() };
    let known = Removal::KnownSnapshot { volume_uuid, snapshot_id };
    assert_eq!(removable(&judge_snapshot(taken(Some("v"), "BackedUp"), &with_row), ""), known);
    kept(&judge_snapshot(taken(Some("v"), "BackingUp"), &rows()), "BackingUp", "later");
    kept(&judge_snapshot(taken(None, "BackedUp"), &rows()), "which volume", "by hand");
    let failovers = vec![failover(FailoverType::Test, FailoverStatus::Failed)];
    let undone = Rows { failovers: failovers.clone(), ..rows() };
    removable(&judge_snapshot(taken(Some("v"), "BackedUp"), &undone), "which is failed");
    let given_up = Rows { failovers, ..with_status(ContextStatus::CleanupRequired) };
    kept(&judge_snapshot(taken(Some("v"), "BackedUp"), &given_up), "can only go back to this", "failover cleanup");
}

#[test]
fn vm_snapshots_are_ghosts_unless_a_replication_goes_on() {
    let verdict = judge_source(&["migratekit-job-x", "migratekit-job-y"], &["job-z"], &rows());
    let removal = removable(&verdict, "2 vm_snapshots of web1");
    assert_eq!(removal, Removal::VmSnapshots { context_id: CONTEXT.to_owned() });
    assert!(removal.excludes_others());
    let Verdict::Ghost(ghost) = verdict else { panic!("no ghost") };
    assert_eq!((ghost.id.as_str(), ghost.resource_id.as_str()), ("vmsnapshot-context-1", "vm-42"));
    assert_eq!((ghost.name.as_str(), ghost.job_id.as_deref()), ("migratekit-job-x, migratekit-job-y", Some("job-x")));
    needed(&judge_source(&["migratekit-job-x"], &["job-x"], &rows()), "run of job-x");
    let unfinished = Rows { unfinished: vec![unfinished("job", Some(CONTEXT))], ..rows() };
    needed(&judge_source(&["migratekit-job-x"], &[], &unfinished), "external of job");
    let mut held = rows();
    held.contexts.get_mut(CONTEXT).unwrap().current_job = Some("job-now".to_owned());
    needed(&judge_source(&["migratekit-job-x"], &[], &held), "job-now");
}

#[test]
fn what_began_or_ended_during_the_look_is_no_ghost() {
    let seen = Seen { vms: vec![vm("made", "Stopped")], ..Seen::default() };
    let standing = Rows { failovers: vec![failover(FailoverType::Test, FailoverStatus::CreatingVm)], ..rows() };
    let (needed, ghost) = (classify(&seen, &standing), classify(&seen, &rows()));
    assert_eq!(agreed(&needed, ghost.clone()), needed);
    assert_eq!(agreed(&ghost, needed.clone()), needed);
    assert_eq!(agreed(&ghost, ghost.clone()), ghost);
}

/// Few ids, so that things meet.
fn few(prefix: &'static str) -> impl Strategy<Value = String> {
    (0..4_u8).prop_map(move |number| format!("{prefix}{number}"))
}

fn some_volume() -> impl Strategy<Value = InTarget<Volume>> {
    let state = prop_oneof![Just("Allocated"), Just("Ready"), Just("Uploaded")];
    (few("v"), state, prop::option::of(few("m"))).prop_map(|(id, state, vm)| volume(&id, state, vm.as_deref()))
}

fn some_row() -> impl Strategy<Value = VolumeFacts> {
    let states = [VolumeState::Available, VolumeState::Attached, VolumeState::Error, VolumeState::Deleted];
    let state = prop::sample::select(states.to_vec());
    (few("v"), state, prop::option::of(few("m"))).prop_map(|(uuid, state, vm_id)| VolumeFacts {
        state,
        vm_id,
        ..volume_row(&uuid)
    })
}

fn some_disk() -> impl Strategy<Value = LinkedDisk> {
    let links = (prop::option::of(few("v")), prop::option::of(few("row of v")));
    (few("context-"), links).prop_map(|(vm_context_id, (volume_uuid, ossea_volume_id))| LinkedDisk {
        vm_context_id,
        disk_id: "disk-2000".to_owned(),
        volume_uuid,
        ossea_volume_id,
    })
}

fn some_failover() -> impl Strategy<Value = FailoverFacts> {
    let statuses = [FailoverStatus::Completed, FailoverStatus::Failed, FailoverStatus::CleanedUp];
    let status = prop::sample::select(statuses.to_vec());
    let failover_type = prop_oneof![Just(FailoverType::Live), Just(FailoverType::Test)];
    (failover_type, status, few("m"))
        .prop_map(|(failover_type, status, vm)| FailoverFacts { vm_id: Some(vm), ..failover(failover_type, status) })
}

fn some_rows() -> impl Strategy<Value = Rows> {
    let parts = (
        prop::collection::vec(some_row(), 0..5),
        prop::collection::vec(some_disk(), 0..4),
        prop::collection::vec(some_failover(), 0..2),
        any::<bool>(),
    );
    parts.prop_map(|(volumes, disks, failovers, was_committed)| {
        let mut rows = Rows { volumes, disks, failovers, ..rows() };
        rows.contexts.get_mut(CONTEXT).unwrap().was_committed = was_committed;
        rows
    })
}

proptest! {
    #[test]
    fn nothing_that_somebody_needs_is_ever_removable(
        volumes in prop::collection::vec(some_volume(), 0..6),
        machines in prop::collection::vec((few("m"), prop_oneof![Just("Stopped"), Just("Running")]), 0..5),
        rows in some_rows(),
    ) {
        let vms = machines.iter().map(|(id, state)| vm(id, state)).collect();
        let seen = Seen { vms, volumes, ..Seen::default() };
        let removable: Vec<Removal> = classify(&seen, &rows).into_values().filter_map(|verdict| match verdict {
            Verdict::Ghost(Ghost { fate: Fate::Removable(removal), .. }) => Some(removal),
            _ => None,
        }).collect();
        for removal in removable {
            match removal {
                Removal::KnownVolume { volume_uuid } | Removal::StrayVolume { volume_uuid, .. } => {
                    let rows_of: Vec<&str> = rows.volumes.iter()
                        .filter(|row| row.volume_uuid == volume_uuid).map(|row| row.id.as_str()).collect();
                    let names = |disk: &LinkedDisk| disk.volume_uuid.as_ref() == Some(&volume_uuid)
                        || disk.ossea_volume_id.as_deref().is_some_and(|id| rows_of.contains(&id));
                    prop_assert!(!rows.disks.iter().any(names), "a replica: {volume_uuid}");
                }
                Removal::Vm { vm_id, .. } => {
                    let hangs = |one: &InTarget<Volume>| one.found.virtual_machine_id.as_ref() == Some(&vm_id);
                    // What is listed twice counts as it is listed first.
                    let first = |one: &&InTarget<Volume>| {
                        seen.volumes.iter().find(|other| other.found.id == one.found.id).is_some_and(hangs)
                    };
                    prop_assert!(seen.volumes.iter().find(|one| first(one)).is_none(), "a replica on {vm_id}");
                    let holder = rows.failovers.iter().find(|one| one.holds && one.vm_id.as_ref() == Some(&vm_id));
                    prop_assert!(holder.is_none());
                    prop_assert_eq!(machines.iter().find(|(id, _)| *id == vm_id).map(|(_, state)| *state), Some("Stopped"));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
