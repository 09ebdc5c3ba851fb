//! Images that qemu-img made, or that it agrees about, are read byte for byte; damaged ones are told.
//!
//! Programs these tests need come from the Debian packages qemu-utils, tar and python3; a missing one fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed assertion is what a test is for")]

mod archives;
mod chains;
mod damage;
mod harness;
mod huge;
mod names;
mod random;
mod redo_logs;
mod streams;
mod subformats;
mod writer;
