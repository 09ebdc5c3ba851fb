//! How far the scrub of each disk is.

use crate::schema::description::{Table, count, id, time};

/// The table of the scrub's migration.
pub(in crate::schema) fn disk_scrubs() -> Vec<Table> {
    vec![Table::new(
        "disk_scrubs",
        [
            id("vm_disk_id").owned_by("vm_disks", "id"),
            count("position_bytes"),
            time("advanced_at"),
            time("completed_at").optional(),
            time("distrusted_at").optional(),
            count("omissions"),
        ],
    )]
}
