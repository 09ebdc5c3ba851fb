//! The job log's store: claims, leases, fences, steps and log, on both databases.

use joblog::{
    ClaimRequest, ClaimableFilter, JobError, JobFilter, JobRow, JobStore, JobWrite, Lease, LogFilter, NewLogEvent,
    StepError, StepRow,
};
use model::status::{JobStatus, LogLevel, StepKind, StepStatus};
use model::{FailureKind, id};
use serde_json::json;
use store::StoreError;
use store::commit::commit_replication;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::backend::{Backend, Database};
use crate::fixture;

const NOW: OffsetDateTime = datetime!(2026-05-06 07:08:09.123456 UTC);
const OPEN: &[JobStatus] = &[JobStatus::Pending, JobStatus::Running, JobStatus::Unwinding];

#[tokio::test]
async fn jobs_on_sqlite() {
    jobs(&Backend::sqlite()).await;
}

#[tokio::test]
async fn jobs_on_mariadb() {
    jobs(&Backend::mariadb()).await;
}

async fn jobs(backend: &Backend) {
    a_job_comes_back_as_it_was_written(&backend.database("rows").await).await;
    one_of_many_claims_succeeds(&backend.database("claims").await).await;
    a_runner_that_was_taken_over_writes_nothing(&backend.database("fences").await).await;
    a_commit_under_a_lost_lease_is_refused(&backend.database("commits").await).await;
    the_log_is_read_in_the_order_it_was_written(&backend.database("log").await).await;
    jobs_are_listed_and_cancelled(&backend.database("lists").await).await;
}

fn job(job_type: &str) -> JobRow {
    let id = id::new_id();
    JobRow {
        root_job_id: id.clone(),
        id,
        parent_job_id: None,
        job_type: job_type.to_owned(),
        operation: "replicate web".to_owned(),
        status: JobStatus::Pending,
        external_job_id: Some("job-1".to_owned()),
        vm_context_id: None,
        owner: None,
        lease_until: None,
        fence: 0,
        params: json!({ "vm": "web", "n": 1.5, "text": "äöü \u{1F980}" }),
        metadata: None,
        error: None,
        percent_complete: 0.0,
        cancel_requested_at: None,
        created_at: NOW,
        started_at: None,
        completed_at: None,
    }
}

fn step(job: &JobRow, seq: u32, kind: StepKind) -> StepRow {
    StepRow {
        id: id::new_id(),
        job_id: job.id.clone(),
        seq,
        name: format!("step_{seq}"),
        kind,
        status: StepStatus::Pending,
        attempt: 0,
        output: None,
        error: None,
        started_at: None,
        completed_at: None,
    }
}

fn claim(job: &JobRow, owner: &str, now: OffsetDateTime) -> ClaimRequest {
    ClaimRequest {
        job_id: job.id.clone(),
        owner: owner.to_owned(),
        now,
        lease_until: now + Duration::seconds(30),
        statuses: OPEN,
        take_own: false,
    }
}

fn write(status: JobStatus) -> JobWrite {
    JobWrite { status, error: None, percent_complete: 10.0, started_at: Some(NOW), completed_at: None, release: false }
}

async fn a_job_comes_back_as_it_was_written(database: &Database<'_>) {
    let store = &database.store;
    let parent = job("failover");
    store.create(&parent, &[]).await.unwrap();
    let mut child =
        JobRow { parent_job_id: Some(parent.id.clone()), root_job_id: parent.id.clone(), ..job("replication") };
    child.metadata = Some(json!({ "asked_by": "admin" }));
    let steps = [step(&child, 0, StepKind::Undoable), step(&child, 1, StepKind::Pivot)];
    store.create(&child, &steps).await.unwrap();
    let loaded = store.load(&child.id).await.unwrap().unwrap();
    assert_eq!((loaded.job, loaded.steps), (child.clone(), steps.to_vec()));
    assert_eq!(store.load("nothing").await.unwrap(), None);
    assert!(matches!(store.create(&child, &[]).await.unwrap_err(), JobError::Conflict { .. }));
    let orphan = JobRow { parent_job_id: Some("nothing".to_owned()), ..job("replication") };
    assert!(matches!(store.create(&orphan, &[]).await.unwrap_err(), JobError::UnknownJob { .. }));

    let claimed = store.claim(&claim(&child, "hub-1", NOW)).await.unwrap().unwrap();
    assert_eq!((claimed.job.fence, claimed.job.owner.as_deref()), (1, Some("hub-1")));
    let lease = Lease { job_id: child.id.clone(), owner: "hub-1".to_owned(), fence: 1 };
    let error = StepError::new(FailureKind::Unavailable, "no answer").remedy("wait").detail(json!({ "port": 443 }));
    let failing = StepRow {
        status: StepStatus::Running,
        attempt: 2,
        output: Some(json!({ "volume": "v" })),
        error: Some(error.clone()),
        started_at: Some(NOW),
        ..steps[0].clone()
    };
    let running = JobWrite { error: Some(error.clone()), ..write(JobStatus::Running) };
    store.save(&lease, &running, Some(&failing)).await.unwrap();
    let loaded = store.load(&child.id).await.unwrap().unwrap();
    assert_eq!(
        (loaded.job.status, loaded.job.error, loaded.job.started_at),
        (JobStatus::Running, Some(error), Some(NOW))
    );
    assert_eq!(loaded.steps[0], failing);

    // A step that may not follow takes the job's write back, too.
    let illegal = StepRow { status: StepStatus::Undone, ..failing };
    let unwinding = write(JobStatus::Unwinding);
    assert!(matches!(store.save(&lease, &unwinding, Some(&illegal)).await.unwrap_err(), JobError::Conflict { .. }));
    assert_eq!(store.load(&child.id).await.unwrap().unwrap().job.status, JobStatus::Running);
    store.save(&lease, &JobWrite { release: true, ..write(JobStatus::Completed) }, None).await.unwrap();
    let done = store.load(&child.id).await.unwrap().unwrap().job;
    assert_eq!((done.owner, done.lease_until, done.fence), (None, None, 1));
    assert_eq!(store.claim(&claim(&child, "hub-1", NOW)).await.unwrap(), None, "it has ended");

    assert_eq!(database.number("SELECT COUNT(*) FROM active_jobs").await, 1);
    assert_eq!(database.number("SELECT child_count FROM job_tracking_hierarchy WHERE parent_job_id IS NULL").await, 1);
}

