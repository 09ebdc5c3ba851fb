//! Whole copies: real sources into our own NBD server, checked byte by byte against what was read.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod failures;
mod modes;
mod replica;
mod sources;
