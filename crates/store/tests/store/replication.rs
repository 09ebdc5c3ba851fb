//! Discovery, replications and their commit, on both databases.

use joblog::StepError;
use model::FailureKind;
use model::status::{ContextStatus, DiskSyncStatus, ReplicationStatus, ReplicationType};
use store::commit::{CommitOutcome, SingleChangeId, commit_replication, store_change_id};
use store::replication_jobs::{Ending, Filter, Progress};
use store::vm_replication_contexts::Assignment;
use store::{
    StoreError, cbt_history, discovery, equality_certificates as certificates, nbd_exports, replication_jobs, vm_disks,
    vm_replication_contexts as contexts,
};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn replication_on_sqlite() {
    replication(&Backend::sqlite()).await;
}

#[tokio::test]
async fn replication_on_mariadb() {
    replication(&Backend::mariadb()).await;
}

async fn replication(backend: &Backend) {
    discovery_keeps_what_is_still_true(&backend.database("discovery").await).await;
    a_replication_is_committed_as_a_whole(&backend.database("commits").await).await;
    certificates_come_with_the_commit_and_go_with_their_disk(&backend.database("certificates").await).await;
    a_distrusted_replica_is_copied_anew(&backend.database("distrust").await).await;
    a_bad_commit_writes_nothing(&backend.database("bad_commits").await).await;
    a_failed_replication_leaves_the_vm_honest(&backend.database("failures").await).await;
    one_replication_at_a_time(&backend.database("one").await).await;
}

async fn discovery_keeps_what_is_still_true(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    let mut seen = fixture::discovered("web");
    seen.vm_name = "web-renamed".to_owned();
    seen.power_state = "poweredOff".to_owned();
    let again = discovery::upsert(store, &seen, &Assignment::default()).await.unwrap();
    assert_eq!((again.context_id.as_str(), again.created, again.removed_disks.len()), (context_id.as_str(), false, 0));
    let row = contexts::find(store, "web-renamed").await.unwrap();
    assert_eq!((*row.current_status, *row.successful_jobs), (ContextStatus::ReadyForFailover, 1));
    assert_eq!(row.networks, seen.networks);
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.is_some() && disk.volume_uuid.is_some()));
    assert_eq!((disks[0].unit_number, disks[0].is_boot_disk), (-1, Some(true)));

    // A grown disk, a new one in place of the other.
    seen.disks[0].capacity_bytes = 2 * fixture::GIB;
    seen.disks[1] = fixture::disk("disk-2002");
    let again = discovery::upsert(store, &seen, &Assignment::default()).await.unwrap();
    assert_eq!(again.removed_disks[0].disk_id, "disk-2001");
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert_eq!(disks.iter().map(|disk| disk.disk_id.as_str()).collect::<Vec<_>>(), ["disk-2000", "disk-2002"]);
    assert_eq!((disks[0].disk_change_id.clone(), *disks[0].size_gb), (None, 2));
    assert_eq!(*disks[0].sync_status, DiskSyncStatus::Pending);
    assert!(disks[0].volume_uuid.is_some());
    let mut twice = fixture::discovered("twice");
    twice.disks[1].disk_id = "disk-2000".to_owned();
    let error = discovery::upsert(store, &twice, &Assignment::default()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid);
    assert_eq!(contexts::list(store, 10).await.unwrap().len(), 1, "half a VM was left");
    let known = contexts::known_in(store, "vcenter.example").await.unwrap();
    assert_eq!(known, [("uuid-web".to_owned(), context_id)]);
}

