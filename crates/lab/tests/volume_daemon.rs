//! The real volume daemon over HTTP against the simulated CloudStack, with a real database: the life of a volume,
//! failures of CloudStack, and crashes in the middle of operations.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "volume_daemon/crashes.rs"]
mod crashes;
#[path = "volume_daemon/hub.rs"]
mod hub;
#[path = "volume_daemon/life.rs"]
mod life;
#[path = "volume_daemon/mending.rs"]
mod mending;
#[path = "volume_daemon/refusals.rs"]
mod refusals;
#[allow(dead_code, reason = "shared with tests that use all of it")]
#[path = "cloudstack_clients/signed_client.rs"]
mod signed_client;
