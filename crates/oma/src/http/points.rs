//! `/points`: the recovery points of a VM; read only.

use api::Problem;
use api::extract::{Json, Query};
use api::oma::points::{PointList, PointQuery};
use axum::extract::State;

use crate::error::OmaError;
use crate::recovery_points;
use crate::state::OmaState;

/// The recovery points of a VM, newest first.
#[utoipa::path(get, path = "/api/v1/points", tag = "points", params(PointQuery),
    responses((status = 200, body = PointList), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(query): Query<PointQuery>,
) -> Result<Json<PointList>, OmaError> {
    Ok(Json(recovery_points::list(&state, &query.vm).await?))
}
