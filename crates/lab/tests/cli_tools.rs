//! The stand-alone probes of the command line against both simulators: what an operator sees before there is a hub.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "cli_tools/cloudstack.rs"]
mod cloudstack;
#[path = "cli_tools/program.rs"]
mod program;
#[path = "cli_tools/vcenter.rs"]
mod vcenter;
