//! The database: schema, migrations, every query. The only crate that knows SQL.
//!
//! One file per table; what others call is `store::<table>::<query>(&store, …)`. Statuses move only along the
//! transitions of `model`: the UPDATE names the statuses it may come from and an update that found none is a conflict.
//! No business decisions are taken here beyond what keeps rows consistent with one another.

mod connect;
mod error;
mod migration;
mod schema;
mod transition;
mod value;

// The VM-centric core.
pub mod cbt_history;
pub mod commit;
pub mod discovery;
pub mod equality_certificates;
pub mod failover_jobs;
pub mod network_mappings;
pub mod recovery_points;
pub mod replication_jobs;
pub mod vm_disks;
pub mod vm_replication_contexts;

// Groups of VMs.
pub mod vm_group_memberships;
pub mod vm_machine_groups;

// The target platform and its devices.
pub mod device_mappings;
pub mod nbd_exports;
pub mod ossea_configs;
pub mod ossea_volumes;
pub mod volume_operation_history;
pub mod volume_operations;
pub mod volume_snapshots;

// The job log: `Store` is a `joblog::JobStore`.
mod job_steps;
mod job_tracking;
mod joblog;
mod log_events;

// Agents.
pub mod vma_active_connections;
pub mod vma_connection_audit;
pub mod vma_enrollments;
pub mod vma_pairing_codes;
pub mod vmware_credentials;

// People and the hub itself.
pub mod api_tokens;
pub mod leases;
pub mod settings;
pub mod users;

pub use connect::{DatabaseConfig, MariaDbTls, Store};
pub use error::StoreError;
pub use joblog::unfinished_jobs;
pub use value::{Count, Stored, Timestamp};
