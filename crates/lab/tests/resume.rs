//! A copy that is cut off in its middle, by the death of a process or by the link, goes on in the same vm_snapshot and sends
//! again no more than 64 MiB of each disk. Real processes, a link that can be made bad between them.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[allow(dead_code, reason = "shared with the life of a block, which asks more of it")]
#[path = "life_of_a_block/stage.rs"]
mod stage;

use std::time::Duration;

use lab::toxic::ToxicLink;
use lab::world::{Roles, WorldPlan};
use serde_json::Value;
use stage::{Stage, VM, modes, sum};

const MIB: u64 = 1 << 20;
/// What may be sent again of each disk.
const AGAIN_BYTES: u64 = 64 * MIB;
/// Size of the system disk: all that is written on it is copied before anything happens.
const SYSTEM_BYTES: u64 = 64 * MIB;
/// Size of the data disk.
const DATA_BYTES: u64 = 640 * MIB;
/// Blocks the guest writes on each disk, as far as they fit.
const BLOCKS: u64 = 4000;
/// How fast the link is while a copy is to be met in its middle: everything takes some seconds.
const LINK_BYTES_PER_SECOND: u64 = 24 * MIB;
/// How much is copied when something happens: more than may be sent again.
const MIDDLE_BYTES: u64 = 120 * MIB;
/// How long anything may take here.
const DEADLINE: Duration = Duration::from_secs(180);

async fn ready() -> Stage {
    let mut plan = WorldPlan::two_disks(VM, Roles::Together, SYSTEM_BYTES, DATA_BYTES);
    plan.toxic = true;
    Stage::with(plan).await
}

fn link(stage: &Stage) -> &ToxicLink {
    stage.world.link().unwrap()
}

/// Writes on the data disk; answers with the bytes written.
async fn much_is_written(stage: &Stage, seed: u64) -> u64 {
    let data = &stage.world.disks()[1];
    let fits = data.layout.scratch.length / (64 << 10);
    stage.world.guest_writes(data, BLOCKS.min(fits * 9 / 10), seed).await.unwrap()
}

/// Starts a replication over a slow link and meets it in its middle. Answers with its job id and how far it is.
async fn in_the_middle(stage: &Stage) -> (String, Value) {
    link(stage).throttle(Some(LINK_BYTES_PER_SECOND));
    let job_id = stage.started().await;
    let is_half = |progress: &Value| sum(progress, "bytes_done") >= MIDDLE_BYTES;
    let before = stage.until(&job_id, "half of it is copied", is_half).await;
    assert_eq!(before["run"]["phase"], "copying", "{before:#}");
    assert!(sum(&before, "bytes_done") + AGAIN_BYTES < sum(&before, "bytes_total"), "too far already: {before:#}");
    (job_id, before)
}

