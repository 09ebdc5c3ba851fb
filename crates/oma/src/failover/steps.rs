//! The steps test and live failovers share, each undo beside its do. They look first and may be begun again anywhere.

use std::path::PathBuf;
use std::time::Duration;

use api::oma::failovers::SafetySnapshot;
use api::oma::probes::ProbeResult;
use api::volume::DiscardRoot;
use cloudstack::Trace;
use joblog::{Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{FailoverStatus, LinuxState, OperationMode};
use serde::{Deserialize, Serialize};
use store::failover_jobs::{self, Learnt};
use store::vm_disks;

use super::cloud::VmCloud;
use super::params::{Decided, Params};
use super::volumes::{self, Holder, Taken};
use super::{conversion, decide, gather, probe};
use crate::failure::{defect, failed, step_failure};
use crate::recovery_points;
use crate::replication::merged;
use crate::state::OmaState;

/// How long the conversion tool may say nothing.
const CONVERSION_SILENCE: Duration = Duration::from_secs(20 * 60);

/// See [`validate`].
pub(super) const VALIDATE: Step<OmaState> =
    Step::check("validate", |state, context| Box::pin(validate(state, context)));
/// See [`snapshot`].
pub(super) const SNAPSHOT: Step<OmaState> = Step::undoable(
    "snapshot",
    |state, context| Box::pin(snapshot(state, context)),
    |state, context| Box::pin(undo_snapshot(state, context)),
)
.with_weight(4);
/// See [`apply_point`].
pub(super) const APPLY: Step<OmaState> = Step::undoable(
    "apply_point",
    |state, context| Box::pin(apply_point(state, context)),
    |state, context| Box::pin(undo_apply_point(state, context)),
)
.with_weight(2);
/// See [`convert`].
pub(super) const CONVERT: Step<OmaState> = Step::undoable(
    "convert",
    |state, context| Box::pin(convert(state, context)),
    |state, context| Box::pin(undo_convert(state, context)),
)
.with_weight(4);
/// See [`create_vm`].
pub(super) const CREATE_VM: Step<OmaState> = Step::undoable(
    "create_vm",
    |state, context| Box::pin(create_vm(state, context)),
    |state, context| Box::pin(undo_create_vm(state, context)),
)
.with_weight(2);
/// See [`discard_root`]; undone with the VM.
pub(super) const DISCARD_ROOT: Step<OmaState> =
    Step::check("discard_root", |state, context| Box::pin(discard_root(state, context)));

/// Looks at everything again and decides the exact VM, or refuses with every reason at once.
async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    set_status(state, &params, FailoverStatus::Validating, "looking at everything").await?;
    let own = [params.job_id.as_str(), context.job_id()];
    let facts = gather::gather(state, &params.vm_context_id, &params.request, &own).await.map_err(failed)?;
    let decision = decide::decide(&facts, &params.request, &params.identity());
    for warning in &decision.warnings {
        tracing::warn!("{warning}");
    }
    let name = facts.vm.name.clone();
    match (merged(&name, decision.blockers), decision.vm) {
        (Some(problem), _) => Err(step_failure(problem)),
        (None, None) => Err(defect(format!("nothing stands against {name} and yet there is no VM to make"))),
        (None, Some(vm)) => {
            let spec = serde_json::to_value(&vm).map_err(|error| defect(error.to_string()))?;
            let nics = serde_json::to_value(&vm.nics).map_err(|error| defect(error.to_string()))?;
            let learnt = Learnt {
                source_vm_spec: Some(spec),
                network_mappings: Some(nics),
                destination_vm_name: Some(vm.name.clone()),
                ..Learnt::default()
            };
            failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
            output(&Decided {
                vm,
                converts: decision.conversion.converts,
                conversion_reason: decision.conversion.reason,
            })
        }
    }
}

