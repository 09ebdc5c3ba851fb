//! Which volumes may be opened over NBD, and by whom. The rows are all there is: the gateway asks them.

use std::path::Path;

use api::volume::CreateExport;
use model::FailureKind;
use model::id::volume_export_name;
use model::status::{ExportKind, ExportStatus, LinuxState};
use serde_json::json;
use store::nbd_exports::{self, NbdExport, NewExport};
use store::{device_mappings, ossea_volumes};

use crate::daemon::Daemon;
use crate::device::scan::present_size;
use crate::error::VolumeDaemonError;
use crate::ops;

/// Most exports read at once: one for each volume a hub can hold, many times over.
pub(crate) const MAX_EXPORTS: u32 = 10_000;

/// Makes the export of a volume, or opens it again for another job and agent: there is one for each volume.
pub(crate) async fn create(daemon: &Daemon, asked: CreateExport) -> Result<NbdExport, VolumeDaemonError> {
    if asked.kind != ExportKind::Volume {
        return Err(VolumeDaemonError::Request(format!("exports of kind {} are not made here", asked.kind)));
    }
    // No attachment or detachment may begin in between.
    let _one_at_a_time = daemon.accepting.lock().await;
    if let Some(other) = ops::busy_with(daemon, &asked.volume_uuid).await? {
        return Err(ops::busy(&asked.volume_uuid, &other));
    }
    let size_bytes = exportable_size(daemon, &asked).await?;
    let export = NewExport {
        export_name: volume_export_name(&asked.volume_uuid),
        vm_context_id: asked.vm_context_id,
        job_id: asked.job_id,
        vm_disk_id: Some(asked.vm_disk_id),
        device_mapping_uuid: Some(asked.volume_uuid),
        kind: asked.kind,
        read_only: asked.read_only,
        size_bytes,
        enrollment_id: asked.enrollment_id,
        metadata: json!({
            "disk_uuid": asked.disk_uuid,
            "capacity_bytes": asked.capacity_bytes,
            "journal": asked.journal,
        }),
    };
    let row = nbd_exports::open(&daemon.store, &export).await?;
    tracing::info!(export = row.export_name, job_id = row.job_id, read_only = row.read_only, "opened an export");
    Ok(row)
}

/// Size of the device behind an export, after everything that forbids the export.
async fn exportable_size(daemon: &Daemon, asked: &CreateExport) -> Result<u64, VolumeDaemonError> {
    let volume = ossea_volumes::by_volume_id(&daemon.store, &asked.volume_uuid).await?;
    if volume.vm_context_id != asked.vm_context_id {
        return Err(VolumeDaemonError::ForeignVolume {
            volume_uuid: asked.volume_uuid.clone(),
            owner: volume.vm_context_id,
            asked: asked.vm_context_id.clone(),
        });
    }
    let absent = |linux_state| VolumeDaemonError::NotPresent { volume_uuid: asked.volume_uuid.clone(), linux_state };
    let mapping = match device_mappings::by_volume(&daemon.store, &asked.volume_uuid).await {
        Err(error) if error.kind() == FailureKind::NotFound => return Err(absent(LinuxState::Absent)),
        other => other?,
    };
    let link = mapping.symlink_path.as_ref().or(mapping.device_path.as_ref());
    let (LinuxState::Present, Some(link)) = (*mapping.linux_state, link) else {
        return Err(absent(*mapping.linux_state));
    };
    // The device may have changed since it was recorded, and bytes are about to be written to it.
    let present = present_size(Path::new(link)).await?.ok_or_else(|| absent(LinuxState::Absent))?;
    let size_bytes = present.min(*mapping.size_bytes);
    if size_bytes < asked.capacity_bytes {
        return Err(VolumeDaemonError::TooSmall {
            volume_uuid: asked.volume_uuid.clone(),
            size_bytes,
            capacity_bytes: asked.capacity_bytes,
        });
    }
    Ok(size_bytes)
}

/// Closes an export; closing it again does nothing.
pub(crate) async fn close(daemon: &Daemon, export_name: &str) -> Result<(), VolumeDaemonError> {
    Ok(nbd_exports::set_status(&daemon.store, export_name, ExportStatus::Closed).await?)
}

/// Closes every export of a volume that may be opened, and answers with their names.
pub(crate) async fn close_all_of(daemon: &Daemon, volume_uuid: &str) -> Result<Vec<String>, VolumeDaemonError> {
    move_all_of(daemon, volume_uuid, ExportStatus::Closed).await
}

/// Marks every export of a volume that may be opened as failed: its device is gone.
pub(crate) async fn fail_all_of(daemon: &Daemon, volume_uuid: &str) -> Result<Vec<String>, VolumeDaemonError> {
    move_all_of(daemon, volume_uuid, ExportStatus::Failed).await
}

async fn move_all_of(daemon: &Daemon, volume_uuid: &str, to: ExportStatus) -> Result<Vec<String>, VolumeDaemonError> {
    let mut moved = Vec::new();
    for export in nbd_exports::list(&daemon.store, MAX_EXPORTS).await? {
        let open = matches!(*export.status, ExportStatus::Active | ExportStatus::Pending);
        if open && export.device_mapping_uuid.as_deref() == Some(volume_uuid) {
            nbd_exports::set_status(&daemon.store, &export.export_name, to).await?;
            moved.push(export.export_name);
        }
    }
    Ok(moved)
}
