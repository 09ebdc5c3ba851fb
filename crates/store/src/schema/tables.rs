//! The tables themselves, one file per area.

mod agents;
mod backup;
mod certificates;
mod core;
mod joblog;
mod people;
mod recovery;
mod scheduling;
mod target;

pub(super) use agents::agents;
pub(super) use backup::backup;
pub(super) use certificates::certificates;
pub(super) use core::core;
pub(super) use joblog::joblog;
pub(super) use people::people;
pub(super) use recovery::{keep_points, recovery_points};
pub(super) use scheduling::scheduling;
pub(super) use target::target;
