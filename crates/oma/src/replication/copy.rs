//! The sync itself: the agent is told to run, watched until everything is durable here, and let go after the commit.
//!
//! A run belongs to one vm_snapshot. When the agent no longer knows the run (it was killed), it is asked again for the same:
//! the agent goes on in the vm_snapshot if it is still there, and starts anew from the last committed change ids, which
//! cover everything, if not. Where they do not (a comparison that was written in place), they are forgotten. Before anything
//! begins, whatever an earlier run still has under way is cut off and awaited: two runs never write into one replica.

use std::time::{Duration, Instant};

use api::ClientError;
use api::oma::replications::{PlannedDisk, ReplicationPlan};
use api::vma::{ReaderSpec, RunDisk, RunDiskView, RunPhase, RunView, StartRun, SyncMode, VmRequest, VmaClient};
use joblog::{StepContext, StepError, StepResult, output};
use model::status::{ChangeSource, EnrollmentStatus, ReplicationStatus, ReplicationType};
use model::{FailureKind, Lineage};
use store::disk_scrubs;
use store::vm_disks::VmDisk;
use store::vm_replication_contexts::VmContext;
use tunnel::Refusal;

use super::Params;
use super::facts::agent_of;
use super::limits::{Told, limits_of};
use super::provision::ProvisionedDisk;
use super::saga::{SYNC_STEP, plan_of, set_status};
use super::shown::{name_of, share, write_down};
use crate::error::OmaError;
use crate::failure::{failed, step_failure};
use crate::inventory::vcenter;
use crate::progress::DiskWork;
use crate::state::OmaState;

/// How often the agent is asked how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long an agent may be away (restart, lost link) before the step counts as failed for now.
const AGENT_AWAY_LIMIT: Duration = Duration::from_secs(120);
/// The same while a run goes on: what is copied is kept, so a restart of its machine is waited for, as long as the agent
/// waits for the hub.
const COPYING_AGENT_AWAY_LIMIT: Duration = Duration::from_secs(30 * 60);
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
    let mut run = started(state, context, &params, &vm).await?;
    let mut told = Told::default();
    loop {
        distrust_bases(state, context, &run).await?;
        note(state, context, &params, &vm, &run).await?;
        match run.phase {
            RunPhase::Copied => return Ok(run),
            RunPhase::Failed | RunPhase::Cancelled | RunPhase::Released => return Err(ended(run)),
            RunPhase::Preparing | RunPhase::Snapshotting | RunPhase::Copying | RunPhase::Flushing => {}
        }
        tokio::select! {
            () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let agent = copying_agent(state, context, &vm).await?;
        told.keep_current(state, &agent, &params, &vm).await?;
        run = match agent.run(&params.job_id).await {
            Ok(run) => run,
            // Killed and back: it forgot the run, and goes on with it when asked again.
            Err(error) if error.kind() == FailureKind::NotFound => started(state, context, &params, &vm).await?,
            Err(ClientError::Transport(_)) => continue,
            Err(error) => return Err(failed(error)),
        };
    }
}

/// The run that is under way or copied, or a new one.
async fn started(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    vm: &VmContext,
) -> Result<RunView, StepError> {
    let agent = copying_agent(state, context, vm).await?;
    match agent.run(&params.job_id).await {
        Ok(run) if !has_ended(run.phase) => return Ok(run),
        // It may have written while nobody looked.
        Ok(ended) => distrust_bases(state, context, &ended).await?,
        Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
        Err(_forgotten) => {}
    }
    let request = start_request(state, context, params, vm).await?;
    for disk in &request.disks {
        // What a killed or lost agent sent before may still be on its way to the device.
        state.gateway().close(&disk.export_name).await.map_err(failed)?;
    }
    agent.start_run(&request).await.map_err(failed)
}

fn has_ended(phase: RunPhase) -> bool {
    matches!(phase, RunPhase::Failed | RunPhase::Cancelled | RunPhase::Released)
}

