//! Rows as the API shows them.

use api::Problem;
use api::volume::{DeviceView, OperationView, VolumeExportView, VolumeView};
use model::FailureKind;
use store::device_mappings::DeviceMapping;
use store::nbd_exports::NbdExport;
use store::ossea_volumes::OsseaVolume;
use store::volume_operations::VolumeOperation;

pub(crate) fn volume(row: OsseaVolume) -> VolumeView {
    VolumeView {
        volume_id: row.volume_id,
        vm_context_id: row.vm_context_id,
        volume_name: row.volume_name,
        size_bytes: *row.size_bytes,
        volume_type: *row.volume_type,
        state: *row.state,
        vm_id: row.vm_id,
    }
}

pub(crate) fn device(row: DeviceMapping) -> DeviceView {
    DeviceView {
        volume_uuid: row.volume_uuid,
        operation_mode: *row.operation_mode,
        linux_state: *row.linux_state,
        device_path: row.device_path,
        symlink_path: row.symlink_path,
        serial: row.serial,
        size_bytes: *row.size_bytes,
    }
}

pub(crate) fn export(row: NbdExport) -> VolumeExportView {
    VolumeExportView {
        id: row.id,
        export_name: row.export_name,
        volume_uuid: row.device_mapping_uuid,
        kind: *row.kind,
        status: *row.status,
        size_bytes: *row.size_bytes,
        read_only: row.read_only,
        enrollment_id: row.enrollment_id,
    }
}

pub(crate) fn operation(row: VolumeOperation) -> OperationView {
    let snapshot_id =
        row.response.as_ref().and_then(|response| response.get("snapshot_id")?.as_str()).map(str::to_owned);
    let error = row.error.map(|text| problem(&text).job(&row.correlation_id));
    OperationView {
        id: row.id,
        operation_type: *row.operation_type,
        status: *row.status,
        volume_id: row.volume_id,
        vm_id: row.vm_id,
        snapshot_id,
        error,
        correlation_id: row.correlation_id,
        created_at: *row.created_at,
        completed_at: row.completed_at.map(|time| *time),
    }
}

/// The problem in `volume_operations.error`; a text something else wrote is kept as its detail.
fn problem(text: &str) -> Problem {
    serde_json::from_str(text).unwrap_or_else(|_| Problem::new(FailureKind::Internal, text))
}
