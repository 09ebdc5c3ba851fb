//! The steps of a replication, each with its undo beside it. Volumes are never deleted by an undo: an incomplete
//! replica stays, marked as such, and the next run uses it again.

use api::oma::progress::Phase;
use api::oma::replications::ReplicationPlan;
use api::volume::VolumeExportView;
use futures::future::BoxFuture;
use joblog::{RetryPolicy, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{DiskSyncStatus, ReplicationStatus, ReplicationType};
use store::vm_disks::VmDisk;

use super::facts::{AskSource, gather};
use super::provision::ProvisionedDisk;
use super::{Params, Wanted, copy, finish, merged, plan, proof, provision, shown};
use crate::failure::{failed, step_failure};
use crate::recovery_points;
use crate::state::OmaState;

/// Share of the whole, where the other steps have 1: what is copied is re-read, and bytes are the work.
const COPY_WEIGHT: u32 = 50;
/// See [`COPY_WEIGHT`].
const PROOF_WEIGHT: u32 = COPY_WEIGHT;
/// The step that copies.
pub(super) const SYNC_STEP: &str = "sync";

/// The saga.
pub static REPLICATION: Saga<OmaState> = Saga {
    job_type: "replication",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate(state, context))),
        // Volumes stay whatever happens: they are reused by the next run.
        Step::check("provision", |state, context| Box::pin(provision::run(state, context))),
        Step::undoable(
            "export",
            |state, context| Box::pin(export(state, context)),
            |state, context| Box::pin(close_exports(state, context)),
        ),
        Step::undoable(
            SYNC_STEP,
            |state, context| Box::pin(copy::run(state, context)),
            |state, context| Box::pin(copy::undo(state, context)),
        )
        .with_weight(COPY_WEIGHT)
        .with_retry(RetryPolicy::PATIENT),
        Step::check("verify", |state, context| Box::pin(proof::run(state, context))).with_weight(PROOF_WEIGHT),
        Step::pivot("commit", |state, context| Box::pin(finish::commit(state, context))),
        Step::retried("release", |state, context| Box::pin(release(state, context))),
    ],
    finished: |state, view| -> BoxFuture<'_, Result<(), StepError>> { Box::pin(finish::finished(state, view)) },
};

/// Looks again at everything, the source included, and refuses with every reason at once.
async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    set_status(state, &params, ReplicationStatus::Initializing, "looking at the VM").await?;
    shown::enter(state, context, &params, Phase::Preparing).await?;
    let ask = AskSource::Always;
    let facts = gather(state, &params.vm_context_id, &params.own_jobs(), ask).await.map_err(failed)?;
    let wanted = Wanted { replication_type: params.requested, scrub: params.scrub };
    let plan = plan::plan(&facts, &wanted, params.reader.as_ref());
    for disk in &plan.disks {
        let reader = disk.reader.as_ref().map(|reader| reader.kind().to_string());
        tracing::info!(
            disk_id = disk.disk_id,
            reader,
            why = disk.reader_reason,
            change_source = disk.reason,
            "planned"
        );
    }
    match merged(&facts.vm_name, plan.blockers.clone()) {
        Some(problem) => Err(step_failure(problem)),
        None => output(&plan),
    }
}

/// Makes one export for each disk; only the VM's agent may open them.
async fn export(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let rows = store::vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let plan = plan_of(context)?;
    let journaled: Vec<bool> = disks
        .iter()
        .map(|disk| rows.iter().find(|row| row.id == disk.vm_disk_id))
        .map(|row| !params.in_place && row.is_some_and(|row| goes_to_a_journal(row, &plan)))
        .collect();
    if journaled.contains(&false) {
        give_points_up(state, &plan, disks.iter().zip(&journaled)).await?;
    }
    let mut exports: Vec<VolumeExportView> = Vec::with_capacity(disks.len());
    for (disk, journal) in disks.into_iter().zip(journaled) {
        let request = api::volume::CreateExport {
            vm_context_id: params.vm_context_id.clone(),
            job_id: Some(params.job_id.clone()),
            vm_disk_id: disk.vm_disk_id,
            volume_uuid: disk.volume_uuid,
            kind: model::status::ExportKind::Volume,
            enrollment_id: vm.enrollment_id.clone(),
            read_only: false,
            disk_uuid: disk.disk_uuid,
            capacity_bytes: disk.capacity_bytes,
            journal,
        };
        let export = state.volumes().create_export(&request).await.map_err(failed)?;
        store::replication_jobs::set_export(
            state.store(),
            &params.job_id,
            &export.export_name,
            Some(&disk.device_path),
        )
        .await
        .map_err(failed)?;
        exports.push(export);
    }
    output(&exports)
}

