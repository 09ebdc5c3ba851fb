//! Schedules and groups. The feature comes later: until it brings its enums, its texts stand here.

use crate::schema::description::{Table, count, flag, id, integer, json, name, one_of, text, time};

/// The tables of this area.
pub(in crate::schema) fn scheduling() -> Vec<Table> {
    vec![replication_schedules(), vm_machine_groups(), vm_group_memberships(), schedule_executions()]
}

fn replication_schedules() -> Table {
    Table::new(
        "replication_schedules",
        [
            id("id"),
            name("name").unique(),
            text("description"),
            one_of("schedule_type", vec!["cron", "chain"]),
            name("cron_expression").optional(),
            name("timezone"),
            id("chain_parent_schedule_id").refers_to("replication_schedules", "id"),
            count("chain_delay_minutes"),
            one_of("replication_type", vec!["full", "incremental", "auto"]),
            count("max_concurrent_jobs"),
            count("retry_attempts"),
            count("retry_delay_minutes"),
            flag("skip_if_running"),
            flag("enabled"),
            name("created_by"),
        ],
    )
    .timestamped()
}

fn vm_machine_groups() -> Table {
    Table::new(
        "vm_machine_groups",
        [
            id("id"),
            name("name").unique(),
            text("description"),
            id("schedule_id").refers_to("replication_schedules", "id"),
            count("max_concurrent_vms"),
            integer("priority"),
            name("created_by"),
        ],
    )
    .timestamped()
}

fn vm_group_memberships() -> Table {
    Table::new(
        "vm_group_memberships",
        [
            id("id"),
            id("group_id").owned_by("vm_machine_groups", "id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            flag("enabled"),
            integer("priority"),
            integer("boot_order"),
            count("boot_delay_seconds"),
            id("schedule_override_id").refers_to("replication_schedules", "id"),
            name("added_by"),
            time("added_at"),
        ],
    )
    .unique(&["group_id", "vm_context_id"])
}

fn schedule_executions() -> Table {
    Table::new(
        "schedule_executions",
        [
            id("id"),
            id("schedule_id").owned_by("replication_schedules", "id"),
            id("group_id").refers_to("vm_machine_groups", "id"),
            time("scheduled_at"),
            time("started_at").optional(),
            time("completed_at").optional(),
            one_of("status", vec!["scheduled", "running", "completed", "failed", "skipped", "cancelled"]),
            count("vms_eligible"),
            count("jobs_created"),
            count("jobs_completed"),
            count("jobs_failed"),
            count("jobs_skipped"),
            json("execution_details"),
            text("error_message").optional(),
            one_of("triggered_by", vec!["schedule", "manual", "api", "chain"]),
        ],
    )
    .timestamped()
}
