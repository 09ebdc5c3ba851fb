//! A target that cannot take the replica: another account's key, a device that is too small or full, a
//! hub without room.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::world::WorldPlan;
use serde_json::json;

use crate::refusal::{everything, refused, says};
use crate::replica;
use crate::site::{Site, VM, empty_vm, two_disks};

/// A VM whose disk is larger than the device it gets.
const SMALL: &str = "small01";
/// A VM whose target belongs to somebody else.
const FOREIGN: &str = "foreign01";
/// Size of their disks.
const CAPACITY_BYTES: u64 = 64 << 20;
/// What the guest changes of it: more than [`TIGHT`] holds.
const CHANGED_BYTES: u64 = 32 << 20;
/// Key of their disk.
const DISK_KEY: i32 = 2000;
/// Too small for what the data disk holds.
const TIGHT: &str = "size=8m";
/// Enough for it.
const ROOMY: &str = "size=256m";

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_cannot_take_the_replica_are_refused() {
    let account = json!({ "name": "tenant", "api_key": "tenant-key", "secret_key": "tenant-secret" });
    let plan = WorldPlan {
        more_vms: vec![empty_vm(SMALL, CAPACITY_BYTES), empty_vm(FOREIGN, CAPACITY_BYTES)],
        more_accounts: vec![account],
        ..two_disks()
    };
    let site = Site::start(plan).await;
    the_key_of_another_account(&site).await;
    a_device_that_is_too_small(&site).await;
    storage_of_the_hub_that_runs_full(&site).await;
    a_device_that_shrank(&site).await;
    a_device_that_runs_full(&site).await;
    site.world.stop().await;
}

async fn the_key_of_another_account(site: &Site) {
    let (key, secret) = (site.file("tenant.key", "tenant-key"), site.file("tenant.secret", "tenant-secret"));
    let addresses = site.world.addresses().clone();
    site.done(&[
        "target",
        "add",
        "foreign",
        "--url",
        &addresses.cloudstack_url,
        "--api-key-file",
        &key,
        "--secret-key-file",
        &secret,
        "--zone",
        &addresses.zone_id,
        "--hub-vm",
        &addresses.oma_vm_id,
    ])
    .await;
    site.done(&["vm", "add", FOREIGN, "--target", "foreign"]).await;
    let before = site.world.cloudstack_state().await.unwrap();
    let validated = site.run(&["target", "validate", "foreign"]).await;
    assert_eq!(validated.code, 9, "{validated:?}");
    let output = site.run(&["replicate", FOREIGN, "--watch"]).await;
    let problem = refused(&output, "invalid", 5);
    says(&problem, &["foreign"]);
    let after = site.world.cloudstack_state().await.unwrap();
    for count in ["volumes", "attached", "pending_jobs"] {
        assert_eq!(after[count], before[count], "{count}");
    }
    incomplete(site, FOREIGN).await;
}

/// The device that appears is smaller than the volume: it cannot be the one that is meant.
async fn a_device_that_is_too_small(site: &Site) {
    site.done(&["vm", "add", SMALL, "--target", "lab-cloud"]).await;
    guest_fills(site, SMALL, 7, CAPACITY_BYTES).await;
    let size = json!({ "volume": { "name_contains": SMALL }, "size_bytes": CAPACITY_BYTES / 2 });
    site.world.cloudstack_admin("/lab/device-sizes", &size).await.unwrap();
    let problem = refused(&site.run(&["replicate", SMALL, "--watch"]).await, "conflict", 4);
    says(&problem, &[&(CAPACITY_BYTES / 2).to_string()]);
    let written: u64 = site.volume_files(SMALL).await.iter().map(|file| replica::allocated_bytes(file)).sum();
    assert_eq!(written, 0, "something was written");
    incomplete(site, SMALL).await;
    let right = json!({ "volume": { "name_contains": SMALL }, "size_bytes": 1_u64 << 30 });
    site.world.cloudstack_admin("/lab/device-sizes", &right).await.unwrap();
    site.done(&["replicate", SMALL, "--watch"]).await;
    let disk = &site.disks(SMALL).await[0];
    assert!(disk["disk_change_id"].is_string(), "{disk:#}");
    assert_eq!(site.volume_files(SMALL).await.len(), 1, "the volume of the first attempt is used again");
}

/// The hub has no room for an increment: the replica stays what it was, and with room the next run is an increment again.
async fn storage_of_the_hub_that_runs_full(site: &Site) {
    let device = device_of(site, SMALL).await;
    let before = beginning_of(&device);
    let committed = site.disks(SMALL).await[0]["disk_change_id"].clone();
    guest_fills(site, SMALL, 9, CHANGED_BYTES).await;
    let journals = SmallStorage::mount(&site.dir().join("hub/journals"));
    let problem = refused(&site.run(&["replicate", SMALL, "--watch"]).await, "exhausted", 8);
    says(&problem, &["disk-2000", "hub's storage"]);
    assert!(problem["remedy"].as_str().unwrap().contains("journals/"), "{problem:#}");
    assert!(beginning_of(&device) == before, "the volume was written");
    let disk = &site.disks(SMALL).await[0];
    assert_eq!(disk["disk_change_id"], committed, "no other change id than the last good one");
    assert_eq!(disk["sync_status"], "completed", "the replica is what it was: {disk:#}");
    site.assert_no_vm_snapshot(SMALL).await;
    journals.enlarge();
    let progress = site.done(&["replicate", SMALL, "--watch"]).await;
    let disk = &progress["run"]["disks"][0];
    assert_eq!((&disk["sync_mode"], &disk["bytes_sent"]), (&json!("incremental"), &json!(CHANGED_BYTES)), "{disk:#}");
    let changed = usize::try_from(CHANGED_BYTES).unwrap();
    let merged = beginning_of(&device);
    assert!(merged[..changed] == vec![9; changed], "the increment is not in the volume");
    assert!(merged[changed..] == before[changed..], "what nobody changed is what it was");
}

