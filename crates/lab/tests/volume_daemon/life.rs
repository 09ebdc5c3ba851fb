//! The life of a volume, from its making to its deletion, as the control plane drives it.

use std::time::Duration;

use api::volume::AttachVolume;
use lab::cloudstack::disk_serial;
use model::FailureKind;
use model::status::{ExportStatus, LinuxState, OperationMode, OperationStatus, VolumeState};

use super::hub::{DISK_UUID, GIB, Hub, Keys, TARGET, here, refusal};

#[tokio::test]
async fn from_creation_to_deletion() {
    let hub = Hub::start_with(|cloud| cloud.device_delay_ms = 150, |_| {}).await;
    let created = hub.done(hub.api.create(&hub.create_request("disk-0", GIB + 1), "create").await).await;
    let uuid = created.volume_id.clone().expect("its id");
    let volume = hub.api.volume(&uuid).await.expect("the volume");
    assert_eq!((volume.size_bytes, volume.state), (2 * GIB, VolumeState::Available), "rounded up to whole GiB");
    assert_eq!(hub.sim.volume(&uuid).expect("in CloudStack").name, "disk-0");
    assert_eq!(refusal(hub.api.device(&uuid).await).kind, FailureKind::NotFound);

    let attached = hub.done(hub.api.attach(&uuid, &here(), "attach").await).await;
    assert_eq!(attached.vm_id, Some(hub.sim.oma_vm_id()));
    let device = hub.api.device(&uuid).await.expect("the device");
    let link = hub.folder.path().join("by-id").join(format!("virtio-{}", disk_serial(&uuid)));
    assert_eq!((device.linux_state, device.operation_mode), (LinuxState::Present, OperationMode::Oma));
    assert_eq!(device.symlink_path.as_deref(), link.to_str());
    assert_eq!(device.device_path.as_deref(), link.canonicalize().expect("the device").to_str());
    assert_eq!(device.size_bytes, 2 * GIB);
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").state, VolumeState::Attached);

    let export = hub.api.create_export(&hub.export_request(&uuid, GIB + 1)).await.expect("an export");
    assert_eq!((export.export_name.clone(), export.status), (format!("migration-vol-{uuid}"), ExportStatus::Active));
    let target = store::nbd_exports::target(&hub.store, &export.export_name).await.expect("read").expect("there");
    assert!(target.is_open());
    assert_eq!(target.metadata["disk_uuid"], DISK_UUID);
    let again = hub.api.create_export(&hub.export_request(&uuid, GIB + 1)).await.expect("the same export");
    assert_eq!(again.id, export.id);

    hub.done(hub.api.detach(&uuid, "detach").await).await;
    let closed = store::nbd_exports::by_name(&hub.store, &export.export_name).await.expect("the export");
    assert_eq!(*closed.status, ExportStatus::Closed, "an export of a detached volume is closed");
    assert_eq!(hub.sim.counts().attached, 0);
    assert_eq!(hub.api.device(&uuid).await.expect("the device").linux_state, LinuxState::Absent);

    let deleted = hub.api.delete(&uuid, "delete").await;
    let deleted = hub.done(deleted).await;
    assert!(hub.sim.volume(&uuid).is_none());
    assert_eq!(refusal(hub.api.volume(&uuid).await).kind, FailureKind::NotFound);
    let repeated = hub.api.delete(&uuid, "delete").await.expect("the same operation");
    assert_eq!((repeated.id, repeated.status), (deleted.id, OperationStatus::Completed));
}

#[tokio::test]
async fn the_same_key_is_the_same_operation() {
    let hub = Hub::start().await;
    let request = hub.create_request("disk-0", GIB);
    let (first, second) = tokio::join!(hub.api.create(&request, "key"), hub.api.create(&request, "key"));
    let (first, second) = (first.expect("accepted"), second.expect("accepted"));
    assert_eq!(first.id, second.id);
    hub.end_of(&first).await;
    let third = hub.api.create(&request, "key").await.expect("accepted");
    assert_eq!((third.id, third.status), (first.id, OperationStatus::Completed));
    assert_eq!(hub.sim.requests("createVolume"), 1);
    let other = refusal(hub.api.create(&hub.create_request("disk-0", 2 * GIB), "key").await);
    assert_eq!(other.kind, FailureKind::Conflict, "a key is for one request");
}

