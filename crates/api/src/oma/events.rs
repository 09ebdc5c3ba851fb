//! `GET /api/v1/events` and `GET /api/v1/jobs/{id}/events`: server-sent events, resumable by `Last-Event-ID` (the log
//! event's number).

use serde::{Deserialize, Serialize};

use super::jobs::{JobView, LogEventView};
use super::progress::JobProgress;
use super::replications::ReplicationView;

/// What an event carries; the SSE `event` field has the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HubEvent {
    /// A job or one of its steps changed.
    Job(Box<JobView>),
    /// A replication moved on.
    Replication(Box<ReplicationView>),
    /// How far a replication is: only the latest counts.
    Progress(Box<JobProgress>),
    /// A line was logged.
    Log(LogEventView),
}

/// Filters of the stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only of this VM (context id).
    pub vm: Option<String>,
    /// Only of this job (JobLog id or domain id).
    pub job: Option<String>,
}
