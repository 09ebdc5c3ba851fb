//! `/discovery`: looking at a vCenter through an agent, and adding VMs.

use api::Problem;
use api::extract::Json;
use api::oma::discovery::{AddRequest, AddResult, ScanRequest, ScanResult};
use axum::extract::State;

use crate::error::OmaError;
use crate::inventory;
use crate::state::OmaState;

/// Looks at a vCenter.
#[utoipa::path(post, path = "/api/v1/discovery/scan", tag = "discovery", request_body = ScanRequest,
    responses((status = 200, body = ScanResult), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn scan(
    State(state): State<OmaState>,
    Json(request): Json<ScanRequest>,
) -> Result<Json<ScanResult>, OmaError> {
    Ok(Json(inventory::scan(&state, &request).await?))
}

/// Adds VMs that were seen.
#[utoipa::path(post, path = "/api/v1/discovery/add", tag = "discovery", request_body = AddRequest,
    responses((status = 200, body = AddResult), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn add(
    State(state): State<OmaState>,
    Json(request): Json<AddRequest>,
) -> Result<Json<AddResult>, OmaError> {
    Ok(Json(inventory::add(&state, &request).await?))
}
