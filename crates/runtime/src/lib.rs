//! What every process does alike: configuration file, tracing, HTTP serving, shutdown, backoff, sealed secrets, metrics.
//!
//! Knows nothing of disks, volumes, jobs or of what the processes serve.

pub mod config;
pub mod http;
pub mod metrics;
pub mod private_file;
pub mod retry;
pub mod sealed;
pub mod shutdown;
pub mod telemetry;