async fn one_of_many_claims_succeeds(database: &Database<'_>) {
    let store = &database.store;
    let row = job("replication");
    store.create(&row, &[]).await.unwrap();
    let claims = (0..10).map(|n| {
        let (store, request) = (store.clone(), claim(&row, &format!("hub-{n}"), NOW));
        tokio::spawn(async move { store.claim(&request).await.unwrap() })
    });
    let claims = futures::future::join_all(claims).await;
    let won: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(won[0].job.fence, 1);
}

async fn a_runner_that_was_taken_over_writes_nothing(database: &Database<'_>) {
    let store = &database.store;
    let row = job("replication");
    let steps = [step(&row, 0, StepKind::Undoable)];
    store.create(&row, &steps).await.unwrap();
    store.claim(&claim(&row, "hub-1", NOW)).await.unwrap().unwrap();
    let first = Lease { job_id: row.id.clone(), owner: "hub-1".to_owned(), fence: 1 };
    store.save(&first, &write(JobStatus::Running), None).await.unwrap();
    assert!(!store.heartbeat(&first, NOW + Duration::seconds(40)).await.unwrap().cancel_requested);

    let filter = |now, own: Option<&str>| ClaimableFilter {
        job_types: vec!["replication".to_owned()],
        statuses: OPEN,
        now,
        also_owned_by: own.map(str::to_owned),
        limit: 10,
    };
    let early = NOW + Duration::seconds(39);
    assert_eq!(store.claimable(&filter(early, None)).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.claimable(&filter(early, Some("hub-1"))).await.unwrap(), std::slice::from_ref(&row.id));
    assert_eq!(store.claim(&claim(&row, "hub-2", early)).await.unwrap(), None);
    assert_eq!(store.claim(&claim(&row, "hub-1", early)).await.unwrap(), None, "its own, but not asked to take it");
    let restarted = ClaimRequest { take_own: true, ..claim(&row, "hub-1", early) };
    assert_eq!(store.claim(&restarted).await.unwrap().unwrap().job.fence, 2);

    // Times compare as times, also where one has a fraction and the other has none.
    let end = early + Duration::seconds(30);
    assert_eq!(store.claim(&claim(&row, "hub-2", end - Duration::microseconds(1))).await.unwrap(), None);
    assert_eq!(store.claim(&claim(&row, "hub-2", end)).await.unwrap().unwrap().job.fence, 3);

    let fenced = |error: JobError| assert!(matches!(error, JobError::FencedOff { .. }), "{error:?}");
    for lease in [first, Lease { job_id: row.id.clone(), owner: "hub-1".to_owned(), fence: 2 }] {
        fenced(store.heartbeat(&lease, NOW + Duration::hours(1)).await.unwrap_err());
        fenced(store.save_progress(&lease, 99.0).await.unwrap_err());
        let step = StepRow { status: StepStatus::Running, ..steps[0].clone() };
        fenced(store.save(&lease, &write(JobStatus::Failed), Some(&step)).await.unwrap_err());
    }
    let kept = store.load(&row.id).await.unwrap().unwrap();
    assert_eq!((kept.job.status, kept.steps[0].status), (JobStatus::Running, StepStatus::Pending));
    let holder = Lease { job_id: row.id.clone(), owner: "hub-2".to_owned(), fence: 3 };
    let error = store.save(&holder, &write(JobStatus::Pending), None).await;
    assert!(error.is_ok(), "a running job may be handed back");
    store.save(&holder, &write(JobStatus::Failed), None).await.unwrap();
    let error = store.save(&holder, &write(JobStatus::Running), None).await.unwrap_err();
    assert!(matches!(error, JobError::Conflict { .. }), "{error:?}");
}

