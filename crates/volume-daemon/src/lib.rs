//! The volume daemon: the only process that changes volumes in CloudStack and says which volume is which device here.
//!
//! Every change is an operation that survives a restart. Copies no bytes, serves no NBD, knows nothing of VMware.

mod clouds;
mod config;
mod daemon;
mod device;
mod error;
mod exports;
mod http;
mod ops;
mod own_vm;
mod reconcile;
mod serve;
mod views;

pub use config::VolumeDaemonConfig;
pub use device::correlate::CorrelateError;
pub use error::VolumeDaemonError;
pub use ops::refusal::Refusal;
pub use serve::{VolumeDaemon, run};
