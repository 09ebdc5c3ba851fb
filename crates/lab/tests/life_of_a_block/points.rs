//! Recovery points: increments that are kept beside the volumes, read while they are, and an increment that comes to
//! nothing and leaves the replica what it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::world::Roles;
use lab::world::proof::{first_difference, replica_of};
use serde_json::Value;

use super::stage::{Stage, VM};

/// What a committed replication froze of the disk with this index.
fn frozen(stage: &Stage, progress: &Value, disk: usize) -> PathBuf {
    let disk = &stage.world.disks()[disk];
    stage.world.retained(progress["run"]["vm_snapshot"].as_str().unwrap(), disk.key)
}

/// An export of the hub's local port, read by a program of others.
fn read_export(stage: &Stage, name: &str) -> PathBuf {
    let (to, from) = (stage.world.dir().join(name), format!("nbd://{}/{name}", stage.world.local_nbd_address()));
    let done = Command::new("nbdcopy").args([from.as_str(), to.to_str().unwrap()]).status();
    assert!(done.expect("nbdcopy (package libnbd-bin) is installed").success(), "{from}");
    to
}

fn assert_same(left: &Path, right: &Path, length: u64, what: &str) {
    assert_eq!(first_difference(left, right, length).unwrap(), None, "{what}");
}

async fn points(stage: &Stage) -> Vec<Value> {
    let list = stage.command(&["point", "list", VM]).await;
    list["points"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_increments_can_be_read_and_the_oldest_is_merged() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    let mut commits = Vec::new();
    for seed in 1..=3 {
        stage.guest_writes(8, seed).await;
        commits.push(stage.command(&["replicate", VM, "--keep-points", "2", "--watch"]).await);
    }
    let ids: Vec<Value> = commits.iter().rev().map(|commit| commit["replication"]["id"].clone()).collect();
    let listed = points(&stage).await;
    let shown: Vec<Value> = listed.iter().map(|point| point["id"].clone()).collect();
    assert_eq!(shown, ids, "newest first, down to the one in the volumes");
    let in_volume: Vec<Value> = listed.iter().map(|point| point["in_volume"].clone()).collect();
    assert_eq!(in_volume, [false, false, true]);

    for (index, disk) in stage.world.disks().iter().enumerate() {
        let replica = replica_of(&stage.world, disk).await.unwrap();
        assert_same(
            &replica,
            &frozen(&stage, &commits[0], index),
            disk.capacity_bytes,
            "the volume is the oldest point",
        );
        for (point, commit) in listed.iter().zip(commits.iter().rev()).take(2) {
            let of_disk = point["disks"].as_array().unwrap().iter().find(|one| one["disk_id"] == disk.disk_id.as_str());
            let read = read_export(&stage, of_disk.unwrap()["export_name"].as_str().unwrap());
            assert_same(&read, &frozen(&stage, commit, index), disk.capacity_bytes, "an export is its point");
        }
    }

    // Everything is merged when nothing is to be kept any more.
    stage.guest_writes(2, 9).await;
    let last = stage.command(&["replicate", VM, "--keep-points", "0", "--watch"]).await;
    stage.prove(&last).await;
    assert_eq!(points(&stage).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_that_comes_to_nothing_leaves_the_replica_what_it_was() {
    let stage = Stage::ready(Roles::Together).await;
    let first = stage.replicated().await;
    stage.guest_writes(200, 1).await;
    let (job_id, _) = stage.stuck_in_the_middle(8).await;
    let tracking_id = stage.jobs().await[0]["id"].as_str().unwrap().to_owned();
    stage.command(&["job", "cancel", &tracking_id]).await;
    stage.world.release_reads().await.unwrap();
    stage.until_replication_is(&job_id, "cancelled").await;

    for (index, disk) in stage.world.disks().iter().enumerate() {
        let replica = replica_of(&stage.world, disk).await.unwrap();
        assert_same(&replica, &frozen(&stage, &first, index), disk.capacity_bytes, "the last commit");
    }
    let shown = stage.command(&["vm", "show", VM]).await;
    assert_eq!(shown["context"]["current_status"], "ready_for_failover");
    let statuses: Vec<&Value> = shown["disks"].as_array().unwrap().iter().map(|disk| &disk["sync_status"]).collect();
    assert_eq!(statuses, ["completed", "completed"]);
    let next = stage.replicated().await;
    assert_eq!(super::stage::modes(&next), ["incremental", "incremental"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_goes_into_the_volumes_before_they_are_written_in_place() {
    let stage = Stage::ready(Roles::Together).await;
    stage.replicated().await;
    for (seed, options) in [(1, ["--keep-points", "3"]), (2, ["--keep-points", "3"])] {
        stage.guest_writes(8, seed).await;
        stage.command(&[&["replicate", VM, "--watch"], &options[..]].concat()).await;
    }
    assert_eq!(points(&stage).await.len(), 3);
    stage.guest_writes(8, 3).await;
    let in_place = stage.command(&["replicate", VM, "--in-place", "--watch"]).await;
    stage.prove(&in_place).await;
    assert_eq!(super::stage::modes(&in_place), ["incremental", "incremental"], "built upon what was kept");
    assert_eq!(points(&stage).await.len(), 1, "there is no way back before what was written in place");
}
