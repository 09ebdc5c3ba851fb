//! `/jobs`: the one queue of everything, with steps and log, and what an operator may say about a job.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::jobs::{JobDetail, JobQuery, JobView, LogEventView, LogQuery};
use api::page::{DEFAULT_LIMIT, Page};
use axum::extract::State;
use joblog::{JobFilter, JobRecord, JobStore, LogFilter, MAX_PAGE_JOBS, MAX_PAGE_LOG_EVENTS};

use crate::auth::Operator;
use crate::error::OmaError;
use crate::http::job_view;
use crate::state::OmaState;

/// Lists jobs, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    params(JobQuery),
    responses((status = 200, body = Page<JobView>), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn list(
    State(state): State<OmaState>,
    Query(query): Query<JobQuery>,
) -> Result<Json<Page<JobView>>, OmaError> {
    let filter = JobFilter {
        status: query.status,
        job_type: query.job_type,
        vm_context_id: query.vm,
        cursor: query.cursor,
        limit: query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_PAGE_JOBS),
        ..JobFilter::default()
    };
    let page = state.store().list_jobs(&filter).await?;
    let items = page.jobs.iter().map(job_view::job).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One job with its steps, and the jobs that are parts of it.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover")),
    responses((status = 200, body = JobDetail), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn get(State(state): State<OmaState>, Path(id): Path<String>) -> Result<Json<JobDetail>, OmaError> {
    let record = find(&state, &id).await?;
    let filter = JobFilter { parent_job_id: Some(record.job.id.clone()), limit: MAX_PAGE_JOBS, ..JobFilter::default() };
    let children = state.store().list_jobs(&filter).await?.jobs;
    Ok(Json(job_view::detail(&record, &children)))
}

/// The job's log after an event, oldest first; `next_cursor` is the `after` of the next page.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/log",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover"), LogQuery),
    responses(
        (status = 200, body = Page<LogEventView>),
        (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)
    )
)]
pub async fn log(
    State(state): State<OmaState>,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<Page<LogEventView>>, OmaError> {
    let job_id = find(&state, &id).await?.job.id;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_PAGE_LOG_EVENTS);
    let filter = LogFilter { job_id: Some(job_id), after: query.after.unwrap_or(0), limit };
    let events = state.store().log_after(&filter).await?;
    let is_full = u32::try_from(events.len()).is_ok_and(|count| count >= limit);
    let next_cursor = events.last().filter(|_| is_full).map(|event| event.id.to_string());
    Ok(Json(Page { items: events.iter().map(job_view::log_event).collect(), next_cursor }))
}

/// Asks to cancel a job: what was done is undone, unless it is past its point of no return.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn cancel(State(state): State<OmaState>, Path(id): Path<String>) -> Result<Json<JobView>, OmaError> {
    let job_id = find(&state, &id).await?.job.id;
    state.runner().cancel(&job_id).await?;
    Ok(Json(job_view::job(&find(&state, &job_id).await?.job)))
}

/// Continues a job that waits for an operator: repeats the step, or the undo, that failed.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/retry",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn retry(State(state): State<OmaState>, Path(id): Path<String>) -> Result<Json<JobView>, OmaError> {
    let job_id = find(&state, &id).await?.job.id;
    state.runner().retry(&job_id).await?;
    Ok(Json(job_view::job(&find(&state, &job_id).await?.job)))
}

/// Undoes a job whose point of no return has an unknown outcome, on the word of an operator who made sure that it did
/// not happen. The step counts as skipped; what was done before it is undone.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/turn-back",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn turn_back(
    State(state): State<OmaState>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<JobView>, OmaError> {
    let job_id = find(&state, &id).await?.job.id;
    state.runner().turn_back(&job_id).await?;
    tracing::warn!(
        job_id,
        operator = operator.name,
        "turned back: the operator made sure that the pivot did not happen"
    );
    Ok(Json(job_view::job(&find(&state, &job_id).await?.job)))
}

/// Gives up a job that waits for an operator: it ends as failed, and nothing more is done or undone. What it made stays.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/abandon",
    tag = "jobs",
    params(("id" = String, Path, description = "Id in the job log, or the id of the replication or failover")),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn abandon(
    State(state): State<OmaState>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<JobView>, OmaError> {
    let job_id = find(&state, &id).await?.job.id;
    state.runner().abandon(&job_id).await?;
    tracing::warn!(job_id, operator = operator.name, "abandoned: nothing more is done or undone");
    Ok(Json(job_view::job(&find(&state, &job_id).await?.job)))
}

/// A job by its id in the job log or by the domain's id, the newest where several have that.
///
/// # Errors
/// [`OmaError::NotFound`].
pub async fn find(state: &OmaState, id: &str) -> Result<JobRecord, OmaError> {
    if let Some(record) = state.store().load(id).await? {
        return Ok(record);
    }
    let filter = JobFilter { external_job_id: Some(id.to_owned()), limit: 1, ..JobFilter::default() };
    let tracking_id = state.store().list_jobs(&filter).await?.jobs.into_iter().next().map(|job| job.id);
    let missing = || OmaError::NotFound { what: "job", id: id.to_owned() };
    state.store().load(&tracking_id.ok_or_else(missing)?).await?.ok_or_else(missing)
}
