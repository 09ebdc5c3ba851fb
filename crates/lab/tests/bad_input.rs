//! What an operator, an agent or a stranger can do wrong, against the running product: every refusal says its kind, its
//! cause and what to do, and leaves everything as it was.
//!
//! Simulators, hub and agent are processes of their own; commands go through the real command line.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "bad_input/agents.rs"]
mod agents;
#[path = "bad_input/malformed_http.rs"]
mod malformed_http;
#[path = "bad_input/malformed_nbd.rs"]
mod malformed_nbd;
#[path = "bad_input/memory.rs"]
mod memory;
#[path = "bad_input/refusal.rs"]
mod refusal;
#[path = "bad_input/replica.rs"]
mod replica;
#[path = "bad_input/site.rs"]
mod site;
#[path = "bad_input/sources.rs"]
mod sources;
#[path = "bad_input/strangers.rs"]
mod strangers;
#[path = "bad_input/targets.rs"]
mod targets;
