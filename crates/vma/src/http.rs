//! The agent's API as routes: everything to the hub, only how runs stand to this machine.

mod metrics;
mod runs;
mod vcenter;

use std::sync::Arc;

use api::extract::{Json, method_not_allowed, not_found, panicked};
use api::vma::AgentHealth;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::runs::Runs;

/// Version of this API; the hub records it with every connection.
pub const PROTOCOL_VERSION: &str = "1";
/// Largest request body, in bytes: a run of 256 disks is below a tenth of it.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// What the routes share.
#[derive(Clone)]
pub(crate) struct AgentState {
    pub(crate) runs: Arc<Runs>,
}

/// What the hub may ask over the connection this agent opened.
pub fn control(runs: Arc<Runs>) -> Router {
    let routes = reading()
        .route("/discover", post(vcenter::discover))
        .route("/vms/{moref}", post(vcenter::vm))
        .route("/vms/{moref}/remove-our-vm-snapshots", post(vcenter::remove_our_vm_snapshots))
        .route("/vms/{moref}/power-off", post(vcenter::power_off))
        .route("/vms/{moref}/power-on", post(vcenter::power_on))
        .route("/runs", get(runs::list).post(runs::start))
        .route("/runs/{job_id}/limits", post(runs::limit))
        .route("/runs/{job_id}/cancel", post(runs::cancel))
        .route("/runs/{job_id}/release", post(runs::release))
        .route("/runs/{job_id}/disks/{disk_id}/digests", get(runs::digests));
    finish(routes, runs)
}

/// What anybody on this machine may ask: it shows no secret and changes nothing.
pub fn status(runs: Arc<Runs>) -> Router {
    finish(reading().route("/runs", get(runs::list)).route("/metrics", get(metrics::metrics)), runs)
}

fn reading() -> Router<AgentState> {
    Router::new().route("/health", get(health)).route("/runs/{job_id}", get(runs::one))
}

fn finish(routes: Router<AgentState>, runs: Arc<Runs>) -> Router {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(AgentState { runs })
}

async fn health(State(state): State<AgentState>) -> Json<AgentHealth> {
    Json(AgentHealth {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION.to_owned(),
        nbd_commands: state.runs.nbd_commands(),
        active_runs: u32::try_from(state.runs.active()).unwrap_or(u32::MAX),
    })
}
