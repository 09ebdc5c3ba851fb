//! The sync itself: the agent is told to run, watched until everything is durable here, and let go after the commit.
//!
//! A run belongs to one vm_snapshot. When the agent no longer knows the run (it was killed), asking again starts it
//! anew from the last committed change ids, which covers everything.

use std::time::{Duration, Instant};

use api::ClientError;
use api::oma::replications::ReplicationPlan;
use api::vma::{ReaderSpec, RunDisk, RunPhase, RunView, StartRun, VmRequest, VmaClient};
use joblog::{StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{ChangeSource, EnrollmentStatus, ReplicationStatus, ReplicationType};
use store::replication_jobs::Progress;
use store::vm_replication_contexts::VmContext;
use tunnel::Refusal;

use super::Params;
use super::facts::agent_of;
use super::provision::ProvisionedDisk;
use super::saga::{plan_of, set_status};
use crate::error::OmaError;
use crate::failure::{failed, step_failure};
use crate::inventory::vcenter;
use crate::state::OmaState;

/// How often the agent is asked how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long an agent may be away (restart, lost link) before the step counts as failed for now.
const AGENT_AWAY_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether an agent that is away may come back at all.
const AGENT_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// NBD connections for each disk.
const CONNECTIONS_PER_DISK: u32 = 2;

pub(super) async fn run(state: &OmaState, context: &StepContext) -> StepResult {
    output(&until_copied(state, context).await?)
}

/// Makes sure there is a run whose bytes are all durable here, and answers with it.
pub(super) async fn until_copied(state: &OmaState, context: &StepContext) -> Result<RunView, StepError> {
    let params: Params = context.params()?;
    set_status(state, &params, ReplicationStatus::Replicating, "copying").await?;
    store::vm_disks::begin_sync(state.store(), &params.vm_context_id, &params.job_id).await.map_err(failed)?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let request = start_request(state, context, &params, &vm).await?;
    let mut run = started(state, &vm, &request).await?;
    loop {
        note(state, context, &params, &run).await?;
        match run.phase {
            RunPhase::Copied => return Ok(run),
            RunPhase::Failed | RunPhase::Cancelled | RunPhase::Released => return Err(ended(run)),
            RunPhase::Preparing | RunPhase::Snapshotting | RunPhase::Copying | RunPhase::Flushing => {}
        }
        tokio::select! {
            () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        run = match agent(state, &vm).await?.run(&params.job_id).await {
            Ok(run) => run,
            // Killed and back: it forgot the run, so it begins again.
            Err(error) if error.kind() == FailureKind::NotFound => started(state, &vm, &request).await?,
            Err(ClientError::Transport(_)) => continue,
            Err(error) => return Err(failed(error)),
        };
    }
}

async fn started(state: &OmaState, vm: &VmContext, request: &StartRun) -> Result<RunView, StepError> {
    agent(state, vm).await?.start_run(request).await.map_err(failed)
}

/// The VM's agent, awaited while it is away; one that may not come back is not waited for.
async fn agent(state: &OmaState, vm: &VmContext) -> Result<VmaClient, StepError> {
    let Some(id) = &vm.enrollment_id else { return agent_of(state, vm).map_err(failed) };
    let given_up_at = Instant::now() + AGENT_AWAY_LIMIT;
    loop {
        match state.agents().client(id) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() >= given_up_at => return Err(failed(error)),
            Err(_) => refuse_revoked(state, id).await?,
        }
        // Whether it came is asked above.
        let _ = state.agents().wait_connected(id, AGENT_LOOK_INTERVAL).await;
    }
}

async fn refuse_revoked(state: &OmaState, enrollment_id: &str) -> Result<(), StepError> {
    let enrollment = store::vma_enrollments::by_id(state.store(), enrollment_id).await.map_err(failed)?;
    if *enrollment.status != EnrollmentStatus::Revoked {
        return Ok(());
    }
    Err(failed(OmaError::AgentRefused { enrollment_id: enrollment.id, refusal: Refusal::Revoked }))
}

async fn start_request(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    vm: &VmContext,
) -> Result<StartRun, StepError> {
    let plan = plan_of(context)?;
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let connection = vcenter::connection(state, vm.credential_id.as_deref()).await.map_err(failed)?;
    Ok(StartRun {
        job_id: params.job_id.clone(),
        moref: vm.vmware_moref.clone(),
        instance_uuid: vm.vmware_vm_id.clone(),
        vcenter: connection,
        quiesce: params.quiesce,
        connections_per_disk: CONNECTIONS_PER_DISK,
        disks: disks.into_iter().map(|disk| run_disk(&plan, params, disk)).collect(),
    })
}

fn run_disk(plan: &ReplicationPlan, params: &Params, disk: ProvisionedDisk) -> RunDisk {
    let planned = plan.disks.iter().find(|planned| planned.disk_id == disk.disk_id);
    let compares = plan.replication_type == ReplicationType::Compare;
    RunDisk {
        export_name: model::id::volume_export_name(&disk.volume_uuid),
        previous_change_id: planned.and_then(|planned| planned.previous_change_id.clone()),
        disk_id: disk.disk_id,
        disk_uuid: disk.disk_uuid,
        capacity_bytes: disk.capacity_bytes,
        reader: params.reader.clone().unwrap_or(ReaderSpec::Folder),
        change_source: if compares { ChangeSource::Compare } else { ChangeSource::Cbt },
    }
}

/// Writes down how far the run is: in the replication's row, the disks' rows and the job.
async fn note(state: &OmaState, context: &StepContext, params: &Params, run: &RunView) -> Result<(), StepError> {
    let sum = |of: fn(&api::vma::RunDiskView) -> u64| run.disks.iter().map(of).sum::<u64>();
    let (total, done) = (sum(|disk| disk.bytes_total), sum(|disk| disk.bytes_done));
    let fraction = share(done, total);
    context.progress(fraction);
    let progress = Progress {
        progress_percent: fraction * 80.0,
        current_operation: phase_text(run.phase).to_owned(),
        phase: phase_text(run.phase).to_owned(),
        sync_type: None,
        bytes_transferred: sum(|disk| disk.bytes_sent),
        total_bytes: total,
        speed_bps: sum(|disk| disk.speed_bps),
        eta_seconds: run.disks.iter().filter_map(|disk| disk.eta_seconds).max(),
        transfer_percent: fraction * 100.0,
        vm_snapshot: run.vm_snapshot.clone(),
    };
    let store = state.store();
    store::replication_jobs::set_progress(store, &params.job_id, &progress).await.map_err(failed)?;
    for disk in &run.disks {
        let percent = share(disk.bytes_done, disk.bytes_total) * 100.0;
        store::vm_disks::set_progress(store, &params.vm_context_id, &disk.disk_id, percent, disk.bytes_sent)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn share(done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) }
}

fn phase_text(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Preparing => "preparing the VM",
        RunPhase::Snapshotting => "taking the vm_snapshot",
        RunPhase::Copying => "copying",
        RunPhase::Flushing => "making it durable",
        RunPhase::Copied => "copied, to be verified",
        RunPhase::Released => "released",
        RunPhase::Failed => "failed",
        RunPhase::Cancelled => "cancelled",
    }
}

