//! The volume daemon's API: volumes, their devices, NBD exports, and operations that survive a restart.

use model::status::{
    ExportKind, ExportStatus, LinuxState, OperationMode, OperationStatus, OperationType, VolumeState, VolumeType,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::client::{Client, ClientError};
use crate::problem::Problem;

/// Asks for a new volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreateVolume {
    /// The VM context the volume belongs to.
    pub vm_context_id: String,
    /// Name in CloudStack.
    pub name: String,
    /// Size wanted in bytes; rounded up to whole GiB.
    pub size_bytes: u64,
    /// The target to create it in; the active one when absent.
    #[serde(default)]
    pub ossea_config_id: Option<String>,
    /// Root or data disk of the later VM.
    pub volume_type: VolumeType,
}

/// Asks to attach a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttachVolume {
    /// The VM to attach to; the hub's own VM when absent.
    #[serde(default)]
    pub vm_id: Option<String>,
    /// CloudStack device id; the next free one when absent.
    #[serde(default)]
    pub device_id: Option<u32>,
}

/// Asks to attach a volume as the root of a VM that is stopped, has none, and is not the hub's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttachRoot {
    /// The VM.
    pub vm_id: String,
}

/// Asks for a volume_snapshot of a volume. A volume has at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SnapshotVolume {
    /// What its name in CloudStack begins with.
    pub name: String,
    /// The VM context it is made for; must be the volume's own when given.
    #[serde(default)]
    pub vm_context_id: Option<String>,
    /// The job it is made for: the value of its job tag.
    pub job_id: String,
}

/// Asks to remove the root a VM of ours was made with: its template's, which was never started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiscardRoot {
    /// The VM context the VM must be tagged with, when given.
    #[serde(default)]
    pub vm_context_id: Option<String>,
    /// The job the VM must be tagged with, when given.
    #[serde(default)]
    pub job_id: Option<String>,
    /// The target the VM is in; when absent that of the context's volumes, else the active one.
    #[serde(default)]
    pub ossea_config_id: Option<String>,
}

/// An operation on a volume or on a VM's root: accepted, under way or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OperationView {
    /// Row id.
    pub id: String,
    /// What it does.
    #[serde(rename = "type")]
    pub operation_type: OperationType,
    /// How far it is.
    pub status: OperationStatus,
    /// CloudStack's uuid of the volume, once known.
    pub volume_id: Option<String>,
    /// The VM it concerns.
    pub vm_id: Option<String>,
    /// CloudStack's uuid of the volume_snapshot it was about, once it has completed.
    #[serde(default)]
    pub snapshot_id: Option<String>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// The job in the JobLog.
    pub correlation_id: String,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

/// A replica volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeView {
    /// CloudStack's uuid.
    pub volume_id: String,
    /// The VM context it belongs to.
    pub vm_context_id: String,
    /// Name in CloudStack.
    pub volume_name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Root or data disk.
    pub volume_type: VolumeType,
    /// State.
    pub state: VolumeState,
    /// The VM that holds it.
    pub vm_id: Option<String>,
}

/// Where an attached volume is on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeviceView {
    /// CloudStack's uuid of the volume.
    pub volume_uuid: String,
    /// Which VM holds it.
    pub operation_mode: OperationMode,
    /// What Linux shows.
    pub linux_state: LinuxState,
    /// The device node, when present.
    pub device_path: Option<String>,
    /// The stable link under `/dev/disk/by-id`.
    pub symlink_path: Option<String>,
    /// The serial the device was found by.
    pub serial: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Asks for an NBD export of a replica volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreateExport {
    /// The VM context.
    pub vm_context_id: String,
    /// The replication it is for.
    pub job_id: Option<String>,
    /// The disk whose replica it is.
    pub vm_disk_id: String,
    /// CloudStack's uuid of the volume.
    pub volume_uuid: String,
    /// What is behind it.
    pub kind: ExportKind,
    /// The only agent that may open it.
    pub enrollment_id: Option<String>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The source disk's uuid, so that the writer can prove it writes to the right export.
    pub disk_uuid: String,
    /// Size of the source disk; the volume must hold it.
    pub capacity_bytes: u64,
    /// Whether what is written goes to a journal beside the volume, which becomes its content only by a merge; else it
    /// is written in place.
    #[serde(default)]
    pub journal: bool,
}

/// An NBD export row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VolumeExportView {
    /// Row id.
    pub id: String,
    /// NBD export name.
    pub export_name: String,
    /// CloudStack's uuid of the volume.
    pub volume_uuid: Option<String>,
    /// What is behind it.
    pub kind: ExportKind,
    /// State.
    pub status: ExportStatus,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The only agent that may open it.
    pub enrollment_id: Option<String>,
}

/// What a reconcile pass found and mended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReconcileReport {
    /// Devices whose state changed.
    pub devices_changed: u32,
    /// Volumes whose state changed.
    pub volumes_changed: u32,
    /// What an operator should know, one line each.
    pub findings: Vec<String>,
}