async fn a_replication_is_committed_as_a_whole(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    fixture::volumes(store, &context_id).await;
    fixture::running_job(store, &context_id, "job-1").await;
    assert_eq!(vm_disks::change_id_of(store, "/DC/vm/web", "disk-2000").await.unwrap(), None);
    let progress = Progress {
        progress_percent: 50.0,
        current_operation: "copying".to_owned(),
        phase: "copying".to_owned(),
        bytes_transferred: 7,
        total_bytes: 14,
        speed_bps: 3 << 20,
        eta_seconds: Some(2),
        ..Progress::default()
    };
    assert!(replication_jobs::set_progress(store, "job-1", &progress).await.unwrap());
    vm_disks::set_progress(store, &context_id, "disk-2000", 50.0, 7).await.unwrap();
    let row = contexts::current_job(store, &context_id).await.unwrap().unwrap();
    assert_eq!((*row.bytes_transferred, row.vma_throughput_mbps, row.vma_eta_seconds.map(|s| *s)), (7, 3.0, Some(2)));
    assert!(row.started_at.is_some());

    let error = replication_jobs::set_status(store, "job-1", ReplicationStatus::Completed, "").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);
    let commit = fixture::commit("job-1", 5);
    assert_eq!(commit_replication(store, &commit, None).await.unwrap(), CommitOutcome::Committed);
    assert_eq!(commit_replication(store, &commit, None).await.unwrap(), CommitOutcome::AlreadyCommitted);
    let row = contexts::by_id(store, &context_id).await.unwrap();
    assert_eq!(*row.current_status, ContextStatus::ReadyForFailover);
    assert_eq!((*row.total_jobs_run, *row.successful_jobs, *row.failed_jobs), (1, 1, 0));
    assert_eq!((row.current_job_id, row.last_successful_job_id.as_deref()), (None, Some("job-1")));
    assert_eq!(row.last_operation_summary.unwrap()["operation"], "replication");
    for disk in vm_disks::of_context(store, &context_id).await.unwrap() {
        assert_eq!(*disk.sync_status, DiskSyncStatus::Completed);
        let stored = vm_disks::change_id_of(store, "/DC/vm/web", &disk.disk_id).await.unwrap();
        assert_eq!(stored.unwrap().as_str(), "52 aa/5");
    }
    let history = cbt_history::of_context(store, &context_id, 20).await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|row| row.sync_success && row.change_id == "52 aa/5"));
    assert!(!replication_jobs::set_progress(store, "job-1", &progress).await.unwrap());

    let single = SingleChangeId {
        job_id: "job-1".to_owned(),
        disk_id: "disk-2001".to_owned(),
        change_id: "52 aa/5".parse().unwrap(),
        previous_change_id: None,
    };
    store_change_id(store, &single).await.unwrap();
    let unproven = SingleChangeId { change_id: "52 aa/6".parse().unwrap(), ..single.clone() };
    assert_eq!(store_change_id(store, &unproven).await.unwrap_err().kind(), FailureKind::Conflict);
    let stored = vm_disks::change_id_of(store, "/DC/vm/web", "disk-2001").await.unwrap();
    assert_eq!(stored.unwrap().as_str(), "52 aa/5");
    let unknown = SingleChangeId { disk_id: "disk-9".to_owned(), ..single };
    assert_eq!(store_change_id(store, &unknown).await.unwrap_err().kind(), FailureKind::NotFound);
}

async fn certificates_come_with_the_commit_and_go_with_their_disk(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    let first = certificates::newest(store, &disks[0].id).await.unwrap().unwrap();
    assert_eq!((first.id.as_str(), first.change_id.as_str()), ("certificate-job-1-disk-2000", "52 aa/1"));
    assert_eq!(first.document, "{\"disk\": \"disk-2000\"}", "to the byte");
    assert_eq!((*first.capacity_bytes, *first.leaves_total, *first.leaves_verified), (fixture::GIB, 16_384, 16));

    // A commit that fails certifies nothing.
    fixture::running_job(store, &context_id, "job-2").await;
    let mut commit = fixture::commit("job-2", 2);
    commit.disks[0].certificate.previous_certificate_id = Some(first.id.clone());
    let mut bad = commit.clone();
    bad.disks[1].certificate.previous_certificate_id = Some("nothing".to_owned());
    assert!(commit_replication(store, &bad, None).await.is_err());
    assert_eq!(certificates::of_job(store, "job-2").await.unwrap(), []);
    commit_replication(store, &commit, None).await.unwrap();
    commit_replication(store, &commit, None).await.unwrap();
    assert_eq!(certificates::of_job(store, "job-2").await.unwrap().len(), 2);
    let newest = certificates::newest(store, &disks[0].id).await.unwrap().unwrap();
    assert_eq!(newest.previous_certificate_id.as_deref(), Some("certificate-job-1-disk-2000"));
    assert_eq!(certificates::by_id(store, &newest.id).await.unwrap(), newest);
    assert_eq!(certificates::by_id(store, "nothing").await.unwrap_err().kind(), FailureKind::NotFound);

    let ids = |rows: Vec<certificates::EqualityCertificate>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    let all = ids(certificates::list(store, Some(&context_id), None, 10).await.unwrap());
    assert_eq!((all.len(), all[0].as_str()), (4, "certificate-job-2-disk-2001"));
    assert_eq!(ids(certificates::list(store, None, Some(&all[1]), 10).await.unwrap()), all[2..]);
    assert!(certificates::list(store, Some("nobody"), None, 10).await.unwrap().is_empty());

    database.sql(&format!("DELETE FROM vm_disks WHERE id = '{}'", disks[0].id)).await.unwrap();
    assert!(certificates::newest(store, &disks[0].id).await.unwrap().is_none());
    assert!(certificates::newest(store, &disks[1].id).await.unwrap().is_some());
}

