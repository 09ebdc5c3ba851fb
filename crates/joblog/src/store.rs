//! What the job log needs of a database, and the rows it keeps there. Decides nothing: `machine` does.
//!
//! Tables `job_tracking`, `job_steps` and `log_events`. Exactly one runner writes a job at a time: [`JobStore::claim`]
//! raises the job's fence and every later write names it, so a runner that was taken over can change nothing.

use async_trait::async_trait;
use model::status::{JobStatus, LogLevel, StepKind, StepStatus};
use serde_json::Value;
use time::OffsetDateTime;

use crate::error::JobError;
use crate::failure::StepError;

/// Most items a page of jobs may have.
pub const MAX_PAGE_JOBS: u32 = 500;
/// Most log events one read may return: 500 events of the largest size are 10 MiB.
pub const MAX_PAGE_LOG_EVENTS: u32 = 500;

/// A row of `job_tracking`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// UUIDv7 text ([`model::id::new_id`]): ids sort by creation, and pages rely on it.
    pub id: String,
    /// The job this one is a part of.
    pub parent_job_id: Option<String>,
    /// The top of its family; its own id when it has no parent.
    pub root_job_id: String,
    /// The saga's type, `lower_snake`.
    pub job_type: String,
    /// What exactly is done, for people.
    pub operation: String,
    /// Where it stands.
    pub status: JobStatus,
    /// The id in the domain's table.
    pub external_job_id: Option<String>,
    /// The VM it is about.
    pub vm_context_id: Option<String>,
    /// The process instance that holds it; none when nobody does.
    pub owner: Option<String>,
    /// Until when the owner may write without saying that it lives; none when nobody holds it.
    pub lease_until: Option<OffsetDateTime>,
    /// Rises with every claim.
    pub fence: i64,
    /// What the job was asked to do.
    pub params: Value,
    /// What its creator wanted to remember; the runner neither reads nor writes it.
    pub metadata: Option<Value>,
    /// Why it failed or waits for an operator (`error_message` and `error_detail`: see [`StepError::to_columns`]).
    pub error: Option<StepError>,
    /// 0 to 100.
    pub percent_complete: f64,
    /// When somebody asked to cancel it (column `canceled_at`); what comes of that is in `status`.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When a runner first took it.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub completed_at: Option<OffsetDateTime>,
}

/// A row of `job_steps`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// UUIDv7 text.
    pub id: String,
    /// Its job.
    pub job_id: String,
    /// Place in the job, from 0.
    pub seq: u32,
    /// The step's name, unique in its job.
    pub name: String,
    /// How it may end.
    pub kind: StepKind,
    /// Where it stands.
    pub status: StepStatus,
    /// How often it was begun.
    pub attempt: u32,
    /// What it left for later steps and for its undo; may be there before it completes (a checkpoint).
    pub output: Option<Value>,
    /// Why it (or its undo) failed, or stumbled last.
    pub error: Option<StepError>,
    /// When it first began.
    pub started_at: Option<OffsetDateTime>,
    /// When its last outcome was recorded.
    pub completed_at: Option<OffsetDateTime>,
}

/// A job with its steps in order.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job.
    pub job: JobRow,
    /// Its steps by `seq`.
    pub steps: Vec<StepRow>,
}

/// A request to become the one runner of a job.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The job.
    pub job_id: String,
    /// Who claims: the name of the process instance.
    pub owner: String,
    /// The present moment.
    pub now: OffsetDateTime,
    /// Until when the claim holds without a heartbeat.
    pub lease_until: OffsetDateTime,
    /// Statuses in which the job may be claimed.
    pub statuses: &'static [JobStatus],
    /// Also when the unexpired lease is this owner's own: only right after a start, when nothing of it can run.
    pub take_own: bool,
}

/// Which jobs a runner could claim.
#[derive(Debug, Clone)]
pub struct ClaimableFilter {
    /// Types this runner has code for.
    pub job_types: Vec<String>,
    /// Statuses of unfinished work.
    pub statuses: &'static [JobStatus],
    /// Leases that ended at or before this moment are free.
    pub now: OffsetDateTime,
    /// Also jobs whose unexpired lease this owner holds.
    pub also_owned_by: Option<String>,
    /// Most ids wanted.
    pub limit: u32,
}

/// The right to write one job, proven by its fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job_id: String,
    /// Who holds it.
    pub owner: String,
    /// The fence of the claim.
    pub fence: i64,
}

/// What a holder learns when it says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whether somebody asked to cancel the job.
    pub cancel_requested: bool,
}

/// The columns of a job that its runner writes, all of them each time.
#[derive(Debug, Clone, PartialEq)]
pub struct JobWrite {
    /// New status; refused with [`JobError::Conflict`] when `model`'s transitions do not allow it.
    pub status: JobStatus,
    /// New error columns; none clears them.
    pub error: Option<StepError>,
    /// 0 to 100.
    pub percent_complete: f64,
    /// When a runner first took it.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub completed_at: Option<OffsetDateTime>,
    /// Whether the lease ends with this write (`owner` and `lease_until` become null, the fence stays).
    pub release: bool,
}