/// Takes the safety snapshots.
async fn snapshot(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    set_status(state, &params, FailoverStatus::Snapshotting, "taking the safety snapshots").await?;
    recovery_points::settled(state, &volumes::uuids(&decided.vm)).await?;
    output(&volumes::snapshotted(state, context, &params, &decided.vm).await?)
}

/// Deletes the safety snapshots.
async fn undo_snapshot(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    volumes::untaken(state, context, &context.params()?).await
}

/// What of the recovery points went into the volumes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Applied {
    /// Whether any may have been written.
    begun: bool,
}

/// Makes the volumes hold the point the VM begins at. Its increments stay beside them, so that the snapshots bring back
/// what was.
async fn apply_point(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    let point = params.request.point.as_deref();
    let to_apply = recovery_points::to_apply(state, &params.vm_context_id, point).await?;
    if to_apply.is_empty() {
        return output(&Applied::default());
    }
    context.checkpoint(&Applied { begun: true }).await?;
    for disk in &decided.vm.disks {
        // An older point than the newest is no base for an increment.
        vm_disks::distrust_volume(state.store(), &disk.volume_uuid).await.map_err(failed)?;
    }
    recovery_points::apply(state, &to_apply).await?;
    output(&Applied { begun: true })
}

/// Takes the points out of the volumes again. When those went to the new VM afterwards, undoing that has reverted them.
async fn undo_apply_point(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let begun = context.own_output::<Applied>()?.is_some_and(|applied| applied.begun);
    let was_handed_over = context.output_if_any::<Handed>("attach")?.is_some();
    if !begun || was_handed_over {
        return Ok(());
    }
    put_back_here(state, context, &snapshots(context)?).await
}

/// Forgets the recovery points of volumes that have become another VM's.
pub(super) async fn discard_points(state: &OmaState, context: &StepContext) -> StepResult {
    recovery_points::discard(state, &volumes::uuids(&decided(context)?.vm)).await?;
    output(&())
}

/// What the conversion did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Converted {
    /// Whether the tool may have written to the volumes.
    begun: bool,
}

/// Adapts the guest's drivers on the volumes while the hub holds them. A repeat begins from the snapshots again: half a
/// conversion is no base for another.
async fn convert(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    if !decided.converts {
        tracing::info!("no conversion: {}", decided.conversion_reason);
        return output(&Converted::default());
    }
    let taken = snapshots(context)?;
    if context.own_output::<Converted>()?.is_some_and(|earlier| earlier.begun) {
        put_back_here(state, context, &taken).await?;
        let to_apply = recovery_points::to_apply(state, &params.vm_context_id, params.request.point.as_deref()).await?;
        recovery_points::apply(state, &to_apply).await?;
    }
    context.checkpoint(&Converted { begun: true }).await?;
    let mut disks: Vec<PathBuf> = Vec::new();
    for disk in &decided.vm.disks {
        let device = state.volumes().device(&disk.volume_uuid).await.map_err(failed)?;
        let here = device.operation_mode == OperationMode::Oma && device.linux_state == LinuxState::Present;
        let path = device.device_path.filter(|_| here).ok_or_else(|| {
            StepError::new(FailureKind::Conflict, format!("the replica of {} has no device on this hub", disk.disk_id))
                .remedy("attach it to the hub's VM: migratekit replicate does")
        })?;
        // What is converted is not what was committed.
        vm_disks::distrust_volume(state.store(), &disk.volume_uuid).await.map_err(failed)?;
        disks.push(path.into());
    }
    let tool = conversion::find_tool().ok_or_else(|| {
        StepError::new(FailureKind::Conflict, "virt-v2v-in-place is not installed").remedy(conversion::INSTALL)
    })?;
    tracing::info!("converting the guest: {}", decided.conversion_reason);
    let (firmware, cancellation) = (decided.vm.firmware, context.cancellation());
    let report = conversion::run(&tool, &disks, firmware, CONVERSION_SILENCE, cancellation, |_| {}).await;
    let report = report.map_err(|error| {
        let failure = StepError::from_error(error.kind(), &error);
        match error.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    })?;
    for warning in &report.warnings {
        tracing::warn!("the conversion warns: {warning}");
    }
    tracing::info!(lines = report.lines, seconds = report.seconds, "converted the guest");
    let learnt = Learnt { guest_conversion: Some(true), ..Learnt::default() };
    failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
    output(&Converted { begun: true })
}

