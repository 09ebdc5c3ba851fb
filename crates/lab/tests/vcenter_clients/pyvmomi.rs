//! pyVmomi against the simulated vCenter: login, inventory, tracking, VM snapshots, changed areas, power.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::site::{self, DATA_BYTES, PASSWORD, SYSTEM_BYTES, Site, USER};

const PACKAGE: &str = "pyvmomi==9.1.1.0";
const SCRIPT: &str = include_str!("../python/vcenter_walk.py");

/// A virtual environment that holds the client; made once per target folder.
fn python_with_pyvmomi() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv-pyvmomi-9.1.1.0");
    let python = folder.join("bin/python");
    let works = |python: &Path| {
        Command::new(python).args(["-c", "import pyVmomi"]).status().is_ok_and(|status| status.success())
    };
    if works(&python) {
        return python;
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the broken environment goes away");
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    let made = made.expect("python3 not found: apt-get install python3 python3-venv");
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success(), "no virtual environment: apt-get install python3-venv\n{said}");
    let installed =
        Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]).output().expect("pip runs");
    let said = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "pip could not install {PACKAGE} from PyPI:\n{said}");
    python
}

async fn walk(site: &Site) -> Value {
    let python = python_with_pyvmomi();
    let address = site.sim.address();
    let (ca, thumbprint) = (site.sim.ca_pem_path().to_owned(), site.sim.sha1_thumbprint().to_owned());
    let path = site.sim.inventory_path("web01").expect("the VM");
    let admin = site.sim.admin_url();
    let run = move || {
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT, &address.ip().to_string(), &address.port().to_string()]).arg(ca);
        command.args([USER, PASSWORD, &thumbprint, "web01", &path, &admin]).output().expect("python runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the walk ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn check_inventory(seen: &Value, site: &Site) {
    assert_eq!(seen["wrong_password"], "InvalidLogin");
    assert_eq!(seen["about"], json!({"type": "VirtualCenter", "version": "8.0.3.0"}));
    assert_eq!(seen["names"], json!(["idle%2f1", "web01"]));
    assert_eq!((&seen["pages"], &seen["wrong_path"]), (&json!(2), &json!("InvalidProperty")));
    let vm = &seen["vm"];
    assert_eq!(vm["moid"], site.sim.moref("web01").unwrap());
    assert_eq!((&vm["cpus"], &vm["memory"]), (&json!(4), &json!(8192)));
    assert_eq!((&vm["firmware"], &vm["secure_boot"], &vm["version"]), (&json!("efi"), &json!(true), &json!("vmx-19")));
    assert_eq!((&vm["tracking"], &vm["supported"]), (&Value::Null, &json!(true)));
    assert_eq!((&vm["tools"], &vm["host"]), (&json!("guestToolsRunning"), &json!("esx-01.lab.example")));
    assert_eq!((&vm["parent"], &vm["datastores"]), (&json!("web tier"), &json!(["datastore1"])));
    assert_eq!(vm["networks"], json!(["VM Network", "dv-production", "nsx-backend"]));
    assert_eq!((&vm["addresses"], &vm["summary_disks"]), (&json!(["192.0.2.10"]), &json!(2)));
    for found in ["by_path", "by_uuid", "clock"] {
        assert_eq!(seen[found], true, "{found}");
    }
    assert_eq!(seen["not_found"], Value::Null);
    assert_eq!((&seen["entered"], &seen["nothing_new"]), (&json!("enter"), &Value::Null));
    assert_eq!(seen["bad_version"], "InvalidCollectorVersion");
}