#[tokio::test]
async fn every_operation_is_a_job_with_its_history() {
    let hub = Hub::start().await;
    let created = hub.done(hub.api.create(&hub.create_request("disk-0", GIB), "key").await).await;
    let moves = store::volume_operation_history::of_operation(&hub.store, &created.id).await.expect("the history");
    let statuses: Vec<OperationStatus> = moves.iter().map(|row| *row.new_status).collect();
    assert_eq!(statuses, [OperationStatus::Executing, OperationStatus::Completed]);
    let job = joblog::JobStore::load(&hub.store, &created.correlation_id).await.expect("read").expect("the job");
    assert_eq!((job.job.job_type.as_str(), job.job.external_job_id), ("volume_create", Some(created.id.clone())));
    assert_eq!(job.job.vm_context_id.as_ref(), Some(&hub.context_id));
    let row = store::volume_operations::by_id(&hub.store, &created.id).await.expect("the row");
    assert!(row.cloudstack_job_id.is_some());
}

#[tokio::test]
async fn a_volume_for_another_vm_has_no_device_here() {
    let hub = Hub::start().await;
    let own = hub.sim.oma_vm_id();
    let uuid = hub.volume("disk-0").await;
    // Told that it is some other VM, the daemon treats the worker as a foreign one.
    hub.set_target(Keys::Admin, Some("00000000-0000-4000-8000-00000000000f".to_owned())).await;
    let there = AttachVolume { vm_id: Some(own.clone()), device_id: Some(4) };
    hub.done(hub.api.attach(&uuid, &there, "attach").await).await;
    let device = hub.api.device(&uuid).await.expect("the mapping");
    assert_eq!((device.operation_mode, device.linux_state), (OperationMode::Failover, LinuxState::Absent));
    assert_eq!(hub.sim.volume(&uuid).expect("in CloudStack").device_id, Some(4));
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").vm_id, Some(own));
}

#[tokio::test]
async fn the_hubs_own_vm_is_found_by_its_network_card() {
    let hub = Hub::start_with(|_| {}, |daemon| daemon.interfaces_dir = daemon.state_dir.join("net")).await;
    let card = hub.folder.path().join("net").join("ens3");
    std::fs::create_dir_all(&card).expect("a folder");
    std::fs::write(card.join("address"), "02:00:5E:10:00:01\n").expect("a file");
    hub.set_target(Keys::Admin, None).await;
    hub.attached_volume("disk-0").await;
    let target = store::ossea_configs::by_id(&hub.store, TARGET).await.expect("the target");
    assert_eq!(target.oma_vm_id, Some(hub.sim.oma_vm_id()), "what was found is stored");
}

#[tokio::test]
async fn an_account_that_may_not_choose_ids_makes_one_volume_too() {
    let hub = Hub::start_with(|cloud| cloud.oma_vm.account = "tenant".to_owned(), |_| {}).await;
    hub.set_target(Keys::Tenant, Some(hub.sim.oma_vm_id())).await;
    let uuid = hub.attached_volume("disk-0").await;
    assert_eq!(hub.sim.volume(&uuid).expect("in CloudStack").account, "tenant");
    assert_eq!(hub.sim.requests("createVolume"), 1);
}

#[tokio::test]
async fn a_waiting_request_is_answered_when_the_operation_ends() {
    let hub = Hub::start().await;
    let accepted = hub.api.create(&hub.create_request("disk-0", GIB), "key").await.expect("accepted");
    let ended = tokio::time::timeout(Duration::from_secs(20), hub.api.operation(&accepted.id, 30)).await;
    let ended = ended.expect("well before the 30 s").expect("the operation");
    assert_eq!(ended.status, OperationStatus::Completed);
}

#[tokio::test]
async fn health_metrics_and_unknown_paths() {
    let hub = Hub::start().await;
    hub.volume("disk-0").await;
    let health: serde_json::Value = hub.http.get("/health").await.expect("healthy");
    assert_eq!(health["status"], "ok");
    let mut metrics = hub.http.stream("/metrics").await.expect("metrics");
    let chunk = futures::StreamExt::next(&mut metrics).await.expect("some").expect("text");
    let text = String::from_utf8_lossy(&chunk).into_owned();
    assert!(text.contains("migratekit_volume_daemon_volumes{state=\"available\"} 1"), "{text}");
    assert_eq!(refusal(hub.http.get::<()>("/api/v1/nothing").await).kind, FailureKind::NotFound);
    assert_eq!(refusal(hub.http.put::<_, ()>("/api/v1/volumes", &()).await).status, 405);
    let missing = refusal(hub.api.close_export("migration-vol-none").await);
    assert_eq!((missing.status, missing.kind), (404, FailureKind::NotFound));
}
