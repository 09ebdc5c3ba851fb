//! The daemon is killed in the middle of each operation of a failover and started again on the same database: the
//! operation goes on and happens once.

use api::ClientError;
use api::volume::OperationView;
use lab::cloudstack::{FaultKind, JobTiming};
use model::status::VolumeSnapshotStatus;

use super::hub::Hub;
use super::target::{no_proof, root_of, safety};

/// How long jobs take where the daemon is killed while it waits for one.
const JOB_DELAY_MS: u64 = 1500;

/// Where an operation is when its daemon dies.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// The request is sent and nothing comes of it.
    Unheard,
    /// The request is carried out and its answer lost.
    Unanswered,
    /// The answer is kept and its job is waited for.
    Waiting,
}

const KILLS: [Kill; 3] = [Kill::Unheard, Kill::Unanswered, Kill::Waiting];
/// For calls that have no job.
const KILLS_WITHOUT_JOB: [Kill; 2] = [Kill::Unheard, Kill::Unanswered];

/// Arms what makes the daemon stop at `command`, begins an operation, kills the daemon there, and sees the operation
/// through.
async fn killed(
    hub: &mut Hub,
    command: &str,
    kill: Kill,
    begin: impl AsyncFn(&Hub) -> Result<OperationView, ClientError>,
) -> OperationView {
    let asked = hub.sim.requests(command);
    match kill {
        Kill::Unheard => hub.sim.arm(command, FaultKind::Hang, 1),
        Kill::Unanswered => hub.sim.arm(command, FaultKind::HangAfterEffect, 1),
        Kill::Waiting => hub.sim.set_job_timing(JobTiming { delay_ms: JOB_DELAY_MS, ..JobTiming::default() }),
    }
    let begun = begin(hub).await.expect("accepted");
    hub.asked(command, asked + 1).await;
    if matches!(kill, Kill::Waiting) {
        // Earlier jobs are asked about before the command; from now on only its own is.
        let questions = hub.sim.requests("queryAsyncJobResult");
        hub.asked("queryAsyncJobResult", questions + 1).await;
    }
    hub.kill().await;
    hub.sim.set_job_timing(JobTiming::default());
    hub.restart().await;
    let ended = hub.done(Ok(begun)).await;
    assert!(hub.sim.faults().is_empty(), "{command} {kill:?}");
    if matches!(kill, Kill::Waiting) {
        assert_eq!(hub.sim.requests(command), asked + 1, "{command}: the job was taken up by its id");
    }
    ended
}

#[tokio::test]
async fn while_a_volume_snapshot_is_taken() {
    for kill in KILLS {
        let mut hub = Hub::start().await;
        let uuid = hub.attached_volume("disk-0").await;
        hub.fill(&uuid, 1);
        let volume = uuid.clone();
        let begin = async |hub: &Hub| hub.api.snapshot(&volume, &safety(), "snapshot").await;
        let taken = killed(&mut hub, "createSnapshot", kill, begin).await;
        let snapshot_id = taken.snapshot_id.expect("its id");
        assert_eq!(hub.snapshots_of(&uuid).await, [(snapshot_id.clone(), "BackedUp".to_owned())], "{kill:?}");
        let row = hub.row(&uuid).await;
        assert_eq!((*row.snapshot_status, row.snapshot_id), (VolumeSnapshotStatus::Ready, Some(snapshot_id)));
    }
}

#[tokio::test]
async fn while_a_volume_is_brought_back() {
    for kill in KILLS {
        let mut hub = Hub::start().await;
        let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
        let (volume, snapshot) = (uuid.clone(), snapshot_id.clone());
        let begin = async |hub: &Hub| hub.api.revert_snapshot(&volume, &snapshot, "revert").await;
        killed(&mut hub, "revertSnapshot", kill, begin).await;
        assert!(hub.holds(&uuid, 1), "{kill:?}: the bytes of that time");
        let row = hub.row(&uuid).await;
        assert_eq!((*row.snapshot_status, row.snapshot_id), (VolumeSnapshotStatus::Ready, Some(snapshot_id)));
        hub.done(hub.api.attach(&uuid, &super::hub::here(), "back").await).await;
    }
}

