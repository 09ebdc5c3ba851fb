//! The life of a failover through every process of the product: test and cleanup, live and rollback, commit, groups,
//! probes, conversion, dry runs, and everything that has to be refused.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "life_of_a_failover/conversion.rs"]
mod conversion;
#[path = "life_of_a_failover/groups.rs"]
mod groups;
#[path = "life_of_a_failover/points.rs"]
mod points;
#[path = "life_of_a_failover/refusals.rs"]
mod refusals;
#[path = "life_of_a_failover/stage.rs"]
mod stage;
#[path = "life_of_a_failover/walk.rs"]
mod walk;
