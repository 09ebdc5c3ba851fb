//! `/network-mappings`: which network of the target each network card of a VM goes to.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::networks::{
    MappingChange, MappingList, MappingQuery, MappingView, NetworkReport, SetMapping, ValidateMappings,
};
use axum::extract::State;
use serde::Deserialize;

use crate::error::OmaError;
use crate::networks;
use crate::state::OmaState;

/// Query of a change.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SetQuery {
    /// Only say what would be stored.
    #[serde(default)]
    dry_run: bool,
}

/// A VM's network cards and their mappings, as they are stored.
#[utoipa::path(get, path = "/api/v1/network-mappings", tag = "network-mappings", params(MappingQuery),
    responses((status = 200, body = MappingList), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(query): Query<MappingQuery>,
) -> Result<Json<MappingList>, OmaError> {
    Ok(Json(networks::report::list(&state, &query.vm).await?))
}

/// Maps a card, or every card on a network of the source; refused when the target's network cannot take it.
#[utoipa::path(put, path = "/api/v1/network-mappings", tag = "network-mappings", params(SetQuery),
    request_body = SetMapping,
    responses((status = 200, body = MappingChange), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn set(
    State(state): State<OmaState>,
    Query(query): Query<SetQuery>,
    Json(request): Json<SetMapping>,
) -> Result<Json<MappingChange>, OmaError> {
    Ok(Json(networks::set::set(&state, &request, query.dry_run).await?))
}

/// Deletes a mapping; the other side of a pair stays.
#[utoipa::path(delete, path = "/api/v1/network-mappings/{id}", tag = "network-mappings",
    params(("id" = String, Path)),
    responses((status = 200, body = MappingView), (status = "4XX", body = Problem)))]
pub(crate) async fn delete(
    State(state): State<OmaState>,
    Path(id): Path<String>,
) -> Result<Json<MappingView>, OmaError> {
    Ok(Json(networks::delete(&state, &id).await?))
}

/// Looks at every mapping of a VM again: what could be made now, and everything that stands against it.
#[utoipa::path(post, path = "/api/v1/network-mappings/validate", tag = "network-mappings",
    request_body = ValidateMappings,
    responses((status = 200, body = NetworkReport), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn validate(
    State(state): State<OmaState>,
    Json(request): Json<ValidateMappings>,
) -> Result<Json<NetworkReport>, OmaError> {
    Ok(Json(networks::report::validate(&state, &request.vm).await?))
}
