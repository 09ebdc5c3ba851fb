//! VMware vSphere as this product needs it: vim25 over SOAP, and datastore files over HTTPS.
//!
//! It knows nothing of replication: no policy, no retry of a failed step, nothing stored. In reading order: who is
//! spoken to and how that is trusted (`trust`, `session`), how it is spoken (`soap`, `fault`, `properties`), what is
//! there (`inventory`, `preflight`), what is done (`task`, `snapshot`, `cbt`, `reconfigure`, `power`), and how the
//! bytes of a disk are read (`folder`).

pub mod error;
pub mod fault;
pub mod moref;
pub mod soap;

mod trust;

mod properties;
mod session;

pub mod cbt;
pub mod datastores;
pub mod folder;
pub mod inventory;
pub mod power;
pub mod preflight;
pub mod reconfigure;
pub mod snapshot;
pub mod task;

pub use cbt::ChangesSince;
pub use datastores::Datastore;
pub use error::VsphereError;
pub use fault::Fault;
pub use folder::{DatastorePath, FolderAccess, FolderDisk, FolderFile, FolderStore};
pub use inventory::{
    Controller, HostRef, Nic, PowerState, ProvisioningType, RdmMode, Tools, VirtualDisk, VirtualMachine, VmSnapshot,
};
pub use moref::MoRef;
pub use preflight::{Finding, Severity};
pub use reconfigure::{AttachDisk, DiskSlot};
pub use session::{About, ConnectionSpec, KEEP_ALIVE_INTERVAL, VimSession};
pub use snapshot::VmSnapshotSpec;
pub use task::{Task, TaskOutcome};
pub use trust::{Thumbprint, Trust};
