//! `migratekit nbd serve|info|copy` against the tools of libnbd, nbdkit and QEMU.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

mod copy;
mod harness;
mod info;
mod serve;
