//! What is read to tell ghosts from what is needed, on both databases.

use joblog::{JobRow, JobStore};
use model::id;
use model::status::{FailoverStatus, FailoverType, JobStatus};
use serde_json::json;
use store::failover_jobs::{self, NewFailover};
use store::{Timestamp, vm_disks};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn ghosts_on_sqlite() {
    ghosts(&Backend::sqlite()).await;
}

#[tokio::test]
async fn ghosts_on_mariadb() {
    ghosts(&Backend::mariadb()).await;
}

async fn ghosts(backend: &Backend) {
    jobs_that_have_not_ended_are_read_at_once(&backend.database("unfinished").await).await;
    disks_are_read_by_either_link(&backend.database("links").await).await;
    failovers_are_read_by_their_ids(&backend.database("failovers").await).await;
}

async fn jobs_that_have_not_ended_are_read_at_once(database: &Database<'_>) {
    let store = &database.store;
    let statuses = [
        JobStatus::Pending,
        JobStatus::Running,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
        JobStatus::Unwinding,
        JobStatus::NeedsOperator,
    ];
    for status in statuses {
        store.create(&job(status), &[]).await.unwrap();
    }
    let open: Vec<JobStatus> =
        store::unfinished_jobs(store, 100).await.unwrap().into_iter().map(|job| job.status).collect();
    assert_eq!(open, [JobStatus::Pending, JobStatus::Running, JobStatus::Unwinding, JobStatus::NeedsOperator]);
    assert_eq!(store::unfinished_jobs(store, 3).await.unwrap().len(), 3);
}

fn job(status: JobStatus) -> JobRow {
    let id = id::new_id();
    JobRow {
        root_job_id: id.clone(),
        id,
        parent_job_id: None,
        job_type: "replication".to_owned(),
        operation: "replicate web".to_owned(),
        status,
        external_job_id: None,
        vm_context_id: None,
        owner: None,
        lease_until: None,
        fence: 0,
        params: json!({}),
        metadata: None,
        error: None,
        percent_complete: 0.0,
        cancel_requested_at: None,
        created_at: *Timestamp::now(),
        started_at: None,
        completed_at: None,
    }
}

async fn disks_are_read_by_either_link(database: &Database<'_>) {
    let store = &database.store;
    fixture::vm(store, "bare").await;
    let context_id = fixture::vm(store, "web").await;
    let volumes = fixture::volumes(store, &context_id).await;
    // A mapping that is gone takes one of the links with it; the other still says whose replica it is.
    database.sql("UPDATE vm_disks SET volume_uuid = NULL WHERE disk_id = 'disk-2001'").await.unwrap();
    let linked = vm_disks::linked(store).await.unwrap();
    assert_eq!(linked.len(), 2);
    assert!(linked.iter().all(|disk| disk.vm_context_id == context_id && disk.ossea_volume_id.is_some()));
    let by_uuid: Vec<&str> = linked.iter().filter_map(|disk| disk.volume_uuid.as_deref()).collect();
    assert_eq!(by_uuid, [volumes[0].as_str()]);
}

async fn failovers_are_read_by_their_ids(database: &Database<'_>) {
    let store = &database.store;
    let vm_context_id = fixture::vm(store, "web").await;
    database.sql("UPDATE vm_replication_contexts SET current_status = 'ready_for_failover'").await.unwrap();
    let job_id = "failover-20260506-070809-a1b2c3".to_owned();
    let job_type = FailoverType::Test;
    let new =
        NewFailover { job_id: job_id.clone(), vm_context_id, job_type, power_off_source: false, final_sync: false };
    assert!(failover_jobs::start(store, &new).await.unwrap().holds_vm());
    let ids = [job_id.clone(), "failover-of-nobody".to_owned()];
    let found = failover_jobs::with_ids(store, &ids).await.unwrap();
    assert_eq!(found.iter().map(|row| row.job_id.as_str()).collect::<Vec<_>>(), [job_id.as_str()]);
    failover_jobs::set_status(store, &job_id, FailoverStatus::Cancelled, "").await.unwrap();
    assert!(!failover_jobs::with_ids(store, &ids).await.unwrap()[0].holds_vm());
    assert_eq!(failover_jobs::with_ids(store, &[]).await.unwrap(), []);
}
