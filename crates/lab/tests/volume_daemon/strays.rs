//! What carries our tag and belongs to nothing is deleted on request, and nothing else.

use model::FailureKind;
use model::ownership::OwnedAs;
use model::status::VolumeState;

use super::hub::{Hub, Keys, refusal};

/// A volume made by somebody else, which the rows do not know.
async fn unknown_volume(hub: &Hub, name: &str) -> String {
    let (zone, offering) = (hub.sim.zone_id(), hub.sim.custom_disk_offering_id());
    let parameters = [("name", name), ("zoneid", zone.as_str()), ("diskofferingid", offering.as_str()), ("size", "1")];
    let made = hub.operator().done("createVolume", &parameters).await;
    made["volume"]["id"].as_str().expect("its id").to_owned()
}

async fn unknown_snapshot(hub: &Hub, volume_uuid: &str) -> String {
    let taken = hub.operator().done("createSnapshot", &[("volumeid", volume_uuid), ("name", "by hand")]).await;
    taken["snapshot"]["id"].as_str().expect("its id").to_owned()
}

#[tokio::test]
async fn a_tagged_volume_no_row_knows_is_deleted() {
    let hub = Hub::start().await;
    let stray = unknown_volume(&hub, "stray").await;
    let problem = hub.failed(hub.api.delete_stray(&stray, None, "untagged").await).await;
    assert!(problem.detail.contains("tag") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    hub.tag("Volume", &stray, OwnedAs::Replica).await;
    let own = hub.sim.oma_vm_id();
    hub.operator().done("attachVolume", &[("id", &stray), ("virtualmachineid", &own)]).await;
    let problem = hub.failed(hub.api.delete_stray(&stray, None, "attached").await).await;
    assert_eq!(problem.remedy.as_deref(), Some("detach the volume first"));
    hub.operator().done("detachVolume", &[("id", &stray)]).await;
    assert!(hub.sim.volume(&stray).is_some());
    let deleted = hub.done(hub.api.delete_stray(&stray, Some("target-1"), "delete").await).await;
    assert_eq!(deleted.volume_id.as_deref(), Some(stray.as_str()));
    assert!(hub.sim.volume(&stray).is_none());
    hub.done(hub.api.delete_stray(&stray, None, "gone already").await).await;
    assert_eq!(hub.failed(hub.api.delete_stray(&stray, Some("none"), "no target").await).await.status, 404);
}

#[tokio::test]
async fn a_replica_is_no_stray_whatever_state_its_row_is_in() {
    let hub = Hub::start().await;
    let uuid = hub.detached_volume("disk-0").await;
    let problem = hub.failed(hub.api.delete_stray(&uuid, None, "known").await).await;
    assert!(problem.detail.contains(&hub.context_id) && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    let link = store::vm_disks::VolumeLink { volume_uuid: uuid.clone(), ossea_volume_id: hub.row(&uuid).await.id };
    store::vm_disks::set_volume(&hub.store, &hub.vm_disk_id, &link).await.expect("linked");
    // Keys that do not show the volume make the reconciler believe that it is gone.
    hub.set_target(Keys::Tenant, Some(hub.sim.oma_vm_id())).await;
    let _: api::volume::ReconcileReport = hub.http.post("/api/v1/reconcile", &()).await.expect("a report");
    hub.set_target(Keys::Admin, Some(hub.sim.oma_vm_id())).await;
    assert_eq!(hub.api.volume(&uuid).await.expect("the row").state, VolumeState::Error);
    let problem = hub.failed(hub.api.delete_stray(&uuid, None, "in error").await).await;
    assert!(problem.detail.contains("disk-2000") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    assert!(hub.sim.volume(&uuid).is_some());
}

#[tokio::test]
async fn a_volume_whose_row_is_in_error_and_replicates_nothing_goes_with_its_row() {
    let hub = Hub::start().await;
    let uuid = hub.detached_volume("disk-0").await;
    store::ossea_volumes::set_state(&hub.store, &uuid, VolumeState::Error, None).await.expect("moved");
    hub.done(hub.api.delete_stray(&uuid, None, "delete").await).await;
    assert!(hub.sim.volume(&uuid).is_none());
    assert_eq!(refusal(hub.api.volume(&uuid).await).kind, FailureKind::NotFound);
}

#[tokio::test]
async fn a_tagged_snapshot_no_row_names_is_deleted() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let recorded = hub.taken(&uuid, "recorded").await;
    let problem = hub.failed(hub.api.delete_stray_snapshot(&uuid, &recorded, None, "recorded too").await).await;
    assert!(problem.detail.contains(&uuid) && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    let stray = unknown_snapshot(&hub, &uuid).await;
    let problem = hub.failed(hub.api.delete_stray_snapshot(&uuid, &stray, None, "untagged").await).await;
    assert!(problem.detail.contains("tag") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    hub.tag("Snapshot", &stray, OwnedAs::SafetySnapshot).await;
    let other = hub.attached_volume("disk-1").await;
    let problem = hub.failed(hub.api.delete_stray_snapshot(&other, &stray, None, "of another").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "{}", problem.detail);
    let deleted = hub.done(hub.api.delete_stray_snapshot(&uuid, &stray, None, "delete").await).await;
    assert_eq!(deleted.snapshot_id, Some(stray.clone()));
    assert_eq!(hub.snapshots_of(&uuid).await, [(recorded.clone(), "BackedUp".to_owned())]);
    hub.done(hub.api.delete_stray_snapshot(&uuid, &stray, None, "gone already").await).await;
    assert_eq!(hub.row(&uuid).await.snapshot_id, Some(recorded));
}
