//! Failures of CloudStack during the operations of a failover: each ends as if nothing had gone wrong, and nothing is
//! made twice or left behind.

use lab::cloudstack::FaultKind;
use model::ownership::OwnedAs;

use super::hub::Hub;
use super::target::{no_proof, root_of, safety};

/// What may happen to a call that changes something, and to its job.
const WRITES: [FaultKind; 6] = [
    FaultKind::JobFailedNoResult,
    FaultKind::JobFailedButDone,
    FaultKind::HangAfterEffect,
    FaultKind::Hang,
    FaultKind::Http500,
    FaultKind::RateLimited,
];

/// With calls that are given up quickly.
async fn impatient() -> Hub {
    let soon = |daemon: &mut volume_daemon::VolumeDaemonConfig| {
        (daemon.call_timeout_seconds, daemon.delete_timeout_seconds) = (1, 1);
    };
    Hub::start_with(|_| {}, soon).await
}

fn armed(hub: &Hub, command: &str, kind: FaultKind) {
    hub.sim.arm(command, kind, 1);
}

fn struck(hub: &Hub, what: &str) {
    assert!(hub.sim.faults().is_empty(), "{what}: the failure has not struck: {:?}", hub.sim.faults());
}

#[tokio::test]
async fn while_a_volume_snapshot_is_taken() {
    let hub = impatient().await;
    let faults = WRITES.map(|kind| ("createSnapshot", kind)).into_iter();
    let stale = [("listSnapshots", FaultKind::StaleList), ("listVolumes", FaultKind::StaleList)];
    for (command, kind) in faults.chain(stale) {
        let key = format!("{command} {kind:?}");
        let uuid = hub.attached_volume(&key).await;
        armed(&hub, command, kind);
        let snapshot_id = hub.taken(&uuid, &format!("{key} snapshot")).await;
        struck(&hub, &key);
        assert_eq!(hub.snapshots_of(&uuid).await, [(snapshot_id, "BackedUp".to_owned())], "{key}");
    }
}

#[tokio::test]
async fn an_answer_lost_to_a_list_that_lags_behind_leaves_no_second_one() {
    let hub = impatient().await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.sim.arm("createSnapshot", FaultKind::HangAfterEffect, 1);
    let taking = hub.api.snapshot(&uuid, &safety(), "snapshot").await.expect("accepted");
    hub.asked("createSnapshot", 1).await;
    hub.sim.arm("listSnapshots", FaultKind::StaleList, 2);
    let taken = hub.done(Ok(taking)).await;
    let snapshot_id = taken.snapshot_id.expect("its id");
    assert_eq!(hub.snapshots_of(&uuid).await, [(snapshot_id, "BackedUp".to_owned())]);
}

#[tokio::test]
async fn while_a_volume_is_brought_back() {
    let hub = impatient().await;
    let faults = WRITES.map(|kind| ("revertSnapshot", kind)).into_iter();
    let stale = [("listSnapshots", FaultKind::StaleList), ("listVolumes", FaultKind::StaleList)];
    for (command, kind) in faults.chain(stale) {
        let key = format!("{command} {kind:?}");
        let (uuid, snapshot_id) = hub.changed_volume(&key).await;
        armed(&hub, command, kind);
        hub.done(hub.api.revert_snapshot(&uuid, &snapshot_id, &format!("{key} revert")).await).await;
        struck(&hub, &key);
        assert!(hub.holds(&uuid, 1), "{key}: the bytes of that time");
    }
}

