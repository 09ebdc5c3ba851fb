-- Generated from a migrated database by the tests of crates/store (UPDATE_SCHEMA=1). Do not edit.

CREATE TABLE "api_tokens" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "user_id" TEXT NOT NULL,
  "name" TEXT NOT NULL,
  "token_hash" TEXT NOT NULL,
  "role" TEXT NOT NULL,
  "expires_at" TEXT NULL,
  "last_used_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_api_tokens_token_hash" UNIQUE ("token_hash"),
  CONSTRAINT "ck_api_tokens_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_api_tokens_user_id" CHECK (length("user_id") <= 64),
  CONSTRAINT "ck_api_tokens_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_api_tokens_token_hash" CHECK (length("token_hash") <= 255),
  CONSTRAINT "ck_api_tokens_role" CHECK ("role" IN ('viewer', 'operator', 'administrator')),
  CONSTRAINT "fk_api_tokens_user_id" FOREIGN KEY ("user_id") REFERENCES "users" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "audit_log" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "at" TEXT NOT NULL,
  "actor" TEXT NOT NULL,
  "action" TEXT NOT NULL,
  "resource" TEXT NOT NULL,
  "outcome" TEXT NOT NULL,
  "source_ip" TEXT NOT NULL,
  "detail" TEXT NOT NULL,
  "previous_hash" TEXT NOT NULL,
  "hash" TEXT NOT NULL,
  CONSTRAINT "ck_audit_log_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_audit_log_actor" CHECK (length("actor") <= 255),
  CONSTRAINT "ck_audit_log_action" CHECK (length("action") <= 255),
  CONSTRAINT "ck_audit_log_resource" CHECK (length("resource") <= 255),
  CONSTRAINT "ck_audit_log_outcome" CHECK (length("outcome") <= 255),
  CONSTRAINT "ck_audit_log_source_ip" CHECK (length("source_ip") <= 255),
  CONSTRAINT "ck_audit_log_detail" CHECK (json_valid("detail")),
  CONSTRAINT "ck_audit_log_previous_hash" CHECK (length("previous_hash") <= 255),
  CONSTRAINT "ck_audit_log_hash" CHECK (length("hash") <= 255)
) STRICT;

CREATE TABLE "backup_chains" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "disk_id" TEXT NOT NULL,
  "repository_id" TEXT NOT NULL,
  "full_backup_id" TEXT NOT NULL,
  "latest_backup_id" TEXT NOT NULL,
  "total_backups" INTEGER NOT NULL,
  "total_size_bytes" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_backup_chains_vm_context_id_disk_id_repository_id" UNIQUE ("vm_context_id", "disk_id", "repository_id"),
  CONSTRAINT "ck_backup_chains_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_chains_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_backup_chains_disk_id" CHECK (length("disk_id") <= 64),
  CONSTRAINT "ck_backup_chains_repository_id" CHECK (length("repository_id") <= 64),
  CONSTRAINT "ck_backup_chains_full_backup_id" CHECK (length("full_backup_id") <= 64),
  CONSTRAINT "ck_backup_chains_latest_backup_id" CHECK (length("latest_backup_id") <= 64),
  CONSTRAINT "ck_backup_chains_total_backups" CHECK ("total_backups" >= 0),
  CONSTRAINT "ck_backup_chains_total_size_bytes" CHECK ("total_size_bytes" >= 0),
  CONSTRAINT "fk_backup_chains_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_backup_chains_repository_id" FOREIGN KEY ("repository_id") REFERENCES "backup_repositories" ("id") ON DELETE NO ACTION
) STRICT;

CREATE TABLE "backup_copies" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "source_backup_id" TEXT NOT NULL,
  "repository_id" TEXT NOT NULL,
  "copy_rule_id" TEXT NULL,
  "status" TEXT NOT NULL,
  "file_path" TEXT NOT NULL,
  "size_bytes" INTEGER NOT NULL,
  "copy_started_at" TEXT NULL,
  "copy_completed_at" TEXT NULL,
  "verified_at" TEXT NULL,
  "verification_status" TEXT NOT NULL,
  "error_message" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_backup_copies_source_backup_id_repository_id" UNIQUE ("source_backup_id", "repository_id"),
  CONSTRAINT "ck_backup_copies_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_copies_source_backup_id" CHECK (length("source_backup_id") <= 64),
  CONSTRAINT "ck_backup_copies_repository_id" CHECK (length("repository_id") <= 64),
  CONSTRAINT "ck_backup_copies_copy_rule_id" CHECK (length("copy_rule_id") <= 64),
  CONSTRAINT "ck_backup_copies_status" CHECK ("status" IN ('pending', 'copying', 'verifying', 'completed', 'failed')),
  CONSTRAINT "ck_backup_copies_file_path" CHECK (length("file_path") <= 1024),
  CONSTRAINT "ck_backup_copies_size_bytes" CHECK ("size_bytes" >= 0),
  CONSTRAINT "ck_backup_copies_verification_status" CHECK ("verification_status" IN ('pending', 'passed', 'failed')),
  CONSTRAINT "fk_backup_copies_source_backup_id" FOREIGN KEY ("source_backup_id") REFERENCES "backup_jobs" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_backup_copies_repository_id" FOREIGN KEY ("repository_id") REFERENCES "backup_repositories" ("id") ON DELETE NO ACTION,
  CONSTRAINT "fk_backup_copies_copy_rule_id" FOREIGN KEY ("copy_rule_id") REFERENCES "backup_copy_rules" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "backup_copy_rules" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "policy_id" TEXT NOT NULL,
  "destination_repository_id" TEXT NOT NULL,
  "copy_mode" TEXT NOT NULL,
  "schedule_id" TEXT NULL,
  "priority" INTEGER NOT NULL,
  "enabled" INTEGER NOT NULL,
  "verify_after_copy" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_backup_copy_rules_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_copy_rules_policy_id" CHECK (length("policy_id") <= 64),
  CONSTRAINT "ck_backup_copy_rules_destination_repository_id" CHECK (length("destination_repository_id") <= 64),
  CONSTRAINT "ck_backup_copy_rules_copy_mode" CHECK ("copy_mode" IN ('immediate', 'scheduled', 'manual')),
  CONSTRAINT "ck_backup_copy_rules_schedule_id" CHECK (length("schedule_id") <= 64),
  CONSTRAINT "ck_backup_copy_rules_enabled" CHECK ("enabled" IN (0, 1)),
  CONSTRAINT "ck_backup_copy_rules_verify_after_copy" CHECK ("verify_after_copy" IN (0, 1)),
  CONSTRAINT "fk_backup_copy_rules_policy_id" FOREIGN KEY ("policy_id") REFERENCES "backup_policies" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_backup_copy_rules_destination_repository_id" FOREIGN KEY ("destination_repository_id") REFERENCES "backup_repositories" ("id") ON DELETE NO ACTION
) STRICT;

CREATE TABLE "backup_disks" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "backup_job_id" TEXT NOT NULL,
  "vm_disk_id" TEXT NULL,
  "disk_id" TEXT NOT NULL,
  "disk_uuid" TEXT NOT NULL,
  "capacity_bytes" INTEGER NOT NULL,
  "change_id" TEXT NULL,
  "root_digest" TEXT NULL,
  "bytes_transferred" INTEGER NOT NULL,
  "status" TEXT NOT NULL,
  "progress_percent" REAL NOT NULL,
  "error_message" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_backup_disks_backup_job_id_disk_id" UNIQUE ("backup_job_id", "disk_id"),
  CONSTRAINT "ck_backup_disks_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_disks_backup_job_id" CHECK (length("backup_job_id") <= 64),
  CONSTRAINT "ck_backup_disks_vm_disk_id" CHECK (length("vm_disk_id") <= 64),
  CONSTRAINT "ck_backup_disks_disk_id" CHECK (length("disk_id") <= 64),
  CONSTRAINT "ck_backup_disks_disk_uuid" CHECK (length("disk_uuid") <= 64),
  CONSTRAINT "ck_backup_disks_capacity_bytes" CHECK ("capacity_bytes" >= 0),
  CONSTRAINT "ck_backup_disks_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_backup_disks_root_digest" CHECK (length("root_digest") <= 255),
  CONSTRAINT "ck_backup_disks_bytes_transferred" CHECK ("bytes_transferred" >= 0),
  CONSTRAINT "ck_backup_disks_status" CHECK ("status" IN ('pending', 'running', 'completed', 'failed')),
  CONSTRAINT "fk_backup_disks_backup_job_id" FOREIGN KEY ("backup_job_id") REFERENCES "backup_jobs" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_backup_disks_vm_disk_id" FOREIGN KEY ("vm_disk_id") REFERENCES "vm_disks" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "backup_jobs" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "vm_name" TEXT NOT NULL,
  "repository_id" TEXT NOT NULL,
  "policy_id" TEXT NULL,
  "parent_backup_id" TEXT NULL,
  "backup_type" TEXT NOT NULL,
  "status" TEXT NOT NULL,
  "repository_path" TEXT NOT NULL,
  "change_id" TEXT NULL,
  "bytes_transferred" INTEGER NOT NULL,
  "bytes_stored" INTEGER NOT NULL,
  "total_bytes" INTEGER NOT NULL,
  "compression_enabled" INTEGER NOT NULL,
  "locked_until" TEXT NULL,
  "verified_at" TEXT NULL,
  "verification_status" TEXT NOT NULL,
  "error_message" TEXT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_backup_jobs_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_jobs_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_backup_jobs_vm_name" CHECK (length("vm_name") <= 255),
  CONSTRAINT "ck_backup_jobs_repository_id" CHECK (length("repository_id") <= 64),
  CONSTRAINT "ck_backup_jobs_policy_id" CHECK (length("policy_id") <= 64),
  CONSTRAINT "ck_backup_jobs_parent_backup_id" CHECK (length("parent_backup_id") <= 64),
  CONSTRAINT "ck_backup_jobs_backup_type" CHECK ("backup_type" IN ('full', 'incremental', 'differential')),
  CONSTRAINT "ck_backup_jobs_status" CHECK ("status" IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
  CONSTRAINT "ck_backup_jobs_repository_path" CHECK (length("repository_path") <= 1024),
  CONSTRAINT "ck_backup_jobs_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_backup_jobs_bytes_transferred" CHECK ("bytes_transferred" >= 0),
  CONSTRAINT "ck_backup_jobs_bytes_stored" CHECK ("bytes_stored" >= 0),
  CONSTRAINT "ck_backup_jobs_total_bytes" CHECK ("total_bytes" >= 0),
  CONSTRAINT "ck_backup_jobs_compression_enabled" CHECK ("compression_enabled" IN (0, 1)),
  CONSTRAINT "ck_backup_jobs_verification_status" CHECK ("verification_status" IN ('none', 'passed', 'failed')),
  CONSTRAINT "fk_backup_jobs_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_backup_jobs_repository_id" FOREIGN KEY ("repository_id") REFERENCES "backup_repositories" ("id") ON DELETE NO ACTION,
  CONSTRAINT "fk_backup_jobs_policy_id" FOREIGN KEY ("policy_id") REFERENCES "backup_policies" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_backup_jobs_parent_backup_id" FOREIGN KEY ("parent_backup_id") REFERENCES "backup_jobs" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "backup_policies" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "enabled" INTEGER NOT NULL,
  "primary_repository_id" TEXT NOT NULL,
  "retention_days" INTEGER NOT NULL,
  "keep_last" INTEGER NULL,
  "keep_daily" INTEGER NULL,
  "keep_weekly" INTEGER NULL,
  "keep_monthly" INTEGER NULL,
  "keep_yearly" INTEGER NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_backup_policies_name" UNIQUE ("name"),
  CONSTRAINT "ck_backup_policies_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_policies_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_backup_policies_enabled" CHECK ("enabled" IN (0, 1)),
  CONSTRAINT "ck_backup_policies_primary_repository_id" CHECK (length("primary_repository_id") <= 64),
  CONSTRAINT "ck_backup_policies_retention_days" CHECK ("retention_days" >= 0),
  CONSTRAINT "ck_backup_policies_keep_last" CHECK ("keep_last" >= 0),
  CONSTRAINT "ck_backup_policies_keep_daily" CHECK ("keep_daily" >= 0),
  CONSTRAINT "ck_backup_policies_keep_weekly" CHECK ("keep_weekly" >= 0),
  CONSTRAINT "ck_backup_policies_keep_monthly" CHECK ("keep_monthly" >= 0),
  CONSTRAINT "ck_backup_policies_keep_yearly" CHECK ("keep_yearly" >= 0),
  CONSTRAINT "fk_backup_policies_primary_repository_id" FOREIGN KEY ("primary_repository_id") REFERENCES "backup_repositories" ("id") ON DELETE NO ACTION
) STRICT;

