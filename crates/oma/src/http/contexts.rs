//! `/vm-contexts`: the VMs, each with its disks, jobs and change ids.

use api::Problem;
use api::extract::{Json, Path};
use api::oma::contexts::{
    CBT_HISTORY_LIMIT, CbtHistoryEntry, ContextDetail, ContextDisk, ContextList, ContextView, CurrentJob,
    JOB_HISTORY_LIMIT, JobHistoryEntry,
};
use api::oma::replications::Accepted;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use store::cbt_history::CbtHistory;
use store::replication_jobs::{Filter, ReplicationJob};
use store::vm_disks::VmDisk;
use store::vm_replication_contexts::{Forget, VmContext};
use store::{cbt_history, replication_jobs, vm_disks, vm_replication_contexts};

use crate::digests;
use crate::error::OmaError;
use crate::state::OmaState;
use crate::teardown;
use crate::verification;

/// Most contexts in one answer.
const MAX_CONTEXTS: u32 = 10_000;

/// Every VM, by name.
#[utoipa::path(get, path = "/api/v1/vm-contexts", tag = "vm-contexts",
    responses((status = 200, body = ContextList), (status = "4XX", body = Problem)))]
pub(crate) async fn list(State(state): State<OmaState>) -> Result<Json<ContextList>, OmaError> {
    let rows = vm_replication_contexts::list(state.store(), MAX_CONTEXTS).await?;
    let vm_contexts: Vec<ContextView> = rows.into_iter().map(context_view).collect();
    Ok(Json(ContextList { count: vm_contexts.len() as u64, vm_contexts }))
}

/// One VM by name or context id, with its disks, running job and histories.
#[utoipa::path(get, path = "/api/v1/vm-contexts/{vm}", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Name or context id")),
    responses((status = 200, body = ContextDetail), (status = "4XX", body = Problem)))]
pub(crate) async fn show(
    State(state): State<OmaState>,
    Path(vm): Path<String>,
) -> Result<Json<ContextDetail>, OmaError> {
    let store = state.store();
    let context = vm_replication_contexts::find(store, &vm).await?;
    let current_job = vm_replication_contexts::current_job(store, &context.context_id).await?;
    let filter = Filter { vm_context_id: Some(context.context_id.clone()), ..Filter::default() };
    let jobs = replication_jobs::list(store, &filter, JOB_HISTORY_LIMIT).await?;
    let disks = vm_disks::of_context(store, &context.context_id).await?;
    let history = cbt_history::of_context(store, &context.context_id, CBT_HISTORY_LIMIT).await?;
    Ok(Json(ContextDetail {
        current_job: current_job.map(current_job_view),
        job_history: jobs.into_iter().map(history_entry).collect(),
        disks: disks.into_iter().map(|disk| disk_view(&context, disk)).collect(),
        cbt_history: history.into_iter().map(cbt_entry).collect(),
        last_operation: context.last_operation_summary.clone(),
        context: context_view(context),
    }))
}

/// Forgets a VM; refused while a job runs or replica volumes exist.
#[utoipa::path(delete, path = "/api/v1/vm-contexts/{vm}", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Name or context id")),
    responses((status = 200), (status = "4XX", body = Problem)))]
pub(crate) async fn delete(State(state): State<OmaState>, Path(vm): Path<String>) -> Result<Json<()>, OmaError> {
    let context = vm_replication_contexts::find(state.store(), &vm).await?;
    vm_replication_contexts::delete(state.store(), &context.context_id, Forget::default()).await?;
    if let Err(error) = digests::forget_gone(&state).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the VM's digest files go at the next start");
    }
    Ok(Json(()))
}

