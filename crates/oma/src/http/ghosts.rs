//! `/ghosts`: what carries our marks and belongs to no live job; listed, and removed when an operator says so.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::ghosts::GhostList;
use api::oma::replications::Accepted;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::error::OmaError;
use crate::ghosts;
use crate::state::OmaState;

/// Query of the list.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Look now instead of telling what was seen last.
    #[serde(default)]
    refresh: bool,
}

/// Ghosts, each with why nothing needs it.
#[utoipa::path(get, path = "/api/v1/ghosts", tag = "ghosts", params(ListQuery),
    responses((status = 200, body = GhostList), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<GhostList>, OmaError> {
    Ok(Json(state.ghosts().latest(&state, query.refresh).await?.view()))
}

/// Removes a ghost, after looking at it again.
#[utoipa::path(post, path = "/api/v1/ghosts/{id}/remove", tag = "ghosts",
    params(("id" = String, Path, description = "As the list shows it")),
    responses((status = 202, body = Accepted), (status = "4XX", body = Problem)))]
pub(crate) async fn remove(State(state): State<OmaState>, Path(id): Path<String>) -> Result<Response, OmaError> {
    let accepted = ghosts::start(&state, &id).await?;
    let location = format!("/api/v1/jobs/{}", accepted.tracking_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}