CREATE TABLE "backup_repositories" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "repository_type" TEXT NOT NULL,
  "enabled" INTEGER NOT NULL,
  "config" TEXT NOT NULL,
  "credentials_encrypted" TEXT NULL,
  "is_immutable" INTEGER NOT NULL,
  "immutable_config" TEXT NULL,
  "min_retention_days" INTEGER NOT NULL,
  "total_size_bytes" INTEGER NOT NULL,
  "used_size_bytes" INTEGER NOT NULL,
  "available_size_bytes" INTEGER NOT NULL,
  "last_check_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_backup_repositories_name" UNIQUE ("name"),
  CONSTRAINT "ck_backup_repositories_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_backup_repositories_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_backup_repositories_repository_type" CHECK ("repository_type" IN ('local', 'nfs', 'cifs', 'smb', 's3', 'azure')),
  CONSTRAINT "ck_backup_repositories_enabled" CHECK ("enabled" IN (0, 1)),
  CONSTRAINT "ck_backup_repositories_config" CHECK (json_valid("config")),
  CONSTRAINT "ck_backup_repositories_is_immutable" CHECK ("is_immutable" IN (0, 1)),
  CONSTRAINT "ck_backup_repositories_immutable_config" CHECK (json_valid("immutable_config")),
  CONSTRAINT "ck_backup_repositories_min_retention_days" CHECK ("min_retention_days" >= 0),
  CONSTRAINT "ck_backup_repositories_total_size_bytes" CHECK ("total_size_bytes" >= 0),
  CONSTRAINT "ck_backup_repositories_used_size_bytes" CHECK ("used_size_bytes" >= 0),
  CONSTRAINT "ck_backup_repositories_available_size_bytes" CHECK ("available_size_bytes" >= 0)
) STRICT;

