//! The control plane's API, a file per resource.

pub mod agents;
pub mod certificates;
pub mod contexts;
pub mod credentials;
pub mod discovery;
pub mod events;
pub mod failovers;
pub mod ghosts;
pub mod groups;
pub mod jobs;
pub mod networks;
pub mod points;
pub mod probes;
pub mod progress;
pub mod replications;
pub mod target_listings;
pub mod targets;
