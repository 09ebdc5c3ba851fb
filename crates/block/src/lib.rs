//! Devices of bytes: one trait, files and block devices behind it, exact zero detection, digests of leaves.
//!
//! Everything is synchronous and positioned; threads share a device. No network, no protocol, no runtime.

pub mod buffer;
pub mod device;
pub mod digest;
pub mod error;
pub mod fault;
pub mod file;
pub mod memory;
pub mod region;
pub mod zero;

pub use buffer::PageBuffer;
pub use device::BlockDevice;
pub use error::BlockError;
pub use fault::{Fault, FaultDevice, FaultPlan};
pub use file::FileDevice;
pub use memory::MemoryDevice;
pub use region::{Region, RegionState};
