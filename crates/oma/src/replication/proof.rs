//! Proof before commit: the gateway re-reads what was written and compares it with the digests of the source.

use api::gateway::{Coverage, VerifyQuery};
use api::oma::replications::DiskVerification;
use api::vma::{RunDiskView, RunView, SyncMode};
use joblog::{StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::ReplicationStatus;
use serde::{Deserialize, Serialize};

use super::Params;
use super::copy::until_copied;
use super::facts::agent_of;
use super::provision::ProvisionedDisk;
use super::saga::set_status;
use crate::failure::{defect, failed};
use crate::state::OmaState;

/// What was proven: the run as it was copied, and the gateway's report of each disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) run: RunView,
    pub(super) disks: Vec<DiskVerification>,
}

pub(super) async fn run(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    // The agent may have been restarted since: then the copy is repeated, and with it what is to be proven.
    let run = until_copied(state, context).await?;
    set_status(state, &params, ReplicationStatus::Finalizing, "verifying").await?;
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let mut proven = Vec::with_capacity(disks.len());
    for disk in &disks {
        context.check_cancelled()?;
        let copied = run.disks.iter().find(|copied| copied.disk_id == disk.disk_id);
        let copied = copied.ok_or_else(|| defect(format!("{} was not copied", disk.disk_id)))?;
        let agent = agent_of(state, &vm).map_err(failed)?;
        let digests = agent.digests(&params.job_id, &disk.disk_id).await.map_err(repeatable)?;
        let query = VerifyQuery { capacity_bytes: disk.capacity_bytes, coverage: coverage(copied)? };
        let export = model::id::volume_export_name(&disk.volume_uuid);
        let report = state.gateway().verify(&export, query, digests).await.map_err(failed)?;
        let verification = DiskVerification { disk_id: disk.disk_id.clone(), report };
        equal(&verification)?;
        tracing::info!(
            disk = disk.disk_id,
            leaves = verification.report.leaves_verified,
            "source and replica are equal"
        );
        proven.push(verification);
    }
    output(&Proof { run, disks: proven })
}

/// A run the agent has forgotten meanwhile is not the end: the step is repeated and copies again.
fn repeatable(error: api::ClientError) -> StepError {
    let mut failure = failed(error);
    if failure.kind == FailureKind::NotFound {
        failure.kind = FailureKind::Unavailable;
    }
    failure
}

fn coverage(disk: &RunDiskView) -> Result<Coverage, StepError> {
    match disk.sync_mode {
        Some(SyncMode::Full | SyncMode::Compare) => Ok(Coverage::Full),
        Some(SyncMode::Incremental) => Ok(Coverage::Named),
        None => Err(defect(format!("the agent does not say how it copied {}", disk.disk_id))),
    }
}

fn equal(verification: &DiskVerification) -> Result<(), StepError> {
    let report = &verification.report;
    let Some(first) = report.mismatches.first() else { return Ok(()) };
    let offset = first.leaf * model::LEAF_SIZE_BYTES;
    let message = format!(
        "{} of {} leaves of {} differ between source and replica, the first at byte {offset}",
        report.mismatch_count, report.leaves_verified, verification.disk_id
    );
    let detail = serde_json::json!({ "disk_id": verification.disk_id, "report": report });
    Err(StepError::new(FailureKind::Internal, message)
        .detail(detail)
        .remedy("nothing was committed; check the storage behind the volume, then replicate with --type compare"))
}
