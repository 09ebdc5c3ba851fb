//! A group's failover: its members by boot order, one job for the whole with one child for each VM, one verdict.
//!
//! Members of one order are begun together, bounded by the group's own limit; each waits its own delay. A later order
//! begins when the one before has ended; whether it does after a failure is the operator's choice.

use std::time::Duration;

use api::Problem;
use api::oma::failovers::{FailoverPlan, GroupVerdict, MemberVerdict, StartFailover};
use api::oma::probes::ProbeResult;
use api::oma::replications::Accepted;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use joblog::{JobRecord, JobRow, JobStore, NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{FailoverType, JobStatus, StepStatus};
use serde::{Deserialize, Serialize};
use store::{failover_jobs, vm_group_memberships, vm_machine_groups};
use time::OffsetDateTime;

use super::start::{self, Child};
use crate::error::OmaError;
use crate::failure::{defect, failed};
use crate::replication::merged;
use crate::state::OmaState;

/// Members begun at once when the group does not say.
const DEFAULT_AT_ONCE: usize = 4;

/// Runs a group's members.
pub static GROUP: Saga<OmaState> = Saga {
    job_type: "failover_group",
    steps: &[
        Step::check("validate", |state, context| Box::pin(validate(state, context))),
        Step::undoable(
            "members",
            |state, context| Box::pin(run_members(state, context)),
            |state, context| Box::pin(stop_members(state, context)),
        )
        .with_weight(20),
    ],
    finished: |_, _| Box::pin(async { Ok(()) }),
};

/// Puts every member of a group's test back, last begun first.
pub static GROUP_CLEANUP: Saga<OmaState> = Saga {
    job_type: "failover_group_cleanup",
    steps: &[Step::retried("members", |state, context| Box::pin(clean_members(state, context)))],
    finished: |_, _| Box::pin(async { Ok(()) }),
};

/// What a group's job remembers.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// `failover-group-…`.
    job_id: String,
    group_id: String,
    request: StartFailover,
    members: Vec<Member>,
}

/// A member with the ids of its child, chosen before it begins so that a repeat finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    vm_context_id: String,
    vm_name: String,
    boot_order: i64,
    delay_seconds: u64,
    tracking_id: String,
    job_id: String,
}

impl Member {
    fn request(&self, of: &StartFailover) -> StartFailover {
        StartFailover { vm_context_id: Some(self.vm_context_id.clone()), group: None, ..of.clone() }
    }

    fn verdict(&self, job_id: Option<String>, passed: bool, message: String) -> MemberVerdict {
        MemberVerdict {
            vm_context_id: self.vm_context_id.clone(),
            vm_name: self.vm_name.clone(),
            boot_order: self.boot_order,
            job_id,
            passed,
            message,
        }
    }
}

async fn members_of(state: &OmaState, request: &StartFailover) -> Result<(String, String, Vec<Member>), OmaError> {
    let named = request.group.as_deref().unwrap_or_default();
    let group = vm_machine_groups::find(state.store(), named).await?;
    let invalid = |reason: &str| OmaError::Invalid { what: "the failover of a group", reason: reason.to_owned() };
    if request.vm_context_id.is_some() {
        return Err(invalid("names a VM, too: name one of the two"));
    }
    if request.destination_name.is_some() {
        return Err(invalid("cannot give all its VMs one name: leave the name out"));
    }
    let mut members = Vec::new();
    for member in vm_group_memberships::of_group(state.store(), &group.id).await? {
        if !member.row.enabled {
            continue;
        }
        members.push(Member {
            vm_context_id: member.row.vm_context_id,
            vm_name: member.vm_name,
            boot_order: member.row.boot_order,
            delay_seconds: *member.row.boot_delay_seconds,
            tracking_id: model::id::new_id(),
            job_id: model::id::failover_job_id(OffsetDateTime::now_utc()),
        });
    }
    if members.is_empty() {
        let detail = format!("group {} has no enabled members", group.name);
        let remedy = format!("migratekit group add {} VM", group.name);
        return Err(Problem::new(FailureKind::Conflict, detail).remedy(remedy).into());
    }
    Ok((group.id, group.name, members))
}

/// What a group's failover would do: a plan for each member, in order.
///
/// # Errors
/// There is no such group, or it has no members; the database fails.
pub(crate) async fn dry_run(state: &OmaState, request: &StartFailover) -> Result<Vec<FailoverPlan>, OmaError> {
    let (_, _, members) = members_of(state, request).await?;
    let mut plans = Vec::with_capacity(members.len());
    for member in members {
        plans.push(start::dry_run(state, &member.request(request)).await?);
    }
    Ok(plans)
}

