//! Backups. The feature comes later: until it brings its enums, its texts stand here.

use crate::schema::description::{Table, count, double, flag, id, integer, json, name, one_of, path, text, time};

/// The tables of this area.
pub(in crate::schema) fn backup() -> Vec<Table> {
    vec![
        backup_repositories(),
        backup_policies(),
        backup_copy_rules(),
        backup_jobs(),
        backup_disks(),
        backup_chains(),
        backup_copies(),
    ]
}

fn backup_repositories() -> Table {
    Table::new(
        "backup_repositories",
        [
            id("id"),
            name("name").unique(),
            one_of("repository_type", vec!["local", "nfs", "cifs", "smb", "s3", "azure"]),
            flag("enabled"),
            json("config"),
            text("credentials_encrypted").optional(),
            flag("is_immutable"),
            json("immutable_config").optional(),
            count("min_retention_days"),
            count("total_size_bytes"),
            count("used_size_bytes"),
            count("available_size_bytes"),
            time("last_check_at").optional(),
        ],
    )
    .timestamped()
    .index(&["repository_type"])
    .index(&["enabled"])
    .index(&["is_immutable"])
}

fn backup_policies() -> Table {
    Table::new(
        "backup_policies",
        [
            id("id"),
            name("name").unique(),
            flag("enabled"),
            id("primary_repository_id").holds("backup_repositories", "id"),
            count("retention_days"),
            count("keep_last").optional(),
            count("keep_daily").optional(),
            count("keep_weekly").optional(),
            count("keep_monthly").optional(),
            count("keep_yearly").optional(),
        ],
    )
    .timestamped()
}

fn backup_copy_rules() -> Table {
    Table::new(
        "backup_copy_rules",
        [
            id("id"),
            id("policy_id").owned_by("backup_policies", "id"),
            id("destination_repository_id").holds("backup_repositories", "id"),
            one_of("copy_mode", vec!["immediate", "scheduled", "manual"]),
            id("schedule_id").optional(),
            integer("priority"),
            flag("enabled"),
            flag("verify_after_copy"),
        ],
    )
    .timestamped()
    .index(&["priority"])
}

fn backup_jobs() -> Table {
    Table::new(
        "backup_jobs",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            name("vm_name"),
            id("repository_id").holds("backup_repositories", "id"),
            id("policy_id").refers_to("backup_policies", "id"),
            id("parent_backup_id").refers_to("backup_jobs", "id"),
            one_of("backup_type", vec!["full", "incremental", "differential"]),
            one_of("status", vec!["pending", "running", "completed", "failed", "cancelled"]),
            path("repository_path"),
            name("change_id").optional(),
            count("bytes_transferred"),
            count("bytes_stored"),
            count("total_bytes"),
            flag("compression_enabled"),
            time("locked_until").optional(),
            time("verified_at").optional(),
            one_of("verification_status", vec!["none", "passed", "failed"]),
            text("error_message").optional(),
            time("started_at").optional(),
            time("completed_at").optional(),
        ],
    )
    .timestamped()
}

fn backup_disks() -> Table {
    Table::new(
        "backup_disks",
        [
            id("id"),
            id("backup_job_id").owned_by("backup_jobs", "id"),
            id("vm_disk_id").refers_to("vm_disks", "id"),
            id("disk_id"),
            id("disk_uuid"),
            count("capacity_bytes"),
            name("change_id").optional(),
            name("root_digest").optional(),
            count("bytes_transferred"),
            one_of("status", vec!["pending", "running", "completed", "failed"]),
            double("progress_percent"),
            text("error_message").optional(),
        ],
    )
    .timestamped()
    .unique(&["backup_job_id", "disk_id"])
}

fn backup_chains() -> Table {
    Table::new(
        "backup_chains",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("disk_id"),
            id("repository_id").holds("backup_repositories", "id"),
            id("full_backup_id"),
            id("latest_backup_id"),
            count("total_backups"),
            count("total_size_bytes"),
        ],
    )
    .timestamped()
    .unique(&["vm_context_id", "disk_id", "repository_id"])
}

fn backup_copies() -> Table {
    Table::new(
        "backup_copies",
        [
            id("id"),
            id("source_backup_id").owned_by("backup_jobs", "id"),
            id("repository_id").holds("backup_repositories", "id"),
            id("copy_rule_id").refers_to("backup_copy_rules", "id"),
            one_of("status", vec!["pending", "copying", "verifying", "completed", "failed"]),
            path("file_path"),
            count("size_bytes"),
            time("copy_started_at").optional(),
            time("copy_completed_at").optional(),
            time("verified_at").optional(),
            one_of("verification_status", vec!["pending", "passed", "failed"]),
            text("error_message").optional(),
        ],
    )
    .timestamped()
    .unique(&["source_backup_id", "repository_id"])
}
