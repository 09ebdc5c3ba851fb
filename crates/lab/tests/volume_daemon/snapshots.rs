//! Volume snapshots: taken, gone back to with the very bytes, deleted; and what forbids each.

use api::volume::SnapshotVolume;
use model::FailureKind;
use model::ownership::{CONTEXT_TAG, JOB_TAG, OWNER_TAG};
use model::status::{DiskSyncStatus, OperationStatus, VolumeSnapshotStatus};

use super::hub::{GIB, Hub, here, refusal};
use super::target::{JOB, safety};

#[tokio::test]
async fn taken_gone_back_to_and_deleted() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let link = store::vm_disks::VolumeLink { volume_uuid: uuid.clone(), ossea_volume_id: hub.row(&uuid).await.id };
    store::vm_disks::set_volume(&hub.store, &hub.vm_disk_id, &link).await.expect("linked");
    hub.fill(&uuid, 1);
    let snapshot_id = hub.taken(&uuid, "snapshot").await;
    assert_eq!(hub.snapshots_of(&uuid).await, [(snapshot_id.clone(), "BackedUp".to_owned())]);
    let row = hub.row(&uuid).await;
    assert_eq!((*row.snapshot_status, row.snapshot_id.as_ref()), (VolumeSnapshotStatus::Ready, Some(&snapshot_id)));
    let device = store::device_mappings::by_volume(&hub.store, &uuid).await.expect("the mapping");
    assert_eq!((*device.snapshot_status, device.ossea_snapshot_id), (VolumeSnapshotStatus::Ready, row.snapshot_id));
    assert!(row.snapshot_created_at.is_some());

    hub.fill(&uuid, 2);
    hub.done(hub.api.detach(&uuid, "detach").await).await;
    store::vm_disks::set_sync_status(&hub.store, &hub.vm_disk_id, DiskSyncStatus::Syncing).await.expect("moved");
    let reverted = hub.done(hub.api.revert_snapshot(&uuid, &snapshot_id, "revert").await).await;
    assert_eq!((reverted.snapshot_id, reverted.volume_id), (Some(snapshot_id.clone()), Some(uuid.clone())));
    assert!(hub.holds(&uuid, 1), "the bytes of that time");
    let disk = store::vm_disks::get(&hub.store, &hub.context_id, "disk-2000").await.expect("the disk");
    assert_eq!((disk.disk_change_id, *disk.sync_status), (None, DiskSyncStatus::Pending), "distrusted");
    assert_eq!(*hub.row(&uuid).await.snapshot_status, VolumeSnapshotStatus::Ready);

    let deleted = hub.done(hub.api.delete_snapshot(&uuid, &snapshot_id, "delete").await).await;
    assert_eq!(hub.sim.counts().volume_snapshots, 0);
    let row = hub.row(&uuid).await;
    assert_eq!((*row.snapshot_status, row.snapshot_id), (VolumeSnapshotStatus::None, None));
    let again = hub.api.delete_snapshot(&uuid, &snapshot_id, "delete").await.expect("the same operation");
    assert_eq!((again.id, again.status), (deleted.id, OperationStatus::Completed));
    hub.done(hub.api.delete_snapshot(&uuid, &snapshot_id, "gone already").await).await;
    hub.done(hub.api.attach(&uuid, &here(), "back").await).await;
    assert!(hub.holds(&uuid, 1));
}

#[tokio::test]
async fn it_says_whose_it_is() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let snapshot_id = hub.taken(&uuid, "snapshot").await;
    let listed = hub.operator().ok("listSnapshots", &[("id", &snapshot_id)]).await;
    let snapshot = &listed["snapshot"][0];
    assert!(snapshot["name"].as_str().expect("a name").starts_with("web-01-disk-0-"), "{snapshot}");
    for (key, value) in [(OWNER_TAG, "safety-snapshot"), (CONTEXT_TAG, hub.context_id.as_str()), (JOB_TAG, JOB)] {
        let tags = snapshot["tags"].as_array().expect("tags");
        assert!(tags.iter().any(|tag| tag["key"] == key && tag["value"] == value), "{key}: {snapshot}");
    }
    let same = hub.api.snapshot(&uuid, &safety(), "snapshot").await.expect("the same operation");
    assert_eq!(same.snapshot_id, Some(snapshot_id));
    assert_eq!(hub.sim.requests("createSnapshot"), 1);
}

#[tokio::test]
async fn the_volumes_of_one_vm_at_once() {
    let hub = Hub::start().await;
    let (one, two) = (hub.attached_volume("disk-0").await, hub.attached_volume("disk-1").await);
    let first = hub.api.snapshot(&one, &safety(), "first").await;
    let second = hub.api.snapshot(&two, &safety(), "second").await;
    hub.done(first).await;
    hub.done(second).await;
    assert_eq!(hub.sim.counts().volume_snapshots, 2);
}