async fn a_commit_under_a_lost_lease_is_refused(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    fixture::volumes(store, &context_id).await;
    fixture::running_job(store, &context_id, "job-1").await;
    let row = JobRow { vm_context_id: Some(context_id.clone()), ..job("replication") };
    store.create(&row, &[]).await.unwrap();
    store.claim(&claim(&row, "hub-1", NOW)).await.unwrap().unwrap();
    let lost = Lease { job_id: row.id.clone(), owner: "hub-1".to_owned(), fence: 1 };
    store.claim(&claim(&row, "hub-2", NOW + Duration::minutes(5))).await.unwrap().unwrap();
    let commit = fixture::commit("job-1", 5);
    let error = commit_replication(store, &commit, Some(&lost)).await.unwrap_err();
    assert!(matches!(error, StoreError::Stale { .. }), "{error:?}");
    let held = Lease { owner: "hub-2".to_owned(), fence: 2, ..lost };
    commit_replication(store, &commit, Some(&held)).await.unwrap();
}

async fn the_log_is_read_in_the_order_it_was_written(database: &Database<'_>) {
    let store = &database.store;
    let row = job("replication");
    let steps = [step(&row, 0, StepKind::Undoable)];
    store.create(&row, &steps).await.unwrap();
    let event = |n: usize, step: bool| NewLogEvent {
        job_id: Some(row.id.clone()),
        step_id: step.then(|| steps[0].id.clone()),
        step: None,
        level: LogLevel::Error,
        message: format!("event {n}"),
        attrs: json!({ "n": n }),
        at: NOW,
    };
    let events: Vec<_> = (0..5).map(|n| event(n, n % 2 == 0)).collect();
    let ids = store.append_log(&events).await.unwrap();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let mut filter = LogFilter { job_id: Some(row.id.clone()), after: ids[1], limit: 2 };
    let read = store.log_after(&filter).await.unwrap();
    assert_eq!(read.iter().map(|event| event.id).collect::<Vec<_>>(), ids[2..4]);
    assert_eq!((read[0].step.as_deref(), read[1].step.as_deref()), (Some("step_0"), None));
    assert_eq!((read[0].message.as_str(), &read[0].attrs, read[0].at), ("event 2", &json!({ "n": 2 }), NOW));
    filter.job_id = Some("another".to_owned());
    assert_eq!(store.log_after(&filter).await.unwrap(), []);

    let huge = NewLogEvent { message: "ä".repeat(50_000), ..event(9, false) };
    store.append_log(&[huge]).await.unwrap();
    let orphan = NewLogEvent { job_id: Some("nothing".to_owned()), ..event(9, false) };
    assert!(store.append_log(&[event(10, false), orphan]).await.is_err());
    assert_eq!(database.number("SELECT COUNT(*) FROM log_events").await, 6, "half a batch was kept");
    assert_eq!(database.number("SELECT COUNT(*) FROM job_execution_log WHERE step_name = 'step_0'").await, 3);
    assert_eq!(database.number(&format!("SELECT error_count FROM active_jobs WHERE id = '{}'", row.id)).await, 6);
}

async fn jobs_are_listed_and_cancelled(database: &Database<'_>) {
    let store = &database.store;
    let rows: Vec<_> = (0..5).map(|n| job(if n % 2 == 0 { "replication" } else { "failover" })).collect();
    for row in &rows {
        store.create(row, &[]).await.unwrap();
    }
    let mut filter = JobFilter { job_type: Some("replication".to_owned()), limit: 2, ..JobFilter::default() };
    let page = store.list_jobs(&filter).await.unwrap();
    assert_eq!(page.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&rows[4].id, &rows[2].id]);
    filter.cursor = page.next_cursor;
    let page = store.list_jobs(&filter).await.unwrap();
    assert_eq!((page.jobs.len(), page.next_cursor), (1, None));

    let asked = store.request_cancel(&rows[0].id, NOW).await.unwrap();
    assert_eq!(asked.cancel_requested_at, Some(NOW));
    let again = store.request_cancel(&rows[0].id, NOW + Duration::hours(1)).await.unwrap();
    assert_eq!(again.cancel_requested_at, Some(NOW), "a repeat keeps the first moment");
    store.claim(&claim(&rows[0], "hub-1", NOW)).await.unwrap().unwrap();
    let lease = Lease { job_id: rows[0].id.clone(), owner: "hub-1".to_owned(), fence: 1 };
    assert!(store.heartbeat(&lease, NOW).await.unwrap().cancel_requested);
    store.save(&lease, &write(JobStatus::Cancelled), None).await.unwrap();
    assert!(matches!(store.request_cancel(&rows[0].id, NOW).await.unwrap_err(), JobError::Conflict { .. }));
    assert!(matches!(store.request_cancel("nothing", NOW).await.unwrap_err(), JobError::UnknownJob { .. }));
}
