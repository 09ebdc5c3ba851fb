//! Certificates of equality: what was proven at each commit.

use model::status::{ReplicationType, stored_texts};

use crate::schema::description::{Table, count, id, name, one_of, text, time};

/// The table of the second migration. `document` is the exact text that is signed, not merely a JSON document that says
/// the same: both databases keep a text as it is.
pub(in crate::schema) fn certificates() -> Vec<Table> {
    let table = Table::new(
        "equality_certificates",
        [
            id("id"),
            id("vm_context_id").owned_by("vm_replication_contexts", "context_id"),
            id("vm_disk_id").owned_by("vm_disks", "id"),
            id("job_id").refers_to("replication_jobs", "id"),
            id("disk_id"),
            name("change_id"),
            id("root_digest"),
            count("capacity_bytes"),
            count("leaf_size_bytes"),
            count("leaves_total"),
            count("leaves_verified"),
            one_of("sync_type", stored_texts::<ReplicationType>()),
            id("previous_certificate_id").refers_to("equality_certificates", "id"),
            text("document"),
            name("signature"),
            id("public_key"),
            time("created_at"),
        ],
    );
    vec![table.unique(&["job_id", "vm_disk_id"]).index(&["vm_disk_id", "id"]).index(&["vm_context_id", "id"])]
}
