//! The client against a scripted server over real sockets: sessions, paging, tasks, datastore files, trust.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod datastore;
mod inventory;
mod server;
mod sessions;
mod tasks;
mod trust;