/// Tears the VM's replica down: its volumes are deleted, and with them the change ids.
#[utoipa::path(delete, path = "/api/v1/vm-contexts/{vm}/replica", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Name or context id")),
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn delete_replica(
    State(state): State<OmaState>,
    Path(vm): Path<String>,
) -> Result<Response, OmaError> {
    let accepted = teardown::start(&state, &vm).await?;
    let location = format!("/api/v1/jobs/{}", accepted.job_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// Reads the VM's whole replica again and compares it with what was certified last.
#[utoipa::path(post, path = "/api/v1/vm-contexts/{vm}/replica/verify", tag = "vm-contexts",
    params(("vm" = String, Path, description = "Name or context id")),
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn verify_replica(
    State(state): State<OmaState>,
    Path(vm): Path<String>,
) -> Result<Response, OmaError> {
    let accepted = verification::start(&state, &vm).await?;
    let location = format!("/api/v1/jobs/{}", accepted.job_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

fn context_view(row: VmContext) -> ContextView {
    ContextView {
        context_id: row.context_id,
        vm_name: row.vm_name,
        vmware_vm_id: row.vmware_vm_id,
        vm_path: row.vm_path,
        vcenter_host: row.vcenter_host,
        datacenter: row.datacenter,
        current_status: *row.current_status,
        current_job_id: row.current_job_id,
        total_jobs_run: *row.total_jobs_run,
        successful_jobs: *row.successful_jobs,
        failed_jobs: *row.failed_jobs,
        last_successful_job_id: row.last_successful_job_id,
        created_at: *row.created_at,
        updated_at: *row.updated_at,
        first_job_at: row.first_job_at.map(|at| *at),
        last_job_at: row.last_job_at.map(|at| *at),
        last_status_change: Some(*row.last_status_change),
        vmware_moref: row.vmware_moref,
        cpu_count: u32::try_from(*row.cpu_count).unwrap_or(u32::MAX),
        memory_mb: *row.memory_mb,
        os_type: row.os_type,
        power_state: row.power_state,
        enrollment_id: row.enrollment_id,
        credential_id: row.credential_id,
        ossea_config_id: row.ossea_config_id,
    }
}

fn current_job_view(row: ReplicationJob) -> CurrentJob {
    CurrentJob {
        id: row.id,
        status: *row.status,
        progress_percent: row.progress_percent,
        current_operation: row.current_operation,
        bytes_transferred: *row.bytes_transferred,
        total_bytes: *row.total_bytes,
        transfer_speed_bps: *row.transfer_speed_bps,
        vma_throughput_mbps: row.vma_throughput_mbps,
        vma_eta_seconds: row.vma_eta_seconds.map(|seconds| *seconds),
    }
}

fn history_entry(row: ReplicationJob) -> JobHistoryEntry {
    JobHistoryEntry {
        id: row.id,
        replication_type: *row.replication_type,
        status: *row.status,
        progress_percent: row.progress_percent,
        bytes_transferred: *row.bytes_transferred,
        total_bytes: *row.total_bytes,
        error_message: row.error_message,
        created_at: *row.created_at,
        started_at: row.started_at.map(|at| *at),
        completed_at: row.completed_at.map(|at| *at),
    }
}

fn disk_view(context: &VmContext, row: VmDisk) -> ContextDisk {
    ContextDisk {
        disk_id: row.disk_id,
        size_gb: *row.size_gb,
        capacity_bytes: *row.capacity_bytes,
        cpu_count: u32::try_from(*context.cpu_count).unwrap_or(u32::MAX),
        memory_mb: *context.memory_mb,
        os_type: context.os_type.clone(),
        network_config: context.networks.to_string(),
        id: row.id,
        disk_uuid: row.disk_uuid,
        vmdk_path: row.vmdk_path,
        label: row.label,
        sync_status: *row.sync_status,
        volume_uuid: row.volume_uuid,
        disk_change_id: row.disk_change_id.map(|id| id.0),
    }
}

fn cbt_entry(row: CbtHistory) -> CbtHistoryEntry {
    CbtHistoryEntry {
        id: row.id,
        disk_id: row.disk_id,
        job_id: row.job_id,
        change_id: row.change_id,
        previous_change_id: row.previous_change_id,
        sync_type: *row.sync_type,
        blocks_changed: *row.blocks_changed,
        bytes_transferred: *row.bytes_transferred,
        sync_duration_seconds: *row.sync_duration_seconds,
        sync_success: row.sync_success,
        created_at: *row.created_at,
    }
}
