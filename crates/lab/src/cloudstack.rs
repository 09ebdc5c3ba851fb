//! A simulated CloudStack: the signed API over real HTTP, asynchronous jobs, volumes that are real files.
//!
//! Written from the protocol alone; it must never use the product's own CloudStack client.

mod admin;
mod catalogue;
mod commands;
mod config;
mod connections;
mod entities;
mod errands;
mod error;
mod faults;
mod http;
mod hypervisor;
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
mod target_process;
mod views;
mod world;

pub use catalogue::{CUSTOM_DISK_OFFERING, SMALL_OFFERING};
pub use config::{
    ADMIN_ACCOUNT, AccountConfig, CloudstackConfig, HypervisorConfig, JobTiming, Limits, NetworkConfig, NetworkKind,
    OmaVmConfig,
};
pub use entities::{VmState, VolumeState, VolumeType};
pub use error::CloudstackSimError;
pub use faults::{Fault, FaultKind, FaultView};
pub use hypervisor::BootReport;
pub use inspection::{Counts, NicView, SnapshotView, TaggedView, VmSnapshotView, VmView, VolumeView};
pub use persist::VolumeSelector;
pub use rules::disk_serial;
pub use server::{CloudstackHandle, CloudstackSim};
pub use signature::{canonical_text, signature_of};
