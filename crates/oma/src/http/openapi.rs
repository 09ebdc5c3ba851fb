//! The OpenAPI document: what is true of the whole API. Each operation is described at its handler.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};

/// Name of the bearer scheme in the document.
const BEARER: &str = "bearer";

/// The document without operations: every one needs the bearer token unless it says otherwise.
#[must_use]
pub fn document() -> OpenApi {
    let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut components = Components::new();
    components.add_security_scheme(BEARER, scheme);
    let info = InfoBuilder::new()
        .title("MigrateKit")
        .version("1")
        .description(Some(
            "The control plane's API. Errors are application/problem+json (RFC 9457); times are RFC 3339 in UTC; \
             sizes are bytes.",
        ))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(BEARER, Vec::<String>::new())]))
        .build()
}

/// The handler of `/api/v1/openapi.json`.
pub(crate) async fn serve(document: axum::extract::Extension<std::sync::Arc<OpenApi>>) -> Response {
    axum::Json(document.0.as_ref()).into_response()
}
