//! The two answers a console depends on: their field names are promised.

use serde_json::Value;

use super::stage::{Stage, VM};

const CONTEXT: &[&str] = &[
    "context_id",
    "vm_name",
    "vmware_vm_id",
    "vm_path",
    "vcenter_host",
    "datacenter",
    "current_status",
    "current_job_id",
    "total_jobs_run",
    "successful_jobs",
    "failed_jobs",
    "last_successful_job_id",
    "created_at",
    "updated_at",
    "first_job_at",
    "last_job_at",
    "last_status_change",
];
const CURRENT_JOB: &[&str] = &[
    "id",
    "status",
    "progress_percent",
    "current_operation",
    "bytes_transferred",
    "total_bytes",
    "transfer_speed_bps",
    "vma_throughput_mbps",
    "vma_eta_seconds",
];
const DISK: &[&str] = &["disk_id", "size_gb", "capacity_bytes", "cpu_count", "memory_mb", "os_type", "network_config"];
/// Times are texts with an offset.
const TIMES: &[&str] = &["created_at", "updated_at", "first_job_at", "last_job_at", "last_status_change"];

/// After `replications` completed ones.
pub(crate) async fn have_the_promised_fields(stage: &Stage, replications: u64) {
    let list = stage.world.api("/api/v1/vm-contexts").await.unwrap();
    assert_eq!(list["count"], 1);
    let listed = &list["vm_contexts"][0];
    has(listed, CONTEXT);
    assert_eq!(listed["vm_name"], VM);
    assert_eq!(listed["current_status"], "ready_for_failover");
    for counter in ["total_jobs_run", "successful_jobs"] {
        assert_eq!(listed[counter], replications, "{counter}");
    }
    assert_eq!(listed["failed_jobs"], 0);
    assert!(listed["current_job_id"].is_null());
    for time in TIMES {
        let text = listed[*time].as_str().unwrap();
        assert!(text.contains('T') && (text.ends_with('Z') || text.contains('+')), "{time}: {text}");
    }
    let one = stage.world.api(&format!("/api/v1/vm-contexts/{VM}")).await.unwrap();
    assert_eq!(&one["context"], listed);
    assert!(one["current_job"].is_null());
    assert_eq!(one["job_history"].as_array().unwrap().len() as u64, replications);
    assert_eq!(listed["last_successful_job_id"], one["job_history"][0]["id"]);
    let disks = one["disks"].as_array().unwrap();
    assert_eq!(disks.len(), stage.world.disks().len());
    for (disk, known) in disks.iter().zip(stage.world.disks()) {
        has(disk, DISK);
        assert_eq!(
            (&disk["disk_id"], &disk["capacity_bytes"]),
            (&known.disk_id.as_str().into(), &known.capacity_bytes.into())
        );
        let networks: Value = serde_json::from_str(disk["network_config"].as_str().unwrap()).unwrap();
        assert_eq!(networks.as_array().unwrap().len(), 2, "{networks}");
    }
    assert_eq!(one["cbt_history"].as_array().unwrap().len() as u64, replications * disks.len() as u64);
}

/// While a replication runs.
pub(crate) async fn show_the_running_job(stage: &Stage, job_id: &str) {
    let one = stage.world.api(&format!("/api/v1/vm-contexts/{VM}")).await.unwrap();
    assert_eq!(one["context"]["current_job_id"], job_id);
    assert_eq!(one["context"]["current_status"], "replicating");
    has(&one["current_job"], CURRENT_JOB);
    assert_eq!(one["current_job"]["id"], job_id);
}

fn has(object: &Value, names: &[&str]) {
    let object = object.as_object().unwrap();
    let missing: Vec<_> = names.iter().filter(|name| !object.contains_key(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {object:?}");
}
