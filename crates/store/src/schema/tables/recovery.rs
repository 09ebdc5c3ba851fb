//! Recovery points: committed journals beside the volumes, and how many of them a VM keeps.

use model::status::{PointState, stored_texts};

use crate::schema::description::{Column, Table, count, id, name, one_of, time};

/// The table of the third migration. `job_id` names the files of the journal, so it stays when the replication's row goes.
pub(in crate::schema) fn recovery_points() -> Vec<Table> {
    let table = Table::new(
        "recovery_points",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("vm_disk_id").owned_by("vm_disks", "id"),
            id("job_id"),
            name("export_name"),
            count("sequence"),
            name("change_id").optional(),
            count("index_bytes"),
            count("data_bytes"),
            one_of("state", stored_texts::<PointState>()),
            time("committed_at"),
            time("ended_at").optional(),
        ],
    );
    let table = table.unique(&["vm_disk_id", "job_id"]).unique(&["vm_disk_id", "sequence"]);
    vec![table.index(&["export_name", "state"]).index(&["vm_context_id", "state"])]
}

/// What the third migration adds to `vm_replication_contexts`; 0 in the rows that exist.
pub(in crate::schema) fn keep_points() -> Column {
    count("keep_points")
}
