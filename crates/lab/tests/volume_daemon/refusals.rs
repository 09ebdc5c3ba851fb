//! What the daemon refuses, and failures of CloudStack that must neither lose a volume nor make two.

use api::volume::AttachVolume;
use lab::cloudstack::{FaultKind, VolumeSelector};
use model::FailureKind;
use model::status::{LinuxState, OperationType, VolumeState};

use super::hub::{GIB, Hub, Keys, here, refusal};

#[tokio::test]
async fn a_job_that_fails_without_a_result_is_decided_by_the_volume() {
    let hub = Hub::start().await;
    for kind in [FaultKind::JobFailedNoResult, FaultKind::JobFailedButDone] {
        hub.sim.arm("createVolume", kind, 1);
        hub.sim.arm("attachVolume", kind, 1);
        hub.sim.arm("detachVolume", kind, 1);
        let key = format!("{kind:?}");
        let uuid = hub.attached_volume(&key).await;
        assert_eq!(hub.sim.counts().attached_to_oma, 1, "{key}");
        hub.done(hub.api.detach(&uuid, &format!("{key}-detach")).await).await;
        assert_eq!(hub.sim.counts().attached, 0, "{key}");
    }
    let ours = hub.sim.volumes().into_iter().filter(|volume| volume.name.starts_with("JobFailed")).count();
    assert_eq!(ours, 2, "one volume for each request");
    assert!(hub.sim.faults().is_empty(), "every failure has struck: {:?}", hub.sim.faults());
}

#[tokio::test]
async fn a_lost_answer_does_not_make_a_second_volume() {
    let hub = Hub::start_with(|_| {}, |daemon| daemon.call_timeout_seconds = 1).await;
    hub.sim.arm("createVolume", FaultKind::HangAfterEffect, 1);
    let before = hub.sim.counts().volumes;
    hub.volume("disk-0").await;
    assert_eq!(hub.sim.counts().volumes, before + 1);
    assert_eq!(hub.sim.requests("createVolume"), 1, "the volume was found, not asked for again");
}

#[tokio::test]
async fn a_device_of_the_wrong_size_is_never_used() {
    let hub = Hub::start().await;
    let uuid = hub.volume("disk-0").await;
    hub.sim.set_device_size(VolumeSelector::Id(uuid.clone()), GIB);
    let problem = hub.failed(hub.api.attach(&uuid, &here(), "attach").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict);
    let sizes = [GIB.to_string(), (2 * GIB).to_string()];
    assert!(sizes.iter().all(|size| problem.detail.contains(size)), "{}", problem.detail);
    assert!(problem.remedy.is_some());
    assert_eq!(hub.sim.counts().attached, 0, "taken back");
    assert_eq!(hub.api.device(&uuid).await.expect("the mapping").linux_state, LinuxState::Absent);
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").state, VolumeState::Detached);
    let export = refusal(hub.api.create_export(&hub.export_request(&uuid, GIB)).await);
    assert_eq!(export.kind, FailureKind::Conflict, "{}", export.detail);
}

#[tokio::test]
async fn a_device_that_never_appears_is_given_up_and_detached() {
    let hub = Hub::start_with(|cloud| cloud.device_delay_ms = 600_000, |daemon| daemon.device_wait_seconds = 1).await;
    let uuid = hub.volume("disk-0").await;
    let problem = hub.failed(hub.api.attach(&uuid, &here(), "attach").await).await;
    assert_eq!(problem.kind, FailureKind::Unavailable);
    assert!(problem.retryable && problem.detail.contains("no device with serial"), "{}", problem.detail);
    assert_eq!(hub.sim.counts().attached, 0);
}

#[tokio::test]
async fn keys_of_another_account_see_nothing_and_delete_nothing() {
    let hub = Hub::start().await;
    let uuid = hub.volume("disk-0").await;
    hub.set_target(Keys::Tenant, Some(hub.sim.oma_vm_id())).await;
    let problem = hub.failed(hub.api.attach(&uuid, &here(), "attach").await).await;
    assert_eq!(problem.kind, FailureKind::NotFound, "{}", problem.detail);
    assert!(problem.remedy.as_ref().is_some_and(|remedy| remedy.contains("account")), "{:?}", problem.remedy);
    let made = hub.sim.requests("createVolume");
    let problem = hub.failed(hub.api.create(&hub.create_request("disk-1", GIB), "create").await).await;
    assert_eq!(problem.kind, FailureKind::Invalid, "what is made there could not be attached: {}", problem.detail);
    assert_eq!(hub.sim.requests("createVolume"), made);
    let report: api::volume::ReconcileReport = hub.http.post("/api/v1/reconcile", &()).await.expect("a report");
    assert!(report.findings.iter().any(|finding| finding.contains(&uuid)), "{report:?}");
    hub.set_target(Keys::Admin, Some(hub.sim.oma_vm_id())).await;
    assert!(hub.sim.volume(&uuid).is_some());
    hub.done(hub.api.attach(&uuid, &here(), "again").await).await;
}

