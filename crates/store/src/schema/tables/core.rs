//! The VM-centric core: contexts, replications, disks, CBT history, network mappings, failovers.

use model::status::{
    ContextStatus, DiskSyncStatus, FailoverStatus, FailoverType, Firmware, MappingType, NicStrategy, ReplicationStatus,
    ReplicationType, ValidationStatus, stored_texts,
};

use crate::schema::description::{Table, count, double, flag, id, integer, json, name, one_of, path, text, time};

/// The tables of this area.
pub(in crate::schema) fn core() -> Vec<Table> {
    vec![vm_replication_contexts(), replication_jobs(), vm_disks(), cbt_history(), network_mappings(), failover_jobs()]
}

fn vm_replication_contexts() -> Table {
    Table::new(
        "vm_replication_contexts",
        [
            id("context_id"),
            name("vm_name"),
            id("vmware_vm_id"),
            name("vmware_moref"),
            path("vm_path"),
            name("vcenter_host"),
            name("datacenter"),
            one_of("current_status", stored_texts::<ContextStatus>()),
            id("current_job_id").refers_to("replication_jobs", "id"),
            id("last_successful_job_id").refers_to("replication_jobs", "id"),
            count("total_jobs_run"),
            count("successful_jobs"),
            count("failed_jobs"),
            count("cpu_count"),
            count("memory_mb"),
            name("os_type"),
            name("guest_id"),
            one_of("firmware", stored_texts::<Firmware>()),
            flag("secure_boot"),
            name("power_state"),
            name("vm_tools_version"),
            json("networks"),
            id("credential_id").refers_to("vmware_credentials", "id"),
            id("ossea_config_id").refers_to("ossea_configs", "id"),
            id("enrollment_id").refers_to("vma_enrollments", "id"),
            flag("scheduler_enabled"),
            time("next_scheduled_at").optional(),
            id("last_scheduled_job_id").refers_to("replication_jobs", "id"),
            flag("auto_added"),
            json("last_operation_summary").optional(),
            time("first_job_at").optional(),
            time("last_job_at").optional(),
            time("last_status_change"),
        ],
    )
    .timestamped()
    .unique(&["vmware_vm_id", "vcenter_host"])
    .unique(&["vm_name", "vcenter_host", "vm_path"])
}

fn replication_jobs() -> Table {
    Table::new(
        "replication_jobs",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("source_vm_id"),
            name("source_vm_name"),
            path("source_vm_path"),
            name("vcenter_host"),
            name("datacenter"),
            one_of("replication_type", stored_texts::<ReplicationType>()),
            name("target_network").optional(),
            one_of("status", stored_texts::<ReplicationStatus>()),
            double("progress_percent"),
            double("setup_progress_percent"),
            name("current_operation"),
            count("bytes_transferred"),
            count("total_bytes"),
            count("transfer_speed_bps"),
            text("error_message").optional(),
            json("error_detail").optional(),
            name("change_id").optional(),
            name("previous_change_id").optional(),
            name("snapshot_id").optional(),
            count("nbd_port"),
            name("nbd_export_name").optional(),
            name("target_device").optional(),
            id("ossea_config_id").refers_to("ossea_configs", "id"),
            name("vma_sync_type").optional(),
            name("vma_current_phase").optional(),
            double("vma_throughput_mbps"),
            count("vma_eta_seconds").optional(),
            double("vma_progress_percent"),
            count("vma_bytes_transferred"),
            count("vma_total_bytes"),
            count("vma_transfer_speed_bps"),
            time("vma_last_poll_at").optional(),
            name("vma_error_classification").optional(),
            text("vma_error_details").optional(),
            id("schedule_execution_id").refers_to("schedule_executions", "id"),
            name("scheduled_by").optional(),
            id("vm_group_id").refers_to("vm_machine_groups", "id"),
            time("started_at").optional(),
            time("completed_at").optional(),
        ],
    )
    .timestamped()
    .index(&["status", "updated_at"])
    .index(&["vm_context_id", "created_at"])
}

fn vm_disks() -> Table {
    Table::new(
        "vm_disks",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("job_id").refers_to("replication_jobs", "id"),
            id("disk_id"),
            id("disk_uuid"),
            path("vmdk_path"),
            name("datastore"),
            name("label"),
            name("controller_type"),
            integer("controller_bus"),
            integer("unit_number"),
            count("size_gb"),
            count("capacity_bytes"),
            name("provisioning_type"),
            name("disk_mode"),
            name("sharing"),
            flag("is_boot_disk").optional(),
            id("volume_uuid").refers_to("device_mappings", "volume_uuid"),
            id("ossea_volume_id").refers_to("ossea_volumes", "id"),
            name("disk_change_id").optional(),
            one_of("sync_status", stored_texts::<DiskSyncStatus>()),
            double("sync_progress_percent"),
            count("bytes_synced"),
        ],
    )
    .timestamped()
    .unique(&["vm_context_id", "disk_id"])
}

fn cbt_history() -> Table {
    Table::new(
        "cbt_history",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("job_id").refers_to("replication_jobs", "id"),
            id("disk_id"),
            name("change_id"),
            name("previous_change_id").optional(),
            one_of("sync_type", stored_texts::<ReplicationType>()),
            count("blocks_changed"),
            count("bytes_transferred"),
            count("sync_duration_seconds"),
            flag("sync_success"),
            time("created_at"),
        ],
    )
    .index(&["vm_context_id", "created_at"])
}

fn network_mappings() -> Table {
    Table::new(
        "network_mappings",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("vm_id"),
            name("source_network_name"),
            name("source_mac"),
            id("destination_network_id"),
            name("destination_network_name"),
            one_of("mapping_type", stored_texts::<MappingType>()),
            flag("is_test_network"),
            one_of("strategy", stored_texts::<NicStrategy>()),
            name("ip_address").optional(),
            one_of("validation_status", stored_texts::<ValidationStatus>()),
            text("validation_message").optional(),
            time("last_validated").optional(),
        ],
    )
    .timestamped()
    .unique(&["vm_context_id", "source_mac", "is_test_network"])
}

/// `linstor_config_id` becomes a reference when `linstor_configs` comes with its feature.
fn failover_jobs() -> Table {
    Table::new(
        "failover_jobs",
        [
            id("id"),
            id("job_id").unique(),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("vm_id"),
            id("replication_job_id").refers_to("replication_jobs", "id"),
            one_of("job_type", stored_texts::<FailoverType>()),
            one_of("status", stored_texts::<FailoverStatus>()),
            name("source_vm_name"),
            json("source_vm_spec"),
            id("destination_vm_id").optional(),
            name("destination_vm_name").optional(),
            json("network_mappings"),
            json("snapshot_ids"),
            id("linstor_config_id").optional(),
            flag("power_off_source"),
            flag("final_sync"),
            flag("guest_conversion"),
            json("probe_results").optional(),
            time("expires_at").optional(),
            double("progress_percent"),
            name("current_step"),
            text("error_message").optional(),
            json("error_detail").optional(),
            time("started_at").optional(),
            time("completed_at").optional(),
        ],
    )
    .timestamped()
    .index(&["status", "updated_at"])
}
