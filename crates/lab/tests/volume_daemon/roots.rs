//! Roots of VMs: the template's root makes place for a replica, the replica comes back, and what forbids each.

use api::volume::{AttachVolume, DiscardRoot};
use lab::cloudstack::FaultKind;
use model::FailureKind;
use model::ownership::OwnedAs;
use model::status::{LinuxState, OperationMode, OperationType, VolumeState};

use super::hub::{Hub, here, refusal};
use super::target::{JOB, no_proof, root_of};

#[tokio::test]
async fn a_replica_takes_the_place_of_the_templates_root_and_comes_back() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let template_root = hub.root_of(&vm_id).expect("a root");
    let (root, data) = (hub.attached_volume("disk-0").await, hub.attached_volume("disk-1").await);
    hub.fill(&root, 7);
    for uuid in [&root, &data] {
        hub.done(hub.api.detach(uuid, &format!("away {uuid}")).await).await;
    }
    let discarded = hub.done(hub.api.discard_root(&vm_id, &no_proof(), "discard").await).await;
    assert_eq!((discarded.operation_type, discarded.volume_id), (OperationType::Cleanup, None));
    assert_eq!((discarded.vm_id.as_ref(), hub.root_of(&vm_id)), (Some(&vm_id), None));
    assert!(hub.sim.volume(&template_root).is_none(), "deleted");

    let attached = hub.done(hub.api.attach_root(&root, &root_of(&vm_id), "root").await).await;
    assert_eq!((attached.operation_type, attached.vm_id.as_ref()), (OperationType::AttachRoot, Some(&vm_id)));
    let second = AttachVolume { vm_id: Some(vm_id.clone()), device_id: Some(1) };
    hub.done(hub.api.attach(&data, &second, "data").await).await;
    assert_eq!(hub.root_of(&vm_id), Some(root.clone()));
    assert_eq!(hub.sim.volume(&data).expect("the volume").device_id, Some(1));
    for uuid in [&root, &data] {
        let device = hub.api.device(uuid).await.expect("the mapping");
        assert_eq!((device.operation_mode, device.linux_state), (OperationMode::Failover, LinuxState::Absent));
        assert_eq!(device.device_path, None);
        assert_eq!(hub.api.volume(uuid).await.expect("the volume").vm_id.as_ref(), Some(&vm_id));
    }
    let operator = hub.operator();
    operator.done("startVirtualMachine", &[("id", &vm_id)]).await;
    let problem = hub.failed(hub.api.detach(&root, "too early").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "a running VM keeps its root: {}", problem.detail);
    operator.done("stopVirtualMachine", &[("id", &vm_id), ("forced", "true")]).await;

    for uuid in [&root, &data] {
        hub.done(hub.api.detach(uuid, &format!("back {uuid}")).await).await;
        assert_eq!(hub.api.device(uuid).await.expect("the mapping").linux_state, LinuxState::Absent);
        let volume = hub.api.volume(uuid).await.expect("the volume");
        assert_eq!((volume.state, volume.vm_id), (VolumeState::Detached, None));
        hub.done(hub.api.attach(uuid, &here(), &format!("here {uuid}")).await).await;
        let device = hub.api.device(uuid).await.expect("the mapping");
        assert_eq!((device.operation_mode, device.linux_state), (OperationMode::Oma, LinuxState::Present));
        assert!(device.device_path.is_some(), "found again");
    }
    assert!(hub.holds(&root, 7));
    assert_eq!(hub.root_of(&vm_id), None);
    operator.done("destroyVirtualMachine", &[("id", &vm_id), ("expunge", "true")]).await;
    assert_eq!(hub.sim.counts().attached_to_oma, 2, "both replicas outlive the VM");
}

