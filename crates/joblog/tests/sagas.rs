//! Sagas failed, repeated, cancelled, fenced off and killed at every step, over a store in memory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "sagas/crashes.rs"]
mod crashes;
#[path = "sagas/memory_store.rs"]
mod memory_store;
#[path = "sagas/process.rs"]
mod process;
#[path = "sagas/steering.rs"]
mod steering;
#[path = "sagas/takeover.rs"]
mod takeover;
#[path = "sagas/troubles.rs"]
mod troubles;
#[path = "sagas/world.rs"]
mod world;
