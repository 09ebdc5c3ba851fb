//! Verifying a replica on request: every leaf is read again from its medium and compared with the hub's digest file, whose
//! root is the one last certified. Reads only; a replica that differs is trusted no more.

use api::Problem;
use api::client::ResponseBody;
use api::gateway::{Coverage, DigestRecord, VerifyQuery};
use api::oma::replications::{Accepted, DiskVerification};
use api::volume::CreateExport;
use futures::StreamExt;
use futures::future::BoxFuture;
use joblog::{NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::status::ExportKind;
use model::{FailureKind, LEAF_SIZE_BYTES};
use proof::LeafFile;
use serde::{Deserialize, Serialize};
use store::vm_disks::VmDisk;
use store::{nbd_exports, vm_disks, vm_replication_contexts};

use crate::digests::{self, Look, blocking};
use crate::error::OmaError;
use crate::failure::{defect, failed};
use crate::state::OmaState;
use crate::teardown::refuse_while_in_use;

/// The saga. It changes nothing but the exports it reads through.
pub static VERIFICATION: Saga<OmaState> = Saga {
    job_type: "replica_verification",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate(state, context))),
        Step::undoable(
            "export",
            |state, context| Box::pin(export(state, context)),
            |state, context| Box::pin(close(state, context)),
        ),
        Step::check("verify", |state, context| Box::pin(verify(state, context))),
        Step::retried("release", |state, context| Box::pin(release(state, context))),
    ],
    finished: |_, _| -> BoxFuture<'_, Result<(), StepError>> { Box::pin(std::future::ready(Ok(()))) },
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    vm_context_id: String,
}

/// A disk whose replica is to be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Target {
    disk_id: String,
    vm_disk_id: String,
    disk_uuid: String,
    capacity_bytes: u64,
    volume_uuid: String,
}

/// Begins to verify the replica of a VM.
///
/// # Errors
/// There is no such VM, a job of it runs, it is failed over, or its replica was never committed; nothing is begun then.
pub(crate) async fn start(state: &OmaState, vm: &str) -> Result<Accepted, OmaError> {
    let context = vm_replication_contexts::find(state.store(), vm).await?;
    refuse_while_in_use(state, &context.context_id, &[]).await?;
    targets(state, &context.context_id, Look::Glance).await?;
    let params = Params { vm_context_id: context.context_id.clone() };
    let job = NewJob::new(VERIFICATION.job_type, format!("verify the replica of {}", context.vm_name), &params)?;
    let tracking_id = state.runner().start(job.vm_context(&context.context_id)).await?;
    Ok(Accepted { job_id: tracking_id.clone(), tracking_id })
}

async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    refuse_while_in_use(state, &params.vm_context_id, &[context.job_id()]).await.map_err(failed)?;
    for row in vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)? {
        digests::settle_disk(state, &row.id).await.map_err(failed)?;
    }
    output(&targets(state, &params.vm_context_id, Look::Whole).await.map_err(failed)?)
}

/// Every disk of the VM; refused when one has no committed replica or its digests are not those certified.
async fn targets(state: &OmaState, vm_context_id: &str, look: Look) -> Result<Vec<Target>, OmaError> {
    let rows = vm_disks::of_context(state.store(), vm_context_id).await?;
    let mut targets = Vec::with_capacity(rows.len());
    for row in rows {
        targets.push(target(state, row, look).await?);
    }
    Ok(targets)
}

async fn target(state: &OmaState, row: VmDisk, look: Look) -> Result<Target, OmaError> {
    let refused = |why: String| {
        Problem::new(FailureKind::Conflict, format!("the replica of {} cannot be verified", row.disk_id))
            .evidence(why)
            .remedy("replicate the VM first: migratekit replicate VM")
    };
    if row.disk_change_id.is_none() {
        return Err(refused("it is not equal to a committed point in time".to_owned()).into());
    }
    if let Some(why) = digests::unproven(state, &row, look).await? {
        return Err(refused(why).into());
    }
    let volume_uuid = row.volume_uuid.clone().ok_or_else(|| refused("it has no volume".to_owned()))?;
    Ok(Target {
        disk_id: row.disk_id,
        vm_disk_id: row.id,
        disk_uuid: row.disk_uuid,
        capacity_bytes: *row.capacity_bytes,
        volume_uuid,
    })
}

async fn export(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    for target in context.output::<Vec<Target>>("validate")? {
        let request = CreateExport {
            vm_context_id: params.vm_context_id.clone(),
            job_id: None,
            vm_disk_id: target.vm_disk_id,
            volume_uuid: target.volume_uuid,
            kind: ExportKind::Volume,
            enrollment_id: None,
            read_only: true,
            disk_uuid: target.disk_uuid,
            capacity_bytes: target.capacity_bytes,
            journal: false,
        };
        state.volumes().create_export(&request).await.map_err(failed)?;
    }
    output(&())
}