fn check_devices(seen: &Value) {
    let (system, data) = (&seen["disks"][0], &seen["disks"][1]);
    assert_eq!((&system["key"], &system["file"]), (&json!(2000), &json!("[datastore1] web01/web01.vmdk")));
    assert_eq!(
        (&system["capacity"], &system["controller"]),
        (&json!(SYSTEM_BYTES), &json!("ParaVirtualSCSIController"))
    );
    assert_eq!((&data["key"], &data["file"]), (&json!(2016), &json!("[datastore1] web01/web01_1.vmdk")));
    assert_eq!((&data["capacity"], &data["controller"]), (&json!(DATA_BYTES), &json!("VirtualLsiLogicController")));
    assert_ne!(system["uuid"], data["uuid"]);
    assert_eq!((&data["mode"], &data["thin"], &data["change_id"]), (&json!("persistent"), &json!(true), &Value::Null));
    let nics = seen["nics"].as_array().unwrap();
    let kinds: Vec<_> = nics.iter().map(|nic| (&nic["type"], &nic["network"])).collect();
    assert_eq!(
        kinds,
        [
            (&json!("VirtualVmxnet3"), &json!("VM Network")),
            (&json!("VirtualE1000"), &json!("dv-production")),
            (&json!("VirtualVmxnet3"), &json!("nsx-backend")),
        ]
    );
    assert_eq!(nics[2]["mac"], "00:50:56:aa:bb:cc");
    assert_ne!(nics[0]["mac"], nics[1]["mac"]);
}

fn check_tracking(seen: &Value) {
    assert_eq!((&seen["tracking_after"], &seen["before_stun"]), (&json!(true), &json!([null, null])));
    assert_eq!(seen["untracked"], "FileFault");
    let ids = seen["change_ids"].as_object().unwrap();
    assert_eq!(ids.len(), 2);
    for id in ids.values() {
        let (epoch, sequence) = id.as_str().unwrap().split_once('/').unwrap();
        assert_eq!((epoch.len(), epoch.find('-')), (47, Some(23)), "{epoch}");
        assert!(sequence.parse::<u64>().is_ok());
    }
    assert_eq!(seen["tree"], json!(["walk-1"]));
    assert_eq!(seen["live_file"], "[datastore1] web01/web01-000001.vmdk");
    assert_eq!(seen["live_parent"], "[datastore1] web01/web01.vmdk");
    assert_eq!(seen["frozen_file"], "[datastore1] web01/web01.vmdk");
    let allocated = seen["allocated"].as_array().unwrap();
    let bytes: u64 = allocated[0].as_array().unwrap().iter().map(|area| area[1].as_u64().unwrap()).sum();
    assert!((16 << 20..SYSTEM_BYTES / 2).contains(&bytes), "{bytes} bytes allocated");
    assert_eq!(allocated[1], json!([]));
    assert_eq!((&seen["at_end"], &seen["garbage"]), (&json!("InvalidArgument"), &json!("InvalidArgument")));
    assert_eq!((&seen["no_disk"], &seen["gone"]), (&json!("InvalidArgument"), &json!("NotFound")));
    assert_eq!((&seen["exact"], &seen["calls"]), (&json!(true), &json!(2)));
    assert!(seen["areas"].as_u64().unwrap() > 2000);
    assert_eq!((&seen["untouched"], &seen["same_epoch"]), (&json!([]), &json!(true)));
    assert_eq!(seen["after_reset"], "FileFault");
}

fn check_end(seen: &Value, site: &Site) {
    assert_eq!((&seen["range_status"], &seen["range_length"]), (&json!(206), &json!(1 << 20)));
    let image = std::fs::read(site.folder.path().join("system.raw")).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &image[..1 << 20]);
    assert_eq!(seen["range_sha256"], hex::encode(digest));
    assert_eq!(seen["snapshot_left"], Value::Null);
    assert_eq!((&seen["off"], &seen["on"]), (&json!("poweredOff"), &json!("poweredOn")));
    assert_eq!((&seen["off_again"], &seen["shutdown_off"]), (&json!("InvalidPowerState"), &json!("InvalidPowerState")));
    assert_eq!(seen["after_logout"], "NotAuthenticated");
    assert_eq!(site.sim.session_count(), 0, "every session was logged out");
    assert!(site.sim.vm_snapshots("web01").unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvmomi_walks_tracks_and_reads() {
    let site = site::start().await;
    let seen = walk(&site).await;
    check_inventory(&seen, &site);
    check_devices(&seen);
    check_tracking(&seen);
    check_end(&seen, &site);
    site.sim.shutdown().await;
}
