//! Failovers as the API shows them.

use api::Problem;
use api::oma::failovers::{FailoverJobRef, FailoverView};
use joblog::{JobFilter, JobStore};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::failover_jobs::FailoverJob;

use crate::error::OmaError;
use crate::state::OmaState;

/// Most jobs of one failover that are shown: itself, and its endings.
const MAX_JOBS: u32 = 16;

/// A failover with its jobs.
///
/// # Errors
/// The database fails.
pub(crate) async fn with_jobs(state: &OmaState, row: FailoverJob) -> Result<FailoverView, OmaError> {
    let filter = JobFilter { external_job_id: Some(row.job_id.clone()), limit: MAX_JOBS, ..JobFilter::default() };
    let jobs = state.store().list_jobs(&filter).await?.jobs;
    let percent = jobs.first().map(|job| job.percent_complete);
    let jobs = jobs.into_iter().map(|job| FailoverJobRef { id: job.id, job_type: job.job_type, status: job.status });
    let mut shown = view(row, jobs.collect());
    shown.progress_percent = percent.unwrap_or(shown.progress_percent);
    Ok(shown)
}

/// A failover's row.
#[must_use]
pub(crate) fn view(row: FailoverJob, jobs: Vec<FailoverJobRef>) -> FailoverView {
    let error = row.error().map(|error| {
        let mut problem = Problem::new(error.kind, error.message).job(&row.job_id);
        problem.remedy = error.remedy;
        problem
    });
    FailoverView {
        vm: document(&row.source_vm_spec),
        snapshots: document(&row.snapshot_ids).unwrap_or_default(),
        probes: row.probe_results.as_ref().and_then(document),
        job_id: row.job_id,
        vm_context_id: row.vm_context_id,
        source_vm_name: row.source_vm_name,
        failover_type: *row.job_type,
        status: *row.status,
        progress_percent: row.progress_percent,
        current_step: row.current_step,
        destination_vm_id: row.destination_vm_id,
        destination_vm_name: row.destination_vm_name,
        expires_at: row.expires_at.map(|at| *at),
        error,
        jobs,
        created_at: *row.created_at,
        started_at: row.started_at.map(|at| *at),
        completed_at: row.completed_at.map(|at| *at),
    }
}

/// A stored document; none where it is empty or of an older form.
fn document<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}
