//! `/health` and `/metrics`.

use api::extract::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::FailureKind;
use runtime::metrics::{CONTENT_TYPE, Metrics};
use serde::{Deserialize, Serialize};

use super::metrics as replications;
use crate::error::OmaError;
use crate::origin::Origin;
use crate::state::OmaState;

/// The control plane about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OmaHealth {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// How many agents are connected.
    pub connected_agents: u32,
}

/// Whether the control plane works: 200 when its database answers.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    security(()),
    responses((status = 200, body = OmaHealth), (status = 503, body = api::Problem))
)]
pub async fn health(State(state): State<OmaState>) -> Result<Json<OmaHealth>, OmaError> {
    state.store().ping().await?;
    Ok(Json(OmaHealth {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        connected_agents: u32::try_from(state.agents().connected().len()).unwrap_or(u32::MAX),
    }))
}

/// Numbers for Prometheus; only on the local port.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    security(()),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 404, body = api::Problem))
)]
pub async fn metrics(State(state): State<OmaState>, origin: Origin) -> Result<Response, OmaError> {
    if origin.public {
        return Err(api::Problem::new(FailureKind::NotFound, "there is nothing at /metrics").into());
    }
    let connected = i64::try_from(state.agents().connected().len()).unwrap_or(i64::MAX);
    let database_up = i64::from(state.store().ping().await.is_ok());
    let metrics = Metrics::default();
    metrics.gauge("migratekit_oma_up", "The control plane runs.", &[]).set(1);
    metrics.gauge("migratekit_oma_database_up", "Whether the database answers.", &[]).set(database_up);
    metrics.gauge("migratekit_oma_connected_agents", "Agents with a control connection.", &[]).set(connected);
    replications::of_replications(&metrics, state.progress());
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()).into_response())
}