CREATE TABLE "cbt_history" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "job_id" TEXT NULL,
  "disk_id" TEXT NOT NULL,
  "change_id" TEXT NOT NULL,
  "previous_change_id" TEXT NULL,
  "sync_type" TEXT NOT NULL,
  "blocks_changed" INTEGER NOT NULL,
  "bytes_transferred" INTEGER NOT NULL,
  "sync_duration_seconds" INTEGER NOT NULL,
  "sync_success" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  CONSTRAINT "ck_cbt_history_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_cbt_history_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_cbt_history_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_cbt_history_disk_id" CHECK (length("disk_id") <= 64),
  CONSTRAINT "ck_cbt_history_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_cbt_history_previous_change_id" CHECK (length("previous_change_id") <= 255),
  CONSTRAINT "ck_cbt_history_sync_type" CHECK ("sync_type" IN ('initial', 'incremental', 'compare')),
  CONSTRAINT "ck_cbt_history_blocks_changed" CHECK ("blocks_changed" >= 0),
  CONSTRAINT "ck_cbt_history_bytes_transferred" CHECK ("bytes_transferred" >= 0),
  CONSTRAINT "ck_cbt_history_sync_duration_seconds" CHECK ("sync_duration_seconds" >= 0),
  CONSTRAINT "ck_cbt_history_sync_success" CHECK ("sync_success" IN (0, 1)),
  CONSTRAINT "fk_cbt_history_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_cbt_history_job_id" FOREIGN KEY ("job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "device_mappings" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "volume_uuid" TEXT NOT NULL,
  "vm_context_id" TEXT NULL,
  "volume_id_numeric" INTEGER NULL,
  "vm_id" TEXT NOT NULL,
  "operation_mode" TEXT NOT NULL,
  "cloudstack_device_id" INTEGER NULL,
  "device_path" TEXT NULL,
  "persistent_device_name" TEXT NULL,
  "symlink_path" TEXT NULL,
  "serial" TEXT NOT NULL,
  "requires_device_correlation" INTEGER NOT NULL,
  "cloudstack_state" TEXT NOT NULL,
  "linux_state" TEXT NOT NULL,
  "size_bytes" INTEGER NOT NULL,
  "ossea_snapshot_id" TEXT NULL,
  "snapshot_status" TEXT NOT NULL,
  "snapshot_created_at" TEXT NULL,
  "last_sync" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_device_mappings_volume_uuid" UNIQUE ("volume_uuid"),
  CONSTRAINT "uq_device_mappings_device_path" UNIQUE ("device_path"),
  CONSTRAINT "ck_device_mappings_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_device_mappings_volume_uuid" CHECK (length("volume_uuid") <= 64),
  CONSTRAINT "ck_device_mappings_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_device_mappings_volume_id_numeric" CHECK ("volume_id_numeric" >= 0),
  CONSTRAINT "ck_device_mappings_vm_id" CHECK (length("vm_id") <= 64),
  CONSTRAINT "ck_device_mappings_operation_mode" CHECK ("operation_mode" IN ('oma', 'failover')),
  CONSTRAINT "ck_device_mappings_cloudstack_device_id" CHECK ("cloudstack_device_id" >= 0),
  CONSTRAINT "ck_device_mappings_device_path" CHECK (length("device_path") <= 255),
  CONSTRAINT "ck_device_mappings_persistent_device_name" CHECK (length("persistent_device_name") <= 255),
  CONSTRAINT "ck_device_mappings_symlink_path" CHECK (length("symlink_path") <= 255),
  CONSTRAINT "ck_device_mappings_serial" CHECK (length("serial") <= 255),
  CONSTRAINT "ck_device_mappings_requires_device_correlation" CHECK ("requires_device_correlation" IN (0, 1)),
  CONSTRAINT "ck_device_mappings_cloudstack_state" CHECK (length("cloudstack_state") <= 255),
  CONSTRAINT "ck_device_mappings_linux_state" CHECK ("linux_state" IN ('absent', 'appearing', 'present', 'vanished')),
  CONSTRAINT "ck_device_mappings_size_bytes" CHECK ("size_bytes" >= 0),
  CONSTRAINT "ck_device_mappings_ossea_snapshot_id" CHECK (length("ossea_snapshot_id") <= 64),
  CONSTRAINT "ck_device_mappings_snapshot_status" CHECK ("snapshot_status" IN ('none', 'creating', 'ready', 'reverting', 'failed')),
  CONSTRAINT "fk_device_mappings_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "disk_scrubs" (
  "vm_disk_id" TEXT NOT NULL PRIMARY KEY,
  "position_bytes" INTEGER NOT NULL,
  "advanced_at" TEXT NOT NULL,
  "completed_at" TEXT NULL,
  "distrusted_at" TEXT NULL,
  "omissions" INTEGER NOT NULL,
  CONSTRAINT "ck_disk_scrubs_vm_disk_id" CHECK (length("vm_disk_id") <= 64),
  CONSTRAINT "ck_disk_scrubs_position_bytes" CHECK ("position_bytes" >= 0),
  CONSTRAINT "ck_disk_scrubs_omissions" CHECK ("omissions" >= 0),
  CONSTRAINT "fk_disk_scrubs_vm_disk_id" FOREIGN KEY ("vm_disk_id") REFERENCES "vm_disks" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "equality_certificates" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "vm_disk_id" TEXT NOT NULL,
  "job_id" TEXT NULL,
  "disk_id" TEXT NOT NULL,
  "change_id" TEXT NOT NULL,
  "root_digest" TEXT NOT NULL,
  "capacity_bytes" INTEGER NOT NULL,
  "leaf_size_bytes" INTEGER NOT NULL,
  "leaves_total" INTEGER NOT NULL,
  "leaves_verified" INTEGER NOT NULL,
  "sync_type" TEXT NOT NULL,
  "previous_certificate_id" TEXT NULL,
  "document" TEXT NOT NULL,
  "signature" TEXT NOT NULL,
  "public_key" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  CONSTRAINT "uq_equality_certificates_job_id_vm_disk_id" UNIQUE ("job_id", "vm_disk_id"),
  CONSTRAINT "ck_equality_certificates_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_equality_certificates_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_equality_certificates_vm_disk_id" CHECK (length("vm_disk_id") <= 64),
  CONSTRAINT "ck_equality_certificates_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_equality_certificates_disk_id" CHECK (length("disk_id") <= 64),
  CONSTRAINT "ck_equality_certificates_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_equality_certificates_root_digest" CHECK (length("root_digest") <= 64),
  CONSTRAINT "ck_equality_certificates_capacity_bytes" CHECK ("capacity_bytes" >= 0),
  CONSTRAINT "ck_equality_certificates_leaf_size_bytes" CHECK ("leaf_size_bytes" >= 0),
  CONSTRAINT "ck_equality_certificates_leaves_total" CHECK ("leaves_total" >= 0),
  CONSTRAINT "ck_equality_certificates_leaves_verified" CHECK ("leaves_verified" >= 0),
  CONSTRAINT "ck_equality_certificates_sync_type" CHECK ("sync_type" IN ('initial', 'incremental', 'compare')),
  CONSTRAINT "ck_equality_certificates_previous_certificate_id" CHECK (length("previous_certificate_id") <= 64),
  CONSTRAINT "ck_equality_certificates_signature" CHECK (length("signature") <= 255),
  CONSTRAINT "ck_equality_certificates_public_key" CHECK (length("public_key") <= 64),
  CONSTRAINT "fk_equality_certificates_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_equality_certificates_vm_disk_id" FOREIGN KEY ("vm_disk_id") REFERENCES "vm_disks" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_equality_certificates_job_id" FOREIGN KEY ("job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_equality_certificates_previous_certificate_id" FOREIGN KEY ("previous_certificate_id") REFERENCES "equality_certificates" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "failover_jobs" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "job_id" TEXT NOT NULL,
  "vm_context_id" TEXT NOT NULL,
  "vm_id" TEXT NOT NULL,
  "replication_job_id" TEXT NULL,
  "job_type" TEXT NOT NULL,
  "status" TEXT NOT NULL,
  "source_vm_name" TEXT NOT NULL,
  "source_vm_spec" TEXT NOT NULL,
  "destination_vm_id" TEXT NULL,
  "destination_vm_name" TEXT NULL,
  "network_mappings" TEXT NOT NULL,
  "snapshot_ids" TEXT NOT NULL,
  "linstor_config_id" TEXT NULL,
  "power_off_source" INTEGER NOT NULL,
  "final_sync" INTEGER NOT NULL,
  "guest_conversion" INTEGER NOT NULL,
  "probe_results" TEXT NULL,
  "expires_at" TEXT NULL,
  "progress_percent" REAL NOT NULL,
  "current_step" TEXT NOT NULL,
  "error_message" TEXT NULL,
  "error_detail" TEXT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_failover_jobs_job_id" UNIQUE ("job_id"),
  CONSTRAINT "ck_failover_jobs_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_failover_jobs_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_failover_jobs_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_failover_jobs_vm_id" CHECK (length("vm_id") <= 64),
  CONSTRAINT "ck_failover_jobs_replication_job_id" CHECK (length("replication_job_id") <= 64),
  CONSTRAINT "ck_failover_jobs_job_type" CHECK ("job_type" IN ('live', 'test')),
  CONSTRAINT "ck_failover_jobs_status" CHECK ("status" IN ('pending', 'validating', 'snapshotting', 'creating_vm', 'switching_volume', 'powering_on', 'completed', 'cleanup', 'cleaned_up', 'reverting', 'rolled_back', 'failed', 'cancelled')),
  CONSTRAINT "ck_failover_jobs_source_vm_name" CHECK (length("source_vm_name") <= 255),
  CONSTRAINT "ck_failover_jobs_source_vm_spec" CHECK (json_valid("source_vm_spec")),
  CONSTRAINT "ck_failover_jobs_destination_vm_id" CHECK (length("destination_vm_id") <= 64),
  CONSTRAINT "ck_failover_jobs_destination_vm_name" CHECK (length("destination_vm_name") <= 255),
  CONSTRAINT "ck_failover_jobs_network_mappings" CHECK (json_valid("network_mappings")),
  CONSTRAINT "ck_failover_jobs_snapshot_ids" CHECK (json_valid("snapshot_ids")),
  CONSTRAINT "ck_failover_jobs_linstor_config_id" CHECK (length("linstor_config_id") <= 64),
  CONSTRAINT "ck_failover_jobs_power_off_source" CHECK ("power_off_source" IN (0, 1)),
  CONSTRAINT "ck_failover_jobs_final_sync" CHECK ("final_sync" IN (0, 1)),
  CONSTRAINT "ck_failover_jobs_guest_conversion" CHECK ("guest_conversion" IN (0, 1)),
  CONSTRAINT "ck_failover_jobs_probe_results" CHECK (json_valid("probe_results")),
  CONSTRAINT "ck_failover_jobs_current_step" CHECK (length("current_step") <= 255),
  CONSTRAINT "ck_failover_jobs_error_detail" CHECK (json_valid("error_detail")),
  CONSTRAINT "fk_failover_jobs_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_failover_jobs_replication_job_id" FOREIGN KEY ("replication_job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "job_steps" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "job_id" TEXT NOT NULL,
  "seq" INTEGER NOT NULL,
  "name" TEXT NOT NULL,
  "kind" TEXT NOT NULL,
  "status" TEXT NOT NULL,
  "attempt" INTEGER NOT NULL,
  "output" TEXT NULL,
  "error_message" TEXT NULL,
  "error_detail" TEXT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  CONSTRAINT "uq_job_steps_job_id_seq" UNIQUE ("job_id", "seq"),
  CONSTRAINT "ck_job_steps_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_job_steps_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_job_steps_seq" CHECK ("seq" >= 0),
  CONSTRAINT "ck_job_steps_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_job_steps_kind" CHECK ("kind" IN ('undoable', 'pivot', 'retried')),
  CONSTRAINT "ck_job_steps_status" CHECK ("status" IN ('pending', 'running', 'completed', 'failed', 'skipped', 'undoing', 'undone', 'undo_failed')),
  CONSTRAINT "ck_job_steps_attempt" CHECK ("attempt" >= 0),
  CONSTRAINT "ck_job_steps_output" CHECK (json_valid("output")),
  CONSTRAINT "ck_job_steps_error_detail" CHECK (json_valid("error_detail")),
  CONSTRAINT "fk_job_steps_job_id" FOREIGN KEY ("job_id") REFERENCES "job_tracking" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "job_tracking" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "parent_job_id" TEXT NULL,
  "root_job_id" TEXT NOT NULL,
  "job_type" TEXT NOT NULL,
  "operation" TEXT NOT NULL,
  "status" TEXT NOT NULL,
  "external_job_id" TEXT NULL,
  "cloudstack_job_id" TEXT NULL,
  "vm_context_id" TEXT NULL,
  "owner" TEXT NULL,
  "lease_until" TEXT NULL,
  "fence" INTEGER NOT NULL,
  "params" TEXT NOT NULL,
  "metadata" TEXT NOT NULL,
  "error_message" TEXT NULL,
  "error_detail" TEXT NULL,
  "percent_complete" REAL NOT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  "canceled_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_job_tracking_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_job_tracking_parent_job_id" CHECK (length("parent_job_id") <= 64),
  CONSTRAINT "ck_job_tracking_root_job_id" CHECK (length("root_job_id") <= 64),
  CONSTRAINT "ck_job_tracking_job_type" CHECK (length("job_type") <= 255),
  CONSTRAINT "ck_job_tracking_operation" CHECK (length("operation") <= 255),
  CONSTRAINT "ck_job_tracking_status" CHECK ("status" IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'unwinding', 'needs_operator')),
  CONSTRAINT "ck_job_tracking_external_job_id" CHECK (length("external_job_id") <= 64),
  CONSTRAINT "ck_job_tracking_cloudstack_job_id" CHECK (length("cloudstack_job_id") <= 64),
  CONSTRAINT "ck_job_tracking_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_job_tracking_owner" CHECK (length("owner") <= 255),
  CONSTRAINT "ck_job_tracking_fence" CHECK ("fence" >= 0),
  CONSTRAINT "ck_job_tracking_params" CHECK (json_valid("params")),
  CONSTRAINT "ck_job_tracking_metadata" CHECK (json_valid("metadata")),
  CONSTRAINT "ck_job_tracking_error_detail" CHECK (json_valid("error_detail")),
  CONSTRAINT "fk_job_tracking_parent_job_id" FOREIGN KEY ("parent_job_id") REFERENCES "job_tracking" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_job_tracking_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "leases" (
  "name" TEXT NOT NULL PRIMARY KEY,
  "holder" TEXT NOT NULL,
  "fence" INTEGER NOT NULL,
  "until" TEXT NOT NULL,
  CONSTRAINT "ck_leases_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_leases_holder" CHECK (length("holder") <= 255),
  CONSTRAINT "ck_leases_fence" CHECK ("fence" >= 0)
) STRICT;

CREATE TABLE "log_events" (
  "id" INTEGER PRIMARY KEY AUTOINCREMENT,
  "job_id" TEXT NULL,
  "step_id" TEXT NULL,
  "level" TEXT NOT NULL,
  "message" TEXT NOT NULL,
  "attrs" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_log_events_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_log_events_step_id" CHECK (length("step_id") <= 64),
  CONSTRAINT "ck_log_events_level" CHECK ("level" IN ('trace', 'debug', 'info', 'warn', 'error')),
  CONSTRAINT "ck_log_events_attrs" CHECK (json_valid("attrs")),
  CONSTRAINT "fk_log_events_job_id" FOREIGN KEY ("job_id") REFERENCES "job_tracking" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_log_events_step_id" FOREIGN KEY ("step_id") REFERENCES "job_steps" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "nbd_exports" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "export_name" TEXT NOT NULL,
  "vm_context_id" TEXT NOT NULL,
  "job_id" TEXT NULL,
  "vm_disk_id" TEXT NULL,
  "device_mapping_uuid" TEXT NULL,
  "kind" TEXT NOT NULL,
  "read_only" INTEGER NOT NULL,
  "size_bytes" INTEGER NOT NULL,
  "enrollment_id" TEXT NULL,
  "port" INTEGER NOT NULL,
  "status" TEXT NOT NULL,
  "metadata" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_nbd_exports_export_name" UNIQUE ("export_name"),
  CONSTRAINT "ck_nbd_exports_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_nbd_exports_export_name" CHECK (length("export_name") <= 255),
  CONSTRAINT "ck_nbd_exports_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_nbd_exports_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_nbd_exports_vm_disk_id" CHECK (length("vm_disk_id") <= 64),
  CONSTRAINT "ck_nbd_exports_device_mapping_uuid" CHECK (length("device_mapping_uuid") <= 64),
  CONSTRAINT "ck_nbd_exports_kind" CHECK ("kind" IN ('volume', 'journal', 'restore_point', 'backup_sink')),
  CONSTRAINT "ck_nbd_exports_read_only" CHECK ("read_only" IN (0, 1)),
  CONSTRAINT "ck_nbd_exports_size_bytes" CHECK ("size_bytes" >= 0),
  CONSTRAINT "ck_nbd_exports_enrollment_id" CHECK (length("enrollment_id") <= 64),
  CONSTRAINT "ck_nbd_exports_port" CHECK ("port" >= 0),
  CONSTRAINT "ck_nbd_exports_status" CHECK ("status" IN ('pending', 'active', 'closed', 'failed')),
  CONSTRAINT "ck_nbd_exports_metadata" CHECK (json_valid("metadata")),
  CONSTRAINT "ck_nbd_exports_volume_is_complete" CHECK (kind <> 'volume' OR (vm_disk_id IS NOT NULL AND device_mapping_uuid IS NOT NULL)),
  CONSTRAINT "fk_nbd_exports_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_nbd_exports_job_id" FOREIGN KEY ("job_id") REFERENCES "replication_jobs" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_nbd_exports_vm_disk_id" FOREIGN KEY ("vm_disk_id") REFERENCES "vm_disks" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_nbd_exports_device_mapping_uuid" FOREIGN KEY ("device_mapping_uuid") REFERENCES "device_mappings" ("volume_uuid") ON DELETE CASCADE
) STRICT;

CREATE TABLE "network_mappings" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "vm_id" TEXT NOT NULL,
  "source_network_name" TEXT NOT NULL,
  "source_mac" TEXT NOT NULL,
  "destination_network_id" TEXT NOT NULL,
  "destination_network_name" TEXT NOT NULL,
  "mapping_type" TEXT NOT NULL,
  "is_test_network" INTEGER NOT NULL,
  "strategy" TEXT NOT NULL,
  "ip_address" TEXT NULL,
  "validation_status" TEXT NOT NULL,
  "validation_message" TEXT NULL,
  "last_validated" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_network_mappings_vm_context_id_source_mac_is_test_network" UNIQUE ("vm_context_id", "source_mac", "is_test_network"),
  CONSTRAINT "ck_network_mappings_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_network_mappings_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_network_mappings_vm_id" CHECK (length("vm_id") <= 64),
  CONSTRAINT "ck_network_mappings_source_network_name" CHECK (length("source_network_name") <= 255),
  CONSTRAINT "ck_network_mappings_source_mac" CHECK (length("source_mac") <= 255),
  CONSTRAINT "ck_network_mappings_destination_network_id" CHECK (length("destination_network_id") <= 64),
  CONSTRAINT "ck_network_mappings_destination_network_name" CHECK (length("destination_network_name") <= 255),
  CONSTRAINT "ck_network_mappings_mapping_type" CHECK ("mapping_type" IN ('live', 'test', 'both')),
  CONSTRAINT "ck_network_mappings_is_test_network" CHECK ("is_test_network" IN (0, 1)),
  CONSTRAINT "ck_network_mappings_strategy" CHECK ("strategy" IN ('keep_mac', 'new_mac', 'keep_ip', 'dhcp')),
  CONSTRAINT "ck_network_mappings_ip_address" CHECK (length("ip_address") <= 255),
  CONSTRAINT "ck_network_mappings_validation_status" CHECK ("validation_status" IN ('pending', 'valid', 'invalid')),
  CONSTRAINT "fk_network_mappings_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "ossea_configs" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "api_url" TEXT NOT NULL,
  "api_key_encrypted" TEXT NOT NULL,
  "secret_key_encrypted" TEXT NOT NULL,
  "domain" TEXT NOT NULL,
  "zone" TEXT NOT NULL,
  "template_id" TEXT NULL,
  "network_id" TEXT NULL,
  "service_offering_id" TEXT NULL,
  "disk_offering_id" TEXT NULL,
  "oma_vm_id" TEXT NULL,
  "tls_fingerprint" TEXT NULL,
  "is_active" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_ossea_configs_name" UNIQUE ("name"),
  CONSTRAINT "ck_ossea_configs_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_ossea_configs_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_ossea_configs_domain" CHECK (length("domain") <= 255),
  CONSTRAINT "ck_ossea_configs_zone" CHECK (length("zone") <= 255),
  CONSTRAINT "ck_ossea_configs_template_id" CHECK (length("template_id") <= 64),
  CONSTRAINT "ck_ossea_configs_network_id" CHECK (length("network_id") <= 64),
  CONSTRAINT "ck_ossea_configs_service_offering_id" CHECK (length("service_offering_id") <= 64),
  CONSTRAINT "ck_ossea_configs_disk_offering_id" CHECK (length("disk_offering_id") <= 64),
  CONSTRAINT "ck_ossea_configs_oma_vm_id" CHECK (length("oma_vm_id") <= 64),
  CONSTRAINT "ck_ossea_configs_tls_fingerprint" CHECK (length("tls_fingerprint") <= 255),
  CONSTRAINT "ck_ossea_configs_is_active" CHECK ("is_active" IN (0, 1))
) STRICT;

