//! When change tracking cannot be relied on, everything is compared and the replica is equal all the same.

use lab::world::Roles;
use serde_json::json;

use super::stage::{Stage, VM, change_ids, modes, sum};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_of_change_tracking_everything_is_compared() {
    let stage = Stage::ready(Roles::Together).await;
    let first = stage.replicated().await;
    stage.guest_writes(20, 1).await;
    let path = format!("/lab/vms/{VM}/cbt/reset");
    stage.world.vcenter_admin(&path, &json!({ "disk_key": null })).await.unwrap();
    let written_later = stage.guest_writes(20, 2).await;

    let second = stage.replicated().await;
    assert_eq!(modes(&second), ["compare", "compare"]);
    assert!(sum(&second, "bytes_sent") + sum(&second, "bytes_zero") >= written_later, "{second:#}");
    assert!(sum(&second, "bytes_sent") <= 2 * written_later, "only what differs is sent: {second:#}");
    for (old, new) in change_ids(&first).iter().zip(change_ids(&second)) {
        assert_ne!(old.split_once('/').unwrap().0, new.split_once('/').unwrap().0, "another epoch");
    }

    stage.guest_writes(5, 3).await;
    assert_eq!(modes(&stage.replicated().await), ["incremental", "incremental"], "the new epoch is relied on");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_vcenter_does_not_tell_the_changes_everything_is_compared() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    let changed = stage.guest_writes(20, 1).await;
    let fault = json!({ "effect": "fault", "fault": "FileFault", "message": "on request" });
    let rule = json!({ "method": "QueryChangedDiskAreas", "what": fault, "count": stage.world.disks().len() });
    stage.world.vcenter_admin("/lab/faults", &rule).await.unwrap();

    let second = stage.replicated().await;
    assert_eq!(modes(&second), ["compare", "compare"]);
    assert_eq!(sum(&second, "bytes_sent"), changed, "only what differs is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_in_place_that_comes_to_nothing_leaves_no_base_for_an_increment() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    stage.guest_writes(200, 1).await;
    let fault = json!({ "effect": "fault", "fault": "FileFault", "message": "on request" });
    let rule = json!({ "method": "QueryChangedDiskAreas", "what": fault, "count": stage.world.disks().len() });
    stage.world.vcenter_admin("/lab/faults", &rule).await.unwrap();
    stage.world.hold_reads_after(20).await.unwrap();
    let job_id = stage.started_with(&["--in-place"]).await;
    let seen = stage.until(&job_id, "it compares", |progress| sum(progress, "bytes_done") > 0).await;
    assert_eq!(modes(&seen), ["compare", "compare"]);
    let tracking_id = stage.jobs().await[0]["id"].as_str().unwrap().to_owned();
    stage.command(&["job", "cancel", &tracking_id]).await;
    stage.world.release_reads().await.unwrap();
    stage.until_replication_is(&job_id, "cancelled").await;

    // What was written may be more than change tracking will ever name.
    let next = stage.replicated().await;
    assert_eq!(modes(&next), ["full", "full"]);
    stage.prove(&next).await;
}