/// Whether what is written is kept beside the volume until the commit: a replica that was committed and not touched since
/// stays what it is, unless all of it is written anew.
fn goes_to_a_journal(row: &VmDisk, plan: &ReplicationPlan) -> bool {
    let planned = plan.disks.iter().find(|planned| planned.disk_id == row.disk_id);
    let is_increment = planned.is_some_and(|planned| planned.previous_change_id.is_some());
    let writes_little = is_increment || plan.replication_type == ReplicationType::Compare;
    writes_little && *row.sync_status == DiskSyncStatus::Completed
}

/// Recovery points are of all disks of the VM: when one of them is written in place, there is no way back before it. What an
/// increment builds upon goes into the volume; what is written anew or compared lies on nothing that was kept.
async fn give_points_up(
    state: &OmaState,
    plan: &ReplicationPlan,
    disks: impl Iterator<Item = (&ProvisionedDisk, &bool)>,
) -> Result<(), StepError> {
    for (disk, &journal) in disks {
        let planned = plan.disks.iter().find(|planned| planned.disk_id == disk.disk_id);
        let is_increment = plan.replication_type == ReplicationType::Incremental
            && planned.is_some_and(|planned| planned.previous_change_id.is_some());
        if journal || is_increment {
            recovery_points::merge_all(state, &disk.volume_uuid).await?;
        } else {
            recovery_points::discard(state, std::slice::from_ref(&disk.volume_uuid)).await?;
        }
    }
    Ok(())
}

async fn close_exports(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let params: Params = context.params()?;
    let disks: Vec<ProvisionedDisk> = context.output_if_any("provision")?.unwrap_or_default();
    for disk in disks {
        let name = model::id::volume_export_name(&disk.volume_uuid);
        if belongs_to_another_job(state, &name, &params.job_id).await? {
            continue;
        }
        match state.volumes().close_export(&name).await {
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // Connections that are still open would go on writing.
        match state.gateway().close(&name).await {
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        // What was committed is left alone.
        state.gateway().forget(&name, &params.job_id).await.map_err(failed)?;
    }
    Ok(())
}

/// Whether a later replication has opened the export for itself: a late release must not disturb it.
async fn belongs_to_another_job(state: &OmaState, export_name: &str, job_id: &str) -> Result<bool, StepError> {
    match store::nbd_exports::by_name(state.store(), export_name).await {
        Ok(export) => Ok(export.job_id.is_some_and(|owner| owner != job_id)),
        Err(error) if error.kind() == FailureKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// After the commit: the proven digests are taken over, the vm_snapshot goes, the exports close, and what is not to be kept
/// beside the volumes is merged into them.
async fn release(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    shown::enter(state, context, &params, Phase::Releasing).await?;
    finish::take_over_digests(state, &params.job_id).await;
    copy::release(state, context).await?;
    close_exports(state, context).await?;
    let disks: Vec<ProvisionedDisk> = context.output_if_any("provision")?.unwrap_or_default();
    let volumes: Vec<String> = disks.into_iter().map(|disk| disk.volume_uuid).collect();
    recovery_points::settle(state, &params.vm_context_id, &volumes).await?;
    output(&())
}

/// Moves the replication's row; also says what is being done.
pub(super) async fn set_status(
    state: &OmaState,
    params: &Params,
    to: ReplicationStatus,
    doing: &str,
) -> Result<(), StepError> {
    store::replication_jobs::set_status(state.store(), &params.job_id, to, doing).await.map_err(failed)
}

/// The plan the first step made.
pub(super) fn plan_of(context: &StepContext) -> Result<ReplicationPlan, StepError> {
    context.output("validate")
}