#[tokio::test]
async fn jobs_slower_than_one_wait() {
    let hub = Hub::start_with(|_| {}, |daemon| daemon.job_deadline_seconds = 1).await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.fill(&uuid, 1);
    hub.sim.set_job_timing(lab::cloudstack::JobTiming { delay_ms: 2500, ..Default::default() });
    let snapshot_id = hub.taken(&uuid, "snapshot").await;
    hub.sim.set_job_timing(lab::cloudstack::JobTiming::default());
    hub.fill(&uuid, 2);
    hub.done(hub.api.detach(&uuid, "detach").await).await;
    hub.sim.set_job_timing(lab::cloudstack::JobTiming { delay_ms: 2500, ..Default::default() });
    hub.done(hub.api.revert_snapshot(&uuid, &snapshot_id, "revert").await).await;
    assert_eq!((hub.sim.requests("createSnapshot"), hub.sim.requests("revertSnapshot")), (1, 1));
    assert!(hub.holds(&uuid, 1));
}

#[tokio::test]
async fn a_reversal_counts_only_when_its_job_succeeded() {
    let hub = Hub::start().await;
    let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
    for kind in [FaultKind::JobFailedNoResult, FaultKind::JobFailedButDone] {
        hub.fill(&uuid, 2);
        let before = hub.sim.requests("revertSnapshot");
        armed(&hub, "revertSnapshot", kind);
        hub.done(hub.api.revert_snapshot(&uuid, &snapshot_id, &format!("{kind:?}")).await).await;
        assert_eq!(hub.sim.requests("revertSnapshot"), before + 2, "{kind:?}");
        assert!(hub.holds(&uuid, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn while_a_volume_snapshot_is_deleted() {
    let hub = impatient().await;
    let uuid = hub.attached_volume("disk-0").await;
    let faults = WRITES.map(|kind| ("deleteSnapshot", kind)).into_iter();
    for (command, kind) in faults.chain([("listSnapshots", FaultKind::StaleList)]) {
        let key = format!("{command} {kind:?}");
        let snapshot_id = hub.taken(&uuid, &format!("{key} snapshot")).await;
        armed(&hub, command, kind);
        hub.done(hub.api.delete_snapshot(&uuid, &snapshot_id, &format!("{key} delete")).await).await;
        struck(&hub, &key);
        assert_eq!(hub.snapshots_of(&uuid).await, [], "{key}");
        assert_eq!(hub.row(&uuid).await.snapshot_id, None, "{key}");
    }
}

#[tokio::test]
async fn while_a_templates_root_is_removed() {
    // The root was never on storage: the patience for erasing a disk is not for it.
    let hub = Hub::start_with(|_| {}, |daemon| daemon.call_timeout_seconds = 1).await;
    let deleting = [FaultKind::Hang, FaultKind::HangAfterEffect, FaultKind::Http500, FaultKind::RateLimited];
    let tagging = [FaultKind::JobFailedNoResult, FaultKind::Http500];
    let stale = ["listVolumes", "listVirtualMachines"].map(|command| (command, FaultKind::StaleList));
    let faults = WRITES.map(|kind| ("detachVolume", kind)).into_iter();
    let faults = faults.chain(deleting.map(|kind| ("deleteVolume", kind)));
    let faults = faults.chain(tagging.map(|kind| ("createTags", kind))).chain(stale);
    for (index, (command, kind)) in faults.enumerate() {
        let key = format!("{command} {kind:?}");
        let vm_id = hub.shell(&format!("failover-{index}")).await;
        let template_root = hub.root_of(&vm_id).expect("a root");
        armed(&hub, command, kind);
        hub.done(hub.api.discard_root(&vm_id, &no_proof(), &key).await).await;
        struck(&hub, &key);
        assert!(hub.sim.volume(&template_root).is_none(), "{key}");
        assert_eq!(hub.root_of(&vm_id), None, "{key}");
    }
}

#[tokio::test]
async fn while_a_root_is_attached() {
    let hub = impatient().await;
    let stale = ["listVolumes", "listVirtualMachines"].map(|command| (command, FaultKind::StaleList));
    for (index, (command, kind)) in WRITES.map(|kind| ("attachVolume", kind)).into_iter().chain(stale).enumerate() {
        let key = format!("{command} {kind:?}");
        let uuid = hub.detached_volume(&key).await;
        let vm_id = hub.shell(&format!("failover-{index}")).await;
        hub.done(hub.api.discard_root(&vm_id, &no_proof(), &format!("{key} discard")).await).await;
        armed(&hub, command, kind);
        hub.done(hub.api.attach_root(&uuid, &root_of(&vm_id), &format!("{key} root")).await).await;
        struck(&hub, &key);
        assert_eq!(hub.root_of(&vm_id), Some(uuid), "{key}");
    }
}

#[tokio::test]
async fn a_snapshot_that_ended_in_an_error_is_taken_anew() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    // Secondary storage fails for a while: there is a file where its folder should be.
    let secondary = hub.folder.path().join("cloudstack").join("secondary");
    let aside = hub.folder.path().join("aside");
    std::fs::rename(&secondary, &aside).expect("moved away");
    std::fs::write(&secondary, "").expect("a file");
    let taking = hub.api.snapshot(&uuid, &safety(), "snapshot").await.expect("accepted");
    hub.stumbles(&taking, 1, "the attempt failed").await;
    assert!(hub.snapshots_of(&uuid).await.iter().any(|(_, state)| state == "Error"));
    std::fs::remove_file(&secondary).expect("removed");
    std::fs::rename(&aside, &secondary).expect("moved back");
    let snapshot_id = hub.done(Ok(taking)).await.snapshot_id.expect("its id");
    assert_eq!(hub.snapshots_of(&uuid).await, [(snapshot_id, "BackedUp".to_owned())]);
}

#[tokio::test]
async fn lists_that_lag_behind_an_exchange() {
    let hub = Hub::start().await;
    let uuid = hub.detached_volume("disk-0").await;
    let vm_id = hub.shell("failover-1").await;
    hub.done(hub.api.discard_root(&vm_id, &no_proof(), "discard").await).await;
    // Each read of the plan once shows the root that is gone.
    for command in ["listVolumes", "listVirtualMachines"] {
        hub.sim.arm(command, FaultKind::StaleList, 1);
    }
    hub.done(hub.api.attach_root(&uuid, &root_of(&vm_id), "root").await).await;
    hub.sim.arm("listVolumes", FaultKind::StaleList, 1);
    hub.done(hub.api.detach(&uuid, "back").await).await;
    assert_eq!(hub.root_of(&vm_id), None);
    hub.sim.arm("listVolumes", FaultKind::StaleList, 1);
    hub.done(hub.api.attach(&uuid, &super::hub::here(), "here").await).await;
    assert_eq!(hub.sim.counts().attached_to_oma, 1);
}

#[tokio::test]
async fn while_strays_are_deleted() {
    let hub = impatient().await;
    let uuid = hub.attached_volume("disk-0").await;
    for kind in WRITES {
        let taken = hub.operator().done("createSnapshot", &[("volumeid", &uuid), ("name", "by hand")]).await;
        let stray = taken["snapshot"]["id"].as_str().expect("its id").to_owned();
        hub.tag("Snapshot", &stray, OwnedAs::SafetySnapshot).await;
        armed(&hub, "deleteSnapshot", kind);
        hub.done(hub.api.delete_stray_snapshot(&uuid, &stray, None, &format!("{kind:?}")).await).await;
        struck(&hub, &format!("{kind:?}"));
        assert_eq!(hub.snapshots_of(&uuid).await, [], "{kind:?}");
    }
    for kind in [FaultKind::HangAfterEffect, FaultKind::Http500, FaultKind::RateLimited] {
        let stray = hub.volume(&format!("stray {kind:?}")).await;
        store::ossea_volumes::delete(&hub.store, &stray).await.expect("forgotten");
        armed(&hub, "deleteVolume", kind);
        hub.done(hub.api.delete_stray(&stray, None, &format!("stray {kind:?} delete")).await).await;
        struck(&hub, &format!("{kind:?}"));
        assert!(hub.sim.volume(&stray).is_none(), "{kind:?}");
    }
}
