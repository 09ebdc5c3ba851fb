//! `/jobs`: one queue for everything, with steps and log.

use model::status::{JobStatus, LogLevel, StepKind, StepStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::problem::Problem;

/// Filters of `GET /api/v1/jobs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// Only this status.
    pub status: Option<JobStatus>,
    /// Only this type.
    #[serde(rename = "type")]
    pub job_type: Option<String>,
    /// Only of this VM (context id).
    pub vm: Option<String>,
    /// Most items wanted.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A job of the JobLog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobView {
    /// Row id.
    pub id: String,
    /// The job it belongs to.
    pub parent_job_id: Option<String>,
    /// What kind of work.
    pub job_type: String,
    /// What exactly, for people.
    pub operation: String,
    /// Status.
    pub status: JobStatus,
    /// The id in the domain table.
    pub external_job_id: Option<String>,
    /// The VM.
    pub vm_context_id: Option<String>,
    /// The process that runs it.
    pub owner: Option<String>,
    /// 0 to 100.
    pub percent_complete: f64,
    /// Why it failed.
    pub error: Option<Problem>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

/// `GET /api/v1/jobs/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobDetail {
    /// The job.
    pub job: JobView,
    /// Its steps in order.
    pub steps: Vec<StepView>,
    /// The jobs that are parts of it, the oldest first; the newest 500 where there are more.
    #[serde(default)]
    pub children: Vec<JobView>,
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepView {
    /// Place in the job.
    pub seq: u32,
    /// Name.
    pub name: String,
    /// How it may end.
    pub kind: StepKind,
    /// Status.
    pub status: StepStatus,
    /// How often it was begun.
    pub attempt: u32,
    /// What it left.
    #[schema(value_type = Option<Object>)]
    pub output: Option<Value>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub completed_at: Option<OffsetDateTime>,
}

/// Query of `GET /api/v1/jobs/{id}/log`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only events after this id.
    pub after: Option<i64>,
    /// Most events wanted.
    pub limit: Option<u32>,
}

/// An event of a job's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogEventView {
    /// Rising number.
    pub id: i64,
    /// The job.
    pub job_id: Option<String>,
    /// The step's name.
    pub step: Option<String>,
    /// Level.
    pub level: LogLevel,
    /// The message.
    pub message: String,
    /// Fields of the event.
    #[schema(value_type = Object)]
    pub attrs: Value,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}
