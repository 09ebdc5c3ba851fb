//! Proof before commit: the gateway re-reads what was written and compares it with the digests of the source, which are
//! staged as they pass. What they make of the disk's root is what the commit certifies.

use api::gateway::{Coverage, VerifyQuery};
use api::oma::progress::JobProgress;
use api::oma::replications::DiskVerification;
use api::vma::{RunDiskView, RunView, SyncMode};
use joblog::{StepContext, StepError, StepResult, output};
use model::status::ReplicationStatus;
use model::{FailureKind, LEAF_SIZE_BYTES};
use proof::ProofError;
use serde::{Deserialize, Serialize};

use super::Params;
use super::certify::{self, Certified};
use super::copy::until_copied;
use super::facts::agent_of;
use super::provision::ProvisionedDisk;
use super::saga::set_status;
use super::shown::Verifying;
use crate::digests::staging::Staging;
use crate::digests::{blocking, settle_disk};
use crate::failure::{defect, failed};
use crate::state::OmaState;

/// What was proven: the run as it was copied, and the gateway's report of each disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Proof {
    pub(super) run: RunView,
    pub(super) disks: Vec<DiskVerification>,
    /// What is to be certified of each disk.
    #[serde(default)]
    pub(super) certified: Vec<Certified>,
    /// How far it was then, and what it was bound by.
    #[serde(default)]
    pub(super) work: Option<JobProgress>,
}

pub(super) async fn run(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    // The agent may have been restarted since: then the copy is repeated, and with it what is to be proven.
    let run = until_copied(state, context).await?;
    set_status(state, &params, ReplicationStatus::Finalizing, "verifying").await?;
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let mut proven = Vec::with_capacity(disks.len());
    let mut certified = Vec::with_capacity(disks.len());
    for disk in &disks {
        context.check_cancelled()?;
        let copied = run.disks.iter().find(|copied| copied.disk_id == disk.disk_id);
        let copied = copied.ok_or_else(|| defect(format!("{} was not copied", disk.disk_id)))?;
        let agent = agent_of(state, &vm).map_err(failed)?;
        let digests = agent.digests(&params.job_id, &disk.disk_id).await.map_err(repeatable)?;
        let coverage = coverage(copied)?;
        let query = VerifyQuery { capacity_bytes: disk.capacity_bytes, coverage };
        let staging = staged(state, &params.job_id, disk, coverage).await?;
        let export = model::id::volume_export_name(&disk.volume_uuid);
        let request = state.gateway().verify(&export, query, staging.tee(digests));
        let verifying = Verifying { state, context, params: &params, vm: &vm, run: &run, disk };
        let report = verifying.shown(&export, request).await?;
        let verification = DiskVerification { disk_id: disk.disk_id.clone(), report };
        state.progress().mismatched(verification.report.mismatch_count);
        if let Err(error) = equal(&verification, copied) {
            store::vm_disks::distrust(state.store(), &params.vm_context_id, &disk.disk_id).await.map_err(failed)?;
            return Err(error);
        }
        let named = staging.finish().await.map_err(failed)?;
        whole(coverage, named, verification.report.leaves_verified).map_err(failed)?;
        let leaves = verification.report.leaves_verified;
        certified.push(certify::certified(state, &params.job_id, disk, of_file(coverage), leaves).await?);
        tracing::info!(
            disk = disk.disk_id,
            leaves = verification.report.leaves_verified,
            "source and replica are equal"
        );
        proven.push(verification);
    }
    let work = state.progress().of(&params.job_id);
    output(&Proof { run, disks: proven, certified, work })
}

/// A fresh staged file for this job's digests of a disk, after what earlier jobs left was settled.
async fn staged(
    state: &OmaState,
    job_id: &str,
    disk: &ProvisionedDisk,
    coverage: Coverage,
) -> Result<Staging, StepError> {
    settle_disk(state, &disk.vm_disk_id).await.map_err(failed)?;
    let (folder, name, job_id) = (state.digests().clone(), certify::disk_name(disk), job_id.to_owned());
    let writer = blocking(move || folder.stage(&name, &job_id, of_file(coverage))).await.map_err(failed)?;
    Ok(Staging::new(writer))
}

fn of_file(coverage: Coverage) -> proof::Coverage {
    match coverage {
        Coverage::Full => proof::Coverage::Full,
        Coverage::Named => proof::Coverage::Named,
    }
}

