//! The client against a scripted server over real sockets: sessions, paging, tasks, datastore files, trust.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "protocol/datastore.rs"]
mod datastore;
#[path = "protocol/inventory.rs"]
mod inventory;
#[path = "protocol/server.rs"]
mod server;
#[path = "protocol/sessions.rs"]
mod sessions;
#[path = "protocol/tasks.rs"]
mod tasks;
#[path = "protocol/trust.rs"]
mod trust;
