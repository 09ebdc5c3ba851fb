//! Rows of the job log as the API shows them. Pure.

use api::Problem;
use api::oma::jobs::{JobDetail, JobView, LogEventView, StepView};
use joblog::{JobRecord, JobRow, LogEventRow, StepError, StepRow};

/// A job.
#[must_use]
pub fn job(row: &JobRow) -> JobView {
    JobView {
        id: row.id.clone(),
        parent_job_id: row.parent_job_id.clone(),
        job_type: row.job_type.clone(),
        operation: row.operation.clone(),
        status: row.status,
        external_job_id: row.external_job_id.clone(),
        vm_context_id: row.vm_context_id.clone(),
        owner: row.owner.clone(),
        percent_complete: row.percent_complete,
        error: row.error.as_ref().map(|error| problem(error, job_name(row))),
        created_at: row.created_at,
        started_at: row.started_at,
        completed_at: row.completed_at,
    }
}

/// A job with its steps and its parts, which come newest first and are shown in the order in which they were made.
#[must_use]
pub fn detail(record: &JobRecord, children: &[JobRow]) -> JobDetail {
    let name = job_name(&record.job);
    JobDetail {
        job: job(&record.job),
        steps: record.steps.iter().map(|row| step(row, name)).collect(),
        children: children.iter().rev().map(job).collect(),
    }
}

/// A line of the log.
#[must_use]
pub fn log_event(row: &LogEventRow) -> LogEventView {
    LogEventView {
        id: row.id,
        job_id: row.job_id.clone(),
        step: row.step.clone(),
        level: row.level,
        message: row.message.clone(),
        attrs: row.attrs.clone(),
        at: row.at,
    }
}

/// A step's failure as a problem of a job.
#[must_use]
pub fn problem(error: &StepError, job_id: &str) -> Problem {
    let mut problem = Problem::new(error.kind, error.message.clone()).job(job_id);
    problem.remedy.clone_from(&error.remedy);
    problem.evidence = error.detail.as_ref().map(ToString::to_string);
    problem
}

fn step(row: &StepRow, job_id: &str) -> StepView {
    StepView {
        seq: row.seq,
        name: row.name.clone(),
        kind: row.kind,
        status: row.status,
        attempt: row.attempt,
        output: row.output.clone(),
        error: row.error.as_ref().map(|error| problem(error, job_id)),
        started_at: row.started_at,
        completed_at: row.completed_at,
    }
}

/// The id people know a job by.
fn job_name(row: &JobRow) -> &str {
    row.external_job_id.as_deref().unwrap_or(&row.id)
}