/// What was staged is what was verified: with named leaves each of them, with full coverage the rest is zero.
fn whole(coverage: Coverage, named: u64, verified: u64) -> Result<(), ProofError> {
    let same = match coverage {
        Coverage::Named => named == verified,
        Coverage::Full => named <= verified,
    };
    let reason = || format!("{named} leaves were staged, {verified} were verified");
    if same { Ok(()) } else { Err(ProofError::Digests { reason: reason() }) }
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

/// Every leaf that was read is named by a digest, and every leaf looked at is equal.
fn equal(verification: &DiskVerification, copied: &RunDiskView) -> Result<(), StepError> {
    let report = &verification.report;
    let detail = || serde_json::json!({ "disk_id": verification.disk_id, "report": report });
    if report.mismatch_count > 0 {
        let at = report.mismatches.first().map(|first| first.leaf * LEAF_SIZE_BYTES);
        let message = format!(
            "{} of {} leaves of {} differ between source and replica, the first at byte {}",
            report.mismatch_count,
            report.leaves_verified,
            verification.disk_id,
            at.unwrap_or_default()
        );
        return Err(StepError::new(FailureKind::Internal, message).detail(detail()).remedy(
            "nothing was committed; check the storage behind the volume: the next replication copies the whole disk",
        ));
    }
    let expected = match coverage(copied)? {
        Coverage::Full => report.leaves_total,
        // An increment reads whole leaves, but for the end of the disk.
        Coverage::Named => copied.bytes_total.div_ceil(LEAF_SIZE_BYTES),
    };
    if report.leaves_verified != expected || copied.bytes_done != copied.bytes_total {
        let message = format!(
            "{} leaves of {} were verified, {expected} were copied: the digests are incomplete",
            report.leaves_verified, verification.disk_id
        );
        return Err(defect(message).detail(detail()).remedy("nothing was committed; replicate again"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::gateway::{LeafMismatch, VerifyReport};

    fn copied(sync_mode: SyncMode, bytes_total: u64) -> RunDiskView {
        RunDiskView {
            disk_id: "disk-2000".to_owned(),
            sync_mode: Some(sync_mode),
            reason: None,
            change_id: None,
            bytes_total,
            bytes_done: bytes_total,
            bytes_read: bytes_total,
            bytes_sent: 0,
            bytes_zero: 0,
            extents: 1,
            speed_bps: 0,
            eta_seconds: None,
            average_bps: 0,
            time: api::progress::TimeSpent::default(),
            durable: true,
        }
    }

    fn verified(leaves_verified: u64) -> DiskVerification {
        let report = VerifyReport {
            leaves_total: 160,
            leaves_verified,
            bytes_read: 0,
            mismatch_count: 0,
            mismatches: Vec::new(),
        };
        DiskVerification { disk_id: "disk-2000".to_owned(), report }
    }

    #[test]
    fn an_increment_is_proven_only_when_every_leaf_of_it_was_looked_at() {
        // Three whole leaves and the short one at the end of the disk.
        let copied = copied(SyncMode::Incremental, 3 * LEAF_SIZE_BYTES + 512);
        assert!(equal(&verified(4), &copied).is_ok());
        for leaves in [0, 3, 5] {
            let error = equal(&verified(leaves), &copied).unwrap_err();
            assert!(error.message.contains("digests are incomplete"), "{error}");
        }
        let unfinished = RunDiskView { bytes_done: 0, ..copied };
        assert!(equal(&verified(4), &unfinished).is_err());
    }

    #[test]
    fn what_is_staged_is_what_was_verified() {
        assert!(whole(Coverage::Named, 3, 3).is_ok() && whole(Coverage::Full, 2, 3).is_ok());
        assert!(whole(Coverage::Named, 2, 3).is_err() && whole(Coverage::Full, 4, 3).is_err());
    }

    #[test]
    fn a_full_copy_is_proven_over_the_whole_disk_and_one_difference_is_too_many() {
        let copied = copied(SyncMode::Full, LEAF_SIZE_BYTES);
        assert!(equal(&verified(160), &copied).is_ok());
        assert!(equal(&verified(1), &copied).is_err());
        let mut differing = verified(160);
        differing.report.mismatch_count = 1;
        assert!(equal(&differing, &copied).is_err(), "even when none is listed");
        differing.report.mismatches = vec![LeafMismatch { leaf: 2, expected: String::new(), found: String::new() }];
        assert!(equal(&differing, &copied).unwrap_err().message.contains("byte 131072"));
    }
}
