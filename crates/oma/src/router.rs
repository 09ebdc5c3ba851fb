//! All routes on one screen. A route is in the OpenAPI document because it is here, and here because of its handler.

use std::sync::Arc;

use api::extract::{method_not_allowed, not_found, panicked};
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use runtime::http::MAX_BODY_BYTES;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::require_operator;
use crate::http::{
    agents, certificates, contexts, credentials, discovery, enroll, events, failovers, ghosts, health, jobs,
    machine_groups, network_mappings, openapi, points, replications, target_listings, targets,
};
use crate::state::OmaState;

/// Where the document is served.
const OPENAPI_PATH: &str = "/api/v1/openapi.json";

/// Anybody may call these.
fn public_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::metrics))
        .routes(routes!(enroll::enroll))
        .routes(routes!(enroll::verify))
        .routes(routes!(enroll::status))
        .routes(routes!(enroll::renew))
}

/// These need an operator's token.
fn operator_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new()
        .routes(routes!(agents::create_pairing_code))
        .routes(routes!(agents::list))
        .routes(routes!(agents::audit))
        .routes(routes!(agents::approve))
        .routes(routes!(agents::reject))
        .routes(routes!(agents::revoke))
        .routes(routes!(agents::limits, agents::set_limits))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get))
        .routes(routes!(jobs::log))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::turn_back))
        .routes(routes!(jobs::abandon))
        .routes(routes!(events::stream))
        .routes(routes!(events::stream_of_job))
}

/// These, too: VMs, replications, discovery, credentials, targets.
fn domain_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new()
        .routes(routes!(contexts::list))
        .routes(routes!(contexts::show, contexts::delete))
        .routes(routes!(contexts::delete_replica))
        .routes(routes!(contexts::verify_replica))
        .routes(routes!(discovery::scan))
        .routes(routes!(discovery::add))
        .routes(routes!(credentials::create, credentials::list))
        .routes(routes!(targets::create, targets::list))
        .routes(routes!(targets::replace))
        .routes(routes!(targets::validate))
        .routes(routes!(replications::start, replications::list))
        .routes(routes!(replications::show, replications::delete))
        .routes(routes!(replications::progress))
        .routes(routes!(replications::cancel))
        .routes(routes!(replications::change_id))
        .routes(routes!(replications::store_change_id))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::show))
        .routes(routes!(points::list))
}

/// These, too: failovers.
fn failover_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new()
        .routes(routes!(failovers::start, failovers::list))
        .routes(routes!(failovers::show))
        .routes(routes!(failovers::cleanup))
        .routes(routes!(failovers::rollback))
        .routes(routes!(failovers::commit))
        .routes(routes!(failovers::cancel))
        .routes(routes!(failovers::verdict))
        .routes(routes!(failovers::readiness))
}

/// And these: what the target offers, where network cards go, and which VMs belong together.
fn placement_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new()
        .routes(routes!(network_mappings::list, network_mappings::set))
        .routes(routes!(network_mappings::validate))
        .routes(routes!(network_mappings::delete))
        .routes(routes!(target_listings::zones))
        .routes(routes!(target_listings::networks))
        .routes(routes!(target_listings::service_offerings))
        .routes(routes!(target_listings::disk_offerings))
        .routes(routes!(target_listings::templates))
        .routes(routes!(machine_groups::create, machine_groups::list))
        .routes(routes!(machine_groups::show, machine_groups::replace, machine_groups::delete))
        .routes(routes!(machine_groups::members))
        .routes(routes!(machine_groups::put_member, machine_groups::remove_member))
}

/// These, too: ghosts.
fn ghost_routes() -> OpenApiRouter<OmaState> {
    OpenApiRouter::new().routes(routes!(ghosts::list)).routes(routes!(ghosts::remove))
}

fn every_operator_route() -> OpenApiRouter<OmaState> {
    operator_routes().merge(domain_routes()).merge(failover_routes()).merge(placement_routes()).merge(ghost_routes())
}

/// The router with everything around it.
pub fn router(state: OmaState) -> Router {
    let operators = every_operator_route();
    let operators = operators.route_layer(from_fn_with_state(state.clone(), require_operator));
    let (router, document) = assemble(operators);
    router
        .route(OPENAPI_PATH, get(openapi::serve))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(Arc::new(document)))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(state)
}

/// The OpenAPI document of the router.
#[must_use]
pub fn openapi_document() -> OpenApi {
    assemble(every_operator_route()).1
}

fn assemble(operators: OpenApiRouter<OmaState>) -> (Router<OmaState>, OpenApi) {
    OpenApiRouter::with_openapi(openapi::document()).merge(public_routes()).merge(operators).split_for_parts()
}
