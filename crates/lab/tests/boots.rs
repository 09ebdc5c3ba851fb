//! VMs of the simulated CloudStack that really boot: from their own volumes, in QEMU, as whoever fails over meets them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "cloudstack_clients/cloud.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod cloud;
#[path = "boots/ends.rs"]
mod ends;
#[path = "boots/guests.rs"]
mod guests;
#[path = "boots/refusals.rs"]
mod refusals;
#[path = "cloudstack_clients/signed_client.rs"]
#[allow(dead_code, reason = "shared with tests that use all of it")]
mod signed_client;
#[path = "boots/stage.rs"]
mod stage;
#[path = "boots/world.rs"]
mod world;