/// A log event that is not stored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLogEvent {
    /// The job; none for what concerns the log itself.
    pub job_id: Option<String>,
    /// The step row.
    pub step_id: Option<String>,
    /// The step's name, for listeners; stored only through `step_id`.
    pub step: Option<String>,
    /// Level.
    pub level: LogLevel,
    /// The message.
    pub message: String,
    /// A JSON object of the event's fields.
    pub attrs: Value,
    /// When it happened.
    pub at: OffsetDateTime,
}

/// A row of `log_events`.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEventRow {
    /// Rising number: the `Last-Event-ID` of listeners.
    pub id: i64,
    /// The job.
    pub job_id: Option<String>,
    /// The step row.
    pub step_id: Option<String>,
    /// The step's name (joined through `step_id`).
    pub step: Option<String>,
    /// Level.
    pub level: LogLevel,
    /// The message.
    pub message: String,
    /// A JSON object of the event's fields.
    pub attrs: Value,
    /// When it happened (column `ts`/`created_at`).
    pub at: OffsetDateTime,
}

/// Which jobs to list; newest first. An absent field does not filter.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only this status.
    pub status: Option<JobStatus>,
    /// Only this type.
    pub job_type: Option<String>,
    /// Only of this VM.
    pub vm_context_id: Option<String>,
    /// Only the one with this domain id.
    pub external_job_id: Option<String>,
    /// Only children of this job.
    pub parent_job_id: Option<String>,
    /// Only jobs with an id below this one: the `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most items wanted; at most [`MAX_PAGE_JOBS`].
    pub limit: u32,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobRow>,
    /// Where the next page begins (the id of the last job); none when this is the last page.
    pub next_cursor: Option<String>,
}

/// Which log events to read; oldest first.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only of this job.
    pub job_id: Option<String>,
    /// Only with an id above this one.
    pub after: i64,
    /// Most events wanted; at most [`MAX_PAGE_LOG_EVENTS`].
    pub limit: u32,
}

/// Keeps jobs. Every method is one transaction; errors are [`JobError::Store`] unless a method says otherwise.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Inserts a job and its steps.
    ///
    /// # Errors
    /// [`JobError::Conflict`] when the id exists; [`JobError::UnknownJob`] when the parent does not.
    async fn create(&self, job: &JobRow, steps: &[StepRow]) -> Result<(), JobError>;

    /// A job with its steps, or none.
    async fn load(&self, job_id: &str) -> Result<Option<JobRecord>, JobError>;

    /// Makes the caller the holder and raises the fence by one, if the status is among the request's and nobody else's
    /// lease is unexpired (free: `owner` or `lease_until` null, or `lease_until <= now`, or own with `take_own`).
    /// Answers with the job as it is after the claim; none when it cannot be claimed or does not exist.
    async fn claim(&self, request: &ClaimRequest) -> Result<Option<JobRecord>, JobError>;

    /// Ids of jobs that [`JobStore::claim`] would give now, oldest first.
    async fn claimable(&self, filter: &ClaimableFilter) -> Result<Vec<String>, JobError>;

    /// Moves the end of the lease.
    ///
    /// # Errors
    /// [`JobError::FencedOff`] when owner or fence are no longer the job's.
    async fn heartbeat(&self, lease: &Lease, lease_until: OffsetDateTime) -> Result<Heartbeat, JobError>;

    /// Writes the runner's columns of the job and, if given, of one step (by `job_id` and `seq`: status, attempt,
    /// output, error, started_at, completed_at) together.
    ///
    /// # Errors
    /// [`JobError::FencedOff`] as in [`JobStore::heartbeat`]; [`JobError::Conflict`] for an illegal transition.
    async fn save(&self, lease: &Lease, job: &JobWrite, step: Option<&StepRow>) -> Result<(), JobError>;

    /// Writes `percent_complete` only.
    ///
    /// # Errors
    /// [`JobError::FencedOff`] as in [`JobStore::heartbeat`].
    async fn save_progress(&self, lease: &Lease, percent_complete: f64) -> Result<(), JobError>;

    /// Notes that the job shall be cancelled, if it is pending or running (a repeat keeps the first moment). Needs no
    /// lease: the holder learns of it with its next heartbeat. Answers with the job as it is then.
    ///
    /// # Errors
    /// [`JobError::UnknownJob`]; [`JobError::Conflict`] in any other status.
    async fn request_cancel(&self, job_id: &str, now: OffsetDateTime) -> Result<JobRow, JobError>;

    /// Appends events in the given order and answers with their ids, in that order and rising. All or none.
    async fn append_log(&self, events: &[NewLogEvent]) -> Result<Vec<i64>, JobError>;

    /// A page of jobs.
    async fn list_jobs(&self, filter: &JobFilter) -> Result<JobPage, JobError>;

    /// Log events after an id.
    async fn log_after(&self, filter: &LogFilter) -> Result<Vec<LogEventRow>, JobError>;
}
