//! Guest conversion as a step with its own undo, with a tool that really writes to the volumes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::stage::{Stage, VM, plan};

/// Stands in for virt-v2v-in-place: takes the same arguments, reads the same description, and writes to the first disk.
/// What it says and how it ends is in files beside it.
const TOOL: &str = r#"#!/bin/sh
disk=$(sed -n "s/.*<source dev='\([^']*\)'.*/\1/p" /dev/stdin | head -n 1)
echo "[   0.0] Opening the source -i libvirtxml"
printf 'converted' | dd of="$disk" bs=1 seek=3145728 conv=notrunc status=none
echo "[   1.0] Converting the guest"
exit "$(cat "$(dirname "$0")/exit-code")"
"#;

async fn stage(programs: &Path, exit_code: u8) -> (Stage, Value) {
    let tool = programs.join("virt-v2v-in-place");
    std::fs::write(&tool, TOOL).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(programs.join("exit-code"), exit_code.to_string()).unwrap();
    let mut plan = plan();
    plan.guests_scribble = false;
    plan.programs = Some(programs.to_owned());
    let stage = Stage::bare(plan).await;
    stage.map(VM).await;
    let committed = stage.command(&["replicate", VM, "--watch"]).await;
    (stage, committed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_converted_guest_is_put_back_like_any_other() {
    let programs = tempfile::tempdir().unwrap();
    let (stage, committed) = stage(programs.path(), 0).await;
    let test = stage.command(&["failover", "test", VM, "--conversion", "always", "--watch"]).await;
    assert_eq!(test["status"], "completed");
    assert!(!stage.is_equal_to(&committed).await, "the tool wrote");
    let job = test["jobs"][0]["id"].as_str().unwrap();
    let log = stage.world.api(&format!("/api/v1/jobs/{job}/log?limit=500")).await.unwrap();
    let said = |text: &str| log["items"].as_array().unwrap().iter().any(|line| line.to_string().contains(text));
    assert!(said("Converting the guest"), "its output is in the job's log");
    let failover = test["job_id"].as_str().unwrap();
    stage.command(&["failover", "cleanup", failover, "--watch"]).await;
    assert!(stage.is_equal_to(&committed).await);
    assert_eq!(stage.status().await, "ready_for_failover");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversion_that_fails_is_taken_back_before_a_vm_is_made() {
    let programs = tempfile::tempdir().unwrap();
    let (stage, committed) = stage(programs.path(), 1).await;
    let problem = stage.refused(&["failover", "test", VM, "--conversion", "always", "--watch"], 4).await;
    assert!(problem["detail"].as_str().unwrap().contains("virt-v2v-in-place"), "{problem:#}");
    assert_eq!(stage.status().await, "ready_for_failover");
    assert!(stage.is_equal_to(&committed).await, "reverted");
    assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    assert_eq!(stage.world.snapshots().await.unwrap(), Vec::<Value>::new());
    let undone = problem["job_id"].as_str().unwrap();
    let again = stage.refused(&["failover", "cleanup", undone], 4).await;
    assert!(again["detail"].as_str().unwrap().contains("nothing to put back"), "{again:#}");
    let next = stage.command(&["replicate", VM, "--watch"]).await;
    let disks = next["run"]["disks"].as_array().unwrap();
    assert!(disks.iter().all(|disk| disk["sync_mode"] == "incremental"), "{next:#}");
}
