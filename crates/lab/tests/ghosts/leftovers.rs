//! One leftover of each kind: listed with its reason, kept while something hangs on it, removed on request.

use serde_json::Value;

use super::stage::{Stage, UNKNOWN_CONTEXT, UNKNOWN_JOB, VM};

/// The ghost is as expected and may be removed.
async fn listed(stage: &Stage, id: &str, kind: &str, name: &str, reason: &str) {
    let ghost = stage.ghost(id).await;
    assert_eq!((&ghost["kind"], &ghost["name"]), (&Value::from(kind), &Value::from(name)), "{ghost:#}");
    assert!(ghost["reason"].as_str().unwrap().contains(reason), "{ghost:#}");
    assert_eq!((&ghost["removable"], &ghost["obstacle"]), (&Value::Bool(true), &Value::Null), "{ghost:#}");
    assert_eq!(ghost["remedy"], format!("migratekit ghost remove {id}"));
}

async fn removed(stage: &Stage, id: &str) {
    stage.command(&["ghost", "remove", id, "--watch"]).await;
    let again = stage.refused(id).await;
    assert_eq!(again.0, 3, "a ghost that is gone: {}", again.1);
}

/// A volume of a VM this hub does not know stays, once it was attached: it may be another hub's only replica.
async fn kept_for_another_hub(stage: &Stage, vm_id: &str) {
    let volume_id = stage.left_volume("another-hubs", UNKNOWN_CONTEXT).await;
    let id = format!("volume-{volume_id}");
    assert_eq!(stage.ghost(&id).await["removable"], true, "nothing was ever written to it");
    stage.cloud.done("attachVolume", &[("id", &volume_id), ("virtualmachineid", vm_id)]).await;
    stage.cloud.done("detachVolume", &[("id", &volume_id)]).await;
    let (code, detail) = stage.refused(&id).await;
    assert!(code == 4 && detail.contains("another hub"), "{code}: {detail}");
    stage.cloud.ok("deleteVolume", &[("id", &volume_id)]).await;
}

/// The volume is attached to the left VM: neither may be removed.
async fn kept_while_attached(stage: &Stage, vm_id: &str, volume_id: &str) {
    stage.cloud.done("attachVolume", &[("id", volume_id), ("virtualmachineid", vm_id)]).await;
    for (id, obstacle) in [(format!("vm-{vm_id}"), volume_id), (format!("volume-{volume_id}"), vm_id)] {
        let ghost = stage.ghost(&id).await;
        assert_eq!(ghost["removable"], false, "{ghost:#}");
        assert!(ghost["obstacle"].as_str().unwrap().contains(obstacle), "{ghost:#}");
        let (code, detail) = stage.refused(&id).await;
        assert!(code == 4 && detail.contains(obstacle), "{code}: {detail}");
    }
    stage.cloud.done("detachVolume", &[("id", volume_id)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leftover_is_explained_and_removed_and_replicas_stay() {
    let stage = Stage::replicated().await;
    assert_eq!(stage.ghosts().await, Vec::<Value>::new());
    let replicas = stage.replicas().await;

    let vm_id = stage.left_vm("web01-test", UNKNOWN_JOB).await;
    let volume_id = stage.left_volume("migration-old", &stage.context_id().await).await;
    let snapshot_id = stage.left_snapshot(&replicas[0], "safety").await;
    stage.left_vm_snapshot("migratekit-job-x").await;
    let [vm, volume] = [format!("vm-{vm_id}"), format!("volume-{volume_id}")];
    let [snapshot, vm_snapshot] =
        [format!("snapshot-{snapshot_id}"), format!("vmsnapshot-{}", stage.context_id().await)];
    let ghosts = stage.ghosts().await;
    assert_eq!(ghosts.len(), 4, "{ghosts:#?}");
    listed(&stage, &vm, "vm", "web01-test", UNKNOWN_JOB).await;
    listed(&stage, &volume, "volume", "migration-old", "no row of this hub knows it").await;
    listed(&stage, &snapshot, "volume_snapshot", "safety", UNKNOWN_JOB).await;
    listed(&stage, &vm_snapshot, "vm_snapshot", "migratekit-job-x", VM).await;

    for replica in &replicas {
        let (code, detail) = stage.refused(&format!("volume-{replica}")).await;
        assert!(code == 4 && detail.contains("it is the replica of disk-"), "{code}: {detail}");
    }
    assert_eq!(stage.refused("vm-none").await.0, 3);
    assert_eq!(stage.refused("whatever").await.0, 3);
    kept_while_attached(&stage, &vm_id, &volume_id).await;
    kept_for_another_hub(&stage, &vm_id).await;

    for id in [&vm, &volume, &snapshot, &vm_snapshot] {
        removed(&stage, id).await;
    }
    assert!(!stage.has_vm(&vm_id).await && !stage.has_volume(&volume_id).await);
    assert_eq!((stage.volume_snapshots().await, stage.vm_snapshots().await), (0, Vec::new()));
    assert_eq!(stage.ghosts().await, Vec::<Value>::new());
    for replica in &replicas {
        assert!(stage.has_volume(replica).await);
    }
    let again = stage.command(&["replicate", VM, "--watch"]).await;
    assert_eq!(again["replication"]["replication_type"], "incremental", "{again:#}");
    stage.world.stop().await;
}
