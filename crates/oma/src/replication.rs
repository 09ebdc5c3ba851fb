//! Replication: one VM's disks from VMware to their volumes, proven, then committed.
//!
//! Read `plan` (what would be done and what stands against it), then `saga` (the steps in order), then the steps.

mod certify;
mod copy;
mod facts;
mod finish;
mod limits;
pub mod plan;
mod proof;
mod provision;
pub mod reader;
mod saga;
mod scrub;
mod shown;
mod view;

use std::num::NonZeroU32;

use api::Problem;
use api::oma::replications::{Accepted, ReplicationPlan, RequestedType, ScrubRequest, StartReplication};
use api::vma::ReaderSpec;
use joblog::{JobRow, JobStore, NewJob, StepError};
use model::CompressionMode;
use model::id::replication_job_id;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::OmaError;
use crate::recovery_points;
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
    /// How the agent reads all disks, when somebody asked for it.
    #[serde(default)]
    pub reader: Option<ReaderSpec>,
    /// How much is read beside what change tracking names.
    #[serde(default)]
    pub scrub: ScrubRequest,
    /// Whether the volumes are written at once.
    #[serde(default)]
    pub in_place: bool,
    /// Whether the agent compresses what it sends.
    #[serde(default)]
    pub compression: Option<CompressionMode>,
    /// Most MiB per second it sends.
    #[serde(default)]
    pub limit_mib_per_s: Option<NonZeroU32>,
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

/// What is asked for of a replication that decides what it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What to copy.
    pub replication_type: RequestedType,
    /// What to look at beside it.
    pub scrub: ScrubRequest,
}

impl Wanted {
    fn of(request: &StartReplication) -> Self {
        Self { replication_type: request.replication_type, scrub: request.scrub }
    }
}

/// What a replication would do now, without doing it.
///
/// # Errors
/// There is no such VM, or the database fails.
pub async fn dry_run(state: &OmaState, request: &StartReplication) -> Result<ReplicationPlan, OmaError> {
    let facts = facts::gather(state, &request.vm_context_id, &[], facts::AskSource::IfPossible).await?;
    Ok(plan::plan(&facts, &Wanted::of(request), request.reader.as_ref()))
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
    wanted: Wanted,
    child: &Child<'_>,
) -> Result<(), OmaError> {
    if state.store().load(child.tracking_id).await?.is_some() {
        return Ok(());
    }
    let request = StartReplication {
        vm_context_id: vm_context_id.to_owned(),
        replication_type: wanted.replication_type,
        quiesce: false,
        reader: None,
        scrub: wanted.scrub,
        keep_points: None,
        in_place: false,
        compression: None,
        limit_mib_per_s: None,
    };
    start_as(state, &request, Some(child)).await.map(|_| ())
}

async fn start_as(
    state: &OmaState,
    request: &StartReplication,
    child: Option<&Child<'_>>,
) -> Result<Accepted, OmaError> {
    let own_job = child.map(|child| child.failover_id);
    let facts = facts::gather(state, &request.vm_context_id, own_job.as_slice(), facts::AskSource::No).await?;
    let plan = plan::plan(&facts, &Wanted::of(request), request.reader.as_ref());
    if let Some(problem) = merged(&facts.vm_name, plan.blockers) {
        return Err(problem.into());
    }
    if let Some(keep) = request.keep_points {
        recovery_points::keep(state, &request.vm_context_id, keep).await?;
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
        scrub: request.scrub,
        in_place: request.in_place,
        compression: request.compression,
        limit_mib_per_s: request.limit_mib_per_s,
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
