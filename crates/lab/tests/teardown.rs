//! A replica is torn down: volumes and change ids go together, and the VM can be replicated anew.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::time::Duration;

use lab::world::{Roles, World, WorldPlan};
use serde_json::Value;

/// Size of both disks, in bytes.
const DISK_BYTES: u64 = 256 << 20;
/// How long a job may take.
const JOB_LIMIT: Duration = Duration::from_secs(60);

async fn until_job_ends(world: &World, job: &str) -> Value {
    let deadline = tokio::time::Instant::now() + JOB_LIMIT;
    loop {
        let detail = world.operator().run(&["job", "show", job]).await.unwrap().json().unwrap();
        let status = detail["job"]["status"].as_str().unwrap_or_default().to_owned();
        if ["completed", "failed", "cancelled", "needs_operator"].contains(&status.as_str()) {
            return detail;
        }
        assert!(tokio::time::Instant::now() < deadline, "the job does not end: {detail:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_change_ids_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let plan = WorldPlan::two_disks("web1", Roles::Together, DISK_BYTES, DISK_BYTES);
    let mut world = World::start(folder.path(), plan).await.unwrap();
    world.enrol_agent().await.unwrap();
    world.connect_sites().await.unwrap();
    let operator = world.operator();
    operator.run(&["vm", "add", "web1"]).await.unwrap().json().unwrap();
    operator.run(&["replicate", "web1", "--watch"]).await.unwrap().json().unwrap();
    assert_eq!(replicas(&world).await.len(), 2);

    let refused = operator.run(&["vm", "drop-replica", "web1"]).await.unwrap();
    assert_eq!(refused.code, 4, "without --yes nothing happens: {}", refused.stderr);
    let kept = operator.run(&["vm", "remove", "web1"]).await.unwrap();
    assert_eq!(kept.code, 4, "a VM with a replica is not forgotten: {}", kept.stderr);
    assert_eq!(replicas(&world).await.len(), 2);

    let accepted = operator.run(&["vm", "drop-replica", "web1", "--yes"]).await.unwrap().json().unwrap();
    let ended = until_job_ends(&world, accepted["tracking_id"].as_str().unwrap()).await;
    assert_eq!(ended["job"]["status"], "completed", "{ended:#}");
    assert_eq!(replicas(&world).await, Vec::<String>::new());
    let vm = operator.run(&["vm", "show", "web1"]).await.unwrap().json().unwrap();
    assert_eq!(vm["context"]["current_status"], "discovered");
    for disk in vm["disks"].as_array().unwrap() {
        assert_eq!((&disk["volume_uuid"], &disk["disk_change_id"]), (&Value::Null, &Value::Null), "{disk:#}");
    }

    let again = operator.run(&["replicate", "web1", "--watch"]).await.unwrap().json().unwrap();
    assert_eq!(again["replication"]["replication_type"], "initial");
    assert_eq!(again["replication"]["status"], "completed");
    operator.run(&["vm", "drop-replica", "web1", "--yes"]).await.unwrap().json().unwrap();
    world.stop().await;
}

/// Names of the replica volumes in CloudStack.
async fn replicas(world: &World) -> Vec<String> {
    let volumes = world.volumes().await.unwrap();
    let names = volumes.iter().filter_map(|volume| volume["name"].as_str());
    names.filter(|name| name.starts_with("migration-")).map(str::to_owned).collect()
}
