//! Everything the simulated vCenter holds while it runs, and the one place that tells waiters something changed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::injection::Injections;
use super::inventory::Inventory;
use super::sessions::Sessions;
use super::spec::VcenterConfig;
use super::tasks::Tasks;

/// Bytes and requests served, for tests that count what a client read.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) folder_requests: AtomicU64,
    pub(crate) folder_bytes: AtomicU64,
}

/// The running simulation.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) config: VcenterConfig,
    pub(crate) address: SocketAddr,
    pub(crate) instance_uuid: String,
    pub(crate) sha1_thumbprint: String,
    pub(crate) inventory: Inventory,
    pub(crate) sessions: Sessions,
    pub(crate) tasks: Tasks,
    pub(crate) injections: Injections,
    pub(crate) counters: Counters,
    pub(crate) shutdown: CancellationToken,
    /// Counts changes; every waiter watches it.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) next_vm_snapshot: AtomicU64,
}

impl Lab {
    /// The time clients are told.
    pub(crate) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    /// Tells waiters that something changed.
    pub(crate) fn touch(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// A fresh VM snapshot id.
    pub(crate) fn vm_snapshot_id(&self) -> String {
        format!("snapshot-{}", self.next_vm_snapshot.fetch_add(1, Ordering::Relaxed))
    }
}
