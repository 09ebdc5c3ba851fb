//! No process of the product holds more than 256 MiB, however large a disk is.

use std::path::Path;

use serde_json::{Value, json};

use crate::replica;
use crate::site::{Site, empty_vm};

use lab::world::{Roles, WorldPlan};

/// The VM.
const BIG: &str = "big01";
/// Size of its disk.
const CAPACITY_BYTES: u64 = 100 << 30;
/// Blocks of 64 KiB written before the first copy: 256 MiB.
const FIRST_BLOCKS: u64 = 4096;
/// Blocks written before the incremental: 32 MiB.
const CHANGED_BLOCKS: u64 = 512;
/// Key of the disk.
const DISK_KEY: i32 = 2000;
/// What no process may exceed.
const MAX_MEMORY_BYTES: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_a_hundred_gibibytes_fits_into_256_mebibytes_of_memory() {
    let plan = WorldPlan {
        disk_plans: Vec::new(),
        more_vms: vec![empty_vm(BIG, CAPACITY_BYTES)],
        ..WorldPlan::two_disks("diskless", Roles::Together, 0, 0)
    };
    let site = Site::start(plan).await;
    site.done(&["vm", "add", BIG]).await;
    for (blocks, seed) in [(FIRST_BLOCKS, 1), (CHANGED_BLOCKS, 2)] {
        guest_writes(&site, blocks, seed).await;
        let progress = site.done(&["replicate", BIG, "--watch"]).await;
        let disk = &progress["run"]["disks"][0];
        assert!(disk["bytes_sent"].as_u64().unwrap() >= blocks * (64 << 10), "{disk:#}");
        assert_eq!(progress["verification"][0]["report"]["mismatch_count"], 0, "{progress:#}");
        compare(&site, &progress).await;
    }
    for process in site.world.hub.iter().chain(&site.world.agent) {
        let peak = process.peak_memory_bytes().unwrap();
        assert!(peak < MAX_MEMORY_BYTES, "{} held {} MiB", process.name(), peak >> 20);
    }
    site.world.stop().await;
}

async fn guest_writes(site: &Site, count: u64, seed: u64) {
    let scatter = json!({
        "disk_key": DISK_KEY,
        "count": count,
        "seed": seed,
        "range_start_bytes": 0,
        "range_length_bytes": CAPACITY_BYTES,
    });
    site.world.vcenter_admin(&format!("/lab/vms/{BIG}/scatter"), &scatter).await.unwrap();
}

async fn compare(site: &Site, progress: &Value) {
    let frozen = site.world.retained(progress["run"]["vm_snapshot"].as_str().unwrap(), DISK_KEY);
    let replicas = site.volume_files(BIG).await;
    let replica: &Path = &replicas[0];
    let compared = replica::same_bytes(&frozen, replica, CAPACITY_BYTES);
    assert!(compared >= FIRST_BLOCKS * (64 << 10), "only {compared} bytes hold data");
    assert!(replica::allocated_bytes(replica) < 2 << 30, "the replica is not sparse");
}
