//! The real volume daemon over HTTP against the simulated CloudStack, with a real database: the life of a volume,
//! the operations of a failover, failures of CloudStack, and crashes in the middle of operations.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "volume_daemon/crashes.rs"]
mod crashes;
#[path = "volume_daemon/failover_crashes.rs"]
mod failover_crashes;
#[path = "volume_daemon/faults.rs"]
mod faults;
#[path = "volume_daemon/hub.rs"]
mod hub;
#[path = "volume_daemon/life.rs"]
mod life;
#[path = "volume_daemon/mending.rs"]
mod mending;
#[path = "volume_daemon/refusals.rs"]
mod refusals;
#[path = "volume_daemon/roots.rs"]
mod roots;
#[allow(dead_code, reason = "shared with tests that use all of it")]
#[path = "cloudstack_clients/signed_client.rs"]
mod signed_client;
#[path = "volume_daemon/snapshots.rs"]
mod snapshots;
#[path = "volume_daemon/strays.rs"]
mod strays;
#[path = "volume_daemon/target.rs"]
mod target;