/// Forgets commits that are no base for an increment any more, even if this run comes to nothing.
async fn distrust_bases(state: &OmaState, context: &StepContext, run: &RunView) -> Result<(), StepError> {
    let params: Params = context.params()?;
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let journaled = store::nbd_exports::journaled(state.store(), &params.job_id).await.map_err(failed)?;
    for planned in plan_of(context)?.disks {
        let Some(now) = run.disks.iter().find(|disk| disk.disk_id == planned.disk_id) else { continue };
        let is_journaled =
            disks.iter().any(|disk| disk.disk_id == planned.disk_id && journaled.contains(&disk.vm_disk_id));
        if is_reverted(&planned, now) || (!is_journaled && writes_beyond_tracking(now)) {
            let disk = &planned.disk_id;
            store::vm_disks::distrust(state.store(), &params.vm_context_id, disk).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether the VM was reverted to before the last commit: its counter grows past that again.
fn is_reverted(planned: &PlannedDisk, now: &RunDiskView) -> bool {
    let (Some(now), Some(committed)) = (&now.change_id, &planned.previous_change_id) else { return false };
    committed.lineage(now) == Lineage::Reverted
}

/// Whether what is written into the volume may be more than change tracking names: an increment over it would leave that
/// unread.
fn writes_beyond_tracking(disk: &RunDiskView) -> bool {
    matches!(disk.sync_mode, Some(SyncMode::Full | SyncMode::Compare))
}

/// The agent of a run that goes on, until it is back or somebody cancels.
async fn copying_agent(state: &OmaState, context: &StepContext, vm: &VmContext) -> Result<VmaClient, StepError> {
    tokio::select! {
        () = context.cancellation().cancelled() => Err(StepError::cancelled()),
        agent = awaited_agent(state, vm, COPYING_AGENT_AWAY_LIMIT) => agent,
    }
}

async fn agent(state: &OmaState, vm: &VmContext) -> Result<VmaClient, StepError> {
    awaited_agent(state, vm, AGENT_AWAY_LIMIT).await
}

/// The VM's agent, awaited while it is away; one that may not come back is not waited for.
async fn awaited_agent(state: &OmaState, vm: &VmContext, limit: Duration) -> Result<VmaClient, StepError> {
    let Some(id) = &vm.enrollment_id else { return agent_of(state, vm).map_err(failed) };
    let given_up_at = Instant::now() + limit;
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
    let rows = store::vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let connection = vcenter::connection(state, vm.credential_id.as_deref()).await.map_err(failed)?;
    let mut wanted = Vec::with_capacity(disks.len());
    for disk in disks {
        let row = rows.iter().find(|row| row.disk_id == disk.disk_id);
        let scrub = disk_scrubs::of_disk(state.store(), &disk.vm_disk_id).await.map_err(failed)?;
        let is_distrusted = scrub.is_some_and(|scrub| scrub.distrusted_at.is_some());
        wanted.push(run_disk(&plan, row, is_distrusted, disk));
    }
    Ok(StartRun {
        job_id: params.job_id.clone(),
        moref: vm.vmware_moref.clone(),
        instance_uuid: vm.vmware_vm_id.clone(),
        vcenter: connection,
        quiesce: params.quiesce,
        connections_per_disk: CONNECTIONS_PER_DISK,
        disks: wanted,
        compression: params.compression,
        limits: limits_of(state, params, vm).await?,
    })
}

fn run_disk(plan: &ReplicationPlan, row: Option<&VmDisk>, is_distrusted: bool, disk: ProvisionedDisk) -> RunDisk {
    let planned = plan.disks.iter().find(|planned| planned.disk_id == disk.disk_id);
    // What was planned from counts only while the disk's row still says so: it may have been distrusted since.
    let trusted = row.and_then(|row| row.disk_change_id.as_ref()).map(|id| &id.0);
    let compares = plan.replication_type == ReplicationType::Compare || is_distrusted;
    RunDisk {
        export_name: model::id::volume_export_name(&disk.volume_uuid),
        scrub: planned.and_then(|planned| planned.scrub),
        previous_change_id: planned
            .and_then(|planned| planned.previous_change_id.clone())
            .filter(|planned| Some(planned) == trusted),
        disk_id: disk.disk_id,
        disk_uuid: disk.disk_uuid,
        capacity_bytes: disk.capacity_bytes,
        reader: planned.and_then(|planned| planned.reader.clone()).unwrap_or(ReaderSpec::Folder),
        reader_reason: planned.and_then(|planned| planned.reader_reason.clone()),
        change_source: if compares { ChangeSource::Compare } else { ChangeSource::Cbt },
    }
}

/// Writes down how far the run is: on the board, in the replication's row, the disks' rows and the job.
async fn note(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    vm: &VmContext,
    run: &RunView,
) -> Result<(), StepError> {
    let sum = |of: fn(&RunDiskView) -> u64| run.disks.iter().map(of).sum::<u64>();
    // In a later step that had to copy again this is not what the step is about.
    let is_own = context.step_name() == SYNC_STEP;
    let fraction = if is_own { share(sum(|disk| disk.bytes_done), sum(|disk| disk.bytes_total)) } else { 0.0 };
    let percent = context.progress(fraction);
    let work = device_work(state, context).await;
    let seen = state.progress().copied(&name_of(context, params, vm), run, &work, percent);
    write_down(state, params, run, &seen, &operation_text(run)).await?;
    for disk in &run.disks {
        let percent = share(disk.bytes_done, disk.bytes_total) * 100.0;
        store::vm_disks::set_progress(state.store(), &params.vm_context_id, &disk.disk_id, percent, disk.bytes_sent)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// How long the devices behind the run's exports have worked. It is only shown: a gateway that does not answer is left
/// out.
async fn device_work(state: &OmaState, context: &StepContext) -> DiskWork {
    let mut work = DiskWork::new();
    let disks: Vec<ProvisionedDisk> = context.output("provision").unwrap_or_default();
    for disk in disks {
        let export = model::id::volume_export_name(&disk.volume_uuid);
        match state.gateway().export_work(&export).await {
            Ok(done) => drop(work.insert(disk.disk_id, done)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the gateway does not say what it does");
                break;
            }
        }
    }
    work
}

/// What goes on, for people: an interruption is said while it lasts, and what it cost afterwards.
fn operation_text(run: &RunView) -> String {
    match run.phase {
        RunPhase::Copying | RunPhase::Flushing if run.waiting_for_hub => {
            "interrupted: the agent cannot reach the gateway yet".to_owned()
        }
        RunPhase::Copying if run.resumed > 0 => {
            format!("copying, resumed after an interruption, {} MiB kept", run.bytes_kept >> 20)
        }
        phase => phase_text(phase).to_owned(),
    }
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
    let outcome = match agent.cancel_run(&params.job_id).await {
        Ok(run) => {
            distrust_bases(state, context, &run).await?;
            Ok(())
        }
        Err(error) => Err(error),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_is_said_while_it_lasts_and_what_it_cost_afterwards() {
        let mut run = RunView {
            job_id: "job-1".to_owned(),
            phase: RunPhase::Copying,
            vm_snapshot: None,
            quiesced: false,
            disks: Vec::new(),
            error: None,
            resumed: 0,
            bytes_kept: 0,
            waiting_for_hub: false,
            started_at: time::OffsetDateTime::UNIX_EPOCH,
            ended_at: None,
        };
        assert_eq!(operation_text(&run), "copying");
        run.waiting_for_hub = true;
        assert!(operation_text(&run).starts_with("interrupted"));
        (run.waiting_for_hub, run.resumed, run.bytes_kept) = (false, 1, 96 << 20);
        assert_eq!(operation_text(&run), "copying, resumed after an interruption, 96 MiB kept");
        run.phase = RunPhase::Flushing;
        assert_eq!(operation_text(&run), "making it durable");
    }
}
