//! The VMware side as the hub knows it: how to reach each vCenter, what the last scan saw, and VMs added from it.

mod add;
mod convert;
mod known;
mod scan;
pub mod vcenter;

pub use add::add;
pub(crate) use known::vm_called;
pub use scan::{ScanCache, scan};