/// As much of a device as the disk of the small VM has.
fn beginning_of(device: &Path) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(CAPACITY_BYTES).unwrap()];
    std::fs::File::open(device).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The device of a replica that was complete became smaller than the disk.
async fn a_device_that_shrank(site: &Site) {
    let device = device_of(site, SMALL).await;
    let committed = site.disks(SMALL).await[0]["disk_change_id"].clone();
    let whole = std::fs::metadata(&device).unwrap().len();
    std::fs::File::options().write(true).open(&device).unwrap().set_len(CAPACITY_BYTES / 2).unwrap();
    let (before, contents) = (everything(&site.world).await, std::fs::read(&device).unwrap());
    let problem = refused(&site.run(&["replicate", SMALL, "--watch"]).await, "invalid", 5);
    says(&problem, &[&(CAPACITY_BYTES / 2).to_string(), &CAPACITY_BYTES.to_string()]);
    assert!(std::fs::read(&device).unwrap() == contents, "something was written");
    assert_eq!(everything(&site.world).await["cloud"], before["cloud"]);
    assert_eq!(site.disks(SMALL).await[0]["disk_change_id"], committed, "no other change id than the last good one");
    site.assert_no_vm_snapshot(SMALL).await;
    assert_eq!(std::fs::metadata(&device).unwrap().len(), CAPACITY_BYTES / 2);
    std::fs::File::options().write(true).open(&device).unwrap().set_len(whole).unwrap();
}

/// The storage behind a volume runs full in the middle of a copy; with more room the next one completes.
async fn a_device_that_runs_full(site: &Site) {
    let storage = SmallStorage::mount(&site.dir().join("small-storage"));
    let placement = json!({ "volume": { "name_contains": format!("{VM}-disk-1") }, "directory": storage.0 });
    site.world.cloudstack_admin("/lab/placements", &placement).await.unwrap();
    site.done(&["vm", "add", VM, "--target", "lab-cloud"]).await;
    let problem = refused(&site.run(&["replicate", VM, "--watch"]).await, "exhausted", 8);
    says(&problem, &["disk-2001"]);
    incomplete(site, VM).await;
    assert!(site.gateway().connections().await.unwrap().is_empty(), "NBD connections are left open");
    let failed: Vec<_> = site.disks(VM).await.iter().map(|disk| disk["sync_status"].clone()).collect();
    assert_eq!(failed, [json!("failed"), json!("failed")]);
    storage.enlarge();
    let progress = site.done(&["replicate", VM, "--watch"]).await;
    replica::assert_equal(site, &progress).await;
    assert_eq!(site.volume_files(VM).await.len(), 2, "the volumes of the first attempt are used again");
    assert!(site.disks(VM).await.iter().all(|disk| disk["disk_change_id"].is_string()));
}

/// The replica of a VM is marked incomplete, and the source and the exports are as if nothing had been tried.
async fn incomplete(site: &Site, vm: &str) {
    for disk in site.disks(vm).await {
        assert_eq!(disk["disk_change_id"], json!(null), "{disk:#}");
        assert_ne!(disk["sync_status"], "completed", "{disk:#}");
    }
    let shown = site.done(&["vm", "show", vm]).await;
    assert_eq!(shown["current_job"], json!(null), "{shown:#}");
    assert_eq!((&shown["context"]["failed_jobs"], &shown["cbt_history"]), (&json!(1), &json!([])), "{shown:#}");
    site.assert_no_vm_snapshot(vm).await;
    let exports = exports(site).await;
    assert!(exports.is_empty(), "exports are left open: {exports:?}");
}

async fn exports(site: &Site) -> Vec<serde_json::Value> {
    let client = reqwest::Client::builder().unix_socket(site.world.gateway_socket()).build().unwrap();
    client.get("http://localhost/exports").send().await.unwrap().json().await.unwrap()
}

/// The guest fills the beginning of its disk with a byte.
async fn guest_fills(site: &Site, vm: &str, fill: u8, length_bytes: u64) {
    let write = json!({ "disk_key": DISK_KEY, "offset_bytes": 0, "fill": fill, "length_bytes": length_bytes });
    site.world.vcenter_admin(&format!("/lab/vms/{vm}/writes"), &write).await.unwrap();
}

/// What the link of a VM's volume under the by-id folder leads to.
async fn device_of(site: &Site, vm: &str) -> PathBuf {
    let volumes = site.world.volumes().await.unwrap();
    let name = format!("migration-{vm}-{vm}-disk-0");
    let volume = volumes.iter().find(|volume| volume["name"] == name).unwrap();
    std::fs::canonicalize(volume["link"].as_str().unwrap()).unwrap()
}

/// A file system in memory with little room; it goes when this is dropped.
struct SmallStorage(PathBuf);

impl SmallStorage {
    fn mount(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        Self::run("mount", &["-t", "tmpfs", "-o", TIGHT, "tmpfs"], folder);
        Self(folder.to_owned())
    }

    fn enlarge(&self) {
        Self::run("mount", &["-o", &format!("remount,{ROOMY}")], &self.0);
    }

    fn run(program: &str, arguments: &[&str], folder: &Path) {
        let output = Command::new(program).args(arguments).arg(folder).output();
        let output = output.unwrap_or_else(|error| panic!("{program} not found: apt-get install mount ({error})"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "a small tmpfs cannot be mounted; run this as root with CAP_SYS_ADMIN: {said}"
        );
    }
}

impl Drop for SmallStorage {
    fn drop(&mut self) {
        // Lazily: the simulator and the hub may still hold the volume.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
