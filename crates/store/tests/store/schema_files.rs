//! The committed `schema.*.sql` are what a migrated database holds; `UPDATE_SCHEMA=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use sqlx::Row;
use store::{DatabaseConfig, Store};

use crate::mariadb::MariaDbServer;

/// Compares with the committed file, or replaces it.
fn check(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == found,
        "{file} is not what the migrations build: if that is meant, write a migration, then run with UPDATE_SCHEMA=1"
    );
}

const HEADER: &str =
    "-- Generated from a migrated database by the tests of crates/store (UPDATE_SCHEMA=1). Do not edit.\n";

#[tokio::test]
async fn sqlite_schema_is_the_committed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Store::connect(&DatabaseConfig::Sqlite { path: path.clone() }).await.unwrap();
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    let pool = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(&path)).await.unwrap();
    let query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'seaql_%' \
                 ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 ELSE 2 END, name";
    let mut found = HEADER.to_owned();
    for row in sqlx::query(query).fetch_all(&pool).await.unwrap() {
        writeln!(found, "\n{};", row.get::<String, _>(0)).unwrap();
    }
    check("schema.sqlite.sql", &found);
}

#[tokio::test]
async fn mariadb_schema_is_the_committed_one() {
    let server = MariaDbServer::start(None).unwrap();
    let config = server.database("drift").unwrap();
    let store = Store::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    store.migrate().await.unwrap();
    let mut found = HEADER.to_owned();
    for (kind, column) in [("BASE TABLE", "TABLE"), ("VIEW", "VIEW")] {
        let names = server
            .execute(&format!(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'drift' AND table_type = '{kind}' \
                 AND table_name NOT LIKE 'seaql\\_%' ORDER BY table_name"
            ))
            .unwrap();
        for name in names.lines() {
            let shown = server.execute(&format!("USE drift; SHOW CREATE {column} `{name}`")).unwrap();
            writeln!(found, "\n{};", statement_of(&shown, name)).unwrap();
        }
    }
    check("schema.mariadb.sql", &found);
}

/// `SHOW CREATE` prints the name, the statement and, for a view, two columns about the client.
fn statement_of(shown: &str, name: &str) -> String {
    let statement = shown.trim_end().strip_prefix(name).unwrap_or(shown).trim_start();
    let statement = statement.split("\tutf8mb4").next().unwrap_or(statement);
    statement.replace("DEFINER=`migratekit`@`%` ", "").replace("`drift`.", "")
}
