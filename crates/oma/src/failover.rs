//! Failover: a replicated VM is brought up in the target cloud, for a test or for good, and taken back.
//!
//! Read `decide` (what would be made and what stands against it; pure, over `facts`), then `test_failover`,
//! `live_failover` and `endings` (the steps in order), then `steps` (what each does and how it is undone).

mod cloud;
pub(crate) mod conversion;
mod decide;
mod endings;
pub(crate) mod expiry;
mod facts;
mod finish;
#[cfg(test)]
mod fixture;
mod gather;
pub(crate) mod group;
mod hardware;
mod live_failover;
pub(crate) mod params;
mod plan;
mod preflight;
pub(crate) mod probe;
mod source;
mod spec;
pub(crate) mod start;
mod steps;
mod test_failover;
pub(crate) mod view;
mod volumes;

pub(crate) use cloud::destroyed;
pub use endings::{CLEANUP, COMMIT, ROLLBACK};
pub use group::{GROUP, GROUP_CLEANUP};
pub use live_failover::LIVE;
pub use test_failover::TEST;
