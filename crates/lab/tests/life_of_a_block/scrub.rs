//! The scrub: a change that change tracking left out is found, healed and told, whenever it happened.

use lab::world::Roles;
use lab::world::proof::{first_difference, replica_of};
use serde_json::{Value, json};

use super::stage::{Stage, VM, modes, sum};

/// Leaves out the first changed grain of a disk in every answer, or none any more.
async fn leave_out(stage: &Stage, disk_key: i32, nth: Option<u64>) {
    let path = format!("/lab/vms/{VM}/cbt/omission");
    stage.world.vcenter_admin(&path, &json!({ "disk_key": disk_key, "nth": nth })).await.unwrap();
}

/// What a job said that has to do with the scrub.
async fn told(stage: &Stage, progress: &Value) -> Vec<Value> {
    let tracking_id = progress["replication"]["tracking_id"].as_str().unwrap();
    let log = stage.world.api(&format!("/api/v1/jobs/{tracking_id}/log")).await.unwrap();
    let events = log["items"].as_array().unwrap().clone();
    events.into_iter().filter(|event| event.to_string().contains("change tracking left out")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_left_out_earlier_is_found_healed_and_told() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    let data = &stage.world.disks()[1];
    leave_out(&stage, data.key, Some(0)).await;
    stage.guest_writes(6, 1).await;
    let silent = stage.command(&["replicate", VM, "--watch"]).await;
    assert_eq!(silent["replication"]["status"], "completed", "nobody can know: {silent:#}");
    let frozen = stage.world.retained(silent["run"]["vm_snapshot"].as_str().unwrap(), data.key);
    let replica = replica_of(&stage.world, data).await.unwrap();
    let left_out = first_difference(&frozen, &replica, data.capacity_bytes).unwrap();
    let left_out = left_out.expect("the simulator left a change out");

    leave_out(&stage, data.key, None).await;
    let healed = stage.command(&["replicate", VM, "--scrub", "full", "--watch"]).await;
    stage.prove(&healed).await;
    assert_eq!(modes(&healed), ["incremental", "compare"], "only the disk whose tracking lied is compared");
    let events = told(&stage, &healed).await;
    let event = events.iter().find(|event| event.to_string().contains(&data.disk_id)).expect("it is told").to_string();
    let leaf = left_out / model::LEAF_SIZE_BYTES * model::LEAF_SIZE_BYTES;
    assert!(event.contains(&leaf.to_string()), "the offset {leaf}: {event}");
    assert!(event.contains("source_digest") && event.contains("replica_digest"), "both digests: {event}");

    stage.guest_writes(3, 2).await;
    let after = stage.replicated().await;
    assert_eq!(modes(&after), ["incremental", "incremental"], "after the comparison tracking begins anew");
    assert!(told(&stage, &after).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_of_everything_reads_it_all_and_sends_what_changed() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    let written = stage.guest_writes(4, 1).await;
    let scrubbed = stage.command(&["replicate", VM, "--scrub", "full", "--watch"]).await;
    stage.prove(&scrubbed).await;
    let whole: u64 = stage.world.disks().iter().map(|disk| disk.capacity_bytes).sum();
    assert_eq!(sum(&scrubbed, "bytes_read"), whole);
    assert_eq!(sum(&scrubbed, "bytes_to_scrub"), whole - written, "whole leaves were written");
    assert_eq!(sum(&scrubbed, "bytes_sent") + sum(&scrubbed, "bytes_zero"), written);
    assert_eq!(modes(&scrubbed), ["incremental", "incremental"]);
}
