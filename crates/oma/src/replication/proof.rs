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
use store::disk_scrubs;
use store::recovery_points::NewPoint;

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
    /// The journals that were proven.
    #[serde(default)]
    pub(super) journals: Vec<SealedDisk>,
    /// How far it was then, and what it was bound by.
    #[serde(default)]
    pub(super) work: Option<JobProgress>,
}

/// The journal of a disk, as it was when it was proven: nothing is written to it any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SealedDisk {
    disk_id: String,
    export_name: String,
    index_bytes: u64,
    data_bytes: u64,
}

impl Proof {
    /// What the commit makes a recovery point of a disk; none where the volume itself was written.
    pub(super) fn point_of(&self, disk_id: &str) -> Option<NewPoint> {
        let sealed = self.journals.iter().find(|sealed| sealed.disk_id == disk_id)?;
        Some(NewPoint {
            export_name: sealed.export_name.clone(),
            index_bytes: sealed.index_bytes,
            data_bytes: sealed.data_bytes,
        })
    }
}

/// Copies and proofs: the second follows when the scrub catches change tracking lying.
const MAX_PASSES: u32 = 2;

pub(super) async fn run(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    for _ in 0..MAX_PASSES {
        // The agent may have been restarted since: then the copy is repeated, and with it what is to be proven.
        let run = until_copied(state, context).await?;
        set_status(state, &params, ReplicationStatus::Finalizing, "verifying").await?;
        if let Some(proof) = proven(state, context, &params, run).await? {
            return output(&proof);
        }
        tracing::warn!("what differs is read again: the disk is compared as a whole");
        super::copy::undo(state, context).await?;
    }
    Err(defect("the scrub found differences in a disk that had just been compared".to_owned())
        .remedy("nothing was committed; replicate with --type compare"))
}

/// Verifies every disk of a run; none when changes were left out of what change tracking named.
async fn proven(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    run: RunView,
) -> Result<Option<Proof>, StepError> {
    let disks: Vec<ProvisionedDisk> = context.output("provision")?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let (disks_proven, certified, journals) = Default::default();
    let mut proof = Proof { run, disks: disks_proven, certified, journals, work: None };
    let mut is_whole = true;
    for disk in &disks {
        context.check_cancelled()?;
        let copied = proof.run.disks.iter().find(|copied| copied.disk_id == disk.disk_id);
        let copied = copied.ok_or_else(|| defect(format!("{} was not copied", disk.disk_id)))?;
        let agent = agent_of(state, &vm).map_err(failed)?;
        let digests = agent.digests(&params.job_id, &disk.disk_id).await.map_err(repeatable)?;
        let coverage = coverage(copied)?;
        let query = VerifyQuery { capacity_bytes: disk.capacity_bytes, coverage };
        let staging = staged(state, &params.job_id, disk, coverage).await?;
        let export = model::id::volume_export_name(&disk.volume_uuid);
        // From here on nothing more is written: what is verified is what is committed.
        let sealed = state.gateway().seal(&export, &params.job_id).await.map_err(failed)?;
        if sealed.journal {
            let (disk_id, export_name) = (disk.disk_id.clone(), export.clone());
            let (index_bytes, data_bytes) = (sealed.index_bytes, sealed.data_bytes);
            proof.journals.push(SealedDisk { disk_id, export_name, index_bytes, data_bytes });
        }
        let request = state.gateway().verify(&export, query, staging.tee(digests));
        let verifying = Verifying { state, context, params, vm: &vm, run: &proof.run, disk };
        let report = verifying.shown(&export, request).await?;
        let verification = DiskVerification { disk_id: disk.disk_id.clone(), report };
        state.progress().mismatched(verification.report.mismatch_count);
        if let Err(error) = equal(&verification, copied) {
            if !sealed.journal || coverage == Coverage::Full {
                // It is the volume itself that is not what it should be.
                store::vm_disks::distrust(state.store(), &params.vm_context_id, &disk.disk_id).await.map_err(failed)?;
            }
            return Err(error);
        }
        let named = staging.finish().await.map_err(failed)?;
        if verification.report.omission_count > 0 {
            distrust_tracking(state, params, &verification).await?;
            is_whole = false;
            continue;
        }
        let leaves = verification.report.leaves_verified;
        whole(coverage, named, leaves).map_err(failed)?;
        let certified = certify::certified(state, &params.job_id, disk, of_file(coverage), leaves).await?;
        tracing::info!(disk = disk.disk_id, leaves, "source and replica are equal");
        proof.certified.push(certified);
        proof.disks.push(verification);
    }
    proof.work = state.progress().of(&params.job_id);
    Ok(is_whole.then_some(proof))
}

/// Says what change tracking left out, and believes nothing it says of the disk until that was compared as a whole.
async fn distrust_tracking(
    state: &OmaState,
    params: &Params,
    verification: &DiskVerification,
) -> Result<(), StepError> {
    let DiskVerification { disk_id, report } = verification;
    for left_out in &report.mismatches {
        tracing::error!(
            disk = disk_id,
            offset = left_out.leaf * LEAF_SIZE_BYTES,
            source_digest = left_out.expected,
            replica_digest = left_out.found,
            "change tracking left out a change: the source differs where it says nothing did"
        );
    }
    let omissions = report.omission_count;
    tracing::error!(disk = disk_id, omissions, "the scrub caught change tracking lying");
    disk_scrubs::distrust(state.store(), &params.vm_context_id, disk_id, omissions).await.map_err(failed)
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

/// Every leaf that was read is named by a digest, and every leaf that was sent is equal.
fn equal(verification: &DiskVerification, copied: &RunDiskView) -> Result<(), StepError> {
    let report = &verification.report;
    let detail = || serde_json::json!({ "disk_id": verification.disk_id, "report": report });
    if report.mismatch_count > report.omission_count {
        let at =
            report.mismatches.iter().find(|mismatch| !mismatch.is_scrubbed).map(|first| first.leaf * LEAF_SIZE_BYTES);
        let message = format!(
            "{} of {} leaves of {} differ between source and replica, the first at byte {}",
            report.mismatch_count - report.omission_count,
            report.leaves_verified,
            verification.disk_id,
            at.unwrap_or_default()
        );
        return Err(StepError::new(FailureKind::Internal, message).detail(detail()).remedy(
            "nothing was committed; check the storage behind the volume and that of the hub, then replicate with --type compare",
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
            bytes_to_scrub: 0,
            extents: 1,
            speed_bps: 0,
            eta_seconds: None,
            average_bps: 0,
            time: api::progress::TimeSpent::default(),
            durable: true,
            bytes_kept: 0,
            bytes_on_wire: 0,
            compressed_share_percent: None,
            compression_ratio_percent: None,
        }
    }

    fn verified(leaves_verified: u64) -> DiskVerification {
        let report = VerifyReport { leaves_total: 160, leaves_verified, ..VerifyReport::default() };
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
        differing.report.mismatches = vec![LeafMismatch { leaf: 2, ..LeafMismatch::default() }];
        assert!(equal(&differing, &copied).unwrap_err().message.contains("byte 131072"));
        differing.report.omission_count = 1;
        assert!(equal(&differing, &copied).is_ok(), "what change tracking left out is no fault of the storage");
    }
}