/// Begins a group's failover.
///
/// # Errors
/// There is no such group, it has no members, or something stands against one of them; nothing is begun then.
pub(crate) async fn start(state: &OmaState, request: &StartFailover) -> Result<Accepted, OmaError> {
    let (group_id, name, members) = members_of(state, request).await?;
    if let Some(problem) = blockers(state, &members, request).await? {
        return Err(problem.into());
    }
    let job_id = model::id::failover_job_id(OffsetDateTime::now_utc()).replacen("failover-", "failover-group-", 1);
    let operation = format!("{} failover of the group {name}, {} VMs", request.failover_type, members.len());
    let params = Params { job_id: job_id.clone(), group_id, request: request.clone(), members };
    let job = NewJob::new(GROUP.job_type, operation, &params)?.external_id(&job_id);
    let tracking_id = state.runner().start(job).await?;
    Ok(Accepted { job_id, tracking_id })
}

/// Everything that stands against any member, as one problem.
async fn blockers(state: &OmaState, members: &[Member], request: &StartFailover) -> Result<Option<Problem>, OmaError> {
    let mut all = Vec::new();
    for member in members {
        let (_, _, decision) = start::decided(state, &member.request(request)).await?;
        all.extend(
            decision
                .blockers
                .into_iter()
                .map(|problem| Problem { detail: format!("{}: {}", member.vm_name, problem.detail), ..problem }),
        );
    }
    Ok(merged("the group", all))
}

async fn validate(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    match blockers(state, &params.members, &params.request).await.map_err(failed)? {
        Some(problem) => Err(crate::failure::step_failure(problem)),
        None => output(&()),
    }
}

async fn run_members(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let group = vm_machine_groups::find(state.store(), &params.group_id).await.map_err(failed)?;
    let at_once = usize::try_from(*group.max_concurrent_vms).unwrap_or(usize::MAX);
    let at_once = if at_once == 0 { DEFAULT_AT_ONCE } else { at_once };
    let mut verdicts: Vec<MemberVerdict> = Vec::with_capacity(params.members.len());
    for order in params.members.chunk_by(|a, b| a.boot_order == b.boot_order) {
        let gives_up = !params.request.go_on_after_failure && verdicts.iter().any(|verdict| !verdict.passed);
        if gives_up {
            let skipped = "its turn did not come: a member before it failed".to_owned();
            verdicts.extend(order.iter().map(|member| member.verdict(None, false, skipped.clone())));
            continue;
        }
        let mut running: Vec<BoxFuture<'_, Result<MemberVerdict, StepError>>> = Vec::with_capacity(order.len());
        for member in order {
            running.push(Box::pin(run_member(state, context, &params, member)));
        }
        let ended: Vec<Result<MemberVerdict, StepError>> = stream::iter(running).buffered(at_once).collect().await;
        for verdict in ended {
            verdicts.push(verdict?);
        }
        #[allow(clippy::cast_precision_loss, reason = "a share of a few members")]
        context.progress(verdicts.len() as f64 / params.members.len() as f64);
    }
    let passed = verdicts.iter().all(|verdict| verdict.passed);
    tracing::info!(passed, members = verdicts.len(), "the group's verdict");
    output(&GroupVerdict { passed, members: verdicts })
}

/// Begins a member after its delay and waits for its end; what it says is its verdict, not the group's failure.
async fn run_member(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    member: &Member,
) -> Result<MemberVerdict, StepError> {
    let begun = state.store().load(&member.tracking_id).await.map_err(failed)?.is_some();
    if !begun {
        tokio::select! {
            () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
            () = tokio::time::sleep(Duration::from_secs(member.delay_seconds)) => {}
        }
        let child = Child { parent: context.job(), tracking_id: &member.tracking_id, job_id: &member.job_id };
        if let Err(error) = start::start(state, &member.request(&params.request), Some(&child)).await {
            if error.kind().is_transient() {
                return Err(failed(error));
            }
            return Ok(member.verdict(None, false, format!("not begun: {}", failed(error))));
        }
        tracing::info!(vm = member.vm_name, job = member.job_id, "began a member");
    }
    let job = tokio::select! {
        () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
        job = state.runner().wait(&member.tracking_id) => job.map_err(failed)?,
    };
    let (passed, message) = judged(state, &job, &member.job_id).await?;
    Ok(member.verdict(Some(member.job_id.clone()), passed, message))
}

async fn judged(state: &OmaState, job: &JobRow, job_id: &str) -> Result<(bool, String), StepError> {
    if job.status != JobStatus::Completed {
        let why = job.error.as_ref().map(ToString::to_string).unwrap_or_default();
        return Ok((false, format!("{}: {why}", job.status)));
    }
    let row = failover_jobs::by_id(state.store(), job_id).await.map_err(failed)?;
    let probes: Vec<ProbeResult> = match row.probe_results {
        Some(results) => serde_json::from_value(results).map_err(|error| defect(error.to_string()))?,
        None => Vec::new(),
    };
    let failed_probes: Vec<String> = probes
        .iter()
        .filter(|probe| !probe.passed)
        .map(|probe| format!("{}: {}", probe.probe, probe.message))
        .collect();
    Ok(match (failed_probes.is_empty(), probes.len()) {
        (true, 0) => (true, "runs".to_owned()),
        (true, count) => (true, format!("runs, {count} probes passed")),
        (false, _) => (false, format!("runs, but {}", failed_probes.join("; "))),
    })
}

