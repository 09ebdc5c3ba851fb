//! The agent between a simulated vCenter and a small hub: discovery, runs, and how each of them can end.
//!
//! Everything goes over real sockets and TLS; replicas are compared with what the guest wrote.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "agent_runs/chains.rs"]
mod chains;
#[path = "agent_runs/cycles.rs"]
mod cycles;
#[path = "agent_runs/endings.rs"]
mod endings;
#[path = "agent_runs/hotadd.rs"]
mod hotadd;
#[path = "agent_runs/hub.rs"]
mod hub;
#[path = "agent_runs/ledger.rs"]
mod ledger;
#[path = "agent_runs/power.rs"]
mod power;
#[path = "agent_runs/refusals.rs"]
mod refusals;
#[path = "agent_runs/resumed.rs"]
mod resumed;
#[path = "agent_runs/site.rs"]
mod site;
