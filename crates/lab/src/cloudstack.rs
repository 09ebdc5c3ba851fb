//! A simulated CloudStack: the signed API over real HTTP, asynchronous jobs, volumes that are real files.
//!
//! Written from the protocol alone; it must never use the product's own CloudStack client.

mod admin;
mod catalogue;
mod commands;
mod config;
mod entities;
mod error;
mod faults;
mod http;
mod inspection;
mod jobs;
mod json;
mod params;
mod persist;
mod refusal;
mod rules;
mod seed;
mod server;
mod signature;
mod storage;
mod views;
mod world;

pub use catalogue::{CUSTOM_DISK_OFFERING, SMALL_OFFERING};
pub use config::{ADMIN_ACCOUNT, AccountConfig, CloudstackConfig, JobTiming, Limits, OmaVmConfig};
pub use entities::{VmState, VolumeState, VolumeType};
pub use error::CloudstackSimError;
pub use faults::{Fault, FaultKind};
pub use inspection::{Counts, VmView, VolumeView};
pub use persist::VolumeSelector;
pub use rules::disk_serial;
pub use server::{CloudstackHandle, CloudstackSim};
pub use signature::{canonical_text, signature_of};
