//! Ghosts through every process of the product: what was left in CloudStack and vCenter is listed with its reason and
//! removed when an operator says so; what a VM or a failover needs is neither listed nor removed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "ghosts/leftovers.rs"]
mod leftovers;
#[allow(dead_code, reason = "shared with tests that use all of it")]
#[path = "cloudstack_clients/signed_client.rs"]
mod signed_client;
#[path = "ghosts/stage.rs"]
mod stage;
#[path = "ghosts/standing.rs"]
mod standing;
