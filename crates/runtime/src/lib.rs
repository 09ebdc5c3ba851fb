//! What every process does alike: configuration, tracing, HTTP serving, shutdown, secrets at rest, private files.
//!
//! Nothing of what any process is for.

pub mod config;
pub mod http;
pub mod private_file;
pub mod sealed;
pub mod shutdown;
pub mod telemetry;
