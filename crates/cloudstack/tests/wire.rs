//! Everything that needs a server: calls and lists, jobs, changes, the probe, and whom the client trusts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "wire/calls.rs"]
mod calls;
#[path = "wire/changes.rs"]
mod changes;
#[path = "wire/jobs.rs"]
mod jobs;
#[path = "wire/probing.rs"]
mod probing;
#[path = "wire/scripted.rs"]
mod scripted;
#[path = "wire/trust.rs"]
mod trust;
