//! Failovers and what they do to a VM and its disks, on both databases.

use joblog::StepError;
use model::FailureKind;
use model::status::{ContextStatus, DiskSyncStatus, FailoverStatus, FailoverType, ReplicationType};
use serde_json::json;
use store::failover_jobs::{self, Filter, Learnt, NewFailover, Standing};
use store::vm_disks::{self, Restored};
use store::{Timestamp, replication_jobs, vm_replication_contexts as contexts};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn failovers_on_sqlite() {
    failovers(&Backend::sqlite()).await;
}

#[tokio::test]
async fn failovers_on_mariadb() {
    failovers(&Backend::mariadb()).await;
}

async fn failovers(backend: &Backend) {
    one_failover_holds_its_vm(&backend.database("holds").await).await;
    what_is_not_ready_is_not_failed_over(&backend.database("ready").await).await;
    a_test_stands_and_expires(&backend.database("stands").await).await;
    a_replica_is_trusted_again_only_where_it_was_not_copied_since(&backend.database("trust").await).await;
    an_undone_failover_leaves_the_vm_alone(&backend.database("undone").await).await;
}

fn new(job_id: &str, context_id: &str, job_type: FailoverType) -> NewFailover {
    NewFailover {
        job_id: job_id.to_owned(),
        vm_context_id: context_id.to_owned(),
        job_type,
        power_off_source: false,
        final_sync: false,
    }
}

async fn status(database: &Database<'_>, context_id: &str) -> ContextStatus {
    *contexts::by_id(&database.store, context_id).await.unwrap().current_status
}

async fn one_failover_holds_its_vm(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    let first = failover_jobs::start(store, &new("failover-1", &context_id, FailoverType::Test)).await.unwrap();
    let repeated = failover_jobs::start(store, &new("failover-1", &context_id, FailoverType::Test)).await.unwrap();
    assert_eq!(first, repeated, "the same id is the same failover");
    let second = failover_jobs::start(store, &new("failover-2", &context_id, FailoverType::Live)).await.unwrap_err();
    assert!(second.kind() == FailureKind::Conflict && second.to_string().contains("failover-1"), "{second}");
    assert_eq!(failover_jobs::holding(store, &context_id).await.unwrap().unwrap().job_id, "failover-1");

    let kind = ReplicationType::Incremental;
    let foreign = replication_jobs::start(store, "job-2", &context_id, kind, None).await.unwrap_err();
    assert_eq!(foreign.kind(), FailureKind::Conflict, "{foreign}");
    replication_jobs::start(store, "job-2", &context_id, kind, Some("failover-1")).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM replication_jobs WHERE id = 'job-2'").await, 1);
}

async fn what_is_not_ready_is_not_failed_over(database: &Database<'_>) {
    let store = &database.store;
    let fresh = fixture::vm(store, "fresh").await;
    let error = failover_jobs::start(store, &new("failover-1", &fresh, FailoverType::Test)).await.unwrap_err();
    assert!(error.to_string().contains("ready_for_failover"), "{error}");
    let (running, _) = fixture::committed_vm(store, "running").await;
    replication_jobs::start(store, "job-9", &running, ReplicationType::Incremental, None).await.unwrap();
    let error = failover_jobs::start(store, &new("failover-1", &running, FailoverType::Test)).await.unwrap_err();
    assert!(error.to_string().contains("job-9"), "{error}");
    let nobody = failover_jobs::start(store, &new("failover-1", "nobody", FailoverType::Test)).await.unwrap_err();
    assert_eq!(nobody.kind(), FailureKind::NotFound);
    assert!(failover_jobs::list(store, &Filter::default(), 10).await.unwrap().is_empty(), "nothing was written");
}

async fn stand(database: &Database<'_>, job_id: &str) {
    for to in [
        FailoverStatus::Validating,
        FailoverStatus::Snapshotting,
        FailoverStatus::CreatingVm,
        FailoverStatus::SwitchingVolume,
        FailoverStatus::PoweringOn,
    ] {
        failover_jobs::set_status(&database.store, job_id, to, "working").await.unwrap();
    }
}

fn standing(status: FailoverStatus, context: ContextStatus) -> Standing {
    Standing { status, context, doing: "done", summary: json!({ "operation": "failover" }) }
}

