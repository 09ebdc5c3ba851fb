//! Which exports a peer may open, asked of the database at the moment it connects: nothing can go stale.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::gateway::export_description;
use async_trait::async_trait;
use block::{BlockDevice, FileDevice};
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused};
use store::Store;
use store::nbd_exports::{self, ExportTarget};

use crate::connections::Connection;
use crate::error::GatewayError;

/// Most exports named to one peer.
const MAX_LISTED: u32 = 10_000;

/// Who asks for exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An enrolled agent: its own exports, nothing else.
    Agent {
        /// Its enrolment.
        enrollment_id: String,
    },
    /// A tool on this machine: every export, for reading only unless writes are allowed.
    Local {
        /// Whether it may write.
        may_write: bool,
    },
}

/// The exports of one peer.
pub struct PeerExports {
    store: Store,
    peer: Peer,
    connection: Arc<Connection>,
}

impl PeerExports {
    /// What `peer` may open on this connection.
    #[must_use]
    pub fn new(store: Store, peer: Peer, connection: Arc<Connection>) -> Self {
        Self { store, peer, connection }
    }

    fn enrollment(&self) -> Option<&str> {
        match &self.peer {
            Peer::Agent { enrollment_id } => Some(enrollment_id),
            Peer::Local { .. } => None,
        }
    }

    async fn find(&self, name: &str) -> Result<ExportTarget, OpenRefused> {
        let found = nbd_exports::target(&self.store, name).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, name, "cannot look up an export");
            OpenRefused::Busy { reason: "the hub's database does not answer".to_owned() }
        })?;
        let target = found.ok_or(OpenRefused::Unknown)?;
        if self.enrollment().is_some_and(|own| target.enrollment_id.as_deref() != Some(own)) {
            // The same answer as for a name that does not exist: another agent's exports are not told.
            tracing::warn!(name, peer = ?self.peer, "an agent asked for another agent's export");
            return Err(OpenRefused::Unknown);
        }
        if !target.is_open() {
            return Err(OpenRefused::Busy { reason: "the export is closed or its device is not present".to_owned() });
        }
        Ok(target)
    }

    async fn open_found(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        let target = self.find(name).await?;
        let read_only = target.read_only || self.peer == Peer::Local { may_write: false };
        let device = open_device(&target, read_only).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, name, "cannot open the device of an export");
            OpenRefused::Busy { reason: error.to_string() }
        })?;
        Ok(OpenExport { device, read_only, multi_conn: true, description: description(&target) })
    }
}

#[async_trait]
impl ExportSource for PeerExports {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        // Before the look-up: whoever closes the export meanwhile is seen there or finds this connection to cut.
        self.connection.chose(name);
        let opened = self.open_found(name).await;
        if opened.is_err() {
            self.connection.was_refused();
        }
        opened
    }

    async fn list(&self) -> Vec<ExportListing> {
        let active = nbd_exports::active(&self.store, self.enrollment(), MAX_LISTED).await;
        let active = active.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot list exports");
            Vec::new()
        });
        active
            .into_iter()
            .map(|target| ExportListing {
                description: description(&target).unwrap_or_default(),
                name: target.export_name,
            })
            .collect()
    }
}

/// The device behind an active export.
///
/// # Errors
/// There is no such export, or the database fails.
pub async fn device_path(store: &Store, name: &str) -> Result<PathBuf, GatewayError> {
    let found = nbd_exports::target(store, name).await.map_err(|source| GatewayError::Database { source })?;
    let open = found.filter(ExportTarget::is_open);
    stable_path(open.as_ref()).ok_or_else(|| GatewayError::NoExport { name: name.to_owned() })
}

/// The stable link where there is one: a device node may be given to another volume.
fn stable_path(target: Option<&ExportTarget>) -> Option<PathBuf> {
    let target = target?;
    target.symlink_path.as_ref().or(target.device_path.as_ref()).map(PathBuf::from)
}

fn description(target: &ExportTarget) -> Option<String> {
    target.metadata.get("disk_uuid").and_then(|uuid| uuid.as_str()).map(export_description)
}

async fn open_device(target: &ExportTarget, read_only: bool) -> Result<Arc<dyn BlockDevice>, GatewayError> {
    let name = target.export_name.clone();
    let path = stable_path(Some(target)).ok_or_else(|| GatewayError::NoExport { name: name.clone() })?;
    let expected = *target.size_bytes;
    let opened = tokio::task::spawn_blocking(move || checked(&name, &path, expected, read_only)).await;
    opened.unwrap_or_else(|error| Err(GatewayError::Digests { reason: error.to_string() }))
}

fn checked(name: &str, path: &Path, expected: u64, read_only: bool) -> Result<Arc<dyn BlockDevice>, GatewayError> {
    let failed = |source| GatewayError::Device { name: name.to_owned(), path: path.to_owned(), source };
    let device = FileDevice::open(path, read_only).map_err(failed)?;
    if device.size_bytes() < expected {
        return Err(GatewayError::DeviceTooSmall {
            name: name.to_owned(),
            path: path.to_owned(),
            size_bytes: device.size_bytes(),
            expected_bytes: expected,
        });
    }
    Ok(Arc::new(device))
}