#[tokio::test]
async fn what_cannot_be_snapshotted() {
    let hub = Hub::start().await;
    let unused = hub.volume("disk-0").await;
    let problem = hub.failed(hub.api.snapshot(&unused, &safety(), "a").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "{}", problem.detail);
    let uuid = hub.attached_volume("disk-1").await;
    let snapshot_id = hub.taken(&uuid, "b").await;
    let problem = hub.failed(hub.api.snapshot(&uuid, &safety(), "c").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict);
    assert!(problem.detail.contains(&snapshot_id) && problem.remedy.is_some(), "{}", problem.detail);
    assert_eq!(hub.sim.counts().volume_snapshots, 1);
    assert_eq!(*hub.row(&uuid).await.snapshot_status, VolumeSnapshotStatus::Ready);
    let foreign = SnapshotVolume { vm_context_id: Some("other".to_owned()), ..safety() };
    assert_eq!(refusal(hub.api.snapshot(&uuid, &foreign, "d").await).kind, FailureKind::Conflict);
    let nameless = SnapshotVolume { name: String::new(), ..safety() };
    assert_eq!(refusal(hub.api.snapshot(&uuid, &nameless, "e").await).status, 422);
    assert_eq!(refusal(hub.api.snapshot("none", &safety(), "f").await).status, 404);
}

#[tokio::test]
async fn what_cannot_be_gone_back_to() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let snapshot_id = hub.taken(&uuid, "snapshot").await;
    hub.fill(&uuid, 2);
    let problem = hub.failed(hub.api.revert_snapshot(&uuid, &snapshot_id, "a").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "attached: {}", problem.detail);
    assert_eq!(problem.remedy.as_deref(), Some("detach the volume first"));
    let (other, others) = hub.changed_volume("disk-1").await;
    let problem = hub.failed(hub.api.revert_snapshot(&other, &snapshot_id, "b").await).await;
    assert!(problem.detail.contains(&uuid) && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    let problem = hub.failed(hub.api.delete_snapshot(&other, &snapshot_id, "c").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "of another volume: {}", problem.detail);
    let nothing = model::id::new_id();
    let problem = hub.failed(hub.api.revert_snapshot(&other, &nothing, "d").await).await;
    assert_eq!(problem.kind, FailureKind::NotFound, "{}", problem.detail);
    assert_eq!(hub.sim.requests("revertSnapshot") + hub.sim.requests("deleteSnapshot"), 0);
    assert!(hub.holds(&uuid, 2) && hub.holds(&other, 2), "nothing was touched");
    hub.done(hub.api.revert_snapshot(&other, &others, "e").await).await;
    assert!(hub.holds(&other, 1));
}

#[tokio::test]
async fn an_export_does_not_outlive_a_reversal_and_nothing_begins_beside_it() {
    let hub = Hub::start().await;
    let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
    hub.sim.arm_slow("revertSnapshot", std::time::Duration::from_secs(2), 1);
    let reverting = hub.api.revert_snapshot(&uuid, &snapshot_id, "revert").await.expect("accepted");
    let problem = refusal(hub.api.attach(&uuid, &here(), "attach").await);
    assert!(problem.detail.contains(&reverting.id), "{}", problem.detail);
    assert_eq!(refusal(hub.api.delete_snapshot(&uuid, &snapshot_id, "delete").await).kind, FailureKind::Unavailable);
    assert_eq!(refusal(hub.api.create_export(&hub.export_request(&uuid, GIB)).await).kind, FailureKind::Unavailable);
    hub.done(Ok(reverting)).await;
    hub.done(hub.api.attach(&uuid, &here(), "attach").await).await;
}

#[tokio::test]
async fn nothing_is_attached_while_a_given_up_reversal_is_pending() {
    let hub = Hub::start().await;
    let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
    hub.sim.arm("revertSnapshot", lab::cloudstack::FaultKind::JobStuck, 1);
    let stuck = hub.operator().ok("revertSnapshot", &[("id", &snapshot_id)]).await;
    let job_id = stuck["jobid"].as_str().expect("a job");
    hub.record_given_up(model::status::OperationType::RevertSnapshot, &uuid, job_id).await;
    let before = hub.sim.requests("attachVolume");
    let attaching = hub.api.attach(&uuid, &here(), "attach").await.expect("accepted");
    hub.stumbles(&attaching, 0, "still pending").await;
    assert_eq!(hub.sim.requests("attachVolume"), before, "nothing was asked for");
}

#[tokio::test]
async fn a_cancelled_one_is_taken_back() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let delay_ms = 1500;
    hub.sim.set_job_timing(lab::cloudstack::JobTiming { delay_ms, ..Default::default() });
    let taking = hub.api.snapshot(&uuid, &safety(), "snapshot").await.expect("accepted");
    hub.asked("createSnapshot", 1).await;
    joblog::JobStore::request_cancel(&hub.store, &taking.correlation_id, time::OffsetDateTime::now_utc())
        .await
        .expect("asked to cancel");
    assert_eq!(hub.end_of(&taking).await.status, OperationStatus::Cancelled);
    assert_eq!(hub.snapshots_of(&uuid).await, []);
    let row = hub.row(&uuid).await;
    assert_eq!((*row.snapshot_status, row.snapshot_id), (VolumeSnapshotStatus::None, None));
}
