//! The end of a replication: the commit of all change ids and certificates at once, or a row that says why there is none.

use api::oma::progress::Phase;
use api::oma::replications::PlannedDisk;
use api::vma::{RunDiskView, Stretch, SyncMode};
use joblog::{JobView, StepContext, StepError, StepResult, output};
use model::LEAF_SIZE_BYTES;
use model::status::{JobStatus, ReplicationStatus, ReplicationType};
use serde_json::json;
use store::commit::{Commit, CommittedDisk};
use store::disk_scrubs::Scrubbed;
use store::replication_jobs::Ending;
use time::OffsetDateTime;

use super::certify;
use super::proof::Proof;
use super::provision::ProvisionedDisk;
use super::saga::plan_of;
use super::{Params, shown};
use crate::digests;
use crate::error::OmaError;
use crate::failure::{defect, failed};
use crate::state::OmaState;

/// The one point of no return: change ids of all disks, history, certificates, statuses, in one transaction.
pub(super) async fn commit(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    shown::enter(state, context, &params, Phase::Committing).await?;
    let plan = plan_of(context)?;
    let proof: Proof = context.output("verify")?;
    let provisioned: Vec<ProvisionedDisk> = context.output("provision")?;
    let seconds = (OffsetDateTime::now_utc() - proof.run.started_at).whole_seconds();
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let disks = provisioned.iter().map(|disk| {
        let copied = proof.run.disks.iter().find(|copied| copied.disk_id == disk.disk_id);
        let copied = copied.ok_or_else(|| defect(format!("{} was not proven", disk.disk_id)))?;
        let planned = plan.disks.iter().find(|planned| planned.disk_id == disk.disk_id);
        Ok(CommittedDisk {
            disk_id: disk.disk_id.clone(),
            disk_uuid: disk.disk_uuid.clone(),
            capacity_bytes: disk.capacity_bytes,
            change_id: copied.change_id.clone(),
            previous_change_id: planned.and_then(|planned| planned.previous_change_id.clone()),
            sync_type: sync_type(copied)?,
            blocks_changed: (copied.bytes_sent + copied.bytes_zero).div_ceil(LEAF_SIZE_BYTES),
            bytes_transferred: copied.bytes_sent,
            sync_duration_seconds: u64::try_from(seconds).unwrap_or(0),
            certificate: certify::certificate(state, &vm, disk, copied, &proof.certified)?,
            scrub: scrubbed(copied, planned),
            journal: proof.point_of(&disk.disk_id),
        })
    });
    let disks = disks.collect::<Result<Vec<_>, StepError>>()?;
    let summary = json!({
        "operation": "replication",
        "job_id": params.job_id,
        "outcome": "completed",
        "quiesced": proof.run.quiesced,
        "bytes_sent": proof.run.disks.iter().map(|disk| disk.bytes_sent).sum::<u64>(),
        "leaves_verified": proof.disks.iter().map(|disk| disk.report.leaves_verified).sum::<u64>(),
    });
    let commit = Commit { job_id: params.job_id, disks, summary };
    store::commit::commit_replication(state.store(), &commit, Some(context.lease())).await.map_err(failed)?;
    output(&())
}

/// How far the source was read again; a run that read everything has nothing left to scrub.
fn scrubbed(copied: &RunDiskView, planned: Option<&PlannedDisk>) -> Option<Scrubbed> {
    if copied.sync_mode != Some(SyncMode::Incremental) {
        return Some(Scrubbed::Whole);
    }
    let planned = planned?;
    let Stretch { offset, length } = planned.scrub?;
    let position_bytes = offset.saturating_add(length);
    Some(Scrubbed::UpTo { position_bytes, is_end: position_bytes >= planned.capacity_bytes })
}

/// What a run really did, in the words of a replication.
pub(super) fn sync_type(disk: &RunDiskView) -> Result<ReplicationType, StepError> {
    match disk.sync_mode {
        Some(SyncMode::Full) => Ok(ReplicationType::Initial),
        Some(SyncMode::Incremental) => Ok(ReplicationType::Incremental),
        Some(SyncMode::Compare) => Ok(ReplicationType::Compare),
        None => Err(defect(format!("the agent does not say how it copied {}", disk.disk_id))),
    }
}

/// Called before the job's end is recorded: the domain's rows say the same.
pub(super) async fn finished(state: &OmaState, view: &JobView) -> Result<(), StepError> {
    let params: Params = view.params()?;
    record_outcome(state, view, &params).await?;
    // Counted once: whatever fails before is repeated.
    state.progress().ended(&params.job_id, view.outcome);
    Ok(())
}

async fn record_outcome(state: &OmaState, view: &JobView, params: &Params) -> Result<(), StepError> {
    if view.outcome != JobStatus::NeedsOperator {
        take_over_digests(state, &params.job_id).await;
    }
    match view.outcome {
        JobStatus::Completed | JobStatus::NeedsOperator => Ok(()),
        outcome => {
            let row = store::replication_jobs::by_id(state.store(), &params.job_id).await.map_err(failed)?;
            if *row.status == ReplicationStatus::Completed {
                // Given up while it cleaned up after its commit, which stands.
                return Ok(());
            }
            let cause = view.job.error.clone().unwrap_or_else(StepError::cancelled);
            let ended = record_end(state, &params.job_id, outcome == JobStatus::Cancelled, cause).await;
            ended.map_err(failed)
        }
    }
}

/// What the replication staged becomes the disks' digests if it was committed, and goes if it was not. It is no reason to
/// fail: the next replication does it before anything else.
pub(super) async fn take_over_digests(state: &OmaState, job_id: &str) {
    if let Err(error) = digests::settle_job(state, job_id).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the digests of this replication are settled later");
    }
}

/// Ends the replication's row without a commit; the VM and its disks say what that leaves.
pub(super) async fn record_end(
    state: &OmaState,
    job_id: &str,
    cancelled: bool,
    error: StepError,
) -> Result<(), OmaError> {
    store::replication_jobs::end(state.store(), job_id, &Ending { cancelled, error }).await?;
    Ok(())
}
