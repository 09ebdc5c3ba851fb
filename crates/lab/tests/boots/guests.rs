//! The guest boots from the replicas, says what it sees, writes to them, and shuts down when asked.

use std::time::Duration;

use lab::cloudstack::JobTiming;
use serde_json::{Value, json};

use super::cloud::text;
use super::stage::{
    BOOT_LIMIT, api_state, boot_text, booting_cloud, data, is_alive, on_filesystem, pid_of, replica, said, shell_vm,
    swap_disks, system,
};

const FIRST_MAC: &str = "02:aa:00:00:00:01";
const SECOND_MAC: &str = "02:aa:00:00:00:02";
/// A picture of a text screen is no smaller and no larger.
const PNG_BYTES: std::ops::Range<u64> = 400..200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_boots_writes_and_goes_back_to_its_snapshot() {
    let cloud = booting_cloud(|config| config.jobs.work_ms = 50).await;
    let admin = &cloud.admin;
    let root = replica(&cloud, "web-disk-0", system("as of the last sync")).await;
    let disk = replica(&cloud, "web-disk-1", data("data as of the last sync")).await;
    let networks = admin.ok("listNetworks", &[]).await;
    let (first, second) = (text(&networks["network"][0]["id"]), text(&networks["network"][2]["id"]));
    let nics = [
        ("iptonetworklist[0].networkid", first.as_str()),
        ("iptonetworklist[0].mac", FIRST_MAC),
        ("iptonetworklist[1].networkid", &second),
        ("iptonetworklist[1].mac", SECOND_MAC),
    ];
    let vm = shell_vm(&cloud, "web", &nics).await;
    let snapshot = text(&admin.done("createSnapshot", &[("volumeid", &root.volume_id)]).await["snapshot"]["id"]);
    swap_disks(&cloud, &vm, &root, &[&disk]).await;

    let start = text(&admin.ok("startVirtualMachine", &[("id", &vm)]).await["jobid"]);
    let mut states = Vec::new();
    while admin.ok("queryAsyncJobResult", &[("jobid", &start)]).await["jobstatus"] == 0 {
        states.push(api_state(&cloud, &vm).await);
    }
    assert!(states.contains(&json!("Starting")), "{states:?}");
    let console = cloud.sim.until_console(&vm, "migratekit-lab: up", BOOT_LIMIT).await.expect("the guest boots");
    assert_eq!(said(&console, "marker"), ["as of the last sync"]);
    assert_eq!(said(&console, "data marker"), ["data as of the last sync"]);
    assert_eq!(said(&console, "nic"), [FIRST_MAC, SECOND_MAC], "every interface, in order");
    assert_eq!(api_state(&cloud, &vm).await, "Running");

    let picture = cloud.sim.screenshot(&vm).await.expect("a screenshot");
    let bytes = std::fs::read(&picture).expect("the picture");
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"), "{}", picture.display());
    assert!(PNG_BYTES.contains(&(bytes.len() as u64)), "{} bytes", bytes.len());
    let (_, refusal) = admin.fails("detachVolume", &[("id", &disk.volume_id)]).await;
    assert!(refusal.contains("while they run"), "{refusal}");
    let (_, refusal) = admin.fails("revertSnapshot", &[("id", &snapshot)]).await;
    assert!(refusal.contains("not in the shutdown state"), "{refusal}");
    admin.done("createSnapshot", &[("volumeid", &disk.volume_id)]).await;

    let pid = pid_of(&cloud, &vm);
    let stop = text(&admin.ok("stopVirtualMachine", &[("id", &vm)]).await["jobid"]);
    let mut states = Vec::new();
    while admin.ok("queryAsyncJobResult", &[("jobid", &stop)]).await["jobstatus"] == 0 {
        states.push(api_state(&cloud, &vm).await);
    }
    assert!(states.contains(&json!("Stopping")), "{states:?}");
    assert_eq!(boot_text(&cloud, &vm), "stopped: the guest shut down");
    assert!(!is_alive(pid) && api_state(&cloud, &vm).await == "Stopped");
    assert!(cloud.sim.console(&vm, true).expect("a console").contains("migratekit-lab: down"));

    for disk in [&root, &disk] {
        let (is_clean, said) = on_filesystem("e2fsck", &["-f", "-n"], disk);
        assert!(is_clean, "{said}");
        let (_, boots) = on_filesystem("debugfs", &["-R", "cat /var/log/boots"], disk);
        assert_eq!(boots.lines().count(), 1, "the guest's writes are in the volume: {boots}");
    }
    admin.done("revertSnapshot", &[("id", &snapshot)]).await;
    let (_, boots) = on_filesystem("debugfs", &["-R", "cat /var/log/boots"], &root);
    assert_eq!(boots, "", "the snapshot is from before the boot");
    let destroyed = admin.done("detachVolume", &[("id", &root.volume_id)]).await;
    assert_eq!(destroyed["volume"]["type"], "DATADISK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn details_choose_the_buses_and_a_second_start_is_told_apart() {
    let cloud = booting_cloud(|_| {}).await;
    let root = replica(&cloud, "old-disk-0", system("on SCSI")).await;
    let disk = replica(&cloud, "old-disk-1", data("on IDE")).await;
    let buses = [("details[0].rootDiskController", "scsi"), ("details[0].dataDiskController", "ide")];
    let vm = shell_vm(&cloud, "old", &buses).await;
    swap_disks(&cloud, &vm, &root, &[&disk]).await;
    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    let console = cloud.sim.until_console(&vm, "migratekit-lab: up", BOOT_LIMIT).await.expect("the guest boots");
    assert_eq!(said(&console, "marker"), ["on SCSI"]);
    assert_eq!(said(&console, "data marker"), ["on IDE"]);

    let (first, http) = (pid_of(&cloud, &vm), reqwest::Client::new());
    cloud.admin.done("rebootVirtualMachine", &[("id", &vm)]).await;
    assert_ne!(pid_of(&cloud, &vm), first);
    let since_start = cloud.sim.console(&vm, true).expect("a console");
    assert!(!since_start.contains("migratekit-lab: down"), "{since_start}");
    let url = format!("{}/lab/vms/{vm}/console", cloud.sim.admin_url);
    let whole = http.get(&url).send().await.expect("an answer").text().await.expect("text");
    assert!(whole.contains("=== start 1 of old ===") && whole.contains("=== start 2 of old ==="), "{whole}");
    let url = format!("{}/lab/vms/{vm}/screenshot", cloud.sim.admin_url);
    let answer: Value = http.post(&url).send().await.expect("an answer").json().await.expect("JSON");
    assert!(std::fs::metadata(text(&answer["path"])).is_ok_and(|data| PNG_BYTES.contains(&data.len())), "{answer}");

    cloud.sim.set_job_timing(JobTiming { delay_ms: 0, ..JobTiming::default() });
    let forced = [("id", vm.as_str()), ("forced", "true")];
    let stopping = cloud.admin.done("stopVirtualMachine", &forced);
    tokio::time::timeout(Duration::from_secs(20), stopping).await.expect("a forced stop does not wait for the guest");
    assert_eq!(boot_text(&cloud, &vm), "stopped: power was cut");
}
