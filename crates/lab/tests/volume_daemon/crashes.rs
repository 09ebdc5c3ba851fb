//! The daemon is killed in the middle of an operation and started again on the same database: the operation goes on and
//! happens once.

use std::time::Duration;

use lab::cloudstack::{FaultKind, JobTiming};
use model::status::{LinuxState, OperationStatus};

use super::hub::{GIB, Hub, here};

#[tokio::test]
async fn killed_while_a_volume_is_asked_for() {
    for kind in [FaultKind::Hang, FaultKind::HangAfterEffect] {
        let mut hub = Hub::start().await;
        let before = hub.sim.counts().volumes;
        hub.sim.arm("createVolume", kind, 1);
        let accepted = hub.api.create(&hub.create_request("disk-0", GIB), "key").await.expect("accepted");
        hub.asked("createVolume", 1).await;
        hub.kill().await;
        hub.restart().await;
        let ended = hub.end_of(&accepted).await;
        assert_eq!(ended.status, OperationStatus::Completed, "{kind:?}: {:?}", ended.error);
        assert_eq!(hub.sim.counts().volumes, before + 1, "{kind:?}: exactly one volume");
        let again = hub.api.create(&hub.create_request("disk-0", GIB), "key").await.expect("accepted");
        assert_eq!((again.id, again.volume_id), (ended.id, ended.volume_id));
    }
}

#[tokio::test]
async fn killed_while_a_job_is_waited_for() {
    let mut hub = Hub::start().await;
    let before = hub.sim.counts().volumes;
    hub.sim.set_job_timing(JobTiming { delay_ms: 1500, ..JobTiming::default() });
    let creating = hub.api.create(&hub.create_request("disk-0", GIB), "key").await.expect("accepted");
    hub.asked("queryAsyncJobResult", 1).await;
    hub.kill().await;
    hub.restart().await;
    let created = hub.done(Ok(creating)).await;
    assert_eq!(hub.sim.counts().volumes, before + 1);
    assert_eq!(hub.sim.requests("createVolume"), 1, "the job was taken up by its id");
    let uuid = created.volume_id.expect("its id");

    let asked = hub.sim.requests("queryAsyncJobResult");
    let attaching = hub.api.attach(&uuid, &here(), "attach").await.expect("accepted");
    hub.asked("attachVolume", 1).await;
    hub.asked("queryAsyncJobResult", asked + 1).await;
    hub.kill().await;
    hub.restart().await;
    hub.done(Ok(attaching)).await;
    assert_eq!(hub.sim.requests("attachVolume"), 1, "the job was taken up by its id");
    assert_eq!(hub.sim.counts().attached_to_oma, 1);
    assert_eq!(hub.api.device(&uuid).await.expect("the device").linux_state, LinuxState::Present);
}

#[tokio::test]
async fn killed_while_an_attachment_is_asked_for() {
    for kind in [FaultKind::Hang, FaultKind::HangAfterEffect] {
        let mut hub = Hub::start().await;
        let uuid = hub.volume("disk-0").await;
        hub.sim.arm("attachVolume", kind, 1);
        let attaching = hub.api.attach(&uuid, &here(), "attach").await.expect("accepted");
        hub.asked("attachVolume", 1).await;
        hub.kill().await;
        hub.restart().await;
        hub.done(Ok(attaching)).await;
        assert_eq!(hub.sim.counts().attached_to_oma, 1, "{kind:?}");
        assert_eq!(hub.api.device(&uuid).await.expect("the device").linux_state, LinuxState::Present);
    }
}

#[tokio::test]
async fn killed_while_the_device_is_waited_for() {
    let mut hub = Hub::start_with(|cloud| cloud.device_delay_ms = 2000, |_| {}).await;
    let uuid = hub.volume("disk-0").await;
    let attaching = hub.api.attach(&uuid, &here(), "attach").await.expect("accepted");
    let attached = hub.sim.wait_for(|counts| counts.attached_to_oma == 1);
    tokio::time::timeout(Duration::from_secs(20), attached).await.expect("attached");
    hub.kill().await;
    hub.restart().await;
    hub.done(Ok(attaching)).await;
    assert_eq!(hub.api.device(&uuid).await.expect("the device").linux_state, LinuxState::Present);
}

#[tokio::test]
async fn killed_while_a_volume_is_detached_and_deleted() {
    let mut hub = Hub::start().await;
    let uuid = hub.attached_volume("disk-0").await;
    hub.sim.arm("detachVolume", FaultKind::HangAfterEffect, 1);
    let detaching = hub.api.detach(&uuid, "detach").await.expect("accepted");
    hub.asked("detachVolume", 1).await;
    hub.kill().await;
    hub.restart().await;
    hub.done(Ok(detaching)).await;
    assert_eq!(hub.sim.counts().attached, 0);
    hub.sim.arm("deleteVolume", FaultKind::HangAfterEffect, 1);
    let deleting = hub.api.delete(&uuid, "delete").await.expect("accepted");
    hub.asked("deleteVolume", 1).await;
    hub.kill().await;
    hub.restart().await;
    hub.done(Ok(deleting)).await;
    assert!(hub.sim.volume(&uuid).is_none());
}

#[tokio::test]
async fn stopped_in_order_with_an_operation_under_way() {
    let mut hub = Hub::start().await;
    let before = hub.sim.counts().volumes;
    hub.sim.arm_slow("createVolume", Duration::from_secs(2), 1);
    let accepted = hub.api.create(&hub.create_request("disk-0", GIB), "key").await.expect("accepted");
    hub.asked("createVolume", 1).await;
    hub.stop().await;
    hub.restart().await;
    hub.done(Ok(accepted)).await;
    assert_eq!(hub.sim.counts().volumes, before + 1);
}