/// Client of the volume daemon.
#[derive(Clone)]
pub struct VolumeClient {
    client: Client,
}

impl VolumeClient {
    /// To the daemon behind `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks for a new volume; the same key answers with the same operation.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn create(&self, volume: &CreateVolume, key: &str) -> Result<OperationView, ClientError> {
        self.client.post_once("/api/v1/volumes", volume, key).await
    }

    /// One volume.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn volume(&self, volume_uuid: &str) -> Result<VolumeView, ClientError> {
        self.client.get(&format!("/api/v1/volumes/{volume_uuid}")).await
    }

    /// Asks to attach a volume.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn attach(&self, volume_uuid: &str, to: &AttachVolume, key: &str) -> Result<OperationView, ClientError> {
        self.client.post_once(&format!("/api/v1/volumes/{volume_uuid}/attach"), to, key).await
    }

    /// Asks to detach a volume.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn detach(&self, volume_uuid: &str, key: &str) -> Result<OperationView, ClientError> {
        self.client.post_once(&format!("/api/v1/volumes/{volume_uuid}/detach"), &(), key).await
    }

    /// Asks to delete a volume; an attached one is refused.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn delete(&self, volume_uuid: &str, key: &str) -> Result<OperationView, ClientError> {
        self.client.delete_once(&format!("/api/v1/volumes/{volume_uuid}"), key).await
    }

    /// Asks to attach a volume as the root of a VM.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn attach_root(
        &self,
        volume_uuid: &str,
        to: &AttachRoot,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        self.client.post_once(&format!("/api/v1/volumes/{volume_uuid}/attach-root"), to, key).await
    }

    /// Asks for a volume_snapshot; the ended operation names it.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn snapshot(
        &self,
        volume_uuid: &str,
        snapshot: &SnapshotVolume,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        self.client.post_once(&format!("/api/v1/volumes/{volume_uuid}/snapshots"), snapshot, key).await
    }

    /// Asks to bring a volume back to a volume_snapshot; it must be attached to nothing.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn revert_snapshot(
        &self,
        volume_uuid: &str,
        snapshot_id: &str,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        let path = format!("/api/v1/volumes/{volume_uuid}/snapshots/{snapshot_id}/revert");
        self.client.post_once(&path, &(), key).await
    }

    /// Asks to delete a volume_snapshot of a volume; one that is gone is no error.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn delete_snapshot(
        &self,
        volume_uuid: &str,
        snapshot_id: &str,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        self.client.delete_once(&format!("/api/v1/volumes/{volume_uuid}/snapshots/{snapshot_id}"), key).await
    }

    /// Asks to remove the template's root of a VM of ours that never ran.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn discard_root(
        &self,
        vm_id: &str,
        proof: &DiscardRoot,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        self.client.post_once(&format!("/api/v1/vms/{vm_id}/discard-root"), proof, key).await
    }

    /// Asks to delete a volume that carries our tag and belongs to nothing; in the active target when none is named.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn delete_stray(
        &self,
        volume_uuid: &str,
        ossea_config_id: Option<&str>,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        let query = target_query(ossea_config_id);
        self.client.delete_once(&format!("/api/v1/strays/{volume_uuid}{query}"), key).await
    }

    /// Asks to delete a volume_snapshot that carries our tag and that no row names; in the active target when none is
    /// named.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn delete_stray_snapshot(
        &self,
        volume_uuid: &str,
        snapshot_id: &str,
        ossea_config_id: Option<&str>,
        key: &str,
    ) -> Result<OperationView, ClientError> {
        let query = target_query(ossea_config_id);
        self.client.delete_once(&format!("/api/v1/strays/{volume_uuid}/snapshots/{snapshot_id}{query}"), key).await
    }

    /// Where a volume is on the daemon's machine.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn device(&self, volume_uuid: &str) -> Result<DeviceView, ClientError> {
        self.client.get(&format!("/api/v1/volumes/{volume_uuid}/device")).await
    }

    /// One operation; `wait_seconds` > 0 answers when it ends or that time is over.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn operation(&self, id: &str, wait_seconds: u32) -> Result<OperationView, ClientError> {
        self.client.get(&format!("/api/v1/operations/{id}?wait_seconds={wait_seconds}")).await
    }

    /// Makes (or finds) the export of a volume.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn create_export(&self, export: &CreateExport) -> Result<VolumeExportView, ClientError> {
        self.client.post("/api/v1/exports", export).await
    }

    /// Closes an export: nobody may open it any more.
    ///
    /// # Errors
    /// The daemon's problem, or no answer.
    pub async fn close_export(&self, export_name: &str) -> Result<(), ClientError> {
        self.client.delete(&format!("/api/v1/exports/{export_name}")).await
    }
}

/// The target as a query; its ids are letters, digits and hyphens.
fn target_query(ossea_config_id: Option<&str>) -> String {
    ossea_config_id.map(|id| format!("?ossea_config_id={id}")).unwrap_or_default()
}
