//! Each process killed with -9 in the middle of a copy and started again: the replication completes by itself, in the
//! vm_snapshot it had.

use lab::world::Roles;
use serde_json::Value;

use super::answers;
use super::stage::{Stage, change_ids, modes, sum};

/// Blocks the guest writes on each disk before a copy that is interrupted.
const BLOCKS: u64 = 120;
/// Reads of the datastore that are let through: both disks are opened and well under way then, and far from done.
const READS: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_killed_in_the_middle_takes_the_running_copy_up_again() {
    let mut stage = Stage::ready(Roles::Apart).await;
    stage.guest_writes(BLOCKS, 1).await;
    let (job_id, before) = stage.stuck_in_the_middle(READS).await;
    answers::show_the_running_job(&stage, &job_id).await;

    stage.world.kill_role("oma").unwrap();
    stage.world.restart_role("oma").await.unwrap();
    let adopted = stage.until(&job_id, "it sees the agent's run again", |progress| progress["run"].is_object()).await;
    assert_eq!(adopted["run"]["started_at"], before["run"]["started_at"], "the copy went on meanwhile");
    stage.world.release_reads().await.unwrap();

    let after = stage.completed(&job_id).await;
    assert_eq!(after["run"]["vm_snapshot"], before["run"]["vm_snapshot"], "one run, one vm_snapshot");
    assert_eq!(modes(&after), ["full", "full"]);
    only_job(&stage, &job_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_killed_in_the_middle_goes_on_in_its_vm_snapshot() {
    let mut stage = Stage::ready(Roles::Together).await;
    let first = stage.replicated().await;
    let changed = stage.guest_writes(BLOCKS, 2).await;
    let (job_id, before) = stage.stuck_in_the_middle(READS).await;
    let dead = before["run"]["vm_snapshot"].clone();

    stage.world.kill_agent();
    assert_eq!(references(&stage).await, std::slice::from_ref(&dead), "a killed agent cannot clean up");
    stage.world.release_reads().await.unwrap();
    stage.world.start_agent().await.unwrap();

    let after = stage.completed(&job_id).await;
    assert_eq!(after["run"]["vm_snapshot"], dead, "one run, one vm_snapshot");
    assert_eq!(after["run"]["started_at"], before["run"]["started_at"]);
    begun_from(&stage, &first, &after, changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_killed_in_the_middle_comes_back_and_the_copy_goes_on() {
    let mut stage = Stage::ready(Roles::Apart).await;
    stage.guest_writes(BLOCKS, 3).await;
    let (job_id, before) = stage.stuck_in_the_middle(READS).await;

    stage.world.kill_role("gateway").unwrap();
    stage.world.release_reads().await.unwrap();
    stage.world.restart_role("gateway").await.unwrap();

    let after = stage.completed(&job_id).await;
    assert_eq!(after["run"]["vm_snapshot"], before["run"]["vm_snapshot"], "one run, one vm_snapshot");
    assert!(after["run"]["resumed"].as_u64() >= Some(1), "{after:#}");
    assert_eq!(modes(&after), ["full", "full"], "nothing was committed before");
    only_job(&stage, &job_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_hub_killed_in_the_middle_comes_back_and_the_copy_goes_on() {
    let mut stage = Stage::ready(Roles::Together).await;
    let first = stage.replicated().await;
    let changed = stage.guest_writes(BLOCKS, 4).await;
    let (job_id, before) = stage.stuck_in_the_middle(READS).await;

    stage.world.kill_role("hub").unwrap();
    stage.world.release_reads().await.unwrap();
    stage.world.restart_role("hub").await.unwrap();

    let after = stage.completed(&job_id).await;
    assert_eq!(after["run"]["vm_snapshot"], before["run"]["vm_snapshot"], "one run, one vm_snapshot");
    begun_from(&stage, &first, &after, changed).await;
}

/// References of the vm_snapshots the source has now.
async fn references(stage: &Stage) -> Vec<Value> {
    stage.vm_snapshots().await.into_iter().map(|vm_snapshot| vm_snapshot["moref"].clone()).collect()
}

/// It was an incremental from where the first replication had ended, and covered all that changed since. So little is not
/// durable before the end, so what was read before the kill is read again.
async fn begun_from(stage: &Stage, first: &Value, after: &Value, changed: u64) {
    assert_eq!(modes(after), ["incremental", "incremental"]);
    assert!(sum(after, "bytes_read") >= changed, "{after:#}");
    assert!(sum(after, "bytes_read") <= changed * 2, "{after:#}");
    let history = stage.command(&["vm", "show", super::stage::VM]).await["cbt_history"].as_array().unwrap().clone();
    for (before, now) in change_ids(first).iter().zip(change_ids(after)) {
        let row = history.iter().find(|row| row["change_id"] == now.as_str()).unwrap();
        assert_eq!(row["previous_change_id"], before.as_str());
    }
    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), 2, "{jobs:#?}");
}

/// The replication was one job from its start to its end.
async fn only_job(stage: &Stage, job_id: &str) {
    let jobs = stage.jobs().await;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
    assert_eq!(jobs[0]["external_job_id"], job_id);
    assert_eq!(jobs[0]["status"], "completed");
}
