//! Begins failovers and their endings: what cannot work is refused before anything is written.

use api::Problem;
use api::oma::failovers::{FailoverPlan, StartFailover, StartRollback};
use api::oma::replications::Accepted;
use joblog::{JobError, JobFilter, JobRow, JobStore, NewJob, Saga, StepError};
use model::FailureKind;
use model::status::{ContextStatus, FailoverStatus, FailoverType, JobStatus, Transitions};
use store::failover_jobs::{self, FailoverJob, NewFailover};
use store::vm_replication_contexts;
use time::OffsetDateTime;
use uuid::Uuid;

use super::decide::Decision;
use super::facts::Facts;
use super::params::{EndParams, Params};
use super::{CLEANUP, COMMIT, LIVE, ROLLBACK, TEST, decide, gather, plan};
use crate::error::OmaError;
use crate::replication::merged;
use crate::state::OmaState;
use crate::unfinished;

/// What a failover would do now, without doing it.
///
/// # Errors
/// There is no such VM, or the database fails.
pub(crate) async fn dry_run(state: &OmaState, request: &StartFailover) -> Result<FailoverPlan, OmaError> {
    let (facts, params, decision) = decided(state, request).await?;
    plan::plan(state, &facts, &params, decision).await
}

/// What is known of the VM a request names, and what is decided from it.
///
/// # Errors
/// There is no such VM, or the database fails.
pub(super) async fn decided(state: &OmaState, request: &StartFailover) -> Result<(Facts, Params, Decision), OmaError> {
    let facts = gather::gather(state, vm_of(request)?, request, &[]).await?;
    let params = params(&facts.vm.context_id, request);
    let decision = decide::decide(&facts, request, &params.identity());
    Ok((facts, params, decision))
}

/// The saga that does a failover.
pub(super) fn saga_of(failover_type: FailoverType) -> &'static Saga<OmaState> {
    match failover_type {
        FailoverType::Live => &LIVE,
        FailoverType::Test => &TEST,
    }
}

fn params(vm_context_id: &str, request: &StartFailover) -> Params {
    Params {
        job_id: model::id::failover_job_id(OffsetDateTime::now_utc()),
        custom_id: Uuid::new_v4().to_string(),
        vm_context_id: vm_context_id.to_owned(),
        request: request.clone(),
    }
}

fn vm_of(request: &StartFailover) -> Result<&str, OmaError> {
    request.vm_context_id.as_deref().ok_or_else(|| OmaError::Invalid {
        what: "the failover",
        reason: "it names no VM; name one, or a group".to_owned(),
    })
}

/// A failover that is a part of a group's, with ids chosen before.
pub(crate) struct Child<'a> {
    /// The group's job.
    pub(crate) parent: &'a JobRow,
    /// The id the failover's job will have.
    pub(crate) tracking_id: &'a str,
    /// `failover-…`.
    pub(crate) job_id: &'a str,
}

/// Begins a failover.
///
/// # Errors
/// Everything that stands against it at once, or the database's problem; nothing is begun then.
pub(crate) async fn start(
    state: &OmaState,
    request: &StartFailover,
    child: Option<&Child<'_>>,
) -> Result<Accepted, OmaError> {
    let (facts, mut params, decision) = decided(state, request).await?;
    if let Some(child) = child {
        child.job_id.clone_into(&mut params.job_id);
    }
    if let Some(problem) = merged(&facts.vm.name, decision.blockers) {
        return Err(problem.into());
    }
    let new = NewFailover {
        job_id: params.job_id.clone(),
        vm_context_id: params.vm_context_id.clone(),
        job_type: request.failover_type,
        power_off_source: request.power_off_source != api::oma::failovers::PowerOff::No,
        final_sync: request.final_sync,
    };
    failover_jobs::start(state.store(), &new).await?;
    let operation = format!("{} failover of {}", request.failover_type, facts.vm.name);
    let job = NewJob::new(saga_of(request.failover_type).job_type, operation, &params).map(|job| {
        let job = job.external_id(&params.job_id).vm_context(&params.vm_context_id);
        match child {
            Some(child) => job.with_id(child.tracking_id).child_of(child.parent),
            None => job,
        }
    });
    match begin(state, job).await {
        Ok(tracking_id) => Ok(Accepted { job_id: params.job_id, tracking_id }),
        Err(error) => {
            let cause = StepError::from_error(error.kind(), &error);
            failover_jobs::end(state.store(), &params.job_id, false, &cause, None).await?;
            Err(error.into())
        }
    }
}

async fn begin(state: &OmaState, job: Result<NewJob, JobError>) -> Result<String, JobError> {
    let job = job?;
    let tracking_id = job.id().to_owned();
    state.runner().start(job).await?;
    Ok(tracking_id)
}

/// Begins to put a test back.
///
/// # Errors
/// There is no such test, it is not one that stands, or it is being put back already.
pub(crate) async fn cleanup(state: &OmaState, job_id: &str) -> Result<Accepted, OmaError> {
    let row = failover_jobs::by_id(state.store(), job_id).await?;
    let standing = [FailoverStatus::Completed, FailoverStatus::Cleanup, FailoverStatus::Failed];
    refuse_other(&row, FailoverType::Test, &standing, "a test whose VM runs can be put back")?;
    end(state, &row, &CLEANUP, StartRollback::default(), format!("put back the test of {}", row.source_vm_name)).await
}