#[tokio::test]
async fn an_attached_volume_is_not_deleted() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let problem = refusal(hub.api.delete(&uuid, "delete").await);
    assert_eq!((problem.status, problem.remedy.as_deref()), (409, Some("detach the volume first")));
    assert!(hub.sim.volume(&uuid).is_some());
}

#[tokio::test]
async fn a_deletion_forgets_the_change_id_first() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let row = store::ossea_volumes::by_volume_id(&hub.store, &uuid).await.expect("the row");
    let link = store::vm_disks::VolumeLink { volume_uuid: uuid.clone(), ossea_volume_id: row.id };
    store::vm_disks::set_volume(&hub.store, &hub.vm_disk_id, &link).await.expect("linked");
    hub.done(hub.api.detach(&uuid, "detach").await).await;
    hub.done(hub.api.delete(&uuid, "delete").await).await;
    let disk = store::vm_disks::get(&hub.store, &hub.context_id, "disk-2000").await.expect("the disk");
    assert_eq!((disk.disk_change_id, disk.volume_uuid), (None, None));
}

#[tokio::test]
async fn a_busy_volume_takes_no_second_operation() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.sim.arm_slow("detachVolume", std::time::Duration::from_secs(3), 1);
    let detaching = hub.api.detach(&uuid, "detach").await.expect("accepted");
    let problem = refusal(hub.api.attach(&uuid, &here(), "attach").await);
    assert_eq!(problem.kind, FailureKind::Unavailable);
    assert!(problem.detail.contains(&detaching.id), "{}", problem.detail);
    let export = refusal(hub.api.create_export(&hub.export_request(&uuid, GIB)).await);
    assert_eq!(export.kind, FailureKind::Unavailable, "no export while the volume is being detached");
    let same = hub.api.detach(&uuid, "detach").await.expect("the same operation");
    assert_eq!(same.id, detaching.id);
    hub.end_of(&detaching).await;
    hub.done(hub.api.attach(&uuid, &here(), "attach").await).await;
}

#[tokio::test]
async fn nothing_is_attached_while_a_given_up_detachment_is_pending() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.sim.arm("detachVolume", FaultKind::JobStuck, 1);
    let stuck = hub.operator().ok("detachVolume", &[("id", &uuid)]).await;
    hub.record_given_up(OperationType::Detach, &uuid, stuck["jobid"].as_str().expect("a job")).await;
    let attaching = hub.api.attach(&uuid, &here(), "attach").await.expect("accepted");
    hub.stumbles(&attaching, 0, "still pending").await;
    assert_eq!(hub.sim.requests("attachVolume"), 1, "nothing was asked for");
}

#[tokio::test]
async fn an_export_smaller_than_the_disk_is_refused() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let problem = refusal(hub.api.create_export(&hub.export_request(&uuid, 2 * GIB + 1)).await);
    assert_eq!(problem.kind, FailureKind::Invalid);
    let sizes = [(2 * GIB).to_string(), (2 * GIB + 1).to_string()];
    assert!(sizes.iter().all(|size| problem.detail.contains(size)), "{}", problem.detail);
    let foreign = api::volume::CreateExport { vm_context_id: "other".into(), ..hub.export_request(&uuid, GIB) };
    assert_eq!(refusal(hub.api.create_export(&foreign).await).kind, FailureKind::Conflict);
}

#[tokio::test]
async fn requests_that_cannot_be_right() {
    let hub = Hub::start().await;
    let empty = refusal(hub.api.create(&hub.create_request("", GIB), "a").await);
    assert_eq!(empty.status, 422);
    let nobody = api::volume::CreateVolume { vm_context_id: "none".into(), ..hub.create_request("x", GIB) };
    assert_eq!(refusal(hub.api.create(&nobody, "b").await).kind, FailureKind::NotFound);
    let large = hub.failed(hub.api.create(&hub.create_request("x", 2000 * GIB), "c").await).await;
    assert!(large.remedy.as_ref().is_some_and(|text| text.contains("custom.diskoffering.size.max")), "{large:?}");
    let uuid = hub.volume("disk-0").await;
    let cd_rom = AttachVolume { vm_id: None, device_id: Some(3) };
    assert_eq!(refusal(hub.api.attach(&uuid, &cd_rom, "d").await).status, 422);
    assert_eq!(refusal(hub.api.attach("none", &here(), "e").await).status, 404);
    assert_eq!(hub.sim.requests("createVolume"), 1);
}

#[tokio::test]
async fn a_used_up_limit_is_told_before_anything_is_made() {
    let hub = Hub::start_with(|cloud| cloud.limits.volumes_per_account = Some(1), |_| {}).await;
    let problem = hub.failed(hub.api.create(&hub.create_request("disk-0", GIB), "key").await).await;
    assert_eq!(problem.kind, FailureKind::Exhausted, "{}", problem.detail);
}
