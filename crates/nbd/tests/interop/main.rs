//! The server against real clients, the client against real servers, and both against bytes that are not NBD.
//!
//! Programs these tests need come from the Debian packages nbdkit, libnbd-bin and qemu-utils; a missing one fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed assertion is what a test is for")]

mod both_ends;
mod client;
mod harness;
mod lane;
mod malformed;
mod read_ahead;
mod server;
mod shutdown;
