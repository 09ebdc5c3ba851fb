//! `/ossea-configs`: the CloudStack targets. Keys go in and never come out.

use api::Problem;
use api::extract::{Json, Path};
use api::oma::targets::{TargetReport, TargetRequest, TargetView};
use api::page::Page;
use axum::extract::State;

use crate::error::OmaError;
use crate::state::OmaState;
use crate::targets;

/// Adds a target.
#[utoipa::path(post, path = "/api/v1/ossea-configs", tag = "ossea-configs", request_body = TargetRequest,
    responses((status = 200, body = TargetView), (status = "4XX", body = Problem)))]
pub(crate) async fn create(
    State(state): State<OmaState>,
    Json(request): Json<TargetRequest>,
) -> Result<Json<TargetView>, OmaError> {
    Ok(Json(targets::create(&state, &request).await?))
}

/// Replaces a target.
#[utoipa::path(put, path = "/api/v1/ossea-configs/{target}", tag = "ossea-configs", request_body = TargetRequest,
    params(("target" = String, Path, description = "Name or id")),
    responses((status = 200, body = TargetView), (status = "4XX", body = Problem)))]
pub(crate) async fn replace(
    State(state): State<OmaState>,
    Path(target): Path<String>,
    Json(request): Json<TargetRequest>,
) -> Result<Json<TargetView>, OmaError> {
    Ok(Json(targets::replace(&state, &target, &request).await?))
}

/// The targets.
#[utoipa::path(get, path = "/api/v1/ossea-configs", tag = "ossea-configs",
    responses((status = 200, body = Page<TargetView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(State(state): State<OmaState>) -> Result<Json<Page<TargetView>>, OmaError> {
    Ok(Json(Page { items: targets::list(&state).await?, next_cursor: None }))
}

/// Checks every prerequisite of a target.
#[utoipa::path(post, path = "/api/v1/ossea-configs/{target}/validate", tag = "ossea-configs",
    params(("target" = String, Path, description = "Name or id")),
    responses((status = 200, body = TargetReport), (status = "4XX", body = Problem)))]
pub(crate) async fn validate(
    State(state): State<OmaState>,
    Path(target): Path<String>,
) -> Result<Json<TargetReport>, OmaError> {
    Ok(Json(targets::validate(&state, &target).await?))
}