async fn a_distrusted_replica_is_copied_anew(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, volumes) = fixture::committed_vm(store, "web").await;
    vm_disks::distrust(store, &context_id, "disk-2000").await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks[0].disk_change_id.is_none() && disks[0].volume_uuid.is_some());
    assert!(disks[1].disk_change_id.is_some());
    vm_disks::distrust_volume(store, &volumes[1]).await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks[1].disk_change_id.is_none() && disks[1].volume_uuid.is_some());
    assert_eq!((*disks[0].sync_status, *disks[1].sync_status), (DiskSyncStatus::Completed, DiskSyncStatus::Pending));
}

async fn a_bad_commit_writes_nothing(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    fixture::volumes(store, &context_id).await;
    fixture::running_job(store, &context_id, "job-1").await;
    let good = fixture::commit("job-1", 5);
    let mut without = good.clone();
    without.disks[1].change_id = None;
    let mut missing = good.clone();
    missing.disks.pop();
    let mut stranger = good.clone();
    stranger.disks.push(store::commit::CommittedDisk { disk_id: "disk-9".to_owned(), ..good.disks[0].clone() });
    let mut other_disk = good.clone();
    other_disk.disks[1].disk_uuid = "another".to_owned();
    let mut other_size = good.clone();
    other_size.disks[0].capacity_bytes += 512;
    for (bad, reason) in [
        (without, "disk-2001 has no change id"),
        (missing, "disk-2001 was not copied"),
        (stranger, "the VM has no disk-9"),
        (other_disk, "disk-2001 is not the disk that was copied"),
        (other_size, "disk-2000 is not the disk that was copied"),
    ] {
        let error = commit_replication(store, &bad, None).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.kind(), FailureKind::Invalid);
    }
    assert_eq!(cbt_history::of_context(store, &context_id, 20).await.unwrap(), []);
    let row = contexts::by_id(store, &context_id).await.unwrap();
    assert_eq!((row.current_job_id.as_deref(), *row.successful_jobs), (Some("job-1"), 0));
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert!(disks.iter().all(|disk| disk.disk_change_id.is_none()));
    let single = SingleChangeId {
        job_id: "job-1".to_owned(),
        disk_id: "disk-2001".to_owned(),
        change_id: "52 aa/6".parse().unwrap(),
        previous_change_id: None,
    };
    assert_eq!(store_change_id(store, &single).await.unwrap_err().kind(), FailureKind::Conflict);
    commit_replication(store, &good, None).await.unwrap();
}

