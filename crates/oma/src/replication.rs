//! Replication: one VM's disks from VMware to their volumes, proven, then committed.
//!
//! Read `plan` (what would be done and what stands against it), then `saga` (the steps in order), then the steps.

mod certify;
mod copy;
mod facts;
mod finish;
pub mod plan;
mod proof;
mod provision;
mod saga;
mod shown;
mod view;

use api::Problem;
use api::oma::replications::{Accepted, ReplicationPlan, RequestedType, StartReplication};
use api::vma::ReaderSpec;
use joblog::{JobRow, JobStore, NewJob, StepError};
use model::id::replication_job_id;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::OmaError;
use crate::state::OmaState;

pub(crate) use facts::agent_of;
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
    /// The failover it is a part of (`failover-…`).
    #[serde(default)]
    pub failover_id: Option<String>,
}

impl Params {
    /// The jobs that may work on the VM while this one does: itself, and the failover it is a part of.
    fn own_jobs(&self) -> Vec<&str> {
        std::iter::once(self.job_id.as_str()).chain(self.failover_id.as_deref()).collect()
    }
}

/// What a replication would do now, without doing it.
///
/// # Errors
/// There is no such VM, or the database fails.
pub async fn dry_run(state: &OmaState, request: &StartReplication) -> Result<ReplicationPlan, OmaError> {
    let facts = facts::gather(state, &request.vm_context_id, &[], facts::AskSource::IfPossible).await?;
    Ok(plan::plan(&facts, request.replication_type))
}

/// Starts a replication.
///
/// # Errors
/// Everything that stands against it at once, or the database's problem; nothing is started then.
pub async fn start(state: &OmaState, request: &StartReplication) -> Result<Accepted, OmaError> {
    start_as(state, request, None).await
}

/// A replication that is a part of a failover, with ids chosen before.
pub(crate) struct Child<'a> {
    /// The failover's job.
    pub(crate) parent: &'a JobRow,
    /// The id the replication's job will have.
    pub(crate) tracking_id: &'a str,
    /// `job-…`.
    pub(crate) job_id: &'a str,
    /// `failover-…`: it holds the VM.
    pub(crate) failover_id: &'a str,
}

/// Starts a replication for a failover; one that was begun already is left to run.
///
/// # Errors
/// As [`start`].
pub(crate) async fn start_child(
    state: &OmaState,
    vm_context_id: &str,
    replication_type: RequestedType,
    child: &Child<'_>,
) -> Result<(), OmaError> {
    if state.store().load(child.tracking_id).await?.is_some() {
        return Ok(());
    }
    let request =
        StartReplication { vm_context_id: vm_context_id.to_owned(), replication_type, quiesce: false, reader: None };
    start_as(state, &request, Some(child)).await.map(|_| ())
}

async fn start_as(
    state: &OmaState,
    request: &StartReplication,
    child: Option<&Child<'_>>,
) -> Result<Accepted, OmaError> {
    let own_job = child.map(|child| child.failover_id);
    let facts = facts::gather(state, &request.vm_context_id, own_job.as_slice(), facts::AskSource::No).await?;
    let plan = plan::plan(&facts, request.replication_type);
    if let Some(problem) = merged(&facts.vm_name, plan.blockers) {
        return Err(problem.into());
    }
    let job_id = child.map_or_else(|| replication_job_id(OffsetDateTime::now_utc()), |child| child.job_id.to_owned());
    let context_id = &request.vm_context_id;
    store::replication_jobs::start(state.store(), &job_id, context_id, plan.replication_type, own_job).await?;
    let params = Params {
        job_id: job_id.clone(),
        vm_context_id: request.vm_context_id.clone(),
        requested: request.replication_type,
        quiesce: request.quiesce,
        reader: request.reader.clone(),
        failover_id: own_job.map(str::to_owned),
    };
    let operation = format!("replicate {} ({})", facts.vm_name, plan.replication_type);
    let job = NewJob::new(REPLICATION.job_type, operation, &params)
        .map(|job| job.external_id(&job_id).vm_context(&request.vm_context_id))
        .map(|job| match child {
            Some(child) => job.with_id(child.tracking_id).child_of(child.parent),
            None => job,
        });
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
pub(crate) fn merged(vm_name: &str, blockers: Vec<Problem>) -> Option<Problem> {
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
