//! The JobLog: jobs, their steps, and what they logged.

use model::status::{JobStatus, LogLevel, StepKind, StepStatus, stored_texts};

use crate::schema::description::{Table, count, double, id, json, name, one_of, serial, text, time};

/// The tables of this area.
pub(in crate::schema) fn joblog() -> Vec<Table> {
    vec![job_tracking(), job_steps(), log_events()]
}

fn job_tracking() -> Table {
    Table::new(
        "job_tracking",
        [
            id("id"),
            id("parent_job_id").owned_by("job_tracking", "id").optional(),
            id("root_job_id"),
            name("job_type"),
            name("operation"),
            one_of("status", stored_texts::<JobStatus>()),
            id("external_job_id").optional(),
            id("cloudstack_job_id").optional(),
            id("vm_context_id").refers_to("vm_replication_contexts", "context_id"),
            name("owner").optional(),
            time("lease_until").optional(),
            count("fence"),
            json("params"),
            json("metadata"),
            text("error_message").optional(),
            json("error_detail").optional(),
            double("percent_complete"),
            time("started_at").optional(),
            time("completed_at").optional(),
            time("canceled_at").optional(),
        ],
    )
    .timestamped()
    .index(&["status", "lease_until"])
    .index(&["external_job_id"])
    .index(&["root_job_id"])
}

fn job_steps() -> Table {
    Table::new(
        "job_steps",
        [
            id("id"),
            id("job_id").owned_by("job_tracking", "id"),
            count("seq"),
            name("name"),
            one_of("kind", stored_texts::<StepKind>()),
            one_of("status", stored_texts::<StepStatus>()),
            count("attempt"),
            json("output").optional(),
            text("error_message").optional(),
            json("error_detail").optional(),
            time("started_at").optional(),
            time("completed_at").optional(),
        ],
    )
    .unique(&["job_id", "seq"])
}

fn log_events() -> Table {
    Table::new(
        "log_events",
        [
            serial("id"),
            id("job_id").owned_by("job_tracking", "id").optional(),
            id("step_id").owned_by("job_steps", "id").optional(),
            one_of("level", stored_texts::<LogLevel>()),
            text("message"),
            json("attrs"),
        ],
    )
    .timestamped()
    .index(&["job_id", "id"])
}
