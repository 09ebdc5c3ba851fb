//! What has to be refused: each with a typed error and a remedy, and nothing changed on either side.

use serde_json::Value;

use super::stage::{Stage, VM, plan};

/// Nothing was made and the VM stands where it stood.
async fn unchanged(stage: &Stage, status: &str) {
    assert_eq!(stage.status().await, status);
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    assert_eq!(stage.world.snapshots().await.unwrap(), Vec::<Value>::new());
    let failovers = stage.world.api("/api/v1/failovers").await.unwrap();
    assert_eq!(failovers["items"], serde_json::json!([]));
    assert_eq!(stage.world.source_vm().await.unwrap()["powered_on"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_without_a_complete_replica_is_not_failed_over() {
    let stage = Stage::bare(plan()).await;
    stage.refused(&["failover", "test", "nobody"], 3).await;
    let problem = stage.refused(&["failover", "live", VM], 4).await;
    let told = format!("{} {}", problem["detail"], problem["evidence"]);
    for part in ["has no replica", "not ready_for_failover", "Network adapter 1"] {
        assert!(told.contains(part), "{part}: {problem:#}");
    }
    stage.map(VM).await;
    // A replication that runs is not disturbed.
    stage.world.hold_reads_after(3).await.unwrap();
    let replication = stage.command(&["replicate", VM]).await;
    let path = format!("/api/v1/replications/{}/progress", replication["job_id"].as_str().unwrap());
    stage.until(&path, "it copies", |progress| progress["run"]["phase"] == "copying").await;
    let problem = stage.refused(&["failover", "test", VM], 4).await;
    assert!(problem["detail"].as_str().unwrap().contains("a job works on the replica"), "{problem:#}");
    stage.world.release_reads().await.unwrap();
    stage.until(&path, "it is committed", |progress| progress["replication"]["status"] == "completed").await;
    unchanged(&stage, "ready_for_failover").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_cannot_do_is_told_before_anything_is_made() {
    let stage = Stage::bare(plan()).await;
    stage.command(&["replicate", VM, "--watch"]).await;
    let problem = stage.refused(&["failover", "test", VM], 4).await;
    let told = format!("{} {}", problem["detail"], problem["evidence"]);
    assert!(told.contains("Network adapter 1") && told.contains("Network adapter 2"), "{problem:#}");
    let far = ["network", "map", VM, "--source-network", "VM Network", "--to", "far", "--for", "test"];
    let problem = stage.refused(&far, 5).await;
    assert!(problem["detail"].as_str().unwrap().contains("zone"), "{problem:#}");
    stage.map(VM).await;
    for (name, code) in [("web_01", 5), ("-web", 5), ("migratekit", 4)] {
        let argument = format!("--name={name}");
        let problem = stage.refused(&["failover", "live", VM, &argument], code).await;
        assert!(problem["remedy"].as_str().unwrap().contains("--name"), "{problem:#}");
    }
    stage.refused(&["failover", "test", VM, "--duration", "400d"], 5).await;
    let problem = stage.refused(&["failover", "live", VM, "--conversion", "always"], 4).await;
    assert!(problem["remedy"].as_str().unwrap().contains("apt-get install virt-v2v"), "{problem:#}");
    unchanged(&stage, "ready_for_failover").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_shut_down_is_left_running() {
    let stage = Stage::bare(plan()).await;
    stage.map(VM).await;
    stage.command(&["replicate", VM, "--watch"]).await;
    let deaf = serde_json::json!({ "method": "ShutdownGuest", "what": { "effect": "ignored_by_guest" } });
    stage.world.vcenter_admin("/lab/faults", &deaf).await.unwrap();
    let live = ["failover", "live", VM, "--power-off-source", "--shutdown-time", "3s", "--watch"];
    let problem = stage.refused(&live, 8).await;
    assert!(problem["remedy"].as_str().unwrap().contains("--force-power-off"), "{problem:#}");
    assert_eq!(stage.status().await, "ready_for_failover");
    assert_eq!(stage.world.source_vm().await.unwrap()["powered_on"], true);
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
}
