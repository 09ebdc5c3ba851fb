//! The handlers, a file per resource. They translate between HTTP and the modules that do the work.

pub mod agents;
pub(crate) mod certificates;
pub(crate) mod contexts;
pub(crate) mod credentials;
pub(crate) mod discovery;
pub mod enroll;
pub mod events;
pub(crate) mod failovers;
pub(crate) mod ghosts;
pub mod health;
pub mod job_view;
pub mod jobs;
pub(crate) mod machine_groups;
mod metrics;
pub(crate) mod network_mappings;
pub mod openapi;
pub(crate) mod points;
pub(crate) mod replications;
pub(crate) mod target_listings;
pub(crate) mod targets;
