//! The store on both databases: one suite, run on a SQLite file and on a private MariaDB server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cognitive_complexity,
    reason = "a failed expectation is a failed test, and each assertion counts as a branch"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with the laboratory, which uses more of it")]
#[path = "../../../lab/src/mariadb.rs"]
mod mariadb;

mod agents;
mod backend;
mod concurrency;
mod fixture;
mod integrity;
mod jobs;
mod operations;
mod replication;
mod schema_files;
mod tls;