async fn a_test_stands_and_expires(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    failover_jobs::start(store, &new("failover-1", &context_id, FailoverType::Test)).await.unwrap();
    let early = failover_jobs::set_status(store, "failover-1", FailoverStatus::Completed, "").await.unwrap_err();
    assert_eq!(early.kind(), FailureKind::Conflict, "not before it was there");
    stand(database, "failover-1").await;
    let now = Timestamp::now();
    let learnt = Learnt {
        destination_vm_id: Some("vm-1".to_owned()),
        snapshot_ids: Some(json!([{ "ossea_snapshot_id": "s-1" }])),
        expires_at: Some(now),
        ..Learnt::default()
    };
    failover_jobs::record(store, "failover-1", &learnt).await.unwrap();
    assert!(failover_jobs::expired(store, now).await.unwrap().is_empty(), "it does not stand yet");
    let up = standing(FailoverStatus::Completed, ContextStatus::FailedOverTest);
    for _ in 0..2 {
        failover_jobs::settle(store, "failover-1", &up, None).await.unwrap();
    }
    let row = failover_jobs::by_id(store, "failover-1").await.unwrap();
    assert_eq!(
        (row.destination_vm_id.as_deref(), &row.snapshot_ids[0]["ossea_snapshot_id"]),
        (Some("vm-1"), &json!("s-1"))
    );
    assert_eq!(status(database, &context_id).await, ContextStatus::FailedOverTest);
    assert_eq!(failover_jobs::expired(store, Timestamp::now()).await.unwrap().len(), 1);
    failover_jobs::set_status(store, "failover-1", FailoverStatus::Cleanup, "putting it back").await.unwrap();
    let back = standing(FailoverStatus::CleanedUp, ContextStatus::ReadyForFailover);
    failover_jobs::settle(store, "failover-1", &back, None).await.unwrap();
    assert_eq!(status(database, &context_id).await, ContextStatus::ReadyForFailover);
    assert!(failover_jobs::holding(store, &context_id).await.unwrap().is_none());
    let twice = failover_jobs::settle(store, "failover-1", &up, None).await.unwrap_err();
    assert_eq!(twice.kind(), FailureKind::Conflict, "what was put back does not stand again: {twice}");
    assert_eq!(status(database, &context_id).await, ContextStatus::ReadyForFailover, "nothing of it was written");
}

async fn a_replica_is_trusted_again_only_where_it_was_not_copied_since(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, volumes) = fixture::committed_vm(store, "web").await;
    for volume in &volumes {
        vm_disks::distrust_volume(store, volume).await.unwrap();
    }
    let restored: Vec<Restored> = volumes
        .iter()
        .map(|volume| Restored { volume_uuid: volume.clone(), change_id: "52 aa/1".parse().unwrap() })
        .collect();
    vm_disks::restore(store, &restored).await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.as_ref().is_some_and(|id| id.0.to_string() == "52 aa/1")));
    assert!(disks.iter().all(|disk| *disk.sync_status == DiskSyncStatus::Completed));
    let older = Restored { volume_uuid: volumes[0].clone(), change_id: "52 aa/0".parse().unwrap() };
    vm_disks::restore(store, &[older]).await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.as_ref().is_some_and(|id| id.0.to_string() == "52 aa/1")));

    vm_disks::mark_diverged(store, &volumes).await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.is_none() && *disk.sync_status == DiskSyncStatus::Diverged));
    vm_disks::restore(store, &restored).await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.is_none()), "what a guest wrote to is not trusted again");
}

async fn an_undone_failover_leaves_the_vm_alone(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    failover_jobs::start(store, &new("failover-1", &context_id, FailoverType::Live)).await.unwrap();
    failover_jobs::set_status(store, "failover-1", FailoverStatus::Validating, "looking").await.unwrap();
    let error = StepError::new(FailureKind::Exhausted, "no room").remedy("make room");
    for _ in 0..2 {
        failover_jobs::end(store, "failover-1", false, &error, None).await.unwrap();
    }
    let row = failover_jobs::by_id(store, "failover-1").await.unwrap();
    assert_eq!((*row.status, row.error()), (FailoverStatus::Failed, Some(error)));
    assert_eq!(status(database, &context_id).await, ContextStatus::ReadyForFailover);
    failover_jobs::start(store, &new("failover-2", &context_id, FailoverType::Test)).await.unwrap();
    let listed = failover_jobs::list(store, &Filter { only_holding: true, ..Filter::default() }, 10).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.job_id.as_str()).collect::<Vec<_>>(), ["failover-2"]);
}