/// Takes a conversion back. When the volumes went to the new VM afterwards, undoing that has reverted them already.
async fn undo_convert(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let begun = context.own_output::<Converted>()?.is_some_and(|converted| converted.begun);
    let was_handed_over = context.output_if_any::<Handed>("attach")?.is_some();
    if !begun || was_handed_over {
        return Ok(());
    }
    let taken = snapshots(context)?;
    put_back_here(state, context, &taken).await
}

/// Reverts volumes the hub holds: detached, reverted, attached again.
async fn put_back_here(state: &OmaState, context: &StepContext, taken: &[SafetySnapshot]) -> Result<(), StepError> {
    let uuids: Vec<String> = taken.iter().map(|snapshot| snapshot.volume_uuid.clone()).collect();
    recovery_points::settled(state, &uuids).await?;
    volumes::detached(state, context, &uuids, Holder::Hub).await?;
    volumes::reverted(state, context, taken).await?;
    volumes::trusted_again(state, taken).await?;
    volumes::reattached(state, context, &uuids).await
}

/// The VM that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) vm_id: String,
    #[serde(flatten)]
    trace: Trace,
}

/// Makes the VM, stopped, with our tags.
async fn create_vm(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    set_status(state, &params, FailoverStatus::CreatingVm, "making the VM").await?;
    let cloud = VmCloud::of(state, &params.vm_context_id).await?;
    let (vm, trace) = cloud.deployed(context, &decided.vm).await?;
    let learnt = Learnt { destination_vm_id: Some(vm.id.clone()), ..Learnt::default() };
    failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
    cloud.tagged(&vm, &params.job_id).await.map_err(failed)?;
    tracing::info!(vm_id = vm.id, name = vm.name, "made the VM");
    output(&Made { vm_id: vm.id, trace })
}

/// Destroys the VM, if there is one.
async fn undo_create_vm(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    let trace: Trace = context.own_output()?.unwrap_or_default();
    if !trace.submitted {
        return Ok(());
    }
    let cloud = VmCloud::of(state, &params.vm_context_id).await?;
    cloud.settled(&trace).await.map_err(failed)?;
    let Some(vm) = cloud.surely_made(&decided.vm, &trace).await.map_err(failed)? else { return Ok(()) };
    cloud.stopped(&vm.id, true).await.map_err(failed)?;
    cloud.destroyed(&vm.id).await.map_err(failed)?;
    tracing::info!(vm_id = vm.id, "destroyed the VM");
    Ok(())
}

/// Throws the template's root disk away: the replica takes its place.
async fn discard_root(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, made) = (context.params::<Params>()?, made(context)?);
    let key = format!("{}:{}:{}:discard-root", context.job_id(), context.step_name(), context.attempt());
    let proof =
        DiscardRoot { vm_context_id: Some(params.vm_context_id), job_id: Some(params.job_id), ossea_config_id: None };
    let (vm_id, proof) = (&made.vm_id, &proof);
    crate::operations::until_done(
        state,
        &key,
        |key| async move { state.volumes().discard_root(vm_id, proof, &key).await },
    )
    .await?;
    output(&())
}

