//! The plain way, there and back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::stage::{Stage, VM};

fn steps(detail: &Value) -> Vec<String> {
    let steps = detail["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|step| format!("{}:{}", step["name"].as_str().unwrap(), step["status"].as_str().unwrap()))
        .collect()
}

/// How often a dry run says each command of CloudStack is sent.
fn planned(plan: &Value) -> BTreeMap<String, u64> {
    let calls = plan["steps"].as_array().unwrap().iter().flat_map(|step| step["calls"].as_array().unwrap());
    let mut counts = BTreeMap::new();
    for call in calls.filter(|call| call["to"] == "cloudstack") {
        *counts.entry(call["command"].as_str().unwrap().to_lowercase()).or_default() += 1;
    }
    counts
}

fn sent_since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = after.iter().map(|(command, count)| (command.clone(), count - before.get(command).unwrap_or(&0)));
    since.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_leaves_the_replica_as_it_was_and_the_next_increment_works() {
    let stage = Stage::ready().await;
    let committed = stage.command(&["replicate", VM, "--watch"]).await;
    let plan = stage.command(&["failover", "test", VM, "--dry-run"]).await;
    assert_eq!(plan["blockers"], serde_json::json!([]), "{plan:#}");
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["expected_seconds"].is_null()), "no past runs");
    assert_eq!(stage.vms_made().await, Vec::<Value>::new(), "a dry run makes nothing");

    let before = stage.changes_sent().await;
    let test = stage.command(&["failover", "test", VM, "--probe", "tcp:127.0.0.1:9", "--probe-time", "1s"]).await;
    let job = test["job_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/failovers/{job}");
    let view = stage.until(&path, "the test stands", |view| view["status"] == "completed").await;
    assert_eq!(view["probes"][0]["passed"], false, "nobody listens there, and the test stands all the same");
    assert_eq!(stage.status().await, "failed_over_test");
    check_vm(&stage, &view, &plan).await;
    assert_eq!(sent_since(&before, &stage.changes_sent().await), planned(&plan), "the dry run told every change");
    assert!(!stage.is_equal_to(&committed).await, "the guest wrote");
    stage.refused(&["replicate", VM], 4).await;
    stage.refused(&["failover", "test", VM], 4).await;
    stage.refused(&["vm", "drop-replica", VM, "--yes"], 4).await;

    let cleaned = stage.command(&["failover", "cleanup", &job, "--watch"]).await;
    assert_eq!(cleaned["status"], "cleaned_up");
    assert_eq!(stage.status().await, "ready_for_failover");
    assert!(stage.is_equal_to(&committed).await, "every byte is back");
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    assert_eq!(stage.world.snapshots().await.unwrap(), Vec::<Value>::new());
    stage.refused(&["failover", "cleanup", &job], 4).await;

    for disk in stage.world.disks() {
        stage.world.guest_writes(disk, 5, 9).await.unwrap();
    }
    let next = stage.command(&["replicate", VM, "--watch"]).await;
    let disks = next["run"]["disks"].as_array().unwrap();
    assert!(disks.iter().all(|disk| disk["sync_mode"] == "incremental"), "{next:#}");
    assert!(stage.is_equal_to(&next).await);
    let again = stage.command(&["failover", "test", VM, "--dry-run"]).await;
    assert!(again["steps"].as_array().unwrap().iter().any(|step| step["past_runs"] == 1), "{again:#}");
}

