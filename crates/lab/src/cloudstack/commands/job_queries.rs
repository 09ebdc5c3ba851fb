//! queryAsyncJobResult and listAsyncJobs.

use super::super::entities::JobStatus;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::views::job as view;
use super::super::world::{Caller, World, now};
use super::{Answer, paged};

/// Answers about one job; while polls are left to withhold, a finished job still looks pending.
pub(super) fn query(world: &mut World, caller: &Caller, params: &Params) -> Answer {
    let id = params.required("jobid")?.to_owned();
    forget_old(world);
    let job = world.jobs.iter().find(|job| job.id == id).ok_or_else(|| params.no_such("jobid"))?;
    if !caller.root_admin && job.account_id != caller.account_id {
        return Err(Refusal::denied(format!("Account does not have permission to query job {id}")));
    }
    let withheld = job.status != JobStatus::Pending && job.pending_polls_left > 0;
    let answer = view::job(world, job, withheld);
    if let Some(job) = world.jobs.iter_mut().find(|job| job.id == id && withheld) {
        job.pending_polls_left -= 1;
    }
    Ok(answer)
}

fn forget_old(world: &mut World) {
    let retention = i64::try_from(world.config.jobs.retention_s).unwrap_or(i64::MAX);
    let oldest = now().saturating_sub(retention);
    world.jobs.retain(|job| job.completed.is_none_or(|completed| completed >= oldest));
}

pub(super) fn list(world: &World, caller: &Caller, params: &Params) -> Answer {
    let same = |name: &str, found: Option<&str>| params.text(name).is_none_or(|wanted| found == Some(wanted));
    let rows = world
        .jobs
        .iter()
        .filter(|job| world.lists(caller, params, &job.account_id))
        .filter(|job| same("resourceid", job.instance_id.as_deref()))
        .filter(|job| same("resourcetype", Some(&job.instance_type)))
        .map(|job| view::job(world, job, job.pending_polls_left > 0))
        .collect();
    paged(world, params, "asyncjobs", rows)
}