/// Stops the members that are under way; those whose VM runs stay, to be cleaned up by their own jobs.
async fn stop_members(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let params: Params = context.params()?;
    for member in params.members.iter().rev() {
        let Some(record) = state.store().load(&member.tracking_id).await.map_err(failed)? else { continue };
        if matches!(record.job.status, JobStatus::Pending | JobStatus::Running | JobStatus::Unwinding) {
            match state.runner().cancel(&member.tracking_id).await {
                Err(joblog::JobError::Conflict { .. }) | Ok(()) => {}
                Err(error) => return Err(failed(error)),
            }
            state.runner().wait(&member.tracking_id).await.map_err(failed)?;
        }
        if params.request.failover_type == FailoverType::Test {
            clean_member(state, member).await?;
        }
    }
    Ok(())
}

/// The job of a group's failover, if the id is one's.
///
/// # Errors
/// The database fails.
pub(crate) async fn group_job(state: &OmaState, job_id: &str) -> Result<Option<JobRow>, OmaError> {
    start::latest_job(state, job_id, GROUP.job_type).await
}

/// Begins to put every member of a group's test back.
///
/// # Errors
/// The group's failover is under way, or was a live one.
pub(crate) async fn cleanup(state: &OmaState, job: &JobRow) -> Result<Accepted, OmaError> {
    let params: Params = serde_json::from_value(job.params.clone())
        .map_err(|error| OmaError::Invalid { what: "the group's job", reason: error.to_string() })?;
    let conflict =
        |detail: String, remedy: &str| Err(Problem::new(FailureKind::Conflict, detail).remedy(remedy).into());
    if params.request.failover_type != FailoverType::Test {
        return conflict(format!("{} is a live failover", params.job_id), "take its members back one by one");
    }
    if matches!(job.status, JobStatus::Pending | JobStatus::Running | JobStatus::Unwinding) {
        return conflict(format!("{} is under way", params.job_id), "wait for it, or cancel it");
    }
    let operation = format!("put back the test of {} VMs", params.members.len());
    let new = NewJob::new(GROUP_CLEANUP.job_type, operation, &params)?.external_id(&params.job_id);
    let tracking_id = state.runner().start(new).await?;
    Ok(Accepted { job_id: params.job_id, tracking_id })
}

async fn clean_members(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let mut first_failure = None;
    for member in params.members.iter().rev() {
        // One that cannot be put back keeps no other from it.
        if let Err(error) = clean_member(state, member).await {
            tracing::warn!(vm = member.vm_name, "{error}");
            first_failure.get_or_insert(error);
        }
    }
    match first_failure {
        Some(error) => Err(error),
        None => output(&()),
    }
}

/// Puts a member's test back and waits until it is.
async fn clean_member(state: &OmaState, member: &Member) -> Result<(), StepError> {
    let row = match failover_jobs::by_id(state.store(), &member.job_id).await {
        Err(error) if error.kind() == FailureKind::NotFound => return Ok(()),
        row => row.map_err(failed)?,
    };
    let unfinished = start::latest_job(state, &member.job_id, super::CLEANUP.job_type).await.map_err(failed)?;
    let waiting_for = match unfinished.filter(|job| !matches!(job.status, JobStatus::Failed | JobStatus::Cancelled)) {
        Some(job) => job.id,
        // Standing, or a cleanup of it was given up.
        None if row.holds_vm() => start::cleanup(state, &member.job_id).await.map_err(failed)?.tracking_id,
        None => return Ok(()),
    };
    let job = state.runner().wait(&waiting_for).await.map_err(failed)?;
    if job.status == JobStatus::Completed {
        return Ok(());
    }
    let message = format!("the test of {} could not be put back: its cleanup is {}", member.vm_name, job.status);
    Err(StepError::new(FailureKind::Conflict, message).remedy(format!("migratekit job show {waiting_for}")))
}

/// How a group's failover came out.
///
/// # Errors
/// There is no such failover, or it has not ended.
pub(crate) async fn verdict(state: &OmaState, job_id: &str) -> Result<GroupVerdict, OmaError> {
    let missing = || OmaError::NotFound { what: "failover of a group", id: job_id.to_owned() };
    let job = group_job(state, job_id).await?.ok_or_else(missing)?;
    let record: JobRecord = state.store().load(&job.id).await?.ok_or_else(missing)?;
    let step = record.steps.iter().find(|step| step.name == "members" && step.status == StepStatus::Completed);
    let verdict = step.and_then(|step| step.output.clone()).and_then(|output| serde_json::from_value(output).ok());
    verdict.ok_or_else(|| {
        let detail = format!("{job_id} has no verdict: it is {}", job.status);
        Problem::new(FailureKind::Conflict, detail).remedy(format!("migratekit job show {job_id}")).into()
    })
}
