//! Jobs of a VM that have not ended: none that touches its replica may begin beside them.

use joblog::{JobFilter, JobRow, JobStore};
use model::status::Transitions;

use crate::error::OmaError;
use crate::failover;
use crate::ghosts;
use crate::replication::REPLICATION;
use crate::state::OmaState;
use crate::teardown::TEARDOWN;
use crate::verification::VERIFICATION;

/// Newest jobs of a type that are looked at; more than one is never unfinished.
const LOOKED_AT: u32 = 4;

/// Kinds of jobs that touch a replica.
const TOUCHING: [&str; 9] = [
    REPLICATION.job_type,
    TEARDOWN.job_type,
    VERIFICATION.job_type,
    failover::TEST.job_type,
    failover::LIVE.job_type,
    failover::CLEANUP.job_type,
    failover::ROLLBACK.job_type,
    failover::COMMIT.job_type,
    // Only those that may not run beside others name a VM.
    ghosts::REMOVAL.job_type,
];

/// The unfinished job of a VM that touches its replica, if there is one besides `own` (ids of the JobLog or of the
/// domain). A replication counts until its vm_snapshot is removed, which is after its commit.
///
/// # Errors
/// The database fails.
pub(crate) async fn job_of(state: &OmaState, context_id: &str, own: &[&str]) -> Result<Option<JobRow>, OmaError> {
    for job_type in TOUCHING {
        let filter = JobFilter {
            job_type: Some(job_type.to_owned()),
            vm_context_id: Some(context_id.to_owned()),
            limit: LOOKED_AT,
            ..JobFilter::default()
        };
        let jobs = state.store().list_jobs(&filter).await?.jobs;
        let is_own = |job: &JobRow| own.iter().any(|own| job.id == *own || job.external_job_id.as_deref() == Some(own));
        if let Some(job) = jobs.into_iter().find(|job| !job.status.is_final() && !is_own(job)) {
            return Ok(Some(job));
        }
    }
    Ok(None)
}