/// The VM is the one that was announced: name, cards in order, disks in order.
async fn check_vm(stage: &Stage, view: &Value, plan: &Value) {
    let made = stage.vms_made().await;
    assert_eq!(made.len(), 1);
    let vm = &made[0];
    assert_eq!((vm["id"].as_str(), vm["state"].as_str()), (view["destination_vm_id"].as_str(), Some("Running")));
    assert_eq!(vm["tags"]["migratekit"], "failover-vm");
    let volumes = stage.volumes_of(vm["id"].as_str().unwrap()).await;
    let seen: Vec<_> = volumes.iter().map(|volume| (volume["id"].clone(), volume["device_id"].clone())).collect();
    let announced = plan["vm"]["disks"].as_array().unwrap().iter();
    let announced: Vec<_> = announced.map(|disk| (disk["volume_uuid"].clone(), disk["device_id"].clone())).collect();
    assert_eq!(seen, announced, "only the replica's volumes, in the source's order");
    let macs: Vec<&str> = vm["macs"].as_array().unwrap().iter().map(|mac| mac.as_str().unwrap()).collect();
    assert_eq!(macs.len(), plan["vm"]["nics"].as_array().unwrap().len());
    let sources = plan["vm"]["nics"].as_array().unwrap().iter().map(|nic| nic["source_mac"].as_str().unwrap());
    assert!(sources.zip(&macs).all(|(source, made)| source != *made), "a test beside its source has new addresses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_failover_is_taken_back_and_the_next_replication_compares() {
    let stage = Stage::ready().await;
    for disk in stage.world.disks() {
        stage.world.guest_writes(disk, 3, 4).await.unwrap();
    }
    let live = stage.command(&["failover", "live", VM, "--power-off-source", "--watch"]).await;
    assert_eq!((live["status"].as_str(), stage.status().await.as_str()), (Some("completed"), "failed_over_live"));
    assert_eq!(stage.world.source_vm().await.unwrap()["powered_on"], false);
    let nics = live["vm"]["nics"].as_array().unwrap();
    let kept: Vec<&str> = nics.iter().map(|nic| nic["source_mac"].as_str().unwrap()).collect();
    let made = stage.vms_made().await;
    let macs: Vec<&str> = made[0]["macs"].as_array().unwrap().iter().map(|mac| mac.as_str().unwrap()).collect();
    assert_eq!(macs, kept, "all cards, in order, with their addresses");
    let jobs = stage.world.api("/api/v1/jobs").await.unwrap();
    let items = jobs["items"].as_array().unwrap().clone();
    let parent = items.iter().find(|job| job["job_type"] == "failover_live").unwrap();
    let sync = items.iter().find(|job| job["parent_job_id"] == parent["id"]).unwrap();
    assert_eq!((sync["job_type"].as_str(), sync["status"].as_str()), (Some("replication"), Some("completed")));

    let job = live["job_id"].as_str().unwrap();
    stage.refused(&["failover", "cleanup", job], 4).await;
    let back = stage.command(&["failover", "rollback", job, "--power-on-source", "--watch"]).await;
    assert_eq!(back["status"], "rolled_back");
    assert_eq!(stage.world.source_vm().await.unwrap()["powered_on"], true);
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    assert_eq!(stage.status().await, "discovered", "what the guest wrote to is no replica");
    stage.refused(&["failover", "test", VM], 4).await;
    let compared = stage.command(&["replicate", VM, "--watch"]).await;
    let disks = compared["run"]["disks"].as_array().unwrap();
    assert!(disks.iter().all(|disk| disk["sync_mode"] == "compare"), "{compared:#}");
    assert!(stage.is_equal_to(&compared).await);
    assert_eq!(stage.status().await, "ready_for_failover");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_failover_is_made_final() {
    let stage = Stage::ready().await;
    let live = stage.command(&["failover", "live", VM, "--no-final-sync", "--name", "web-new", "--watch"]).await;
    assert_eq!(live["destination_vm_name"], "web-new");
    assert_eq!(stage.world.source_vm().await.unwrap()["powered_on"], true, "nobody asked for its end");
    let job = live["job_id"].as_str().unwrap();
    stage.command(&["failover", "commit", job, "--watch"]).await;
    assert_eq!(stage.status().await, "completed");
    assert_eq!(stage.world.snapshots().await.unwrap(), Vec::<Value>::new());
    assert_eq!(stage.vms_made().await.len(), 1, "the VM stays");
    stage.refused(&["failover", "rollback", job], 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_ends_by_itself_when_its_time_is_over() {
    let stage = Stage::ready().await;
    let test = stage.command(&["failover", "test", VM, "--duration", "1s"]).await;
    let path = format!("/api/v1/failovers/{}", test["job_id"].as_str().unwrap());
    stage.until(&path, "it ended by itself", |view| view["status"] == "cleaned_up").await;
    assert_eq!(stage.status().await, "ready_for_failover");
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_is_cancelled_is_undone() {
    let stage = Stage::ready().await;
    let committed = stage.command(&["replicate", VM, "--watch"]).await;
    // It cannot start its VM: there is time to cancel it.
    let fault = serde_json::json!({ "command": "startVirtualMachine", "kind": "503", "count": 100 });
    stage.world.arm_fault(&fault).await.unwrap();
    let test = stage.command(&["failover", "test", VM]).await;
    let (job, tracking) = (test["job_id"].as_str().unwrap(), test["tracking_id"].as_str().unwrap());
    let path = format!("/api/v1/jobs/{tracking}");
    let starting = |detail: &Value| steps(detail).iter().any(|step| step == "power_on:running");
    stage.until(&path, "the VM is being started", starting).await;
    stage.command(&["failover", "cancel", job]).await;
    let detail = stage.until(&path, "it is undone", |detail| detail["job"]["status"] == "cancelled").await;
    assert!(steps(&detail).contains(&"attach:undone".to_owned()), "{detail:#}");
    assert_eq!(stage.status().await, "ready_for_failover");
    assert!(stage.is_equal_to(&committed).await);
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    assert_eq!(stage.world.snapshots().await.unwrap(), Vec::<Value>::new());
}
