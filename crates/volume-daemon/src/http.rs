//! The HTTP API: routes and what they share. Every error is a problem.

mod exports;
mod failover;
mod health;
mod operations;
mod volumes;

use std::sync::Arc;

use api::Problem;
use api::extract::{method_not_allowed, not_found, panicked};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{delete, get, post};
use model::FailureKind;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;

/// The header whose value makes a repeated request the same request.
const KEY_HEADER: &str = "idempotency-key";
/// Longest key, in characters: the width of its column.
const MAX_KEY_CHARS: usize = 255;

/// What handlers are given.
#[derive(Clone)]
struct Served {
    daemon: Arc<Daemon>,
    /// Long polls are answered at once when it is cancelled.
    shutdown: CancellationToken,
}

/// The routes.
pub(crate) fn router(daemon: Arc<Daemon>, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/api/v1/volumes", post(volumes::create).get(volumes::list))
        .route("/api/v1/volumes/{uuid}", get(volumes::one).delete(volumes::delete))
        .route("/api/v1/volumes/{uuid}/attach", post(volumes::attach))
        .route("/api/v1/volumes/{uuid}/detach", post(volumes::detach))
        .route("/api/v1/volumes/{uuid}/attach-root", post(failover::attach_root))
        .route("/api/v1/volumes/{uuid}/snapshots", post(failover::snapshot))
        .route("/api/v1/volumes/{uuid}/snapshots/{snapshot_id}", delete(failover::delete_snapshot))
        .route("/api/v1/volumes/{uuid}/snapshots/{snapshot_id}/revert", post(failover::revert))
        .route("/api/v1/vms/{vm_id}/discard-root", post(failover::discard_root))
        .route("/api/v1/strays/{uuid}", delete(failover::delete_stray))
        .route("/api/v1/strays/{uuid}/snapshots/{snapshot_id}", delete(failover::delete_stray_snapshot))
        .route("/api/v1/volumes/{uuid}/device", get(volumes::device))
        .route("/api/v1/exports", post(exports::create).get(exports::list))
        .route("/api/v1/exports/{name}", delete(exports::close))
        .route("/api/v1/operations", get(operations::list))
        .route("/api/v1/operations/{id}", get(operations::one))
        .route("/api/v1/reconcile", post(health::reconcile_now))
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(Served { daemon, shutdown })
}

/// The caller's idempotency key, or a new one.
fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(model::id::new_id()) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= MAX_KEY_CHARS => Ok(key.to_owned()),
        _ => Err(Problem::new(FailureKind::Invalid, "the Idempotency-Key cannot be used")
            .remedy(format!("send 1 to {MAX_KEY_CHARS} visible ASCII characters"))),
    }
}

/// Any error of ours as a problem.
fn problem(error: impl Into<VolumeDaemonError>) -> Problem {
    error.into().into()
}
