//! Which exports a peer may open, asked of the database at the moment it connects: nothing can go stale. What a name
//! opens is the [`Replicas`]' business.

use std::sync::Arc;

use api::gateway::export_description;
use async_trait::async_trait;
use block::BlockDevice;
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused};
use store::nbd_exports::{self, ExportTarget};
use store::recovery_points;
use store::{Store, StoreError};

use crate::connections::Connection;
use crate::error::GatewayError;
use crate::names::{Asked, point_name};
use crate::replicas::{Replicas, disk_uuid};

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
    /// A tool on this machine: every export and recovery point, for reading only unless writes are allowed.
    Local {
        /// Whether it may write.
        may_write: bool,
    },
}

/// The exports of one peer.
pub(crate) struct PeerExports {
    store: Store,
    replicas: Arc<Replicas>,
    peer: Peer,
    connection: Arc<Connection>,
}

impl PeerExports {
    /// What `peer` may open on this connection.
    #[must_use]
    pub(crate) fn new(store: Store, replicas: Arc<Replicas>, peer: Peer, connection: Arc<Connection>) -> Self {
        Self { store, replicas, peer, connection }
    }

    fn enrollment(&self) -> Option<&str> {
        match &self.peer {
            Peer::Agent { enrollment_id } => Some(enrollment_id),
            Peer::Local { .. } => None,
        }
    }

    async fn find(&self, name: &str) -> Result<ExportTarget, OpenRefused> {
        let found = nbd_exports::target(&self.store, name).await.map_err(|error| no_answer(name, &error))?;
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

    async fn open_asked(&self, asked: Asked<'_>) -> Result<OpenExport, OpenRefused> {
        match asked {
            Asked::Export(export) => {
                let target = self.find(export).await?;
                self.open_plain(&target).await.map_err(|error| refusal(export, &error))
            }
            Asked::Writing { export, generation } => {
                let target = self.find(export).await?;
                if target.read_only || self.peer == (Peer::Local { may_write: false }) {
                    return Err(OpenRefused::Forbidden { reason: "the export is for reading only".to_owned() });
                }
                let device = self.replicas.writer(&target, generation).await;
                let device = device.map_err(|error| refusal(export, &error))?;
                Ok(opened(device, false, description(&target)))
            }
            Asked::Ledger { export, generation } => {
                let target = self.find(export).await?;
                let device = self.replicas.ledger(&target, generation).await;
                let device = device.map_err(|error| refusal(export, &error))?;
                Ok(opened(device, true, description(&target)))
            }
            Asked::Point(id) => self.open_point(id).await,
        }
    }

    async fn open_plain(&self, target: &ExportTarget) -> Result<OpenExport, GatewayError> {
        let may_write = match self.peer {
            Peer::Agent { .. } => !target.read_only,
            // A tool that may write often only reads: it is not to cost a run that was cut off what it has sent.
            Peer::Local { may_write } => {
                may_write && !target.read_only && !self.replicas.is_waiting(&target.export_name).await?
            }
        };
        let writer = if may_write { self.replicas.plain_writer(target).await? } else { None };
        let read_only = writer.is_none();
        let device = match writer {
            Some(device) => device,
            None => self.replicas.view(target, None).await?,
        };
        Ok(opened(device, read_only, description(target)))
    }

    /// A recovery point is for tools on this machine, also while its export is closed.
    async fn open_point(&self, id: &str) -> Result<OpenExport, OpenRefused> {
        if self.enrollment().is_some() {
            return Err(OpenRefused::Unknown);
        }
        let name = point_name(id);
        let point = recovery_points::by_id(&self.store, id).await.map_err(|error| match error {
            StoreError::NotFound { .. } => OpenRefused::Unknown,
            error => no_answer(&name, &error),
        })?;
        let target = nbd_exports::target(&self.store, &point.export_name).await;
        let target = target.map_err(|error| no_answer(&name, &error))?.ok_or(OpenRefused::Unknown)?;
        let device = self.replicas.view(&target, Some(id)).await.map_err(|error| refusal(&name, &error))?;
        Ok(opened(device, true, description(&target)))
    }

    /// The recovery points with words for people; none for agents.
    async fn list_points(&self) -> Vec<ExportListing> {
        if self.enrollment().is_some() {
            return Vec::new();
        }
        let kept = recovery_points::kept(&self.store, MAX_LISTED).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot list recovery points");
            Vec::new()
        });
        let listing = |point: recovery_points::RecoveryPoint| ExportListing {
            description: format!(
                "recovery point {} of {}, committed {} by {}",
                *point.sequence, point.export_name, *point.committed_at, point.job_id
            ),
            name: point_name(&point.id),
        };
        kept.into_iter().map(listing).collect()
    }
}

#[async_trait]
impl ExportSource for PeerExports {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        let asked = Asked::parse(name).ok_or(OpenRefused::Unknown)?;
        // Before the look-up: whoever closes the export meanwhile is seen there or finds this connection to cut.
        self.connection.chose(asked.cut_with(name));
        let opened = self.open_asked(asked).await;
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
        let exports = active.into_iter().map(|target| ExportListing {
            description: description(&target).unwrap_or_default(),
            name: target.export_name,
        });
        exports.chain(self.list_points().await).collect()
    }
}

fn opened(device: Arc<dyn BlockDevice>, read_only: bool, description: Option<String>) -> OpenExport {
    OpenExport { device, read_only, multi_conn: true, description }
}

fn description(target: &ExportTarget) -> Option<String> {
    disk_uuid(target).map(export_description)
}

fn no_answer(name: &str, error: &StoreError) -> OpenRefused {
    tracing::error!(error = error as &dyn std::error::Error, name, "cannot look up an export");
    OpenRefused::Busy { reason: "the hub's database does not answer".to_owned() }
}

/// Logged here, as the peer only hears the outermost reason.
fn refusal(name: &str, error: &GatewayError) -> OpenRefused {
    tracing::warn!(error = error as &dyn std::error::Error, name, "an export cannot be opened");
    let reason = match error {
        GatewayError::InUse { reason, .. } | GatewayError::Refused { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    OpenRefused::Busy { reason }
}
