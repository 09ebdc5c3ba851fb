//! The crash matrix in its bounded form: every step of every saga meets one kind of trouble, every kind is met.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

use lab::crash_matrix::{self, Case, SagaKind, Verdict};

/// Runs the bounded cases of some sagas; every one has to pass.
async fn all_pass(sagas: &[SagaKind]) {
    let mut cases = crash_matrix::bounded();
    cases.retain(|case: &Case| sagas.contains(&case.place.saga));
    assert!(!cases.is_empty());
    let verdicts = crash_matrix::run(&cases, |_| {}).await.unwrap();
    let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.passed).collect();
    assert!(failed.is_empty() && verdicts.len() == cases.len(), "{failed:#?}\n{}", crash_matrix::table(&verdicts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_failover_survives_every_kind_of_trouble() {
    all_pass(&[SagaKind::Test]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_failover_survives_every_kind_of_trouble() {
    all_pass(&[SagaKind::Live]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_survives_every_kind_of_trouble() {
    all_pass(&[SagaKind::Cleanup]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_survives_every_kind_of_trouble() {
    all_pass(&[SagaKind::Rollback]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_and_deleted_through_every_kind_of_trouble() {
    all_pass(&[SagaKind::Replication, SagaKind::Teardown]).await;
}