#[tokio::test]
async fn nothing_but_an_unused_root_of_ours_is_discarded() {
    let hub = Hub::start().await;
    let before = hub.sim.counts().volumes;
    let foreign = hub.untagged_shell("somebodys").await;
    let problem = hub.failed(hub.api.discard_root(&foreign, &no_proof(), "a").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "untagged: {}", problem.detail);
    let own = hub.sim.oma_vm_id();
    let problem = hub.failed(hub.api.discard_root(&own, &no_proof(), "b").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "the hub's own: {}", problem.detail);
    let problem = hub.failed(hub.api.discard_root(&model::id::new_id(), &no_proof(), "c").await).await;
    assert_eq!(problem.kind, FailureKind::NotFound, "{}", problem.detail);
    let vm_id = hub.shell("failover-1").await;
    let of_another = DiscardRoot { job_id: Some("another".to_owned()), ..no_proof() };
    let problem = hub.failed(hub.api.discard_root(&vm_id, &of_another, "d").await).await;
    assert!(problem.detail.contains(JOB) && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    let operator = hub.operator();
    operator.done("startVirtualMachine", &[("id", &vm_id)]).await;
    let problem = hub.failed(hub.api.discard_root(&vm_id, &no_proof(), "e").await).await;
    assert!(problem.detail.contains("Running") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    operator.done("stopVirtualMachine", &[("id", &vm_id), ("forced", "true")]).await;
    let problem = hub.failed(hub.api.discard_root(&vm_id, &no_proof(), "f").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "it ran: {}", problem.detail);
    assert_eq!((hub.sim.requests("detachVolume"), hub.sim.requests("deleteVolume")), (0, 0));
    assert_eq!(hub.sim.counts().volumes, before + 2);
}

#[tokio::test]
async fn a_replica_is_never_discarded() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let root = hub.detached_volume("disk-0").await;
    hub.done(hub.api.discard_root(&vm_id, &no_proof(), "discard").await).await;
    hub.done(hub.api.attach_root(&root, &root_of(&vm_id), "root").await).await;
    let problem = hub.failed(hub.api.discard_root(&vm_id, &no_proof(), "again").await).await;
    assert!(problem.detail.contains("replica") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    assert_eq!(hub.root_of(&vm_id), Some(root));
}

#[tokio::test]
async fn a_root_that_is_gone_or_was_left_over_is_no_failure() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let proof = DiscardRoot {
        vm_context_id: Some(hub.context_id.clone()),
        job_id: Some(JOB.to_owned()),
        ossea_config_id: None,
    };
    let template_root = hub.root_of(&vm_id).expect("a root");
    // As an operation leaves it that was given up between its last two steps.
    hub.tag("Volume", &template_root, OwnedAs::FailoverVm).await;
    hub.operator().done("detachVolume", &[("id", &template_root)]).await;
    hub.done(hub.api.discard_root(&vm_id, &proof, "first").await).await;
    assert!(hub.sim.volume(&template_root).is_none());
    hub.done(hub.api.discard_root(&vm_id, &proof, "second").await).await;
    assert_eq!(hub.sim.requests("deleteVolume"), 1);
}

#[tokio::test]
async fn a_root_is_attached_only_where_there_is_room_for_it() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let uuid = hub.detached_volume("disk-0").await;
    let attached = hub.sim.requests("attachVolume");
    let problem = hub.failed(hub.api.attach_root(&uuid, &root_of(&vm_id), "a").await).await;
    assert!(problem.detail.contains("root already") && problem.kind == FailureKind::Conflict, "{}", problem.detail);
    let problem = hub.failed(hub.api.attach_root(&uuid, &root_of(&hub.sim.oma_vm_id()), "b").await).await;
    assert_eq!(problem.kind, FailureKind::Conflict, "{}", problem.detail);
    let problem = hub.failed(hub.api.attach_root(&uuid, &root_of(&model::id::new_id()), "c").await).await;
    assert_eq!(problem.kind, FailureKind::NotFound, "{}", problem.detail);
    hub.done(hub.api.attach(&uuid, &here(), "here").await).await;
    let problem = hub.failed(hub.api.attach_root(&uuid, &root_of(&vm_id), "d").await).await;
    assert_eq!(problem.remedy.as_deref(), Some("detach the volume first"));
    assert_eq!(hub.sim.requests("attachVolume"), attached + 1);
    assert_eq!(refusal(hub.api.attach_root("none", &root_of(&vm_id), "e").await).status, 404);
}

#[tokio::test]
async fn two_operations_on_one_root_do_not_run_at_once() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let uuid = hub.detached_volume("disk-0").await;
    let detached = hub.sim.requests("detachVolume");
    hub.sim.arm_slow("detachVolume", std::time::Duration::from_secs(3), 1);
    let discarding = hub.api.discard_root(&vm_id, &no_proof(), "discard").await.expect("accepted");
    hub.asked("detachVolume", detached + 1).await;
    let problem = refusal(hub.api.attach_root(&uuid, &root_of(&vm_id), "root").await);
    assert!(problem.detail.contains(&discarding.id) && problem.kind == FailureKind::Unavailable, "{}", problem.detail);
    assert_eq!(refusal(hub.api.discard_root(&vm_id, &no_proof(), "twice").await).kind, FailureKind::Unavailable);
    let other = hub.shell("failover-2").await;
    hub.done(hub.api.discard_root(&other, &no_proof(), "of another VM").await).await;
    let same = hub.api.discard_root(&vm_id, &no_proof(), "discard").await.expect("the same operation");
    assert_eq!(same.id, discarding.id);
    hub.done(Ok(discarding)).await;
    hub.done(hub.api.attach_root(&uuid, &root_of(&vm_id), "root").await).await;
}

#[tokio::test]
async fn a_root_that_cannot_be_attached_is_not_left_half_way() {
    let hub = Hub::start().await;
    let vm_id = hub.shell("failover-1").await;
    let uuid = hub.detached_volume("disk-0").await;
    hub.done(hub.api.discard_root(&vm_id, &no_proof(), "discard").await).await;
    hub.sim.arm("attachVolume", FaultKind::JobFailedNoResult, 1);
    hub.done(hub.api.attach_root(&uuid, &root_of(&vm_id), "root").await).await;
    assert_eq!(hub.root_of(&vm_id), Some(uuid.clone()));
    let again = hub.done(hub.api.attach_root(&uuid, &root_of(&vm_id), "again").await).await;
    assert_eq!(again.vm_id, Some(vm_id), "there already");
}