/// Takes the replica volumes from the hub's VM.
pub(super) async fn detach(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, decided) = (context.params::<Params>()?, decided(context)?);
    set_status(state, &params, FailoverStatus::SwitchingVolume, "taking the volumes from the hub's VM").await?;
    for disk in &decided.vm.disks {
        // Connections that are still open would hold the device.
        let export = model::id::volume_export_name(&disk.volume_uuid);
        match state.gateway().close(&export).await {
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    volumes::detached(state, context, &volumes::uuids(&decided.vm), Holder::Hub).await?;
    output(&())
}

/// Gives the volumes back to the hub's VM.
pub(super) async fn undo_detach(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let decided = decided(context)?;
    volumes::reattached(state, context, &volumes::uuids(&decided.vm)).await
}

/// That the volumes went, or began to go, to the new VM.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Handed {}

/// Gives the volumes to the new VM: root first, then the data disks in the source's order.
pub(super) async fn attach(state: &OmaState, context: &StepContext) -> StepResult {
    let (decided, made) = (decided(context)?, made(context)?);
    context.checkpoint(&Handed {}).await?;
    volumes::attached(state, context, &decided.vm, &made.vm_id).await?;
    output(&Handed {})
}

/// Takes the volumes from the new VM and reverts them: whatever it wrote is gone.
pub(super) async fn undo_attach(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    if context.own_output::<Handed>()?.is_none() {
        return Ok(());
    }
    let (decided, made) = (decided(context)?, made(context)?);
    let taken = snapshots(context)?;
    volumes::detached(state, context, &volumes::uuids(&decided.vm), Holder::Vm(&made.vm_id)).await?;
    volumes::reverted(state, context, &taken).await?;
    volumes::trusted_again(state, &taken).await
}

/// Starts the VM.
pub(super) async fn power_on(state: &OmaState, context: &StepContext) -> StepResult {
    let (params, made) = (context.params::<Params>()?, made(context)?);
    set_status(state, &params, FailoverStatus::PoweringOn, "starting the VM").await?;
    let cloud = VmCloud::of(state, &params.vm_context_id).await?;
    let vm = cloud.started(context, &made.vm_id).await?;
    tracing::info!(vm_id = vm.id, "the VM runs");
    let address = vm.nics.iter().find(|nic| nic.is_default).or(vm.nics.first());
    output(&Running { address: address.and_then(|nic| nic.ip_address.clone()) })
}

/// A VM that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Running {
    /// The address of its default card, where the network gives one.
    address: Option<String>,
}

/// Stops the VM.
pub(super) async fn undo_power_on(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let (params, made) = (context.params::<Params>()?, made(context)?);
    let cloud = VmCloud::of(state, &params.vm_context_id).await?;
    cloud.stopped(&made.vm_id, true).await.map_err(failed)
}

/// Tries the health probes. What they find is recorded and never fails the failover: an operator wants to look at a
/// VM that does not answer, not to see it vanish.
pub(super) async fn probes(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let running: Running = context.output("power_on")?;
    let address = running.address.and_then(|text| text.parse().ok());
    let deadline = Duration::from_secs(params.probe_seconds().into());
    let results = probe::run(&params.request.probes, address, deadline, context.cancellation()).await;
    context.check_cancelled()?;
    for result in results.iter().filter(|result| !result.passed) {
        tracing::warn!(probe = %result.probe, "the probe did not pass: {}", result.message);
    }
    let probe_results = serde_json::to_value(&results).map_err(|error| defect(error.to_string()))?;
    let learnt = Learnt { probe_results: Some(probe_results), ..Learnt::default() };
    failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
    output::<Vec<ProbeResult>>(&results)
}

/// Moves the failover's row and says what is being done.
pub(super) async fn set_status(
    state: &OmaState,
    params: &Params,
    to: FailoverStatus,
    doing: &str,
) -> Result<(), StepError> {
    failover_jobs::set_status(state.store(), &params.job_id, to, doing).await.map_err(failed)
}

/// What the first step decided.
pub(super) fn decided(context: &StepContext) -> Result<Decided, StepError> {
    context.output("validate")
}

/// The safety snapshots that were taken.
fn snapshots(context: &StepContext) -> Result<Vec<SafetySnapshot>, StepError> {
    Ok(context.output::<Taken>("snapshot")?.snapshots)
}

/// The VM that was made.
pub(super) fn made(context: &StepContext) -> Result<Made, StepError> {
    context.output("create_vm")
}
