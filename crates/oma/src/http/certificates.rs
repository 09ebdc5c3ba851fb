//! `/certificates`: what was proven at each commit; read only.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::certificates::{CertificateFile, CertificateQuery, CertificateView};
use api::page::{Page, PageQuery};
use axum::extract::State;

use crate::certificates;
use crate::error::OmaError;
use crate::state::OmaState;

/// Certificates of equality, newest first.
#[utoipa::path(get, path = "/api/v1/certificates", tag = "certificates", params(CertificateQuery, PageQuery),
    responses((status = 200, body = Page<CertificateView>), (status = "4XX", body = Problem)))]
pub(crate) async fn list(
    State(state): State<OmaState>,
    Query(query): Query<CertificateQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<CertificateView>>, OmaError> {
    let limit = page.bounded_limit();
    let items = certificates::list(&state, query.vm.as_deref(), page.cursor.as_deref(), limit).await?;
    let full = u32::try_from(items.len()).is_ok_and(|items| items == limit);
    let next_cursor = items.last().filter(|_| full).map(|last| last.id.clone());
    Ok(Json(Page { items, next_cursor }))
}

/// One certificate: the signed document, its signature and the public key.
#[utoipa::path(get, path = "/api/v1/certificates/{id}", tag = "certificates",
    params(("id" = String, Path)),
    responses((status = 200, body = CertificateFile), (status = "4XX", body = Problem)))]
pub(crate) async fn show(
    State(state): State<OmaState>,
    Path(id): Path<String>,
) -> Result<Json<CertificateFile>, OmaError> {
    Ok(Json(certificates::get(&state, &id).await?))
}
