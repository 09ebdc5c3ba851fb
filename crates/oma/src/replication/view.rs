//! Replications as the API shows them.

use api::Problem;
use api::oma::replications::{ReplicationProgress, ReplicationView};
use api::vma::RunView;
use joblog::{JobFilter, JobRow, JobStore};
use model::status::Transitions;
use store::replication_jobs::ReplicationJob;

use super::proof::Proof;
use super::{REPLICATION, facts};
use crate::certificates::certificate_view;
use crate::error::OmaError;
use crate::state::OmaState;

/// A row as the API shows it.
#[must_use]
pub fn replication_view(row: ReplicationJob, tracking_id: Option<String>) -> ReplicationView {
    let error = row.error().map(|error| {
        let mut problem = Problem::new(error.kind, error.message).job(&row.id);
        problem.remedy = error.remedy;
        problem
    });
    ReplicationView {
        id: row.id,
        vm_context_id: row.vm_context_id,
        source_vm_name: row.source_vm_name,
        replication_type: *row.replication_type,
        status: *row.status,
        progress_percent: row.progress_percent,
        current_operation: row.current_operation,
        bytes_transferred: *row.bytes_transferred,
        total_bytes: *row.total_bytes,
        transfer_speed_bps: *row.transfer_speed_bps,
        eta_seconds: row.vma_eta_seconds.map(|seconds| *seconds),
        error,
        tracking_id,
        created_at: *row.created_at,
        started_at: row.started_at.map(|at| *at),
        completed_at: row.completed_at.map(|at| *at),
    }
}

/// The replication a job is for, if it is one.
///
/// # Errors
/// The database fails.
pub async fn view_of_job(state: &OmaState, job: &JobRow) -> Result<Option<ReplicationView>, OmaError> {
    match (&job.external_job_id, job.job_type == REPLICATION.job_type) {
        (Some(id), true) => {
            let row = store::replication_jobs::by_id(state.store(), id).await?;
            Ok(Some(replication_view(row, Some(job.id.clone()))))
        }
        _ => Ok(None),
    }
}

/// A replication with its disks: live from the agent while it runs, from the job's own record afterwards.
///
/// # Errors
/// There is no such replication, or the database fails.
pub async fn progress(state: &OmaState, job_id: &str) -> Result<ReplicationProgress, OmaError> {
    let row = store::replication_jobs::by_id(state.store(), job_id).await?;
    let filter = JobFilter { external_job_id: Some(job_id.to_owned()), limit: 1, ..JobFilter::default() };
    let jobs = state.store().list_jobs(&filter).await?;
    let tracking_id = jobs.jobs.first().map(|job| job.id.clone());
    let proof = match &tracking_id {
        Some(id) => recorded_proof(state, id).await?,
        None => None,
    };
    let live = state.progress().of(job_id);
    let (run, verification, work) = match proof {
        Some(proof) => (Some(proof.run), proof.disks, live.or(proof.work)),
        None if row.status.is_final() => (None, Vec::new(), None),
        None => (live_run(state, &row).await, Vec::new(), live),
    };
    let certificates = store::equality_certificates::of_job(state.store(), job_id).await?;
    let certificates = certificates.into_iter().map(certificate_view).collect();
    Ok(ReplicationProgress { replication: replication_view(row, tracking_id), run, verification, certificates, work })
}

async fn recorded_proof(state: &OmaState, tracking_id: &str) -> Result<Option<Proof>, OmaError> {
    let record = state.store().load(tracking_id).await?;
    let verified = record.and_then(|record| record.steps.into_iter().find(|step| step.name == "verify"));
    Ok(verified.and_then(|step| step.output).and_then(|output| serde_json::from_value(output).ok()))
}

/// What the agent says now; nothing when it does not answer.
async fn live_run(state: &OmaState, row: &ReplicationJob) -> Option<RunView> {
    let vm = store::vm_replication_contexts::by_id(state.store(), &row.vm_context_id).await.ok()?;
    let agent = facts::agent_of(state, &vm).ok()?;
    agent.run(&row.id).await.ok()
}
