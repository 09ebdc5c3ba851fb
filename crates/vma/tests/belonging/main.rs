//! How an agent comes to belong to a hub and stays with it: pairing, approval, renewal, refusals.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod enrolment;
mod hub;
mod renewal;
