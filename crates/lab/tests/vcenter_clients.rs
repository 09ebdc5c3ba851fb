//! The simulated vCenter as its clients meet it: pyVmomi from PyPI, and raw requests over TLS.
//!
//! Everything goes over real sockets; bytes are compared with what the guest wrote.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "vcenter_clients/files.rs"]
mod files;
#[path = "vcenter_clients/misbehaviour.rs"]
mod misbehaviour;
#[path = "vcenter_clients/power.rs"]
mod power;
#[path = "vcenter_clients/protocol.rs"]
mod protocol;
#[path = "vcenter_clients/pyvmomi.rs"]
mod pyvmomi;
#[path = "vcenter_clients/site.rs"]
mod site;
#[path = "vcenter_clients/soap_client.rs"]
mod soap_client;