async fn verify(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let mut reports = Vec::new();
    for target in context.output::<Vec<Target>>("validate")? {
        let row = vm_disks::by_row_id(state.store(), &target.vm_disk_id).await.map_err(failed)?;
        let row = row.ok_or_else(|| defect(format!("{} is gone", target.disk_id)))?;
        let (folder, name) = (state.digests().clone(), digests::disk_name(&row));
        let file = blocking(move || folder.committed(&name)).await.map_err(failed)?;
        let file = file.ok_or_else(|| defect(format!("the digests of {} are gone", target.disk_id)))?;
        let export_name = model::id::volume_export_name(&target.volume_uuid);
        let query = VerifyQuery { capacity_bytes: target.capacity_bytes, coverage: Coverage::Full };
        let report = tokio::select! {
            () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
            report = state.gateway().verify(&export_name, query, stream(file)) => report.map_err(failed)?,
        };
        let verification = DiskVerification { disk_id: target.disk_id, report };
        if let Some(error) = difference(&verification) {
            let distrusted = vm_disks::distrust(state.store(), &params.vm_context_id, &verification.disk_id).await;
            distrusted.map_err(failed)?;
            return Err(error);
        }
        let leaves = verification.report.leaves_verified;
        tracing::info!(disk = verification.disk_id, leaves, "every leaf of the replica is what was certified");
        reports.push(verification);
    }
    output(&reports)
}

/// What differs, as the failure of the job.
fn difference(verification: &DiskVerification) -> Option<StepError> {
    let report = &verification.report;
    let first = report.mismatches.first().map(|first| first.leaf);
    let message = format!(
        "{} of {} leaves of {} are not what was certified, the first is leaf {} at byte {}",
        report.mismatch_count,
        report.leaves_verified,
        verification.disk_id,
        first.unwrap_or_default(),
        first.unwrap_or_default() * LEAF_SIZE_BYTES
    );
    let detail = serde_json::json!({ "disk_id": verification.disk_id, "report": report });
    let error = StepError::new(FailureKind::Internal, message).detail(detail);
    (report.mismatch_count > 0).then(|| {
        error.remedy("something else wrote to the volume, or its storage lost data: find out, then replicate, which copies the whole disk")
    })
}

/// The digests of a file as the gateway reads them; what has none is zero.
fn stream(file: LeafFile) -> ResponseBody {
    let chunks = futures::stream::try_unfold((file, 0), |(file, leaf)| async move {
        let read = blocking(move || Ok((file.named_from(leaf)?, file))).await;
        let (named, file) = read.map_err(|error| api::TransportError::Unreachable {
            peer: "the digest file".to_owned(),
            source: Box::new(error),
        })?;
        Ok(named.map(|named| (wire(&named.digests), (file, named.next_leaf))))
    });
    chunks.boxed()
}

/// Neighbours with one digest become one record.
fn wire(digests: &[(u64, [u8; 32])]) -> bytes::Bytes {
    let mut wire = Vec::new();
    for run in digests.chunk_by(|(leaf, digest), (next, same)| leaf + 1 == *next && digest == same) {
        let (Some((first_leaf, digest)), Ok(leaf_count)) = (run.first(), u32::try_from(run.len())) else { continue };
        DigestRecord { first_leaf: *first_leaf, leaf_count, is_scrubbed: false, digest: *digest }.encode(&mut wire);
    }
    wire.into()
}

async fn close(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let targets: Vec<Target> = context.output_if_any("validate")?.unwrap_or_default();
    for target in targets {
        let name = model::id::volume_export_name(&target.volume_uuid);
        match nbd_exports::by_name(state.store(), &name).await {
            // A replication has opened it for itself.
            Ok(export) if export.job_id.is_some() => continue,
            Err(error) if error.kind() == FailureKind::NotFound => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error)),
        }
        match state.volumes().close_export(&name).await {
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

async fn release(state: &OmaState, context: &StepContext) -> StepResult {
    close(state, context).await?;
    output(&())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::gateway::{DIGEST_RECORD_BYTES, LeafMismatch, VerifyReport};

    #[test]
    fn neighbours_of_one_digest_are_one_record() {
        let wire = wire(&[(4, [1; 32]), (5, [1; 32]), (6, [2; 32]), (9, [2; 32])]);
        let records =
            wire.chunks_exact(DIGEST_RECORD_BYTES).map(|record| DigestRecord::decode(record.try_into().unwrap()));
        let records: Vec<_> =
            records.map(|record| record.unwrap()).map(|one| (one.first_leaf, one.leaf_count)).collect();
        assert_eq!(records, [(4, 2), (6, 1), (9, 1)]);
    }

    #[test]
    fn the_first_leaf_that_differs_is_named() {
        let report = |mismatch_count, leaves: &[u64]| VerifyReport {
            leaves_total: 9,
            leaves_verified: 9,
            mismatch_count,
            mismatches: leaves.iter().map(|leaf| LeafMismatch { leaf: *leaf, ..LeafMismatch::default() }).collect(),
            ..VerifyReport::default()
        };
        let of = |report| difference(&DiskVerification { disk_id: "disk-2000".to_owned(), report });
        assert!(of(report(0, &[])).is_none());
        let told = of(report(2, &[3, 5])).unwrap();
        assert!(told.message.contains("2 of 9 leaves of disk-2000") && told.message.contains("leaf 3 at byte 196608"));
        assert!(of(report(1, &[])).is_some(), "even when none is listed");
    }
}
