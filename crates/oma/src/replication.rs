//! Replication: one VM's disks from VMware to their volumes, proven, then committed.
//!
//! Read `plan` (what would be done and what stands against it), then `saga` (the steps in order), then the steps.

mod copy;
mod facts;
mod finish;
pub mod plan;
mod proof;
mod provision;
mod saga;
mod view;

use api::Problem;
use api::oma::replications::{Accepted, ReplicationPlan, RequestedType, StartReplication};
use api::vma::ReaderSpec;
use joblog::{NewJob, StepError};
use model::id::replication_job_id;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::OmaError;
use crate::state::OmaState;

pub use saga::REPLICATION;
pub use view::{progress, replication_view, view_of_job};

/// What a replication's job remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Params {
    /// `job-…`.
    pub job_id: String,
    /// The VM.
    pub vm_context_id: String,
    /// What was asked for.
    pub requested: RequestedType,
    /// Whether to quiesce.
    pub quiesce: bool,
    /// How the agent reads the disks.
    #[serde(default)]
    pub reader: Option<ReaderSpec>,
}

/// What a replication would do now, without doing it.
///
/// # Errors
/// There is no such VM, or the database fails.
pub async fn dry_run(state: &OmaState, request: &StartReplication) -> Result<ReplicationPlan, OmaError> {
    let facts = facts::gather(state, &request.vm_context_id, None, facts::AskSource::IfPossible).await?;
    Ok(plan::plan(&facts, request.replication_type))
}

/// Starts a replication.
///
/// # Errors
/// Everything that stands against it at once, or the database's problem; nothing is started then.
pub async fn start(state: &OmaState, request: &StartReplication) -> Result<Accepted, OmaError> {
    let facts = facts::gather(state, &request.vm_context_id, None, facts::AskSource::No).await?;
    let plan = plan::plan(&facts, request.replication_type);
    if let Some(problem) = merged(&facts.vm_name, plan.blockers) {
        return Err(problem.into());
    }
    let job_id = replication_job_id(OffsetDateTime::now_utc());
    store::replication_jobs::start(state.store(), &job_id, &request.vm_context_id, plan.replication_type).await?;
    let params = Params {
        job_id: job_id.clone(),
        vm_context_id: request.vm_context_id.clone(),
        requested: request.replication_type,
        quiesce: request.quiesce,
        reader: request.reader.clone(),
    };
    let operation = format!("replicate {} ({})", facts.vm_name, plan.replication_type);
    let job = NewJob::new(REPLICATION.job_type, operation, &params)
        .map(|job| job.external_id(&job_id).vm_context(&request.vm_context_id));
    match begin(state, job).await {
        Ok(tracking_id) => Ok(Accepted { job_id, tracking_id }),
        Err(error) => {
            let cause = StepError::from_error(error.kind(), &error);
            finish::record_end(state, &job_id, false, cause).await?;
            Err(error.into())
        }
    }
}

async fn begin(state: &OmaState, job: Result<NewJob, joblog::JobError>) -> Result<String, joblog::JobError> {
    let job = job?;
    let tracking_id = job.id().to_owned();
    state.runner().start(job).await?;
    Ok(tracking_id)
}

/// Several blockers as the one problem an answer can carry: the first, with the others as evidence.
fn merged(vm_name: &str, blockers: Vec<Problem>) -> Option<Problem> {
    let mut blockers = blockers.into_iter();
    let first = blockers.next()?;
    let others: Vec<String> = blockers
        .map(|other| format!("{} ({})", other.detail, other.remedy.as_deref().unwrap_or("no remedy known")))
        .collect();
    if others.is_empty() {
        return Some(first);
    }
    let detail =
        format!("{vm_name} cannot be replicated for {} reasons; the first: {}", others.len() + 1, first.detail);
    Some(Problem { detail, evidence: Some(format!("also: {}", others.join("; "))), ..first })
}
