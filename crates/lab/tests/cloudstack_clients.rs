//! The simulated CloudStack as its clients meet it: the PyPI client `cs`, and signed requests of our own.
//!
//! Everything goes over real HTTP; files and links are looked at where they lie.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "cloudstack_clients/cloud.rs"]
mod cloud;
#[path = "cloudstack_clients/faults.rs"]
mod faults;
#[path = "cloudstack_clients/kills.rs"]
mod kills;
#[path = "cloudstack_clients/machines.rs"]
mod machines;
#[path = "cloudstack_clients/protocol.rs"]
mod protocol;
#[path = "cloudstack_clients/python.rs"]
mod python;
#[path = "cloudstack_clients/rules.rs"]
mod rules;
#[path = "cloudstack_clients/signed_client.rs"]
mod signed_client;
#[path = "cloudstack_clients/volumes.rs"]
mod volumes;
