//! `/machine-groups`: groups of VMs and their members.

use api::Problem;
use api::extract::{Json, Path};
use api::oma::groups::{GroupDetail, GroupRequest, GroupView, MemberRequest, MemberView};
use api::page::Page;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::auth::Operator;
use crate::error::OmaError;
use crate::machine_groups as groups;
use crate::state::OmaState;

/// Makes a group.
#[utoipa::path(post, path = "/api/v1/machine-groups", tag = "machine-groups", request_body = GroupRequest,
    responses((status = 201, body = GroupView), (status = "4XX", body = Problem)))]
pub(crate) async fn create(
    State(state): State<OmaState>,
    operator: Operator,
    Json(request): Json<GroupRequest>,
) -> Result<Response, OmaError> {
    let group = groups::create(&state, &request, &operator.name).await?;
    let location = format!("/api/v1/machine-groups/{}", group.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(group)).into_response())
}

/// Every group by name; there are at most 500.
#[utoipa::path(get, path = "/api/v1/machine-groups", tag = "machine-groups",
    responses((status = 200, body = Page<GroupView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(State(state): State<OmaState>) -> Result<Json<Page<GroupView>>, OmaError> {
    Ok(Json(Page { items: groups::list(&state).await?, next_cursor: None }))
}

/// A group with its members.
#[utoipa::path(get, path = "/api/v1/machine-groups/{group}", tag = "machine-groups",
    params(("group" = String, Path, description = "Name or id")),
    responses((status = 200, body = GroupDetail), (status = "4XX", body = Problem)))]
pub(crate) async fn show(
    State(state): State<OmaState>,
    Path(group): Path<String>,
) -> Result<Json<GroupDetail>, OmaError> {
    Ok(Json(groups::show(&state, &group).await?))
}

/// Replaces what a group says of itself; its members stay.
#[utoipa::path(put, path = "/api/v1/machine-groups/{group}", tag = "machine-groups", request_body = GroupRequest,
    params(("group" = String, Path, description = "Name or id")),
    responses((status = 200, body = GroupView), (status = "4XX", body = Problem)))]
pub(crate) async fn replace(
    State(state): State<OmaState>,
    Path(group): Path<String>,
    Json(request): Json<GroupRequest>,
) -> Result<Json<GroupView>, OmaError> {
    Ok(Json(groups::replace(&state, &group, &request).await?))
}

/// Deletes a group; its VMs stay.
#[utoipa::path(delete, path = "/api/v1/machine-groups/{group}", tag = "machine-groups",
    params(("group" = String, Path, description = "Name or id")),
    responses((status = 200), (status = "4XX", body = Problem)))]
pub(crate) async fn delete(State(state): State<OmaState>, Path(group): Path<String>) -> Result<Json<()>, OmaError> {
    Ok(Json(groups::delete(&state, &group).await?))
}

/// The members of a group in the order in which they are started; there are at most 200.
#[utoipa::path(get, path = "/api/v1/machine-groups/{group}/members", tag = "machine-groups",
    params(("group" = String, Path, description = "Name or id")),
    responses((status = 200, body = Page<MemberView>), (status = "4XX", body = Problem)))]
pub(crate) async fn members(
    State(state): State<OmaState>,
    Path(group): Path<String>,
) -> Result<Json<Page<MemberView>>, OmaError> {
    Ok(Json(Page { items: groups::show(&state, &group).await?.members, next_cursor: None }))
}

/// Adds a VM to a group, or changes how it takes part.
#[utoipa::path(put, path = "/api/v1/machine-groups/{group}/members/{vm}", tag = "machine-groups",
    request_body = MemberRequest,
    params(("group" = String, Path, description = "Name or id"), ("vm" = String, Path, description = "Name or context id")),
    responses((status = 200, body = MemberView), (status = "4XX", body = Problem)))]
pub(crate) async fn put_member(
    State(state): State<OmaState>,
    operator: Operator,
    Path((group, vm)): Path<(String, String)>,
    Json(request): Json<MemberRequest>,
) -> Result<Json<MemberView>, OmaError> {
    Ok(Json(groups::put_member(&state, &group, &vm, &request, &operator.name).await?))
}

/// Takes a VM out of a group.
#[utoipa::path(delete, path = "/api/v1/machine-groups/{group}/members/{vm}", tag = "machine-groups",
    params(("group" = String, Path, description = "Name or id"), ("vm" = String, Path, description = "Name or context id")),
    responses((status = 200), (status = "4XX", body = Problem)))]
pub(crate) async fn remove_member(
    State(state): State<OmaState>,
    Path((group, vm)): Path<(String, String)>,
) -> Result<Json<()>, OmaError> {
    Ok(Json(groups::remove_member(&state, &group, &vm).await?))
}
