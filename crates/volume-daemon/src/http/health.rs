//! Whether the daemon works, what it counts, and a reconcile pass on demand.

use api::Problem;
use api::extract::Json;
use api::volume::ReconcileReport;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use runtime::metrics::{CONTENT_TYPE, Metrics};
use serde_json::{Value, json};
use store::{device_mappings, nbd_exports, ossea_volumes, volume_operations};

use super::{Served, problem};
use crate::exports::MAX_EXPORTS;
use crate::reconcile::reconcile;

/// Most volumes and operations counted.
const MAX_COUNTED: u32 = 10_000;
/// Names of what is counted, and what they mean.
const NAMES: [(&str, &str); 4] = [
    ("migratekit_volume_daemon_volumes", "Replica volumes by state."),
    ("migratekit_volume_daemon_devices", "Device mappings by what Linux shows."),
    ("migratekit_volume_daemon_exports", "NBD exports by status."),
    ("migratekit_volume_daemon_operations_under_way", "Operations that have not ended, by type."),
];

/// Healthy means that the database answers: without it nothing can be accepted.
pub(super) async fn health(State(served): State<Served>) -> Result<Json<Value>, Problem> {
    let unfinished = volume_operations::unfinished(&served.daemon.store).await.map_err(problem)?;
    Ok(Json(json!({ "status": "ok", "operations_under_way": unfinished.len() })))
}

pub(super) async fn reconcile_now(State(served): State<Served>) -> Result<Json<ReconcileReport>, Problem> {
    reconcile(&served.daemon).await.map(Json).map_err(problem)
}

pub(super) async fn metrics(State(served): State<Served>) -> Result<impl IntoResponse, Problem> {
    let store = &served.daemon.store;
    let volumes = ossea_volumes::list(store, None, MAX_COUNTED).await.map_err(problem)?;
    let devices = device_mappings::list(store).await.map_err(problem)?;
    let exports = nbd_exports::list(store, MAX_EXPORTS).await.map_err(problem)?;
    let under_way = volume_operations::unfinished(store).await.map_err(problem)?;
    let metrics = Metrics::default();
    gauge(&metrics, NAMES[0], "state", volumes.iter().map(|row| row.state.to_string()));
    gauge(&metrics, NAMES[1], "linux_state", devices.iter().map(|row| row.linux_state.to_string()));
    gauge(&metrics, NAMES[2], "status", exports.iter().map(|row| row.status.to_string()));
    gauge(&metrics, NAMES[3], "type", under_way.iter().map(|row| row.operation_type.to_string()));
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render()))
}

/// One gauge with a value for each label that occurs.
fn gauge(
    metrics: &Metrics,
    (name, help): (&'static str, &'static str),
    label: &str,
    values: impl Iterator<Item = String>,
) {
    for value in values {
        metrics.gauge(name, help, &[(label, &value)]).add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_by_label() {
        let metrics = Metrics::default();
        let states = ["attached", "available", "attached"].map(str::to_owned);
        gauge(&metrics, NAMES[0], "state", states.into_iter());
        let text = metrics.render();
        assert!(text.contains("migratekit_volume_daemon_volumes{state=\"attached\"} 2"), "{text}");
        assert!(text.contains("migratekit_volume_daemon_volumes{state=\"available\"} 1"), "{text}");
    }
}
