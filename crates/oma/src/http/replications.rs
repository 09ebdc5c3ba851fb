//! `/replications`: starting, watching and cancelling them; change ids.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::jobs::JobView;
use api::oma::replications::{
    Accepted, ChangeIdQuery, ChangeIdView, ReplicationPlan, ReplicationProgress, ReplicationView, StartReplication,
    StoreChangeId,
};
use api::page::{Page, PageQuery};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use store::commit::SingleChangeId;
use store::replication_jobs::{self, Filter};
use store::vm_disks;

use super::jobs;
use crate::error::OmaError;
use crate::replication;
use crate::state::OmaState;

/// Query of a start.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StartQuery {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Starts a replication, or says what it would do.
#[utoipa::path(post, path = "/api/v1/replications", tag = "replications", params(StartQuery),
    request_body = StartReplication,
    responses((status = 200, body = ReplicationPlan, description = "with dry_run"), (status = 202, body = Accepted),
        (status = "4XX", body = Problem)))]
pub(crate) async fn start(
    State(state): State<OmaState>,
    Query(query): Query<StartQuery>,
    Json(request): Json<StartReplication>,
) -> Result<Response, OmaError> {
    if query.dry_run {
        return Ok(Json(replication::dry_run(&state, &request).await?).into_response());
    }
    let accepted = replication::start(&state, &request).await?;
    let location = format!("/api/v1/replications/{}", accepted.job_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// Replications, newest first.
#[utoipa::path(get, path = "/api/v1/replications", tag = "replications", params(PageQuery),
    responses((status = 200, body = Page<ReplicationView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ReplicationView>>, OmaError> {
    let limit = page.bounded_limit();
    let filter = Filter { before: page.cursor, ..Filter::default() };
    let rows = replication_jobs::list(state.store(), &filter, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next_cursor = rows.last().filter(|_| full).map(|row| row.id.clone());
    let items = rows.into_iter().map(|row| replication::replication_view(row, None)).collect();
    Ok(Json(Page { items, next_cursor }))
}

/// One replication.
#[utoipa::path(get, path = "/api/v1/replications/{job_id}", tag = "replications",
    params(("job_id" = String, Path)),
    responses((status = 200, body = ReplicationView), (status = "4XX", body = Problem)))]
pub(crate) async fn show(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<ReplicationView>, OmaError> {
    Ok(Json(replication::progress(&state, &job_id).await?.replication))
}

/// One replication with its disks: live, or as it ended.
#[utoipa::path(get, path = "/api/v1/replications/{job_id}/progress", tag = "replications",
    params(("job_id" = String, Path)),
    responses((status = 200, body = ReplicationProgress), (status = "4XX", body = Problem)))]
pub(crate) async fn progress(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<ReplicationProgress>, OmaError> {
    Ok(Json(replication::progress(&state, &job_id).await?))
}

/// Asks a replication to stop; what it did is undone, the last committed replica stays as it is.
#[utoipa::path(post, path = "/api/v1/replications/{job_id}/cancel", tag = "replications",
    params(("job_id" = String, Path)),
    responses((status = 200, body = JobView), (status = "4XX", body = Problem)))]
pub(crate) async fn cancel(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
) -> Result<Json<JobView>, OmaError> {
    replication_jobs::by_id(state.store(), &job_id).await?;
    jobs::cancel(State(state), Path(job_id)).await
}

/// Deletes the row of a replication that has ended; disks, volumes and change ids stay.
#[utoipa::path(delete, path = "/api/v1/replications/{job_id}", tag = "replications",
    params(("job_id" = String, Path)),
    responses((status = 200), (status = "4XX", body = Problem)))]
pub(crate) async fn delete(State(state): State<OmaState>, Path(job_id): Path<String>) -> Result<Json<()>, OmaError> {
    replication_jobs::delete(state.store(), &job_id).await?;
    Ok(Json(()))
}

/// The newest committed change id of a disk; an empty one means: copy everything.
#[utoipa::path(get, path = "/api/v1/replications/changeid", tag = "replications", params(ChangeIdQuery),
    responses((status = 200, body = ChangeIdView), (status = "4XX", body = Problem)))]
pub(crate) async fn change_id(
    State(state): State<OmaState>,
    Query(query): Query<ChangeIdQuery>,
) -> Result<Json<ChangeIdView>, OmaError> {
    let found = vm_disks::change_id_of(state.store(), &query.vm_path, &query.disk_id).await?;
    let change_id = found.map(|id| id.to_string()).unwrap_or_default();
    Ok(Json(ChangeIdView { vm_path: query.vm_path, disk_id: query.disk_id, change_id }))
}

/// Stores the change id of one disk of a committed replication.
#[utoipa::path(post, path = "/api/v1/replications/{job_id}/changeid", tag = "replications",
    params(("job_id" = String, Path)), request_body = StoreChangeId,
    responses((status = 200, body = ChangeIdView), (status = "4XX", body = Problem)))]
pub(crate) async fn store_change_id(
    State(state): State<OmaState>,
    Path(job_id): Path<String>,
    Json(request): Json<StoreChangeId>,
) -> Result<Json<ChangeIdView>, OmaError> {
    let job = replication_jobs::by_id(state.store(), &job_id).await?;
    let change = SingleChangeId {
        job_id,
        disk_id: request.disk_id.clone(),
        change_id: request.change_id.clone(),
        previous_change_id: request.previous_change_id,
    };
    store::commit::store_change_id(state.store(), &change).await?;
    let change_id = request.change_id.to_string();
    Ok(Json(ChangeIdView { vm_path: job.source_vm_path, disk_id: request.disk_id, change_id }))
}