async fn a_failed_replication_leaves_the_vm_honest(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    let error = StepError::new(FailureKind::Exhausted, "the volume is full").remedy("enlarge it");
    let failed = Ending { cancelled: false, error: error.clone() };

    // Before anything was written: the replica is as good as before.
    replication_jobs::start(store, "job-2", &context_id, ReplicationType::Incremental, None).await.unwrap();
    replication_jobs::end(store, "job-2", &failed).await.unwrap();
    let row = contexts::by_id(store, &context_id).await.unwrap();
    assert_eq!((*row.current_status, *row.failed_jobs), (ContextStatus::ReadyForFailover, 1));

    // While it was written to: incomplete, but its change ids stay.
    fixture::running_job(store, &context_id, "job-3").await;
    replication_jobs::end(store, "job-3", &failed).await.unwrap();
    replication_jobs::end(store, "job-3", &failed).await.unwrap();
    let row = contexts::by_id(store, &context_id).await.unwrap();
    assert_eq!((*row.current_status, *row.failed_jobs, row.current_job_id), (ContextStatus::Failed, 2, None));
    for disk in vm_disks::of_context(store, &context_id).await.unwrap() {
        assert_eq!(*disk.sync_status, DiskSyncStatus::Failed);
        assert_eq!(disk.disk_change_id.unwrap().as_str(), "52 aa/1");
    }
    assert_eq!(replication_jobs::by_id(store, "job-3").await.unwrap().error(), Some(error));
    let error = commit_replication(store, &fixture::commit("job-3", 9), None).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);

    // The next one starts over and heals it.
    fixture::running_job(store, &context_id, "job-4").await;
    commit_replication(store, &fixture::commit("job-4", 9), None).await.unwrap();
    let cancelled = Ending { cancelled: true, error: StepError::cancelled() };
    assert!(matches!(
        replication_jobs::end(store, "job-4", &cancelled).await.unwrap_err(),
        StoreError::Transition { .. }
    ));
    let all = replication_jobs::list(store, &Filter::default(), 10).await.unwrap();
    assert_eq!(all.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["job-4", "job-3", "job-2", "job-1"]);
    let page =
        Filter { status: Some(ReplicationStatus::Failed), before: Some("job-3".to_owned()), ..Filter::default() };
    assert_eq!(replication_jobs::list(store, &page, 10).await.unwrap().len(), 1);
    assert_eq!(replication_jobs::unfinished(store).await.unwrap(), []);
}

async fn one_replication_at_a_time(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let volumes = fixture::volumes(store, &context_id).await;
    let start = |n: u32| {
        let (store, context_id) = (store.clone(), context_id.clone());
        tokio::spawn(async move {
            replication_jobs::start(&store, &format!("job-{n}"), &context_id, ReplicationType::Initial, None).await
        })
    };
    let outcomes = futures::future::join_all((0..8).map(start)).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM replication_jobs").await, 1);
    let running = contexts::by_id(store, &context_id).await.unwrap().current_job_id.unwrap();
    // A repeat of the step that began it finds it begun.
    replication_jobs::start(store, &running, &context_id, ReplicationType::Initial, None).await.unwrap();
    assert_eq!(replication_jobs::delete(store, &running).await.unwrap_err().kind(), FailureKind::Conflict);

    // Its disks stand still meanwhile; what vCenter says beside is taken.
    let mut seen = fixture::discovered("web");
    seen.memory_mb = 8192;
    discovery::upsert(store, &seen, &Assignment::default()).await.unwrap();
    seen.disks[0].capacity_bytes *= 2;
    let error = discovery::upsert(store, &seen, &Assignment::default()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);
    assert_eq!(*contexts::by_id(store, &context_id).await.unwrap().memory_mb, 8192);

    // Its exports are closed when it ends.
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    let mut export = fixture::export(&context_id, &disks[0].id, &volumes[0]);
    export.job_id = Some(running.clone());
    nbd_exports::open(store, &export).await.unwrap();
    let ending = Ending { cancelled: true, error: StepError::cancelled() };
    replication_jobs::end(store, &running, &ending).await.unwrap();
    assert!(!nbd_exports::target(store, &export.export_name).await.unwrap().unwrap().is_open());
    assert_eq!(*contexts::by_id(store, &context_id).await.unwrap().current_status, ContextStatus::Discovered);
    export.job_id = None;
    assert!(nbd_exports::open(store, &export).await.is_ok(), "closed for good");
}
