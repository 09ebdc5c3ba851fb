//! The demonstration: a running VM is replicated, by an agent that is killed in the middle of it; its guest writes, it is
//! replicated again, with a recovery point, and source and replica are proven equal; then the replica is failed over, for a test and for good. Everything between the two simulators is the real
//! product.

mod failover;
mod points;
mod proof;
mod report;
mod resume;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use crate::guest::SCATTER_BLOCK_BYTES;
use crate::world::{Roles, World, WorldError, WorldPlan};
use report::{Checks, say};

/// Name of the VM.
const VM: &str = "demo-web01";
/// Size of its system disk.
const SYSTEM_BYTES: u64 = 1 << 30;
/// Size of its data disk.
const DATA_BYTES: u64 = 2 << 30;
/// Each disk holds one incompressible file of this share of its size.
const PAYLOAD_SHARE: u64 = 6;
/// The guest writes one block of 64 KiB for so many bytes of disk: one per cent.
const WRITE_SHARE: u64 = 100;
/// What an incremental may read and send of what changed.
const MOST_OF_CHANGED: f64 = 1.1;
/// What the guest writes before the replica is tested.
const MARKER: &str = "written before the test";
/// Where the picture of the test VM's screen is kept, in the folder for temporary files.
const SCREENSHOT: &str = "migratekit-demo-screen.png";
/// What no process may exceed.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

/// One replication as the command line reported it.
struct Sync {
    title: &'static str,
    seconds: f64,
    progress: Value,
}

/// Runs it; `Ok(true)` when every check held.
///
/// # Errors
/// A step could not be done at all.
pub async fn run(keep: bool, dir: Option<PathBuf>) -> Result<bool, WorldError> {
    let temporary = tempfile::Builder::new().prefix("migratekit-demo-").tempdir();
    let temporary = temporary.map_err(WorldError::file("make", Path::new("a temporary folder")))?;
    let dir = dir.unwrap_or_else(|| temporary.path().to_owned());
    say(&format!("everything is in {}", dir.display()));
    say("building a small Linux that boots and a data disk, starting simulators and hub");
    let mut plan = WorldPlan::bootable(VM, Roles::Together, SYSTEM_BYTES, DATA_BYTES);
    plan.more_networks = failover::test_networks();
    plan.toxic = true;
    for disk in &mut plan.disk_plans {
        disk.payload_bytes = disk.capacity_bytes / PAYLOAD_SHARE;
    }
    let mut world = World::start(&dir, plan).await?;
    say("pairing an agent: code, enrolment, approval");
    world.enrol_agent().await?;
    world.connect_sites().await?;
    let mut checks = Checks::default();
    prepare(&world, &mut checks).await?;
    let first = resume::first_copy(&mut world, &mut checks).await?;
    let changed = write_one_per_cent(&world).await?;
    world.write_marker(MARKER).await?;
    let second = points::kept_increment(&world, &mut checks).await?;
    check_incremental(&second, changed, &mut checks);
    let third = points::merged(&world, &mut checks).await?;
    report::print_syncs(&world, &[&first, &second, &third]);
    proof::check(&world, &third.progress, &mut checks).await?;
    let screenshot = std::env::temp_dir().join(SCREENSHOT);
    let phases = failover::run(&world, &third.progress, MARKER, &screenshot, &mut checks).await?;
    phases.print();
    check_memory(&world, &mut checks);
    let passed = checks.print();
    if keep {
        report::print_next_steps(&world);
        let _kept = temporary.keep();
        world.leave_running();
    } else {
        world.stop().await;
    }
    Ok(passed)
}

async fn prepare(world: &World, checks: &mut Checks) -> Result<(), WorldError> {
    let operator = world.operator();
    let validation = operator.run(&["target", "validate", "lab-cloud"]).await?;
    let report: Value = serde_json::from_str(&validation.stdout).unwrap_or_default();
    let prerequisites = report["checks"].as_array().map_or(0, Vec::len);
    let seen = format!("{prerequisites} prerequisites looked at");
    checks.that("the target has everything replication needs", validation.code == 0 && prerequisites > 0, &seen);
    let found = operator.run(&["vm", "discover", VM]).await?.json()?;
    let vm = &found["vms"][0]["vm"];
    say(&format!("discovered {} with {} disks", vm["path"], vm["disks"].as_array().map_or(0, Vec::len)));
    operator.run(&["vm", "add", VM]).await?.json()?;
    Ok(())
}

async fn replicate(world: &World, title: &'static str) -> Result<Sync, WorldError> {
    replicate_with(world, title, &[]).await
}

async fn replicate_with(world: &World, title: &'static str, options: &[&str]) -> Result<Sync, WorldError> {
    say(&format!("replicating ({title})"));
    let begun = Instant::now();
    let arguments = [&["replicate", VM, "--watch"], options].concat();
    let progress = world.operator().run(&arguments).await?.json()?;
    Ok(Sync { title, seconds: begun.elapsed().as_secs_f64(), progress })
}

/// The guest writes scattered blocks on every disk; answers with the bytes changed.
async fn write_one_per_cent(world: &World) -> Result<u64, WorldError> {
    let mut changed = 0;
    for disk in world.disks() {
        let count = disk.capacity_bytes / WRITE_SHARE / SCATTER_BLOCK_BYTES;
        changed += world.guest_writes(disk, count, 42).await?;
    }
    say(&format!("the guest wrote {} in scattered 64 KiB blocks", model::size::human_bytes(changed)));
    Ok(changed)
}

#[allow(clippy::cast_precision_loss, reason = "a ratio")]
fn check_incremental(second: &Sync, changed: u64, checks: &mut Checks) {
    for counter in ["bytes_read", "bytes_sent"] {
        let bytes = report::sum(&second.progress, counter);
        let ratio = bytes as f64 / changed as f64;
        let what = format!("the incremental's {counter} are at most {MOST_OF_CHANGED} times what changed");
        checks.that(&what, ratio <= MOST_OF_CHANGED && bytes >= changed, &format!("{ratio:.3} times"));
    }
}

fn check_memory(world: &World, checks: &mut Checks) {
    for process in world.hub.iter().chain(&world.agent) {
        let peak = process.peak_memory_bytes().unwrap_or(u64::MAX);
        let what = format!("{} stays below {}", process.name(), model::size::human_bytes(MAX_MEMORY_BYTES));
        checks.that(&what, peak < MAX_MEMORY_BYTES, &model::size::human_bytes(peak));
    }
}
