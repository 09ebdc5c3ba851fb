//! Disks added to the agent's own VM, through every process: to the end, and with the agent killed while one is added.

use lab::world::until;
use serde_json::json;
use std::time::Duration;

use super::stage::{AGENT_VM, Stage, VM, modes};

/// Files in the folder of the agent's devices.
fn devices(stage: &Stage) -> Vec<String> {
    let listing = std::fs::read_dir(stage.world.devices(AGENT_VM));
    let names = listing.into_iter().flatten().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("wwn-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_added_to_the_agents_vm_read_and_removed_even_after_it_was_killed() {
    let mut stage = Stage::ready_with_agent_vm().await;
    stage.guest_writes(20, 1).await;
    let plan = stage.command(&["replicate", VM, "--dry-run"]).await;
    assert_eq!(plan["disks"][0]["reader"]["kind"], "hotadd", "{plan:#}");
    assert!(plan["disks"][1]["reader_reason"].as_str().unwrap().contains(AGENT_VM), "{plan:#}");
    let job_id = stage.started().await;
    let first = stage.completed(&job_id).await;
    assert_eq!(modes(&first), ["full", "full"]);
    let how = first["run"]["disks"][0]["reason"].as_str().unwrap();
    assert!(how.contains("read by hotadd: the agent's VM agent01 is in the same datacenter"), "{how}");
    assert_eq!(devices(&stage), Vec::<String>::new());

    stage.guest_writes(20, 2).await;
    // Between two looks at its task the agent has the disk and does not know it yet.
    stage.world.vcenter_admin("/lab/tasks/delay", &json!({ "delay_ms": 400 })).await.unwrap();
    let job_id = stage.started_with(&["--reader", "hotadd"]).await;
    until(Duration::from_secs(60), "a disk is added", || !devices(&stage).is_empty()).await.unwrap();
    stage.world.kill_agent();
    assert!(!devices(&stage).is_empty(), "a killed agent cannot clean up");
    stage.world.vcenter_admin("/lab/tasks/delay", &json!({ "delay_ms": 0 })).await.unwrap();
    stage.world.start_agent().await.unwrap();

    let second = stage.completed(&job_id).await;
    assert_eq!(modes(&second), ["incremental", "incremental"]);
    assert_eq!(devices(&stage), Vec::<String>::new());
    let record = std::fs::read_to_string(stage.world.dir().join("agent/hotadd.json")).unwrap();
    assert_eq!(record, "[]");
}