#[tokio::test]
async fn while_a_volume_snapshot_is_deleted() {
    for kill in KILLS {
        let mut hub = Hub::start().await;
        let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
        let volume = uuid.clone();
        let begin = async |hub: &Hub| hub.api.delete_snapshot(&volume, &snapshot_id, "delete").await;
        killed(&mut hub, "deleteSnapshot", kill, begin).await;
        assert_eq!(hub.snapshots_of(&uuid).await, [], "{kill:?}");
        assert_eq!(*hub.row(&uuid).await.snapshot_status, VolumeSnapshotStatus::None);
    }
}

#[tokio::test]
async fn while_a_templates_root_is_removed() {
    let with_jobs = ["createTags", "detachVolume"].into_iter().flat_map(|command| KILLS.map(|kill| (command, kill)));
    for (command, kill) in with_jobs.chain(KILLS_WITHOUT_JOB.map(|kill| ("deleteVolume", kill))) {
        let mut hub = Hub::start().await;
        let before = hub.sim.counts().volumes;
        let vm_id = hub.shell("failover-1").await;
        let vm = vm_id.clone();
        let begin = async |hub: &Hub| hub.api.discard_root(&vm, &no_proof(), "discard").await;
        if command == "createTags" && matches!(kill, Kill::Waiting) {
            // The step has no trace of its own: tags are read before they are put again.
            hub.sim.set_job_timing(JobTiming { delay_ms: JOB_DELAY_MS, ..JobTiming::default() });
            let begun = begin(&hub).await.expect("accepted");
            hub.asked(command, 2).await;
            hub.kill().await;
            hub.restart().await;
            hub.done(Ok(begun)).await;
        } else {
            killed(&mut hub, command, kill, begin).await;
        }
        assert_eq!((hub.root_of(&vm_id), hub.sim.counts().volumes), (None, before), "{command} {kill:?}");
    }
}

#[tokio::test]
async fn while_a_root_is_attached() {
    for kill in KILLS {
        let mut hub = Hub::start().await;
        let uuid = hub.detached_volume("disk-0").await;
        let vm_id = hub.shell("failover-1").await;
        hub.done(hub.api.discard_root(&vm_id, &no_proof(), "discard").await).await;
        let (volume, to) = (uuid.clone(), root_of(&vm_id));
        let begin = async |hub: &Hub| hub.api.attach_root(&volume, &to, "root").await;
        killed(&mut hub, "attachVolume", kill, begin).await;
        assert_eq!(hub.root_of(&vm_id), Some(uuid.clone()), "{kill:?}");
        assert_eq!(hub.api.volume(&uuid).await.expect("the volume").vm_id, Some(vm_id));
    }
}

#[tokio::test]
async fn while_strays_are_deleted() {
    for kill in KILLS_WITHOUT_JOB {
        let mut hub = Hub::start().await;
        let stray = hub.volume("stray").await;
        store::ossea_volumes::delete(&hub.store, &stray).await.expect("forgotten");
        let volume = stray.clone();
        let begin = async |hub: &Hub| hub.api.delete_stray(&volume, None, "delete").await;
        killed(&mut hub, "deleteVolume", kill, begin).await;
        assert!(hub.sim.volume(&stray).is_none(), "{kill:?}");
    }
    for kill in KILLS {
        let mut hub = Hub::start().await;
        let (uuid, snapshot_id) = hub.changed_volume("disk-0").await;
        let none = VolumeSnapshotStatus::None;
        store::volume_snapshots::set_status(&hub.store, &uuid, none, None).await.expect("forgotten");
        let volume = uuid.clone();
        let begin = async |hub: &Hub| hub.api.delete_stray_snapshot(&volume, &snapshot_id, None, "delete").await;
        killed(&mut hub, "deleteSnapshot", kill, begin).await;
        assert_eq!(hub.snapshots_of(&uuid).await, [], "{kill:?}");
    }
}