/// Waits for the end; what is sent from now on is what was missing, and little more.
async fn goes_on(stage: &Stage, job_id: &str, before: &Value) -> Value {
    let (sent_before, link) = (link(stage).bytes_to_hub(), link(stage));
    link.throttle(None);
    let after = stage.completed(job_id).await;
    assert_eq!(after["run"]["vm_snapshot"], before["run"]["vm_snapshot"], "one run, one vm_snapshot");
    assert_eq!(after["run"]["started_at"], before["run"]["started_at"], "one run");
    assert!(after["run"]["resumed"].as_u64() >= Some(1), "{after:#}");
    let disks = |progress: &Value| progress["run"]["disks"].as_array().unwrap().clone();
    for (before, after) in disks(before).iter().zip(disks(&after)) {
        let (done, kept) = (before["bytes_done"].as_u64().unwrap(), after["bytes_kept"].as_u64().unwrap());
        assert!(done <= kept + AGAIN_BYTES, "{} of {done} bytes were kept: {after:#}", kept);
        assert_eq!(after["bytes_done"], after["bytes_total"]);
    }
    // Counted on the wire, with what TLS and NBD add.
    let missing = sum(&after, "bytes_total") - sum(before, "bytes_done");
    let sent = link.bytes_to_hub() - sent_before;
    assert!(sent <= (missing + 2 * AGAIN_BYTES) / 50 * 51 + 4 * MIB, "{sent} bytes were sent, {missing} were missing");
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_killed() {
    let mut stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    stage.world.kill_agent();
    stage.world.start_agent().await.unwrap();
    let after = goes_on(&stage, &job_id, &before).await;
    assert!(sum(&after, "bytes_sent") >= sum(&before, "bytes_sent"), "counted over the whole run");

    // And an increment of it.
    let changed = much_is_written(&stage, 2).await;
    let (job_id, before) = in_the_middle(&stage).await;
    stage.world.kill_agent();
    stage.world.start_agent().await.unwrap();
    let after = goes_on(&stage, &job_id, &before).await;
    assert_eq!(modes(&after), ["incremental", "incremental"]);
    assert!(sum(&after, "bytes_total") >= changed, "{after:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_is_killed() {
    let mut stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    stage.world.kill_role("hub").unwrap();
    stage.world.restart_role("hub").await.unwrap();
    goes_on(&stage, &job_id, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_and_the_hub_are_killed() {
    let mut stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    stage.world.kill_role("hub").unwrap();
    stage.world.kill_agent();
    stage.world.restart_role("hub").await.unwrap();
    stage.world.start_agent().await.unwrap();
    goes_on(&stage, &job_id, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_stopped_and_started() {
    let mut stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    let mut agent = stage.world.agent.take().unwrap();
    agent.terminate().await;
    assert_eq!(stage.vm_snapshots().await.len(), 1, "it is left for whoever goes on");
    stage.world.start_agent().await.unwrap();
    goes_on(&stage, &job_id, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_cut() {
    let stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    let dialled = link(&stage).dialled();
    link(&stage).cut();
    until_dialled(&stage, dialled + 4).await;
    link(&stage).heal();
    goes_on(&stage, &job_id, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_a_black_hole_for_a_while() {
    let stage = ready().await;
    much_is_written(&stage, 1).await;
    let (job_id, before) = in_the_middle(&stage).await;
    let dialled = link(&stage).dialled();
    link(&stage).black_hole();
    // The control connection is given up first, a data connection after half a minute: both are dialled again, in vain.
    until_dialled(&stage, dialled + 5).await;
    link(&stage).heal();
    goes_on(&stage, &job_id, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_no_trouble() {
    let stage = ready().await;
    link(&stage).delay(Duration::from_millis(80));
    link(&stage).throttle(Some(4 * MIB));
    let progress = stage.replicated().await;
    assert_eq!(progress["run"]["resumed"], 0, "{progress:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vm_snapshot_is_removed_while_the_agent_is_dead() {
    let mut stage = ready().await;
    let first = stage.replicated().await;
    let changed = much_is_written(&stage, 2).await;
    let (job_id, before) = in_the_middle(&stage).await;
    stage.world.kill_agent();
    stage.world.remove_vm_snapshots().await.unwrap();
    link(&stage).throttle(None);
    stage.world.start_agent().await.unwrap();

    let after = stage.completed(&job_id).await;
    assert_ne!(after["run"]["vm_snapshot"], before["run"]["vm_snapshot"]);
    assert_eq!((&after["run"]["resumed"], &after["run"]["bytes_kept"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(modes(&after), ["incremental", "incremental"], "from the last committed change ids");
    assert!(sum(&after, "bytes_total") >= changed, "{after:#}");
    let history = stage.command(&["vm", "show", VM]).await["cbt_history"].as_array().unwrap().clone();
    for (before, now) in stage::change_ids(&first).iter().zip(stage::change_ids(&after)) {
        let row = history.iter().find(|row| row["change_id"] == now.as_str()).unwrap();
        assert_eq!(row["previous_change_id"], before.as_str());
    }
}

/// Waits until the agent has dialled that often in all.
async fn until_dialled(stage: &Stage, count: u64) {
    let dialled = || link(stage).dialled() >= count;
    lab::world::until(DEADLINE, "the agent dials again", dialled).await.unwrap();
}
