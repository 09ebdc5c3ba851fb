//! Many writers at once: nobody is told that the database is locked, and migrations do not collide.

use joblog::{JobStore, LogFilter, NewLogEvent};
use model::status::{LogLevel, OperationType};
use serde_json::json;
use store::volume_operations::{self as operations, NewOperation, OperationEnd};
use store::{DatabaseConfig, Store, leases, settings};
use time::{Duration, OffsetDateTime};

use crate::backend::Backend;

const WRITERS: usize = 8;
const ROUNDS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_sqlite() {
    let backend = Backend::sqlite();
    let database = backend.database("writers").await;
    many_writers(&database.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_on_mariadb() {
    let backend = Backend::mariadb();
    let database = backend.database("writers").await;
    many_writers(&database.store).await;
    let Backend::MariaDb(server) = &backend else { unreachable!() };
    migrations_do_not_collide(&server.database("migrations").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrations_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let config = DatabaseConfig::Sqlite { path: folder.path().join("store.db") };
    migrations_do_not_collide(&config).await;
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.path().join("store.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "others can read the database");
}

async fn migrations_do_not_collide(config: &DatabaseConfig) {
    let processes = (0..4).map(|_| {
        let config = config.clone();
        tokio::spawn(async move {
            let store = Store::connect(&config).await.unwrap();
            store.migrate().await
        })
    });
    for outcome in futures::future::join_all(processes).await {
        outcome.unwrap().unwrap();
    }
}

async fn many_writers(store: &Store) {
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                read_then_write(&store, writer, round).await;
            }
        })
    });
    for outcome in futures::future::join_all(writers).await {
        outcome.unwrap();
    }
    let done = operations::list(store, None, 1000).await.unwrap();
    assert_eq!(done.len(), WRITERS * ROUNDS);
    assert!(done.iter().all(operations::has_ended));
    let logged = store.log_after(&LogFilter { job_id: None, after: 0, limit: 500 }).await.unwrap();
    assert_eq!(logged.len(), WRITERS * ROUNDS);
}

/// Each of these reads in a transaction before it writes: with deferred transactions SQLite would refuse most.
async fn read_then_write(store: &Store, writer: usize, round: usize) {
    let asked = NewOperation {
        operation_type: OperationType::Cleanup,
        volume_id: None,
        vm_id: None,
        request: json!({}),
        correlation_id: "job".to_owned(),
        idempotency_key: format!("{writer}-{round}"),
    };
    let operation = operations::submit(store, &asked).await.unwrap().operation;
    let lease = operations::begin(store, &operation.id).await.unwrap();
    operations::finish(store, &lease, &OperationEnd::Completed(json!({}))).await.unwrap();
    let now = OffsetDateTime::now_utc();
    leases::acquire(store, "tick", &format!("w{writer}"), now, now + Duration::milliseconds(1)).await.unwrap();
    settings::put(store, &format!("writer-{writer}"), json!(round)).await.unwrap();
    let event = NewLogEvent {
        job_id: None,
        step_id: None,
        step: None,
        level: LogLevel::Info,
        message: "round".to_owned(),
        attrs: json!({}),
        at: now,
    };
    store.append_log(&[event]).await.unwrap();
}
