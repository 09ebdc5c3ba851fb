//! The reconciler: rows follow the devices of this machine and CloudStack.

use api::volume::ReconcileReport;
use lab::cloudstack::disk_serial;
use model::status::{ExportStatus, LinuxState, VolumeState};

use super::hub::{GIB, Hub};

async fn reconciled(hub: &Hub) -> ReconcileReport {
    hub.http.post("/api/v1/reconcile", &()).await.expect("a report")
}

#[tokio::test]
async fn a_device_that_vanishes_and_comes_back() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let export = hub.api.create_export(&hub.export_request(&uuid, GIB)).await.expect("an export");
    assert_eq!(reconciled(&hub).await, ReconcileReport::default(), "nothing to mend");
    let link = hub.folder.path().join("by-id").join(format!("virtio-{}", disk_serial(&uuid)));
    let device = std::fs::read_link(&link).expect("the link");
    std::fs::remove_file(&link).expect("unplugged");
    let report = reconciled(&hub).await;
    assert_eq!((report.devices_changed, report.volumes_changed), (1, 0), "{report:?}");
    assert_eq!(hub.api.device(&uuid).await.expect("the mapping").linux_state, LinuxState::Vanished);
    let row = store::nbd_exports::by_name(&hub.store, &export.export_name).await.expect("the export");
    assert_eq!(*row.status, ExportStatus::Failed);
    assert_eq!(reconciled(&hub).await.devices_changed, 0, "said once");
    std::os::unix::fs::symlink(&device, &link).expect("plugged in");
    assert_eq!(reconciled(&hub).await.devices_changed, 1);
    assert_eq!(hub.api.device(&uuid).await.expect("the mapping").linux_state, LinuxState::Present);
    let export = hub.api.create_export(&hub.export_request(&uuid, GIB)).await.expect("open again");
    assert_eq!(export.status, ExportStatus::Active);
}

#[tokio::test]
async fn changes_made_behind_the_daemons_back() {
    let hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    let cloud = hub.operator();
    cloud.done("detachVolume", &[("id", &uuid)]).await;
    let report = reconciled(&hub).await;
    assert_eq!((report.devices_changed, report.volumes_changed), (1, 1), "{report:?}");
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").state, VolumeState::Detached);
    cloud.done("attachVolume", &[("id", &uuid), ("virtualmachineid", &hub.sim.oma_vm_id())]).await;
    reconciled(&hub).await;
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").state, VolumeState::Attached);
    assert_eq!(hub.api.device(&uuid).await.expect("the mapping").linux_state, LinuxState::Present);
    cloud.done("detachVolume", &[("id", &uuid)]).await;
    cloud.ok("deleteVolume", &[("id", &uuid)]).await;
    let report = reconciled(&hub).await;
    assert!(report.findings.iter().any(|finding| finding.contains("gone")), "{report:?}");
    assert_eq!(hub.api.volume(&uuid).await.expect("the row stays").state, VolumeState::Error);
    hub.done(hub.api.delete(&uuid, "delete").await).await;
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_changes_nothing() {
    let hub = Hub::start_with(|_| {}, |daemon| daemon.call_timeout_seconds = 1).await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.sim.arm("*", lab::cloudstack::FaultKind::Http500, 100);
    let report = reconciled(&hub).await;
    assert_eq!((report.devices_changed, report.volumes_changed), (0, 0));
    assert!(report.findings.iter().any(|finding| finding.contains("cannot be compared")), "{report:?}");
    assert_eq!(hub.api.volume(&uuid).await.expect("the volume").state, VolumeState::Attached);
}
