//! The target platform and its devices: CloudStack targets, volumes, mappings, exports, operations.

use model::status::{
    ExportKind, ExportStatus, LinuxState, OperationMode, OperationStatus, OperationType, VolumeSnapshotStatus,
    VolumeState, VolumeType, stored_texts,
};

use crate::schema::description::{Table, count, double, flag, id, json, name, one_of, text, time};

/// The tables of this area.
pub(in crate::schema) fn target() -> Vec<Table> {
    vec![
        ossea_configs(),
        ossea_volumes(),
        device_mappings(),
        nbd_exports(),
        volume_operations(),
        volume_operation_history(),
        volume_daemon_metrics(),
    ]
}

fn ossea_configs() -> Table {
    Table::new(
        "ossea_configs",
        [
            id("id"),
            name("name").unique(),
            text("api_url"),
            text("api_key_encrypted"),
            text("secret_key_encrypted"),
            name("domain"),
            name("zone"),
            id("template_id").optional(),
            id("network_id").optional(),
            id("service_offering_id").optional(),
            id("disk_offering_id").optional(),
            id("oma_vm_id").optional(),
            name("tls_fingerprint").optional(),
            flag("is_active"),
        ],
    )
    .timestamped()
}

fn ossea_volumes() -> Table {
    Table::new(
        "ossea_volumes",
        [
            id("id"),
            id("volume_id").unique(),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            name("volume_name"),
            count("size_gb"),
            count("size_bytes"),
            id("disk_offering_id"),
            id("zone_id"),
            one_of("volume_type", stored_texts::<VolumeType>()),
            one_of("state", stored_texts::<VolumeState>()),
            name("device_path").optional(),
            id("vm_id").optional(),
            id("ossea_config_id").holds("ossea_configs", "id"),
            id("snapshot_id").optional(),
            one_of("snapshot_status", stored_texts::<VolumeSnapshotStatus>()),
            time("snapshot_created_at").optional(),
        ],
    )
    .timestamped()
}

fn device_mappings() -> Table {
    Table::new(
        "device_mappings",
        [
            id("id"),
            id("volume_uuid").unique(),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id").optional(),
            count("volume_id_numeric").optional(),
            id("vm_id"),
            one_of("operation_mode", stored_texts::<OperationMode>()),
            count("cloudstack_device_id").optional(),
            name("device_path").optional().unique(),
            name("persistent_device_name").optional(),
            name("symlink_path").optional(),
            name("serial"),
            flag("requires_device_correlation"),
            name("cloudstack_state"),
            one_of("linux_state", stored_texts::<LinuxState>()),
            count("size_bytes"),
            id("ossea_snapshot_id").optional(),
            one_of("snapshot_status", stored_texts::<VolumeSnapshotStatus>()),
            time("snapshot_created_at").optional(),
            time("last_sync"),
        ],
    )
    .timestamped()
}

fn nbd_exports() -> Table {
    Table::new(
        "nbd_exports",
        [
            id("id"),
            name("export_name").unique(),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("job_id").owned_by("replication_jobs", "id").optional(),
            id("vm_disk_id").owned_by("vm_disks", "id").optional(),
            id("device_mapping_uuid").owned_by("device_mappings", "volume_uuid").optional(),
            one_of("kind", stored_texts::<ExportKind>()),
            flag("read_only"),
            count("size_bytes"),
            id("enrollment_id").optional(),
            count("port"),
            one_of("status", stored_texts::<ExportStatus>()),
            json("metadata"),
        ],
    )
    .timestamped()
    .index(&["enrollment_id", "status"])
    .check("volume_is_complete", "kind <> 'volume' OR (vm_disk_id IS NOT NULL AND device_mapping_uuid IS NOT NULL)")
}

fn volume_operations() -> Table {
    Table::new(
        "volume_operations",
        [
            id("id"),
            one_of("type", stored_texts::<OperationType>()),
            one_of("status", stored_texts::<OperationStatus>()),
            id("volume_id").optional(),
            id("vm_id").optional(),
            json("request"),
            json("response").optional(),
            text("error").optional(),
            id("cloudstack_job_id").optional(),
            id("correlation_id"),
            name("idempotency_key").unique(),
            count("fence"),
            count("attempts"),
            time("completed_at").optional(),
        ],
    )
    .timestamped()
    .index(&["status", "updated_at"])
    .index(&["volume_id"])
}

fn volume_operation_history() -> Table {
    Table::new(
        "volume_operation_history",
        [
            id("id"),
            id("operation_id").owned_by("volume_operations", "id"),
            one_of("previous_status", stored_texts::<OperationStatus>()),
            one_of("new_status", stored_texts::<OperationStatus>()),
            time("changed_at"),
            json("details"),
        ],
    )
}

fn volume_daemon_metrics() -> Table {
    Table::new(
        "volume_daemon_metrics",
        [
            id("id"),
            time("timestamp"),
            count("total_operations"),
            count("pending_operations"),
            count("active_mappings"),
            json("operations_by_type"),
            json("operations_by_status"),
            double("average_response_time_ms"),
            double("error_rate_percent"),
            json("details"),
        ],
    )
    .index(&["timestamp"])
}