fn ended(run: RunView) -> StepError {
    match run.error {
        Some(problem) => step_failure(problem),
        None => StepError::new(FailureKind::Conflict, format!("the agent's run is {}", phase_text(run.phase))),
    }
}

/// Stops the run; the agent removes the vm_snapshot. An agent that no longer knows the run is told to clean the VM.
/// A revoked one cannot be told anything: it ends the run by itself when its NBD connections are cut.
pub(super) async fn undo(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let params: Params = context.params()?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let agent = match agent(state, &vm).await {
        Err(error) if error.kind == FailureKind::Forbidden => {
            tracing::warn!(vm = vm.vm_name, "{error}: look for vm_snapshots of ours that are left on the VM");
            return Ok(());
        }
        agent => agent?,
    };
    let outcome = agent.cancel_run(&params.job_id).await.map(|_| ());
    forgotten_or(state, &vm, &agent, outcome).await
}

/// Lets the run go after the commit: the agent removes the vm_snapshot.
pub(super) async fn release(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let params: Params = context.params()?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let agent = agent(state, &vm).await?;
    let outcome = agent.release_run(&params.job_id).await.map(|_| ());
    forgotten_or(state, &vm, &agent, outcome).await
}

async fn forgotten_or(
    state: &OmaState,
    vm: &VmContext,
    agent: &VmaClient,
    outcome: Result<(), ClientError>,
) -> Result<(), StepError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == FailureKind::NotFound => {
            let vcenter = vcenter::connection(state, vm.credential_id.as_deref()).await.map_err(failed)?;
            let removed = agent.remove_vm_snapshots(&vm.vmware_moref, &VmRequest { vcenter }).await;
            let removed = removed.map_err(failed)?;
            tracing::info!(?removed, vm = vm.vm_name, "removed the vm_snapshots of a run the agent had forgotten");
            Ok(())
        }
        Err(error) => Err(failed(error)),
    }
}
