//! Recovery points: made by the commit alone, moved on once, gone with their disk.

use model::FailureKind;
use model::status::PointState;
use store::commit::commit_replication;
use store::recovery_points::{self as points, NewPoint, RecoveryPoint};
use store::{Store, StoreError, discovery, vm_disks, vm_replication_contexts as contexts};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn recovery_points_on_sqlite() {
    recovery_points(&Backend::sqlite()).await;
}

#[tokio::test]
async fn recovery_points_on_mariadb() {
    recovery_points(&Backend::mariadb()).await;
}

async fn recovery_points(backend: &Backend) {
    points_come_with_their_commit(&backend.database("points").await).await;
    a_point_ends_once(&backend.database("point_ends").await).await;
    a_vm_keeps_as_many_as_it_was_told(&backend.database("keep_points").await).await;
}

/// Commits `job_id` with a journal for each disk.
async fn commit_point(store: &Store, context_id: &str, job_id: &str, sequence: u32) {
    fixture::running_job(store, context_id, job_id).await;
    let mut commit = fixture::commit(job_id, sequence);
    for disk in &mut commit.disks {
        let export_name = format!("export-{}", disk.disk_id);
        disk.journal = Some(NewPoint { export_name, index_bytes: 100, data_bytes: 4096 * u64::from(sequence) });
    }
    commit_replication(store, &commit, None).await.unwrap();
    commit_replication(store, &commit, None).await.unwrap();
}

fn jobs(rows: &[RecoveryPoint]) -> Vec<&str> {
    rows.iter().map(|row| row.job_id.as_str()).collect()
}

async fn points_come_with_their_commit(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    assert_eq!(points::kept(store, 10).await.unwrap(), [], "the first copy is written in place");
    commit_point(store, &context_id, "job-2", 2).await;
    commit_point(store, &context_id, "job-3", 3).await;
    let of_disk = points::of_export(store, "export-disk-2000").await.unwrap();
    assert_eq!(jobs(&of_disk), ["job-2", "job-3"], "oldest first");
    assert_eq!(of_disk.iter().map(|row| *row.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((of_disk[1].change_id.as_deref(), *of_disk[1].data_bytes), (Some("52 aa/3"), 3 * 4096));
    assert_eq!((*of_disk[0].state, of_disk[0].ended_at), (PointState::Kept, None));

    // A commit that fails makes none.
    fixture::running_job(store, &context_id, "job-4").await;
    let mut bad = fixture::commit("job-4", 4);
    bad.disks[0].journal = Some(NewPoint { export_name: "export-disk-2000".into(), index_bytes: 1, data_bytes: 1 });
    bad.disks[1].certificate.previous_certificate_id = Some("nothing".to_owned());
    assert!(commit_replication(store, &bad, None).await.is_err());
    assert!(points::of_job(store, "export-disk-2000", "job-4").await.unwrap().is_none());
    let found = points::of_job(store, "export-disk-2000", "job-3").await.unwrap().unwrap();
    assert_eq!(points::by_id(store, &found.id).await.unwrap(), found);

    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    database.sql(&format!("DELETE FROM vm_disks WHERE id = '{}'", disks[0].id)).await.unwrap();
    assert_eq!(points::of_export(store, "export-disk-2000").await.unwrap(), []);
    assert_eq!(points::kept(store, 10).await.unwrap().len(), 2);
}

async fn a_point_ends_once(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    for sequence in 2..5 {
        commit_point(store, &context_id, &format!("job-{sequence}"), sequence).await;
    }
    let of_disk = points::of_export(store, "export-disk-2000").await.unwrap();
    points::set_state(store, &of_disk[0].id, PointState::Merged).await.unwrap();
    let merged = points::by_id(store, &of_disk[0].id).await.unwrap();
    points::set_state(store, &of_disk[0].id, PointState::Merged).await.unwrap();
    assert_eq!(points::by_id(store, &of_disk[0].id).await.unwrap(), merged, "said twice");
    assert!(merged.ended_at.is_some());
    let error = points::set_state(store, &of_disk[0].id, PointState::Discarded).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }));
    let error = points::set_state(store, "nothing", PointState::Merged).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);

    points::merge_begins(store, &of_disk[1].id).await.unwrap();
    points::merge_begins(store, &merged.id).await.unwrap();
    let merging = points::by_id(store, &of_disk[1].id).await.unwrap();
    assert_eq!(
        (*merging.state, merging.ended_at.is_some()),
        (PointState::Kept, true),
        "its volume is no state meanwhile"
    );
    assert_eq!(points::by_id(store, &merged.id).await.unwrap(), merged, "what is merged stays so");
    assert_eq!(points::discard_all_of(store, "export-disk-2000").await.unwrap(), 2);
    assert_eq!(points::discard_all_of(store, "export-disk-2000").await.unwrap(), 0);
    assert_eq!(points::discard_all_of(store, "export-disk-2001").await.unwrap(), 3);
    assert_eq!(points::kept(store, 10).await.unwrap(), []);
    let all = points::of_context(store, &context_id, None, 10).await.unwrap();
    let state = |state| all.iter().filter(|row| *row.state == state).count();
    assert_eq!((all.len(), state(PointState::Merged), state(PointState::Discarded)), (6, 1, 5));
    assert_eq!(points::of_context(store, &context_id, Some(PointState::Kept), 10).await.unwrap(), []);
    // The numbers go on: a later point is newer than every one that ever was.
    commit_point(store, &context_id, "job-9", 9).await;
    assert_eq!(*points::of_export(store, "export-disk-2000").await.unwrap()[0].sequence, 4);
}

async fn a_vm_keeps_as_many_as_it_was_told(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    assert_eq!(*contexts::by_id(store, &context_id).await.unwrap().keep_points, 0);
    contexts::set_keep_points(store, &context_id, 7).await.unwrap();
    discovery::upsert(store, &fixture::discovered("web"), &contexts::Assignment::default()).await.unwrap();
    assert_eq!(*contexts::by_id(store, &context_id).await.unwrap().keep_points, 7, "discovery does not forget it");
    let error = contexts::set_keep_points(store, "nobody", 1).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
}
