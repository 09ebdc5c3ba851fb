//! `/vmware-credentials`: passwords go in and never come out.

use api::Problem;
use api::extract::Json;
use api::oma::credentials::{CreateCredential, CredentialView};
use api::page::Page;
use axum::extract::State;

use crate::auth::Operator;
use crate::error::OmaError;
use crate::inventory::vcenter;
use crate::state::OmaState;

/// Adds a vCenter.
#[utoipa::path(post, path = "/api/v1/vmware-credentials", tag = "vmware-credentials", request_body = CreateCredential,
    responses((status = 200, body = CredentialView), (status = "4XX", body = Problem)))]
pub(crate) async fn create(
    State(state): State<OmaState>,
    operator: Operator,
    Json(request): Json<CreateCredential>,
) -> Result<Json<CredentialView>, OmaError> {
    Ok(Json(vcenter::create(&state, &request, &operator.name).await?))
}

/// The vCenters.
#[utoipa::path(get, path = "/api/v1/vmware-credentials", tag = "vmware-credentials",
    responses((status = 200, body = Page<CredentialView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(State(state): State<OmaState>) -> Result<Json<Page<CredentialView>>, OmaError> {
    Ok(Json(Page { items: vcenter::list(&state).await?, next_cursor: None }))
}
