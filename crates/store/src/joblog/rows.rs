//! Between the rows of the job log's tables and the values `joblog` works with.

use std::collections::HashMap;

use joblog::{JobRow, LogEventRow, NewLogEvent, StepError, StepRow};
use sea_orm::{ActiveValue, IntoActiveModel};
use serde_json::Value;
use time::OffsetDateTime;

use crate::job_steps::{self, Step};
use crate::job_tracking::{self, Job};
use crate::log_events::{self, LogEvent};
use crate::value::{Count, Timestamp, bounded_text, short_text};

/// The columns of an error; without one both are null.
pub(super) fn error_columns(error: Option<&StepError>) -> (Option<String>, Option<Value>) {
    error
        .map(StepError::to_columns)
        .map_or((None, None), |(message, detail)| (Some(bounded_text(message)), Some(detail)))
}

fn time(timestamp: Timestamp) -> OffsetDateTime {
    timestamp.into()
}

fn error(message: Option<String>, detail: Option<Value>) -> Option<StepError> {
    message.map(|message| StepError::from_columns(message, detail))
}

/// A number that was stored from one of the type asked for.
fn narrow<T: TryFrom<u64> + Default>(count: Count) -> T {
    T::try_from(*count).unwrap_or_default()
}

/// A job as `joblog` knows it.
pub(super) fn job(row: Job) -> JobRow {
    JobRow {
        id: row.id,
        parent_job_id: row.parent_job_id,
        root_job_id: row.root_job_id,
        job_type: row.job_type,
        operation: row.operation,
        status: *row.status,
        external_job_id: row.external_job_id,
        vm_context_id: row.vm_context_id,
        owner: row.owner,
        lease_until: row.lease_until.map(time),
        fence: narrow(row.fence),
        params: row.params,
        metadata: Some(row.metadata).filter(|metadata| !metadata.is_null()),
        error: error(row.error_message, row.error_detail),
        percent_complete: row.percent_complete,
        cancel_requested_at: row.canceled_at.map(time),
        created_at: time(row.created_at),
        started_at: row.started_at.map(time),
        completed_at: row.completed_at.map(time),
    }
}

/// The row of a new job.
pub(super) fn new_job(job: &JobRow) -> impl sea_orm::ActiveModelTrait<Entity = job_tracking::Entity> {
    let (error_message, error_detail) = error_columns(job.error.as_ref());
    Job {
        id: job.id.clone(),
        parent_job_id: job.parent_job_id.clone(),
        root_job_id: job.root_job_id.clone(),
        job_type: job.job_type.clone(),
        operation: short_text(&job.operation),
        status: job.status.into(),
        external_job_id: job.external_job_id.clone(),
        cloudstack_job_id: None,
        vm_context_id: job.vm_context_id.clone(),
        owner: job.owner.clone(),
        lease_until: job.lease_until.map(Timestamp::from),
        fence: Count(u64::try_from(job.fence).unwrap_or(0)),
        params: job.params.clone(),
        metadata: job.metadata.clone().unwrap_or(Value::Null),
        error_message,
        error_detail,
        percent_complete: job.percent_complete,
        started_at: job.started_at.map(Timestamp::from),
        completed_at: job.completed_at.map(Timestamp::from),
        canceled_at: job.cancel_requested_at.map(Timestamp::from),
        created_at: job.created_at.into(),
        updated_at: job.created_at.into(),
    }
    .into_active_model()
}

/// A step as `joblog` knows it.
pub(super) fn step(row: Step) -> StepRow {
    StepRow {
        id: row.id,
        job_id: row.job_id,
        seq: narrow(row.seq),
        name: row.name,
        kind: *row.kind,
        status: *row.status,
        attempt: narrow(row.attempt),
        output: row.output,
        error: error(row.error_message, row.error_detail),
        started_at: row.started_at.map(time),
        completed_at: row.completed_at.map(time),
    }
}

/// The row of a new step.
pub(super) fn new_step(step: &StepRow) -> impl sea_orm::ActiveModelTrait<Entity = job_steps::Entity> {
    let (error_message, error_detail) = error_columns(step.error.as_ref());
    Step {
        id: step.id.clone(),
        job_id: step.job_id.clone(),
        seq: step.seq.into(),
        name: step.name.clone(),
        kind: step.kind.into(),
        status: step.status.into(),
        attempt: step.attempt.into(),
        output: step.output.clone(),
        error_message,
        error_detail,
        started_at: step.started_at.map(Timestamp::from),
        completed_at: step.completed_at.map(Timestamp::from),
    }
    .into_active_model()
}

/// The row of a new log event; the database numbers it.
pub(super) fn new_log_event(event: &NewLogEvent) -> log_events::ActiveModel {
    let at = Timestamp::from(event.at);
    log_events::ActiveModel {
        id: ActiveValue::NotSet,
        job_id: ActiveValue::Set(event.job_id.clone()),
        step_id: ActiveValue::Set(event.step_id.clone()),
        level: ActiveValue::Set(event.level.into()),
        message: ActiveValue::Set(bounded_text(event.message.clone())),
        attrs: ActiveValue::Set(event.attrs.clone()),
        created_at: ActiveValue::Set(at),
        updated_at: ActiveValue::Set(at),
    }
}

/// Log events with the names of their steps.
pub(super) fn log_events(events: Vec<LogEvent>, steps: &[Step]) -> Vec<LogEventRow> {
    let names: HashMap<&str, &str> = steps.iter().map(|step| (step.id.as_str(), step.name.as_str())).collect();
    let named = |event: LogEvent| LogEventRow {
        step: event.step_id.as_deref().and_then(|id| names.get(id)).map(|name| (*name).to_owned()),
        id: event.id,
        job_id: event.job_id,
        step_id: event.step_id,
        level: *event.level,
        message: event.message,
        attrs: event.attrs,
        at: time(event.created_at),
    };
    events.into_iter().map(named).collect()
}
