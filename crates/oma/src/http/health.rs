//! `/health` and `/metrics`.

use std::fmt::Write;

use api::extract::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::FailureKind;
use serde::{Deserialize, Serialize};

use crate::error::OmaError;
use crate::serve::Origin;
use crate::state::OmaState;

/// Media type of the Prometheus text format, version 0.0.4.
const METRICS_MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
    let database_up = u8::from(state.store().ping().await.is_ok());
    let connected = state.agents().connected();
    let mut text = String::new();
    gauge(&mut text, "migratekit_oma_up", "The control plane runs.", 1);
    gauge(&mut text, "migratekit_oma_database_up", "The database answers.", database_up.into());
    gauge(&mut text, "migratekit_oma_connected_agents", "Agents with a control connection.", connected.len());
    Ok(([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], text).into_response())
}

fn gauge(text: &mut String, name: &str, help: &str, value: usize) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}
