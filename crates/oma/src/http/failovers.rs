//! `/failovers`: begun, watched, put back, taken back, made final.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::failovers::{FailoverPlan, FailoverView, GroupVerdict, StartFailover, StartRollback};
use api::oma::jobs::JobView;
use api::oma::replications::Accepted;
use api::page::{Page, PageQuery};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::status::FailoverType;
use serde::Deserialize;
use store::failover_jobs::{self, Filter};

use super::jobs;
use crate::error::OmaError;
use crate::failover::{group, params, start, view};
use crate::state::OmaState;

/// Query of a start.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StartQuery {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Begins a failover of a VM or of a group, or says what it would do.
#[utoipa::path(post, path = "/api/v1/failovers", tag = "failovers", params(StartQuery),
    request_body = StartFailover,
    responses((status = 200, body = FailoverPlan, description = "with dry_run"), (status = 202, body = Accepted),
        (status = "4XX", body = Problem)))]
pub(crate) async fn start(
    State(state): State<OmaState>,
    Query(query): Query<StartQuery>,
    Json(request): Json<StartFailover>,
) -> Result<Response, OmaError> {
    if request.group.is_some() {
        if query.dry_run {
            return Ok(Json(group::dry_run(&state, &request).await?).into_response());
        }
        let accepted = group::start(&state, &request).await?;
        return Ok(accepted_at(format!("/api/v1/jobs/{}", accepted.tracking_id), accepted));
    }
    if query.dry_run {
        return Ok(Json(start::dry_run(&state, &request).await?).into_response());
    }
    let accepted = start::start(&state, &request, None).await?;
    Ok(accepted_at(format!("/api/v1/failovers/{}", accepted.job_id), accepted))
}

fn accepted_at(location: String, accepted: Accepted) -> Response {
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response()
}

/// Query of the list.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only of this VM (context id).
    vm: Option<String>,
    /// Only those under way, or whose VM runs in the target cloud.
    #[serde(default)]
    standing: bool,
    /// Most items.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Failovers, newest first.
#[utoipa::path(get, path = "/api/v1/failovers", tag = "failovers", params(ListQuery),
    responses((status = 200, body = Page<FailoverView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<FailoverView>>, OmaError> {
    let limit = PageQuery { limit: query.limit, cursor: None }.bounded_limit();
    let filter = Filter { vm_context_id: query.vm, only_holding: query.standing, before: query.cursor };
    let rows = failover_jobs::list(state.store(), &filter, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next_cursor = rows.last().filter(|_| full).map(|row| row.job_id.clone());
    let items = rows.into_iter().map(|row| view::view(row, Vec::new())).collect();
    Ok(Json(Page { items, next_cursor }))
}

/// One failover with its jobs.
#[utoipa::path(get, path = "/api/v1/failovers/{job_id}", tag = "failovers",
    params(("job_id" = String, Path)),
    responses((status = 200, body = FailoverView), (status = "4XX", body = Problem)))]
pub(crate) async fn show(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<FailoverView>, OmaError> {
    let row = failover_jobs::by_id(state.store(), &job_id).await?;
    Ok(Json(view::with_jobs(&state, row).await?))
}

/// Puts a test back: every volume is reverted to its snapshot and the VM destroyed.
#[utoipa::path(post, path = "/api/v1/failovers/{job_id}/cleanup", tag = "failovers",
    params(("job_id" = String, Path)),
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn cleanup(State(state): State<OmaState>, Path(job_id): Path<String>) -> Result<Response, OmaError> {
    let accepted = match group::group_job(&state, &job_id).await? {
        Some(job) => group::cleanup(&state, &job).await?,
        None => start::cleanup(&state, &job_id).await?,
    };
    Ok(accepted_at(format!("/api/v1/jobs/{}", accepted.tracking_id), accepted))
}

/// Takes a live failover back: the volumes return to the hub and are compared by the next replication.
#[utoipa::path(post, path = "/api/v1/failovers/{job_id}/rollback", tag = "failovers",
    params(("job_id" = String, Path)), request_body = StartRollback,
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn rollback(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
    Json(how): Json<StartRollback>,
) -> Result<Response, OmaError> {
    let accepted = start::rollback(&state, &job_id, how).await?;
    Ok(accepted_at(format!("/api/v1/jobs/{}", accepted.tracking_id), accepted))
}

/// Makes a live failover final: its snapshots are deleted.
#[utoipa::path(post, path = "/api/v1/failovers/{job_id}/commit", tag = "failovers",
    params(("job_id" = String, Path)),
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn commit(State(state): State<OmaState>, Path(job_id): Path<String>) -> Result<Response, OmaError> {
    let accepted = start::commit(&state, &job_id).await?;
    Ok(accepted_at(format!("/api/v1/jobs/{}", accepted.tracking_id), accepted))
}

/// Asks a failover that is under way to stop; what it did is undone.
#[utoipa::path(post, path = "/api/v1/failovers/{job_id}/cancel", tag = "failovers",
    params(("job_id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem)))]
pub(crate) async fn cancel(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<JobView>, OmaError> {
    if group::group_job(&state, &job_id).await?.is_none() {
        start::cancel(&state, &job_id).await?;
        return Ok(Json(super::job_view::job(&jobs::find(&state, &job_id).await?.job)));
    }
    jobs::cancel(State(state), Path(job_id)).await
}

/// How a group's failover came out, once it has ended.
#[utoipa::path(get, path = "/api/v1/failovers/{job_id}/verdict", tag = "failovers",
    params(("job_id" = String, Path, description = "The group's failover (`failover-group-…`)")),
    responses((status = 200, body = GroupVerdict), (status = "4XX", body = Problem)))]
pub(crate) async fn verdict(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<GroupVerdict>, OmaError> {
    Ok(Json(group::verdict(&state, &job_id).await?))
}

/// Query of the readiness.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadinessQuery {
    /// Live or test.
    #[serde(rename = "type")]
    failover_type: FailoverType,
}

/// What a failover of a VM would make, and everything that stands against it.
#[utoipa::path(get, path = "/api/v1/vm-contexts/{vm}/failover-readiness", tag = "failovers",
    params(("vm" = String, Path, description = "Name or context id"), ReadinessQuery),
    responses((status = 200, body = FailoverPlan), (status = "4XX", body = Problem)))]
pub(crate) async fn readiness(
    State(state): State<OmaState>,
    Path(vm): Path<String>,
    Query(query): Query<ReadinessQuery>,
) -> Result<Json<FailoverPlan>, OmaError> {
    let request = params::plain_request(query.failover_type, &vm);
    Ok(Json(start::dry_run(&state, &request).await?))
}
