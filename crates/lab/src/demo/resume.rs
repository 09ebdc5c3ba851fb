//! The first copy of the demonstration: its agent is killed in the middle, comes back, and goes on where it was.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::{self, Checks, say};
use super::{Sync, VM};
use crate::world::{World, WorldError};

/// How fast the link is meanwhile, so that there is a middle to be met.
const LINK_BYTES_PER_SECOND: u64 = 64 << 20;
/// How much is copied when the agent is killed: more than may be sent again.
const MIDDLE_BYTES: u64 = 192 << 20;
/// What may be sent again of each disk.
const AGAIN_BYTES: u64 = 64 << 20;
/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long any part of it may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// Copies, kills, and goes on.
pub(super) async fn first_copy(world: &mut World, checks: &mut Checks) -> Result<Sync, WorldError> {
    say("replicating (first copy); in its middle the agent is killed");
    let begun = Instant::now();
    throttle(world, Some(LINK_BYTES_PER_SECOND));
    let accepted = world.operator().run(&["replicate", VM]).await?.json()?;
    let job_id = accepted["job_id"].as_str().unwrap_or_default().to_owned();
    let before =
        seen(world, &job_id, "its middle", |progress| report::sum(progress, "bytes_done") >= MIDDLE_BYTES).await?;
    world.kill_agent();
    say(&format!("killed after {}; the agent is started again", mib(&before, "bytes_done")));
    throttle(world, None);
    world.start_agent().await?;
    let progress = seen(world, &job_id, "its end", |progress| progress["replication"]["status"] == "completed").await?;
    let tracking_id = progress["replication"]["tracking_id"].as_str().unwrap_or_default().to_owned();
    world.operator().run(&["job", "watch", &tracking_id]).await?;
    check(&before, &progress, checks);
    Ok(Sync { title: "first copy", seconds: begun.elapsed().as_secs_f64(), progress })
}

fn check(before: &Value, after: &Value, checks: &mut Checks) {
    let same = before["run"]["vm_snapshot"] == after["run"]["vm_snapshot"];
    let vm_snapshot = after["run"]["vm_snapshot"].as_str().unwrap_or("-");
    checks.that("the copy that was cut off went on in its vm_snapshot", same, vm_snapshot);
    let disks = after["run"]["disks"].as_array().map_or(0, Vec::len) as u64;
    let (done, kept) = (report::sum(before, "bytes_done"), report::sum(after, "bytes_kept"));
    let seen = format!("{} of {} were kept", mib(after, "bytes_kept"), mib(before, "bytes_done"));
    checks.that("at most 64 MiB of each disk were sent again", done <= kept + disks * AGAIN_BYTES, &seen);
}

fn mib(progress: &Value, counter: &str) -> String {
    model::size::human_bytes(report::sum(progress, counter))
}

fn throttle(world: &World, bytes_per_second: Option<u64>) {
    if let Some(link) = world.link() {
        link.throttle(bytes_per_second);
    }
}

/// Waits until what the hub says of the replication is as wanted.
async fn seen(world: &World, job_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, WorldError> {
    let path = format!("/api/v1/replications/{job_id}/progress");
    let deadline = Instant::now() + DEADLINE;
    loop {
        match world.api(&path).await {
            Ok(progress) if wanted(&progress) => return Ok(progress),
            _ if Instant::now() > deadline => return Err(WorldError::TooLate { what: what.to_owned() }),
            // Perhaps the hub is busy: it is asked again.
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}
