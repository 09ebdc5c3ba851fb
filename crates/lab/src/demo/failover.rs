//! The second half of the demonstration: the replica is booted in isolation, put back, brought up to date, and then
//! becomes the VM. Every boot is a real one, and its console has to say what the source wrote last.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::report::{Checks, Phases, say};
use super::{Sync, VM, proof, replicate};
use crate::world::{World, WorldError};

/// How long a guest may take to come up under emulation.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// The source's networks and where they go: for tests, and for good.
const NETWORKS: [(&str, &str, &str); 2] =
    [("VM Network", "demo-bubble", "lab-isolated"), ("dv-production", "demo-bubble-2", "lab-l2")];
/// What the guest wrote last before the live failover.
const LAST_WORDS: &str = "the last words before the cutover";
/// Smallest picture of a screen with text on it, in bytes.
const MIN_SCREENSHOT_BYTES: u64 = 500;

/// Networks the simulated cloud has for tests, in the form of its configuration.
pub(super) fn test_networks() -> Vec<Value> {
    NETWORKS.iter().map(|(_, bubble, _)| serde_json::json!({ "name": bubble, "kind": "Isolated" })).collect()
}

/// Runs it after a committed replication whose guest had written `marker`.
pub(super) async fn run(
    world: &World,
    committed: &Value,
    marker: &str,
    screenshot_to: &Path,
    checks: &mut Checks,
) -> Result<Phases, WorldError> {
    map_networks(world).await?;
    let mut phases = Phases::default();
    say("test failover: the replica boots in isolation, the source runs on");
    let test = watched(world, &["failover", "test", VM, "--watch"]).await?;
    phases.add(world, "test failover", &test).await?;
    let vm_id = check_boot(world, &test, marker, "test", checks).await?;
    let picture = world.screenshot(&vm_id).await?;
    keep_picture(&picture, screenshot_to, checks)?;

    say("cleanup: every volume is reverted to its snapshot, the test VM destroyed");
    let job = test["job_id"].as_str().unwrap_or_default().to_owned();
    let cleaned = watched(world, &["failover", "cleanup", &job, "--watch"]).await?;
    phases.add(world, "cleanup", &cleaned).await?;
    let left = world.vms().await?.len() + world.snapshots().await?.len();
    checks.that("after the cleanup the cloud holds no VM and no snapshot of ours", left == 1, &format!("{left} - 1"));
    proof::check(world, committed, checks).await?;

    say("the guest writes on, the next increment works");
    world.write_marker(LAST_WORDS).await?;
    let next = replicate(world, "increment after the test").await?;
    let is_incremental = modes(&next).iter().all(|mode| mode == "incremental");
    checks.that("after a test and its cleanup the next replication is incremental", is_incremental, "");
    proof::check(world, &next.progress, checks).await?;

    say("live failover: the source shuts down, is copied once more, and the replica becomes the VM");
    let begun = Instant::now();
    let live = watched(world, &["failover", "live", VM, "--power-off-source", "--watch"]).await?;
    phases.add(world, "live failover", &live).await?;
    check_boot(world, &live, LAST_WORDS, "live", checks).await?;
    phases.total("from the word to a running system", begun.elapsed());
    let source = world.source_vm().await?;
    checks.that("the source is off", source["powered_on"] == false, "");
    let kept = live["vm"]["nics"].as_array().is_some_and(|nics| nics.iter().all(|nic| nic["mac_address"].is_string()));
    checks.that("the VM keeps the source's MAC addresses", kept, "");
    Ok(phases)
}

async fn map_networks(world: &World) -> Result<(), WorldError> {
    for (from, bubble, live) in NETWORKS {
        for (to, purpose) in [(bubble, "test"), (live, "live")] {
            let arguments = ["network", "map", VM, "--source-network", from, "--to", to, "--for", purpose];
            world.operator().run(&arguments).await?.json()?;
        }
    }
    Ok(())
}

async fn watched(world: &World, arguments: &[&str]) -> Result<Value, WorldError> {
    world.operator().run(arguments).await?.json()
}

/// Waits for the guest's own words on the serial console; answers with the VM.
async fn check_boot(
    world: &World,
    failover: &Value,
    marker: &str,
    which: &str,
    checks: &mut Checks,
) -> Result<String, WorldError> {
    let vm_id = failover["destination_vm_id"].as_str().unwrap_or_default().to_owned();
    let said = match world.until_console(&vm_id, "migratekit-lab: up", BOOT_DEADLINE).await {
        Ok(said) => said,
        Err(WorldError::TooLate { what }) => what,
        Err(error) => return Err(error),
    };
    let line = |start: &str| said.lines().find(|line| line.contains(start)).unwrap_or("nothing").trim().to_owned();
    let seen = line("marker");
    let what = format!("the {which} VM boots and shows the marker written before the last sync");
    checks.that(&what, seen.ends_with(marker), &seen);
    let seen = line("data marker");
    checks.that(&format!("the {which} VM has its data disk"), seen.contains("data disk of the laboratory"), &seen);
    Ok(vm_id)
}

fn keep_picture(picture: &Path, to: &Path, checks: &mut Checks) -> Result<(), WorldError> {
    std::fs::copy(picture, to).map_err(WorldError::file("copy", picture))?;
    let bytes = std::fs::metadata(to).map_err(WorldError::file("look at", to))?.len();
    let seen = format!("{} ({bytes} bytes)", PathBuf::from(to).display());
    checks.that("a picture of the test VM's screen is saved", bytes > MIN_SCREENSHOT_BYTES, &seen);
    Ok(())
}

fn modes(sync: &Sync) -> Vec<String> {
    let disks = sync.progress["run"]["disks"].as_array().cloned().unwrap_or_default();
    disks.iter().filter_map(|disk| disk["sync_mode"].as_str().map(str::to_owned)).collect()
}