CREATE TABLE "ossea_volumes" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "volume_id" TEXT NOT NULL,
  "vm_context_id" TEXT NOT NULL,
  "volume_name" TEXT NOT NULL,
  "size_gb" INTEGER NOT NULL,
  "size_bytes" INTEGER NOT NULL,
  "disk_offering_id" TEXT NOT NULL,
  "zone_id" TEXT NOT NULL,
  "volume_type" TEXT NOT NULL,
  "state" TEXT NOT NULL,
  "device_path" TEXT NULL,
  "vm_id" TEXT NULL,
  "ossea_config_id" TEXT NOT NULL,
  "snapshot_id" TEXT NULL,
  "snapshot_status" TEXT NOT NULL,
  "snapshot_created_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_ossea_volumes_volume_id" UNIQUE ("volume_id"),
  CONSTRAINT "ck_ossea_volumes_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_ossea_volumes_volume_id" CHECK (length("volume_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_volume_name" CHECK (length("volume_name") <= 255),
  CONSTRAINT "ck_ossea_volumes_size_gb" CHECK ("size_gb" >= 0),
  CONSTRAINT "ck_ossea_volumes_size_bytes" CHECK ("size_bytes" >= 0),
  CONSTRAINT "ck_ossea_volumes_disk_offering_id" CHECK (length("disk_offering_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_zone_id" CHECK (length("zone_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_volume_type" CHECK ("volume_type" IN ('ROOT', 'DATADISK')),
  CONSTRAINT "ck_ossea_volumes_state" CHECK ("state" IN ('creating', 'available', 'attached', 'detached', 'deleting', 'deleted', 'error')),
  CONSTRAINT "ck_ossea_volumes_device_path" CHECK (length("device_path") <= 255),
  CONSTRAINT "ck_ossea_volumes_vm_id" CHECK (length("vm_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_ossea_config_id" CHECK (length("ossea_config_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_snapshot_id" CHECK (length("snapshot_id") <= 64),
  CONSTRAINT "ck_ossea_volumes_snapshot_status" CHECK ("snapshot_status" IN ('none', 'creating', 'ready', 'reverting', 'failed')),
  CONSTRAINT "fk_ossea_volumes_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_ossea_volumes_ossea_config_id" FOREIGN KEY ("ossea_config_id") REFERENCES "ossea_configs" ("id") ON DELETE NO ACTION
) STRICT;

CREATE TABLE "recovery_points" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "vm_disk_id" TEXT NOT NULL,
  "job_id" TEXT NOT NULL,
  "export_name" TEXT NOT NULL,
  "sequence" INTEGER NOT NULL,
  "change_id" TEXT NULL,
  "index_bytes" INTEGER NOT NULL,
  "data_bytes" INTEGER NOT NULL,
  "state" TEXT NOT NULL,
  "committed_at" TEXT NOT NULL,
  "ended_at" TEXT NULL,
  CONSTRAINT "uq_recovery_points_vm_disk_id_job_id" UNIQUE ("vm_disk_id", "job_id"),
  CONSTRAINT "uq_recovery_points_vm_disk_id_sequence" UNIQUE ("vm_disk_id", "sequence"),
  CONSTRAINT "ck_recovery_points_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_recovery_points_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_recovery_points_vm_disk_id" CHECK (length("vm_disk_id") <= 64),
  CONSTRAINT "ck_recovery_points_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_recovery_points_export_name" CHECK (length("export_name") <= 255),
  CONSTRAINT "ck_recovery_points_sequence" CHECK ("sequence" >= 0),
  CONSTRAINT "ck_recovery_points_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_recovery_points_index_bytes" CHECK ("index_bytes" >= 0),
  CONSTRAINT "ck_recovery_points_data_bytes" CHECK ("data_bytes" >= 0),
  CONSTRAINT "ck_recovery_points_state" CHECK ("state" IN ('kept', 'merged', 'discarded')),
  CONSTRAINT "fk_recovery_points_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_recovery_points_vm_disk_id" FOREIGN KEY ("vm_disk_id") REFERENCES "vm_disks" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "replication_jobs" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "source_vm_id" TEXT NOT NULL,
  "source_vm_name" TEXT NOT NULL,
  "source_vm_path" TEXT NOT NULL,
  "vcenter_host" TEXT NOT NULL,
  "datacenter" TEXT NOT NULL,
  "replication_type" TEXT NOT NULL,
  "target_network" TEXT NULL,
  "status" TEXT NOT NULL,
  "progress_percent" REAL NOT NULL,
  "setup_progress_percent" REAL NOT NULL,
  "current_operation" TEXT NOT NULL,
  "bytes_transferred" INTEGER NOT NULL,
  "total_bytes" INTEGER NOT NULL,
  "transfer_speed_bps" INTEGER NOT NULL,
  "error_message" TEXT NULL,
  "error_detail" TEXT NULL,
  "change_id" TEXT NULL,
  "previous_change_id" TEXT NULL,
  "snapshot_id" TEXT NULL,
  "nbd_port" INTEGER NOT NULL,
  "nbd_export_name" TEXT NULL,
  "target_device" TEXT NULL,
  "ossea_config_id" TEXT NULL,
  "vma_sync_type" TEXT NULL,
  "vma_current_phase" TEXT NULL,
  "vma_throughput_mbps" REAL NOT NULL,
  "vma_eta_seconds" INTEGER NULL,
  "vma_progress_percent" REAL NOT NULL,
  "vma_bytes_transferred" INTEGER NOT NULL,
  "vma_total_bytes" INTEGER NOT NULL,
  "vma_transfer_speed_bps" INTEGER NOT NULL,
  "vma_last_poll_at" TEXT NULL,
  "vma_error_classification" TEXT NULL,
  "vma_error_details" TEXT NULL,
  "schedule_execution_id" TEXT NULL,
  "scheduled_by" TEXT NULL,
  "vm_group_id" TEXT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_replication_jobs_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_replication_jobs_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_replication_jobs_source_vm_id" CHECK (length("source_vm_id") <= 64),
  CONSTRAINT "ck_replication_jobs_source_vm_name" CHECK (length("source_vm_name") <= 255),
  CONSTRAINT "ck_replication_jobs_source_vm_path" CHECK (length("source_vm_path") <= 1024),
  CONSTRAINT "ck_replication_jobs_vcenter_host" CHECK (length("vcenter_host") <= 255),
  CONSTRAINT "ck_replication_jobs_datacenter" CHECK (length("datacenter") <= 255),
  CONSTRAINT "ck_replication_jobs_replication_type" CHECK ("replication_type" IN ('initial', 'incremental', 'compare')),
  CONSTRAINT "ck_replication_jobs_target_network" CHECK (length("target_network") <= 255),
  CONSTRAINT "ck_replication_jobs_status" CHECK ("status" IN ('pending', 'initializing', 'replicating', 'finalizing', 'completed', 'failed', 'cancelled')),
  CONSTRAINT "ck_replication_jobs_current_operation" CHECK (length("current_operation") <= 255),
  CONSTRAINT "ck_replication_jobs_bytes_transferred" CHECK ("bytes_transferred" >= 0),
  CONSTRAINT "ck_replication_jobs_total_bytes" CHECK ("total_bytes" >= 0),
  CONSTRAINT "ck_replication_jobs_transfer_speed_bps" CHECK ("transfer_speed_bps" >= 0),
  CONSTRAINT "ck_replication_jobs_error_detail" CHECK (json_valid("error_detail")),
  CONSTRAINT "ck_replication_jobs_change_id" CHECK (length("change_id") <= 255),
  CONSTRAINT "ck_replication_jobs_previous_change_id" CHECK (length("previous_change_id") <= 255),
  CONSTRAINT "ck_replication_jobs_snapshot_id" CHECK (length("snapshot_id") <= 255),
  CONSTRAINT "ck_replication_jobs_nbd_port" CHECK ("nbd_port" >= 0),
  CONSTRAINT "ck_replication_jobs_nbd_export_name" CHECK (length("nbd_export_name") <= 255),
  CONSTRAINT "ck_replication_jobs_target_device" CHECK (length("target_device") <= 255),
  CONSTRAINT "ck_replication_jobs_ossea_config_id" CHECK (length("ossea_config_id") <= 64),
  CONSTRAINT "ck_replication_jobs_vma_sync_type" CHECK (length("vma_sync_type") <= 255),
  CONSTRAINT "ck_replication_jobs_vma_current_phase" CHECK (length("vma_current_phase") <= 255),
  CONSTRAINT "ck_replication_jobs_vma_eta_seconds" CHECK ("vma_eta_seconds" >= 0),
  CONSTRAINT "ck_replication_jobs_vma_bytes_transferred" CHECK ("vma_bytes_transferred" >= 0),
  CONSTRAINT "ck_replication_jobs_vma_total_bytes" CHECK ("vma_total_bytes" >= 0),
  CONSTRAINT "ck_replication_jobs_vma_transfer_speed_bps" CHECK ("vma_transfer_speed_bps" >= 0),
  CONSTRAINT "ck_replication_jobs_vma_error_classification" CHECK (length("vma_error_classification") <= 255),
  CONSTRAINT "ck_replication_jobs_schedule_execution_id" CHECK (length("schedule_execution_id") <= 64),
  CONSTRAINT "ck_replication_jobs_scheduled_by" CHECK (length("scheduled_by") <= 255),
  CONSTRAINT "ck_replication_jobs_vm_group_id" CHECK (length("vm_group_id") <= 64),
  CONSTRAINT "fk_replication_jobs_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_replication_jobs_ossea_config_id" FOREIGN KEY ("ossea_config_id") REFERENCES "ossea_configs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_replication_jobs_schedule_execution_id" FOREIGN KEY ("schedule_execution_id") REFERENCES "schedule_executions" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_replication_jobs_vm_group_id" FOREIGN KEY ("vm_group_id") REFERENCES "vm_machine_groups" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "replication_schedules" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "description" TEXT NOT NULL,
  "schedule_type" TEXT NOT NULL,
  "cron_expression" TEXT NULL,
  "timezone" TEXT NOT NULL,
  "chain_parent_schedule_id" TEXT NULL,
  "chain_delay_minutes" INTEGER NOT NULL,
  "replication_type" TEXT NOT NULL,
  "max_concurrent_jobs" INTEGER NOT NULL,
  "retry_attempts" INTEGER NOT NULL,
  "retry_delay_minutes" INTEGER NOT NULL,
  "skip_if_running" INTEGER NOT NULL,
  "enabled" INTEGER NOT NULL,
  "created_by" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_replication_schedules_name" UNIQUE ("name"),
  CONSTRAINT "ck_replication_schedules_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_replication_schedules_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_replication_schedules_schedule_type" CHECK ("schedule_type" IN ('cron', 'chain')),
  CONSTRAINT "ck_replication_schedules_cron_expression" CHECK (length("cron_expression") <= 255),
  CONSTRAINT "ck_replication_schedules_timezone" CHECK (length("timezone") <= 255),
  CONSTRAINT "ck_replication_schedules_chain_parent_schedule_id" CHECK (length("chain_parent_schedule_id") <= 64),
  CONSTRAINT "ck_replication_schedules_chain_delay_minutes" CHECK ("chain_delay_minutes" >= 0),
  CONSTRAINT "ck_replication_schedules_replication_type" CHECK ("replication_type" IN ('full', 'incremental', 'auto')),
  CONSTRAINT "ck_replication_schedules_max_concurrent_jobs" CHECK ("max_concurrent_jobs" >= 0),
  CONSTRAINT "ck_replication_schedules_retry_attempts" CHECK ("retry_attempts" >= 0),
  CONSTRAINT "ck_replication_schedules_retry_delay_minutes" CHECK ("retry_delay_minutes" >= 0),
  CONSTRAINT "ck_replication_schedules_skip_if_running" CHECK ("skip_if_running" IN (0, 1)),
  CONSTRAINT "ck_replication_schedules_enabled" CHECK ("enabled" IN (0, 1)),
  CONSTRAINT "ck_replication_schedules_created_by" CHECK (length("created_by") <= 255),
  CONSTRAINT "fk_replication_schedules_chain_parent_schedule_id" FOREIGN KEY ("chain_parent_schedule_id") REFERENCES "replication_schedules" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "schedule_executions" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "schedule_id" TEXT NOT NULL,
  "group_id" TEXT NULL,
  "scheduled_at" TEXT NOT NULL,
  "started_at" TEXT NULL,
  "completed_at" TEXT NULL,
  "status" TEXT NOT NULL,
  "vms_eligible" INTEGER NOT NULL,
  "jobs_created" INTEGER NOT NULL,
  "jobs_completed" INTEGER NOT NULL,
  "jobs_failed" INTEGER NOT NULL,
  "jobs_skipped" INTEGER NOT NULL,
  "execution_details" TEXT NOT NULL,
  "error_message" TEXT NULL,
  "triggered_by" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_schedule_executions_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_schedule_executions_schedule_id" CHECK (length("schedule_id") <= 64),
  CONSTRAINT "ck_schedule_executions_group_id" CHECK (length("group_id") <= 64),
  CONSTRAINT "ck_schedule_executions_status" CHECK ("status" IN ('scheduled', 'running', 'completed', 'failed', 'skipped', 'cancelled')),
  CONSTRAINT "ck_schedule_executions_vms_eligible" CHECK ("vms_eligible" >= 0),
  CONSTRAINT "ck_schedule_executions_jobs_created" CHECK ("jobs_created" >= 0),
  CONSTRAINT "ck_schedule_executions_jobs_completed" CHECK ("jobs_completed" >= 0),
  CONSTRAINT "ck_schedule_executions_jobs_failed" CHECK ("jobs_failed" >= 0),
  CONSTRAINT "ck_schedule_executions_jobs_skipped" CHECK ("jobs_skipped" >= 0),
  CONSTRAINT "ck_schedule_executions_execution_details" CHECK (json_valid("execution_details")),
  CONSTRAINT "ck_schedule_executions_triggered_by" CHECK ("triggered_by" IN ('schedule', 'manual', 'api', 'chain')),
  CONSTRAINT "fk_schedule_executions_schedule_id" FOREIGN KEY ("schedule_id") REFERENCES "replication_schedules" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_schedule_executions_group_id" FOREIGN KEY ("group_id") REFERENCES "vm_machine_groups" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "sessions" (
  "token_hash" TEXT NOT NULL PRIMARY KEY,
  "user_id" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "expires_at" TEXT NOT NULL,
  "source_ip" TEXT NOT NULL,
  CONSTRAINT "ck_sessions_token_hash" CHECK (length("token_hash") <= 255),
  CONSTRAINT "ck_sessions_user_id" CHECK (length("user_id") <= 64),
  CONSTRAINT "ck_sessions_source_ip" CHECK (length("source_ip") <= 255),
  CONSTRAINT "fk_sessions_user_id" FOREIGN KEY ("user_id") REFERENCES "users" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "settings" (
  "key" TEXT NOT NULL PRIMARY KEY,
  "value" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "ck_settings_key" CHECK (length("key") <= 255),
  CONSTRAINT "ck_settings_value" CHECK (json_valid("value"))
) STRICT;

CREATE TABLE "users" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "password_hash" TEXT NULL,
  "oidc_subject" TEXT NULL,
  "role" TEXT NOT NULL,
  "is_active" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_users_name" UNIQUE ("name"),
  CONSTRAINT "ck_users_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_users_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_users_oidc_subject" CHECK (length("oidc_subject") <= 255),
  CONSTRAINT "ck_users_role" CHECK ("role" IN ('viewer', 'operator', 'administrator')),
  CONSTRAINT "ck_users_is_active" CHECK ("is_active" IN (0, 1))
) STRICT;

CREATE TABLE "vm_disks" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "vm_context_id" TEXT NOT NULL,
  "job_id" TEXT NULL,
  "disk_id" TEXT NOT NULL,
  "disk_uuid" TEXT NOT NULL,
  "vmdk_path" TEXT NOT NULL,
  "datastore" TEXT NOT NULL,
  "label" TEXT NOT NULL,
  "controller_type" TEXT NOT NULL,
  "controller_bus" INTEGER NOT NULL,
  "unit_number" INTEGER NOT NULL,
  "size_gb" INTEGER NOT NULL,
  "capacity_bytes" INTEGER NOT NULL,
  "provisioning_type" TEXT NOT NULL,
  "disk_mode" TEXT NOT NULL,
  "sharing" TEXT NOT NULL,
  "is_boot_disk" INTEGER NULL,
  "volume_uuid" TEXT NULL,
  "ossea_volume_id" TEXT NULL,
  "disk_change_id" TEXT NULL,
  "sync_status" TEXT NOT NULL,
  "sync_progress_percent" REAL NOT NULL,
  "bytes_synced" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_vm_disks_vm_context_id_disk_id" UNIQUE ("vm_context_id", "disk_id"),
  CONSTRAINT "ck_vm_disks_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vm_disks_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_vm_disks_job_id" CHECK (length("job_id") <= 64),
  CONSTRAINT "ck_vm_disks_disk_id" CHECK (length("disk_id") <= 64),
  CONSTRAINT "ck_vm_disks_disk_uuid" CHECK (length("disk_uuid") <= 64),
  CONSTRAINT "ck_vm_disks_vmdk_path" CHECK (length("vmdk_path") <= 1024),
  CONSTRAINT "ck_vm_disks_datastore" CHECK (length("datastore") <= 255),
  CONSTRAINT "ck_vm_disks_label" CHECK (length("label") <= 255),
  CONSTRAINT "ck_vm_disks_controller_type" CHECK (length("controller_type") <= 255),
  CONSTRAINT "ck_vm_disks_size_gb" CHECK ("size_gb" >= 0),
  CONSTRAINT "ck_vm_disks_capacity_bytes" CHECK ("capacity_bytes" >= 0),
  CONSTRAINT "ck_vm_disks_provisioning_type" CHECK (length("provisioning_type") <= 255),
  CONSTRAINT "ck_vm_disks_disk_mode" CHECK (length("disk_mode") <= 255),
  CONSTRAINT "ck_vm_disks_sharing" CHECK (length("sharing") <= 255),
  CONSTRAINT "ck_vm_disks_is_boot_disk" CHECK ("is_boot_disk" IN (0, 1)),
  CONSTRAINT "ck_vm_disks_volume_uuid" CHECK (length("volume_uuid") <= 64),
  CONSTRAINT "ck_vm_disks_ossea_volume_id" CHECK (length("ossea_volume_id") <= 64),
  CONSTRAINT "ck_vm_disks_disk_change_id" CHECK (length("disk_change_id") <= 255),
  CONSTRAINT "ck_vm_disks_sync_status" CHECK ("sync_status" IN ('pending', 'syncing', 'completed', 'failed', 'diverged')),
  CONSTRAINT "ck_vm_disks_bytes_synced" CHECK ("bytes_synced" >= 0),
  CONSTRAINT "fk_vm_disks_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_vm_disks_job_id" FOREIGN KEY ("job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_disks_volume_uuid" FOREIGN KEY ("volume_uuid") REFERENCES "device_mappings" ("volume_uuid") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_disks_ossea_volume_id" FOREIGN KEY ("ossea_volume_id") REFERENCES "ossea_volumes" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vm_group_memberships" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "group_id" TEXT NOT NULL,
  "vm_context_id" TEXT NOT NULL,
  "enabled" INTEGER NOT NULL,
  "priority" INTEGER NOT NULL,
  "boot_order" INTEGER NOT NULL,
  "boot_delay_seconds" INTEGER NOT NULL,
  "schedule_override_id" TEXT NULL,
  "added_by" TEXT NOT NULL,
  "added_at" TEXT NOT NULL,
  CONSTRAINT "uq_vm_group_memberships_group_id_vm_context_id" UNIQUE ("group_id", "vm_context_id"),
  CONSTRAINT "ck_vm_group_memberships_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vm_group_memberships_group_id" CHECK (length("group_id") <= 64),
  CONSTRAINT "ck_vm_group_memberships_vm_context_id" CHECK (length("vm_context_id") <= 64),
  CONSTRAINT "ck_vm_group_memberships_enabled" CHECK ("enabled" IN (0, 1)),
  CONSTRAINT "ck_vm_group_memberships_boot_delay_seconds" CHECK ("boot_delay_seconds" >= 0),
  CONSTRAINT "ck_vm_group_memberships_schedule_override_id" CHECK (length("schedule_override_id") <= 64),
  CONSTRAINT "ck_vm_group_memberships_added_by" CHECK (length("added_by") <= 255),
  CONSTRAINT "fk_vm_group_memberships_group_id" FOREIGN KEY ("group_id") REFERENCES "vm_machine_groups" ("id") ON DELETE CASCADE,
  CONSTRAINT "fk_vm_group_memberships_vm_context_id" FOREIGN KEY ("vm_context_id") REFERENCES "vm_replication_contexts" ("context_id") ON DELETE CASCADE,
  CONSTRAINT "fk_vm_group_memberships_schedule_override_id" FOREIGN KEY ("schedule_override_id") REFERENCES "replication_schedules" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vm_machine_groups" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "name" TEXT NOT NULL,
  "description" TEXT NOT NULL,
  "schedule_id" TEXT NULL,
  "max_concurrent_vms" INTEGER NOT NULL,
  "priority" INTEGER NOT NULL,
  "created_by" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_vm_machine_groups_name" UNIQUE ("name"),
  CONSTRAINT "ck_vm_machine_groups_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vm_machine_groups_name" CHECK (length("name") <= 255),
  CONSTRAINT "ck_vm_machine_groups_schedule_id" CHECK (length("schedule_id") <= 64),
  CONSTRAINT "ck_vm_machine_groups_max_concurrent_vms" CHECK ("max_concurrent_vms" >= 0),
  CONSTRAINT "ck_vm_machine_groups_created_by" CHECK (length("created_by") <= 255),
  CONSTRAINT "fk_vm_machine_groups_schedule_id" FOREIGN KEY ("schedule_id") REFERENCES "replication_schedules" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vm_replication_contexts" (
  "context_id" TEXT NOT NULL PRIMARY KEY,
  "vm_name" TEXT NOT NULL,
  "vmware_vm_id" TEXT NOT NULL,
  "vmware_moref" TEXT NOT NULL,
  "vm_path" TEXT NOT NULL,
  "vcenter_host" TEXT NOT NULL,
  "datacenter" TEXT NOT NULL,
  "current_status" TEXT NOT NULL,
  "current_job_id" TEXT NULL,
  "last_successful_job_id" TEXT NULL,
  "total_jobs_run" INTEGER NOT NULL,
  "successful_jobs" INTEGER NOT NULL,
  "failed_jobs" INTEGER NOT NULL,
  "cpu_count" INTEGER NOT NULL,
  "memory_mb" INTEGER NOT NULL,
  "os_type" TEXT NOT NULL,
  "guest_id" TEXT NOT NULL,
  "firmware" TEXT NOT NULL,
  "secure_boot" INTEGER NOT NULL,
  "power_state" TEXT NOT NULL,
  "vm_tools_version" TEXT NOT NULL,
  "networks" TEXT NOT NULL,
  "credential_id" TEXT NULL,
  "ossea_config_id" TEXT NULL,
  "enrollment_id" TEXT NULL,
  "scheduler_enabled" INTEGER NOT NULL,
  "next_scheduled_at" TEXT NULL,
  "last_scheduled_job_id" TEXT NULL,
  "auto_added" INTEGER NOT NULL,
  "last_operation_summary" TEXT NULL,
  "first_job_at" TEXT NULL,
  "last_job_at" TEXT NULL,
  "last_status_change" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL, "keep_points" INTEGER NOT NULL DEFAULT 0 CHECK ("keep_points" >= 0),
  CONSTRAINT "uq_vm_replication_contexts_vmware_vm_id_vcenter_host" UNIQUE ("vmware_vm_id", "vcenter_host"),
  CONSTRAINT "uq_vm_replication_contexts_vm_name_vcenter_host_vm_path" UNIQUE ("vm_name", "vcenter_host", "vm_path"),
  CONSTRAINT "ck_vm_replication_contexts_context_id" CHECK (length("context_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_vm_name" CHECK (length("vm_name") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_vmware_vm_id" CHECK (length("vmware_vm_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_vmware_moref" CHECK (length("vmware_moref") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_vm_path" CHECK (length("vm_path") <= 1024),
  CONSTRAINT "ck_vm_replication_contexts_vcenter_host" CHECK (length("vcenter_host") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_datacenter" CHECK (length("datacenter") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_current_status" CHECK ("current_status" IN ('discovered', 'replicating', 'ready_for_failover', 'failed_over_test', 'failed_over_live', 'completed', 'failed', 'cleanup_required')),
  CONSTRAINT "ck_vm_replication_contexts_current_job_id" CHECK (length("current_job_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_last_successful_job_id" CHECK (length("last_successful_job_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_total_jobs_run" CHECK ("total_jobs_run" >= 0),
  CONSTRAINT "ck_vm_replication_contexts_successful_jobs" CHECK ("successful_jobs" >= 0),
  CONSTRAINT "ck_vm_replication_contexts_failed_jobs" CHECK ("failed_jobs" >= 0),
  CONSTRAINT "ck_vm_replication_contexts_cpu_count" CHECK ("cpu_count" >= 0),
  CONSTRAINT "ck_vm_replication_contexts_memory_mb" CHECK ("memory_mb" >= 0),
  CONSTRAINT "ck_vm_replication_contexts_os_type" CHECK (length("os_type") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_guest_id" CHECK (length("guest_id") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_firmware" CHECK ("firmware" IN ('bios', 'efi')),
  CONSTRAINT "ck_vm_replication_contexts_secure_boot" CHECK ("secure_boot" IN (0, 1)),
  CONSTRAINT "ck_vm_replication_contexts_power_state" CHECK (length("power_state") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_vm_tools_version" CHECK (length("vm_tools_version") <= 255),
  CONSTRAINT "ck_vm_replication_contexts_networks" CHECK (json_valid("networks")),
  CONSTRAINT "ck_vm_replication_contexts_credential_id" CHECK (length("credential_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_ossea_config_id" CHECK (length("ossea_config_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_enrollment_id" CHECK (length("enrollment_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_scheduler_enabled" CHECK ("scheduler_enabled" IN (0, 1)),
  CONSTRAINT "ck_vm_replication_contexts_last_scheduled_job_id" CHECK (length("last_scheduled_job_id") <= 64),
  CONSTRAINT "ck_vm_replication_contexts_auto_added" CHECK ("auto_added" IN (0, 1)),
  CONSTRAINT "ck_vm_replication_contexts_last_operation_summary" CHECK (json_valid("last_operation_summary")),
  CONSTRAINT "fk_vm_replication_contexts_current_job_id" FOREIGN KEY ("current_job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_replication_contexts_last_successful_job_id" FOREIGN KEY ("last_successful_job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_replication_contexts_credential_id" FOREIGN KEY ("credential_id") REFERENCES "vmware_credentials" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_replication_contexts_ossea_config_id" FOREIGN KEY ("ossea_config_id") REFERENCES "ossea_configs" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_replication_contexts_enrollment_id" FOREIGN KEY ("enrollment_id") REFERENCES "vma_enrollments" ("id") ON DELETE SET NULL,
  CONSTRAINT "fk_vm_replication_contexts_last_scheduled_job_id" FOREIGN KEY ("last_scheduled_job_id") REFERENCES "replication_jobs" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vma_active_connections" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "enrollment_id" TEXT NOT NULL,
  "connection_status" TEXT NOT NULL,
  "remote_address" TEXT NOT NULL,
  "protocol_version" TEXT NOT NULL,
  "connected_at" TEXT NOT NULL,
  "last_seen_at" TEXT NOT NULL,
  "round_trip_ms" INTEGER NULL,
  "revoked_at" TEXT NULL,
  "revoked_by" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_vma_active_connections_enrollment_id" UNIQUE ("enrollment_id"),
  CONSTRAINT "ck_vma_active_connections_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vma_active_connections_enrollment_id" CHECK (length("enrollment_id") <= 64),
  CONSTRAINT "ck_vma_active_connections_connection_status" CHECK ("connection_status" IN ('connected', 'disconnected', 'revoked')),
  CONSTRAINT "ck_vma_active_connections_remote_address" CHECK (length("remote_address") <= 255),
  CONSTRAINT "ck_vma_active_connections_protocol_version" CHECK (length("protocol_version") <= 255),
  CONSTRAINT "ck_vma_active_connections_round_trip_ms" CHECK ("round_trip_ms" >= 0),
  CONSTRAINT "ck_vma_active_connections_revoked_by" CHECK (length("revoked_by") <= 255),
  CONSTRAINT "fk_vma_active_connections_enrollment_id" FOREIGN KEY ("enrollment_id") REFERENCES "vma_enrollments" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "vma_connection_audit" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "enrollment_id" TEXT NULL,
  "event_type" TEXT NOT NULL,
  "vma_fingerprint" TEXT NULL,
  "source_ip" TEXT NOT NULL,
  "user_agent" TEXT NULL,
  "approved_by" TEXT NULL,
  "event_details" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  CONSTRAINT "ck_vma_connection_audit_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vma_connection_audit_enrollment_id" CHECK (length("enrollment_id") <= 64),
  CONSTRAINT "ck_vma_connection_audit_event_type" CHECK ("event_type" IN ('enrollment', 'verification', 'approval', 'rejection', 'connection', 'disconnection', 'renewal', 'revocation')),
  CONSTRAINT "ck_vma_connection_audit_vma_fingerprint" CHECK (length("vma_fingerprint") <= 255),
  CONSTRAINT "ck_vma_connection_audit_source_ip" CHECK (length("source_ip") <= 255),
  CONSTRAINT "ck_vma_connection_audit_user_agent" CHECK (length("user_agent") <= 255),
  CONSTRAINT "ck_vma_connection_audit_approved_by" CHECK (length("approved_by") <= 255),
  CONSTRAINT "ck_vma_connection_audit_event_details" CHECK (json_valid("event_details")),
  CONSTRAINT "fk_vma_connection_audit_enrollment_id" FOREIGN KEY ("enrollment_id") REFERENCES "vma_enrollments" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vma_enrollments" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "pairing_code_id" TEXT NULL,
  "vma_name" TEXT NOT NULL,
  "vma_version" TEXT NOT NULL,
  "vma_fingerprint" TEXT NOT NULL,
  "vma_public_key" TEXT NOT NULL,
  "certificate_serial" TEXT NULL,
  "certificate_expires_at" TEXT NULL,
  "vma_ip_address" TEXT NULL,
  "challenge_nonce" TEXT NULL,
  "status" TEXT NOT NULL,
  "approved_by" TEXT NULL,
  "approved_at" TEXT NULL,
  "expires_at" TEXT NOT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_vma_enrollments_vma_fingerprint" UNIQUE ("vma_fingerprint"),
  CONSTRAINT "ck_vma_enrollments_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vma_enrollments_pairing_code_id" CHECK (length("pairing_code_id") <= 64),
  CONSTRAINT "ck_vma_enrollments_vma_name" CHECK (length("vma_name") <= 255),
  CONSTRAINT "ck_vma_enrollments_vma_version" CHECK (length("vma_version") <= 255),
  CONSTRAINT "ck_vma_enrollments_vma_fingerprint" CHECK (length("vma_fingerprint") <= 255),
  CONSTRAINT "ck_vma_enrollments_certificate_serial" CHECK (length("certificate_serial") <= 255),
  CONSTRAINT "ck_vma_enrollments_vma_ip_address" CHECK (length("vma_ip_address") <= 255),
  CONSTRAINT "ck_vma_enrollments_challenge_nonce" CHECK (length("challenge_nonce") <= 255),
  CONSTRAINT "ck_vma_enrollments_status" CHECK ("status" IN ('pending_verification', 'awaiting_approval', 'approved', 'rejected', 'expired', 'revoked')),
  CONSTRAINT "ck_vma_enrollments_approved_by" CHECK (length("approved_by") <= 255),
  CONSTRAINT "fk_vma_enrollments_pairing_code_id" FOREIGN KEY ("pairing_code_id") REFERENCES "vma_pairing_codes" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vma_pairing_codes" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "code_hash" TEXT NOT NULL,
  "generated_by" TEXT NOT NULL,
  "expires_at" TEXT NOT NULL,
  "used_at" TEXT NULL,
  "used_by_enrollment_id" TEXT NULL,
  "failed_attempts" INTEGER NOT NULL,
  "created_at" TEXT NOT NULL,
  CONSTRAINT "uq_vma_pairing_codes_code_hash" UNIQUE ("code_hash"),
  CONSTRAINT "ck_vma_pairing_codes_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vma_pairing_codes_code_hash" CHECK (length("code_hash") <= 255),
  CONSTRAINT "ck_vma_pairing_codes_generated_by" CHECK (length("generated_by") <= 255),
  CONSTRAINT "ck_vma_pairing_codes_used_by_enrollment_id" CHECK (length("used_by_enrollment_id") <= 64),
  CONSTRAINT "ck_vma_pairing_codes_failed_attempts" CHECK ("failed_attempts" >= 0),
  CONSTRAINT "fk_vma_pairing_codes_used_by_enrollment_id" FOREIGN KEY ("used_by_enrollment_id") REFERENCES "vma_enrollments" ("id") ON DELETE SET NULL
) STRICT;

CREATE TABLE "vmware_credentials" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "credential_name" TEXT NOT NULL,
  "vcenter_host" TEXT NOT NULL,
  "username" TEXT NOT NULL,
  "password_encrypted" TEXT NOT NULL,
  "datacenter" TEXT NOT NULL,
  "tls_thumbprint" TEXT NULL,
  "is_active" INTEGER NOT NULL,
  "is_default" INTEGER NOT NULL,
  "last_used" TEXT NULL,
  "usage_count" INTEGER NOT NULL,
  "created_by" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_vmware_credentials_credential_name" UNIQUE ("credential_name"),
  CONSTRAINT "ck_vmware_credentials_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_vmware_credentials_credential_name" CHECK (length("credential_name") <= 255),
  CONSTRAINT "ck_vmware_credentials_vcenter_host" CHECK (length("vcenter_host") <= 255),
  CONSTRAINT "ck_vmware_credentials_username" CHECK (length("username") <= 255),
  CONSTRAINT "ck_vmware_credentials_datacenter" CHECK (length("datacenter") <= 255),
  CONSTRAINT "ck_vmware_credentials_tls_thumbprint" CHECK (length("tls_thumbprint") <= 255),
  CONSTRAINT "ck_vmware_credentials_is_active" CHECK ("is_active" IN (0, 1)),
  CONSTRAINT "ck_vmware_credentials_is_default" CHECK ("is_default" IN (0, 1)),
  CONSTRAINT "ck_vmware_credentials_usage_count" CHECK ("usage_count" >= 0),
  CONSTRAINT "ck_vmware_credentials_created_by" CHECK (length("created_by") <= 255)
) STRICT;

CREATE TABLE "volume_daemon_metrics" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "timestamp" TEXT NOT NULL,
  "total_operations" INTEGER NOT NULL,
  "pending_operations" INTEGER NOT NULL,
  "active_mappings" INTEGER NOT NULL,
  "operations_by_type" TEXT NOT NULL,
  "operations_by_status" TEXT NOT NULL,
  "average_response_time_ms" REAL NOT NULL,
  "error_rate_percent" REAL NOT NULL,
  "details" TEXT NOT NULL,
  CONSTRAINT "ck_volume_daemon_metrics_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_volume_daemon_metrics_total_operations" CHECK ("total_operations" >= 0),
  CONSTRAINT "ck_volume_daemon_metrics_pending_operations" CHECK ("pending_operations" >= 0),
  CONSTRAINT "ck_volume_daemon_metrics_active_mappings" CHECK ("active_mappings" >= 0),
  CONSTRAINT "ck_volume_daemon_metrics_operations_by_type" CHECK (json_valid("operations_by_type")),
  CONSTRAINT "ck_volume_daemon_metrics_operations_by_status" CHECK (json_valid("operations_by_status")),
  CONSTRAINT "ck_volume_daemon_metrics_details" CHECK (json_valid("details"))
) STRICT;

CREATE TABLE "volume_operation_history" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "operation_id" TEXT NOT NULL,
  "previous_status" TEXT NOT NULL,
  "new_status" TEXT NOT NULL,
  "changed_at" TEXT NOT NULL,
  "details" TEXT NOT NULL,
  CONSTRAINT "ck_volume_operation_history_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_volume_operation_history_operation_id" CHECK (length("operation_id") <= 64),
  CONSTRAINT "ck_volume_operation_history_previous_status" CHECK ("previous_status" IN ('pending', 'executing', 'completed', 'failed', 'cancelled')),
  CONSTRAINT "ck_volume_operation_history_new_status" CHECK ("new_status" IN ('pending', 'executing', 'completed', 'failed', 'cancelled')),
  CONSTRAINT "ck_volume_operation_history_details" CHECK (json_valid("details")),
  CONSTRAINT "fk_volume_operation_history_operation_id" FOREIGN KEY ("operation_id") REFERENCES "volume_operations" ("id") ON DELETE CASCADE
) STRICT;

CREATE TABLE "volume_operations" (
  "id" TEXT NOT NULL PRIMARY KEY,
  "type" TEXT NOT NULL,
  "status" TEXT NOT NULL,
  "volume_id" TEXT NULL,
  "vm_id" TEXT NULL,
  "request" TEXT NOT NULL,
  "response" TEXT NULL,
  "error" TEXT NULL,
  "cloudstack_job_id" TEXT NULL,
  "correlation_id" TEXT NOT NULL,
  "idempotency_key" TEXT NOT NULL,
  "fence" INTEGER NOT NULL,
  "attempts" INTEGER NOT NULL,
  "completed_at" TEXT NULL,
  "created_at" TEXT NOT NULL,
  "updated_at" TEXT NOT NULL,
  CONSTRAINT "uq_volume_operations_idempotency_key" UNIQUE ("idempotency_key"),
  CONSTRAINT "ck_volume_operations_id" CHECK (length("id") <= 64),
  CONSTRAINT "ck_volume_operations_type" CHECK ("type" IN ('create', 'attach', 'attach_root', 'detach', 'delete', 'resize', 'snapshot', 'revert_snapshot', 'delete_snapshot', 'cleanup')),
  CONSTRAINT "ck_volume_operations_status" CHECK ("status" IN ('pending', 'executing', 'completed', 'failed', 'cancelled')),
  CONSTRAINT "ck_volume_operations_volume_id" CHECK (length("volume_id") <= 64),
  CONSTRAINT "ck_volume_operations_vm_id" CHECK (length("vm_id") <= 64),
  CONSTRAINT "ck_volume_operations_request" CHECK (json_valid("request")),
  CONSTRAINT "ck_volume_operations_response" CHECK (json_valid("response")),
  CONSTRAINT "ck_volume_operations_cloudstack_job_id" CHECK (length("cloudstack_job_id") <= 64),
  CONSTRAINT "ck_volume_operations_correlation_id" CHECK (length("correlation_id") <= 64),
  CONSTRAINT "ck_volume_operations_idempotency_key" CHECK (length("idempotency_key") <= 255),
  CONSTRAINT "ck_volume_operations_fence" CHECK ("fence" >= 0),
  CONSTRAINT "ck_volume_operations_attempts" CHECK ("attempts" >= 0)
) STRICT;

CREATE INDEX "ix_api_tokens_user_id" ON "api_tokens" ("user_id");

CREATE INDEX "ix_audit_log_at" ON "audit_log" ("at");

CREATE INDEX "ix_backup_chains_repository_id" ON "backup_chains" ("repository_id");

CREATE INDEX "ix_backup_copies_copy_rule_id" ON "backup_copies" ("copy_rule_id");

CREATE INDEX "ix_backup_copies_repository_id" ON "backup_copies" ("repository_id");

CREATE INDEX "ix_backup_copy_rules_destination_repository_id" ON "backup_copy_rules" ("destination_repository_id");

CREATE INDEX "ix_backup_copy_rules_policy_id" ON "backup_copy_rules" ("policy_id");

CREATE INDEX "ix_backup_copy_rules_priority" ON "backup_copy_rules" ("priority");

CREATE INDEX "ix_backup_disks_vm_disk_id" ON "backup_disks" ("vm_disk_id");

CREATE INDEX "ix_backup_jobs_parent_backup_id" ON "backup_jobs" ("parent_backup_id");

CREATE INDEX "ix_backup_jobs_policy_id" ON "backup_jobs" ("policy_id");

CREATE INDEX "ix_backup_jobs_repository_id" ON "backup_jobs" ("repository_id");

CREATE INDEX "ix_backup_jobs_vm_context_id" ON "backup_jobs" ("vm_context_id");

CREATE INDEX "ix_backup_policies_primary_repository_id" ON "backup_policies" ("primary_repository_id");

CREATE INDEX "ix_backup_repositories_enabled" ON "backup_repositories" ("enabled");

CREATE INDEX "ix_backup_repositories_is_immutable" ON "backup_repositories" ("is_immutable");

CREATE INDEX "ix_backup_repositories_repository_type" ON "backup_repositories" ("repository_type");

CREATE INDEX "ix_cbt_history_job_id" ON "cbt_history" ("job_id");

CREATE INDEX "ix_cbt_history_vm_context_id_created_at" ON "cbt_history" ("vm_context_id", "created_at");

CREATE INDEX "ix_device_mappings_vm_context_id" ON "device_mappings" ("vm_context_id");

CREATE INDEX "ix_equality_certificates_previous_certificate_id" ON "equality_certificates" ("previous_certificate_id");

CREATE INDEX "ix_equality_certificates_vm_context_id_id" ON "equality_certificates" ("vm_context_id", "id");

CREATE INDEX "ix_equality_certificates_vm_disk_id_id" ON "equality_certificates" ("vm_disk_id", "id");

CREATE INDEX "ix_failover_jobs_replication_job_id" ON "failover_jobs" ("replication_job_id");

CREATE INDEX "ix_failover_jobs_status_updated_at" ON "failover_jobs" ("status", "updated_at");

CREATE INDEX "ix_failover_jobs_vm_context_id" ON "failover_jobs" ("vm_context_id");

CREATE INDEX "ix_job_tracking_external_job_id" ON "job_tracking" ("external_job_id");

CREATE INDEX "ix_job_tracking_parent_job_id" ON "job_tracking" ("parent_job_id");

CREATE INDEX "ix_job_tracking_root_job_id" ON "job_tracking" ("root_job_id");

CREATE INDEX "ix_job_tracking_status_lease_until" ON "job_tracking" ("status", "lease_until");

CREATE INDEX "ix_job_tracking_vm_context_id" ON "job_tracking" ("vm_context_id");

CREATE INDEX "ix_log_events_job_id_id" ON "log_events" ("job_id", "id");

CREATE INDEX "ix_log_events_step_id" ON "log_events" ("step_id");

CREATE INDEX "ix_nbd_exports_device_mapping_uuid" ON "nbd_exports" ("device_mapping_uuid");

CREATE INDEX "ix_nbd_exports_enrollment_id_status" ON "nbd_exports" ("enrollment_id", "status");

CREATE INDEX "ix_nbd_exports_job_id" ON "nbd_exports" ("job_id");

CREATE INDEX "ix_nbd_exports_vm_context_id" ON "nbd_exports" ("vm_context_id");

CREATE INDEX "ix_nbd_exports_vm_disk_id" ON "nbd_exports" ("vm_disk_id");

CREATE INDEX "ix_ossea_volumes_ossea_config_id" ON "ossea_volumes" ("ossea_config_id");

CREATE INDEX "ix_ossea_volumes_vm_context_id" ON "ossea_volumes" ("vm_context_id");

CREATE INDEX "ix_recovery_points_export_name_state" ON "recovery_points" ("export_name", "state");

CREATE INDEX "ix_recovery_points_vm_context_id_state" ON "recovery_points" ("vm_context_id", "state");

CREATE INDEX "ix_replication_jobs_ossea_config_id" ON "replication_jobs" ("ossea_config_id");

CREATE INDEX "ix_replication_jobs_schedule_execution_id" ON "replication_jobs" ("schedule_execution_id");

CREATE INDEX "ix_replication_jobs_status_updated_at" ON "replication_jobs" ("status", "updated_at");

CREATE INDEX "ix_replication_jobs_vm_context_id_created_at" ON "replication_jobs" ("vm_context_id", "created_at");

CREATE INDEX "ix_replication_jobs_vm_group_id" ON "replication_jobs" ("vm_group_id");

CREATE INDEX "ix_replication_schedules_chain_parent_schedule_id" ON "replication_schedules" ("chain_parent_schedule_id");

CREATE INDEX "ix_schedule_executions_group_id" ON "schedule_executions" ("group_id");

CREATE INDEX "ix_schedule_executions_schedule_id" ON "schedule_executions" ("schedule_id");

CREATE INDEX "ix_sessions_user_id" ON "sessions" ("user_id");

CREATE INDEX "ix_vm_disks_job_id" ON "vm_disks" ("job_id");

CREATE INDEX "ix_vm_disks_ossea_volume_id" ON "vm_disks" ("ossea_volume_id");

CREATE INDEX "ix_vm_disks_volume_uuid" ON "vm_disks" ("volume_uuid");

CREATE INDEX "ix_vm_group_memberships_schedule_override_id" ON "vm_group_memberships" ("schedule_override_id");

CREATE INDEX "ix_vm_group_memberships_vm_context_id" ON "vm_group_memberships" ("vm_context_id");

CREATE INDEX "ix_vm_machine_groups_schedule_id" ON "vm_machine_groups" ("schedule_id");

CREATE INDEX "ix_vm_replication_contexts_credential_id" ON "vm_replication_contexts" ("credential_id");

CREATE INDEX "ix_vm_replication_contexts_current_job_id" ON "vm_replication_contexts" ("current_job_id");

CREATE INDEX "ix_vm_replication_contexts_enrollment_id" ON "vm_replication_contexts" ("enrollment_id");

CREATE INDEX "ix_vm_replication_contexts_last_scheduled_job_id" ON "vm_replication_contexts" ("last_scheduled_job_id");

CREATE INDEX "ix_vm_replication_contexts_last_successful_job_id" ON "vm_replication_contexts" ("last_successful_job_id");

CREATE INDEX "ix_vm_replication_contexts_ossea_config_id" ON "vm_replication_contexts" ("ossea_config_id");

CREATE INDEX "ix_vma_connection_audit_created_at" ON "vma_connection_audit" ("created_at");

CREATE INDEX "ix_vma_connection_audit_enrollment_id" ON "vma_connection_audit" ("enrollment_id");

CREATE INDEX "ix_vma_enrollments_pairing_code_id" ON "vma_enrollments" ("pairing_code_id");

CREATE INDEX "ix_vma_enrollments_status" ON "vma_enrollments" ("status");

CREATE INDEX "ix_vma_pairing_codes_used_by_enrollment_id" ON "vma_pairing_codes" ("used_by_enrollment_id");

CREATE INDEX "ix_volume_daemon_metrics_timestamp" ON "volume_daemon_metrics" ("timestamp");

CREATE INDEX "ix_volume_operation_history_operation_id" ON "volume_operation_history" ("operation_id");

CREATE INDEX "ix_volume_operations_status_updated_at" ON "volume_operations" ("status", "updated_at");

CREATE INDEX "ix_volume_operations_volume_id" ON "volume_operations" ("volume_id");

CREATE VIEW active_jobs AS
SELECT j.id, j.parent_job_id, j.root_job_id, j.job_type, j.operation, j.status, j.owner, j.external_job_id,
  j.vm_context_id, c.vm_name, j.percent_complete, j.created_at, j.started_at, CAST(strftime('%s', 'now') AS INTEGER) - CAST(strftime('%s', j.started_at) AS INTEGER) AS running_seconds,
  (SELECT COUNT(*) FROM log_events e WHERE e.job_id = j.id AND e.level = 'error') AS error_count
FROM job_tracking j LEFT JOIN vm_replication_contexts c ON c.context_id = j.vm_context_id
WHERE j.status IN ('pending', 'running');

CREATE VIEW active_schedules AS
SELECT s.id AS schedule_id, s.name AS schedule_name, s.schedule_type, s.cron_expression, s.timezone, s.replication_type,
  COUNT(DISTINCT g.id) AS group_count, COUNT(DISTINCT m.vm_context_id) AS vm_count,
  MIN(c.next_scheduled_at) AS next_run_at
FROM replication_schedules s
LEFT JOIN vm_machine_groups g ON g.schedule_id = s.id
LEFT JOIN vm_group_memberships m ON m.group_id = g.id AND m.enabled = 1
LEFT JOIN vm_replication_contexts c ON c.context_id = m.vm_context_id AND c.scheduler_enabled = 1
WHERE s.enabled = 1
GROUP BY s.id, s.name, s.schedule_type, s.cron_expression, s.timezone, s.replication_type;

CREATE VIEW cloudstack_job_tracking AS
SELECT j.id, j.cloudstack_job_id, j.parent_job_id, j.external_job_id AS request_id, j.job_type, j.operation, j.status,
  j.params AS request_data, j.metadata AS response_data, j.error_message, j.created_at, j.started_at, j.completed_at, j.updated_at
FROM job_tracking j
WHERE j.cloudstack_job_id IS NOT NULL;

CREATE VIEW job_execution_log AS
SELECT e.id, e.job_id, e.step_id, s.name AS step_name, e.level AS log_level, e.message, e.attrs AS details, e.created_at
FROM log_events e LEFT JOIN job_steps s ON s.id = e.step_id
WHERE e.job_id IS NOT NULL;

CREATE VIEW job_tracking_hierarchy AS
SELECT j.root_job_id, r.job_type AS root_job_type, r.status AS root_status, j.parent_job_id, j.id AS job_id,
  j.job_type, j.operation, j.status, j.started_at, j.completed_at, CAST(strftime('%s', COALESCE(j.completed_at, 'now')) AS INTEGER) - CAST(strftime('%s', j.started_at) AS INTEGER) AS duration_seconds,
  (SELECT COUNT(*) FROM job_tracking k WHERE k.parent_job_id = j.id) AS child_count
FROM job_tracking j LEFT JOIN job_tracking r ON r.id = j.root_job_id;

CREATE VIEW schedule_execution_summary AS
SELECT s.id AS schedule_id, s.name AS schedule_name, COUNT(e.id) AS total_executions,
  COALESCE(SUM(CASE WHEN e.status = 'completed' THEN 1 ELSE 0 END), 0) AS completed_executions,
  COALESCE(SUM(CASE WHEN e.status = 'failed' THEN 1 ELSE 0 END), 0) AS failed_executions,
  COALESCE(SUM(CASE WHEN e.status = 'skipped' THEN 1 ELSE 0 END), 0) AS skipped_executions,
  100.0 * SUM(CASE WHEN e.status = 'completed' THEN 1 ELSE 0 END)
    / NULLIF(SUM(CASE WHEN e.status IN ('completed', 'failed') THEN 1 ELSE 0 END), 0) AS success_rate_percent,
  MAX(e.started_at) AS last_started_at
FROM replication_schedules s LEFT JOIN schedule_executions e ON e.schedule_id = s.id
GROUP BY s.id, s.name;

CREATE VIEW vm_schedule_status AS
SELECT c.context_id, c.vm_name, c.current_status, c.scheduler_enabled, c.next_scheduled_at, c.last_scheduled_job_id,
  j.status AS last_scheduled_job_status, g.id AS group_id, g.name AS group_name, m.enabled AS membership_enabled,
  COALESCE(m.schedule_override_id, g.schedule_id) AS schedule_id, s.name AS schedule_name, s.enabled AS schedule_enabled
FROM vm_replication_contexts c
LEFT JOIN vm_group_memberships m ON m.vm_context_id = c.context_id
LEFT JOIN vm_machine_groups g ON g.id = m.group_id
LEFT JOIN replication_schedules s ON s.id = COALESCE(m.schedule_override_id, g.schedule_id)
LEFT JOIN replication_jobs j ON j.id = c.last_scheduled_job_id;