/// Begins to take a live failover back. One that waits for an operator past its pivot is given up first.
///
/// # Errors
/// There is no such failover, it is not a live one past its pivot, or it is being taken back already.
pub(crate) async fn rollback(state: &OmaState, job_id: &str, how: StartRollback) -> Result<Accepted, OmaError> {
    let row = failover_jobs::by_id(state.store(), job_id).await?;
    let standing = [
        FailoverStatus::SwitchingVolume,
        FailoverStatus::PoweringOn,
        FailoverStatus::Completed,
        FailoverStatus::Reverting,
        FailoverStatus::Failed,
    ];
    refuse_other(&row, FailoverType::Live, &standing, "a live failover past its pivot can be taken back")?;
    let vm = vm_replication_contexts::by_id(state.store(), &row.vm_context_id).await?;
    if *vm.current_status == ContextStatus::Completed {
        let problem = Problem::new(FailureKind::Conflict, format!("{job_id} was made final"));
        return Err(problem.remedy("there is no way back: move the VM like any other").into());
    }
    if let Some(waiting) = latest_job(state, job_id, LIVE.job_type).await?
        && waiting.status == JobStatus::NeedsOperator
    {
        state.runner().abandon(&waiting.id).await?;
    }
    end(state, &row, &ROLLBACK, how, format!("take back the failover of {}", row.source_vm_name)).await
}

/// Begins to make a live failover final.
///
/// # Errors
/// There is no such failover, or it is not a live one whose VM runs.
pub(crate) async fn commit(state: &OmaState, job_id: &str) -> Result<Accepted, OmaError> {
    let row = failover_jobs::by_id(state.store(), job_id).await?;
    let standing = [FailoverStatus::Completed];
    refuse_other(&row, FailoverType::Live, &standing, "a live failover whose VM runs can be made final")?;
    let operation = format!("make the failover of {} final", row.source_vm_name);
    end(state, &row, &COMMIT, StartRollback::default(), operation).await
}

fn refuse_other(
    row: &FailoverJob,
    of_type: FailoverType,
    standing: &[FailoverStatus],
    only: &str,
) -> Result<(), OmaError> {
    if *row.job_type == of_type && standing.contains(&row.status) {
        return Ok(());
    }
    let detail = format!("{} is a {} failover and {}: only {only}", row.job_id, *row.job_type, *row.status);
    let remedy = format!("see where it stands: migratekit failover show {}", row.job_id);
    Err(Problem::new(FailureKind::Conflict, detail).remedy(remedy).into())
}

/// Refuses to end a failover that has nothing left to be put back: an older one's steps would take the volumes from the
/// failover that holds them now, and one that was undone left nothing.
async fn refuse_ended(state: &OmaState, row: &FailoverJob) -> Result<(), OmaError> {
    let conflict = |detail: String, remedy: String| Problem::new(FailureKind::Conflict, detail).remedy(remedy);
    if let Some(holder) = failover_jobs::holding(state.store(), &row.vm_context_id).await?
        && holder.job_id != row.job_id
    {
        let detail = format!("{} holds {}, not {}", holder.job_id, row.source_vm_name, row.job_id);
        return Err(conflict(detail, format!("migratekit failover show {}", holder.job_id)).into());
    }
    let vm = vm_replication_contexts::by_id(state.store(), &row.vm_context_id).await?;
    if *row.status == FailoverStatus::Failed && *vm.current_status != ContextStatus::CleanupRequired {
        let detail = format!("{} failed and was undone: there is nothing to put back", row.job_id);
        return Err(conflict(detail, "begin another failover".to_owned()).into());
    }
    Ok(())
}

/// Begins an ending, unless a job works on the VM.
async fn end(
    state: &OmaState,
    row: &FailoverJob,
    saga: &'static Saga<OmaState>,
    rollback: StartRollback,
    operation: String,
) -> Result<Accepted, OmaError> {
    refuse_ended(state, row).await?;
    let params = EndParams { job_id: row.job_id.clone(), vm_context_id: row.vm_context_id.clone(), rollback };
    if let Some(job) = unfinished::job_of(state, &row.vm_context_id, &[]).await? {
        let problem = Problem::new(FailureKind::Conflict, format!("{} is under way: {}", job.job_type, job.operation));
        return Err(problem.remedy(format!("wait for it: migratekit job show {}", job.id)).job(&job.id).into());
    }
    let job = NewJob::new(saga.job_type, operation, &params)?;
    let job = job.external_id(&row.job_id).vm_context(&row.vm_context_id);
    let tracking_id = state.runner().start(job).await?;
    Ok(Accepted { job_id: row.job_id.clone(), tracking_id })
}

/// The newest job of a failover of one kind.
pub(super) async fn latest_job(state: &OmaState, job_id: &str, job_type: &str) -> Result<Option<JobRow>, OmaError> {
    let filter = JobFilter {
        external_job_id: Some(job_id.to_owned()),
        job_type: Some(job_type.to_owned()),
        limit: 1,
        ..JobFilter::default()
    };
    Ok(state.store().list_jobs(&filter).await?.jobs.into_iter().next())
}

/// Asks a failover that is under way to stop; what it did is undone.
///
/// # Errors
/// There is no such failover, or it is past its point of no return.
pub(crate) async fn cancel(state: &OmaState, job_id: &str) -> Result<(), OmaError> {
    let row = failover_jobs::by_id(state.store(), job_id).await?;
    let job = latest_job(state, job_id, saga_of(*row.job_type).job_type).await?;
    match job.filter(|job| !job.status.is_final()) {
        Some(job) => Ok(state.runner().cancel(&job.id).await?),
        None => {
            let remedy = "put a test back with `failover cleanup`, take a live one back with `failover rollback`";
            Err(Problem::new(FailureKind::Conflict, format!("{job_id} is not under way")).remedy(remedy).into())
        }
    }
}
