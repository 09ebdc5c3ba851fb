//! The store on both databases: one suite, run on a SQLite file and on a private MariaDB server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cognitive_complexity,
    reason = "a failed expectation is a failed test, and each assertion counts as a branch"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with the laboratory, which uses more of it")]
#[path = "../../lab/src/mariadb.rs"]
mod mariadb;
#[allow(dead_code, unreachable_pub, reason = "shared with the laboratory, which uses more of it")]
#[path = "../../lab/src/ports.rs"]
mod ports;

#[path = "store/agents.rs"]
mod agents;
#[path = "store/backend.rs"]
mod backend;
#[path = "store/concurrency.rs"]
mod concurrency;
#[path = "store/failovers.rs"]
mod failovers;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/ghosts.rs"]
mod ghosts;
#[path = "store/groups.rs"]
mod groups;
#[path = "store/integrity.rs"]
mod integrity;
#[path = "store/jobs.rs"]
mod jobs;
#[path = "store/networks.rs"]
mod networks;
#[path = "store/operations.rs"]
mod operations;
#[path = "store/points.rs"]
mod points;
#[path = "store/replication.rs"]
mod replication;
#[path = "store/schema_files.rs"]
mod schema_files;
#[path = "store/tls.rs"]
mod tls;
