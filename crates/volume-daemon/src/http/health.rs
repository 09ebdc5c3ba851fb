//! Whether the daemon works, what it counts, and a reconcile pass on demand.

use std::collections::BTreeMap;
use std::fmt::Write;

use api::Problem;
use api::extract::Json;
use api::volume::ReconcileReport;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use store::{device_mappings, nbd_exports, ossea_volumes, volume_operations};

use super::{Served, problem};
use crate::exports::MAX_EXPORTS;
use crate::reconcile::reconcile;

/// Most volumes and operations counted.
const MAX_COUNTED: u32 = 10_000;
/// Prometheus text format, version 0.0.4.
const METRICS_MEDIA_TYPE: &str = "text/plain; version=0.0.4";

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
    let mut text = String::new();
    gauge(&mut text, "volumes", "state", volumes.iter().map(|row| row.state.to_string()));
    gauge(&mut text, "devices", "linux_state", devices.iter().map(|row| row.linux_state.to_string()));
    gauge(&mut text, "exports", "status", exports.iter().map(|row| row.status.to_string()));
    gauge(&mut text, "operations_under_way", "type", under_way.iter().map(|row| row.operation_type.to_string()));
    Ok(([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], text))
}

/// One gauge with a value for each label that occurs.
fn gauge(text: &mut String, name: &str, label: &str, values: impl Iterator<Item = String>) {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE migratekit_volume_daemon_{name} gauge");
    for (value, count) in counts {
        let _ = writeln!(text, "migratekit_volume_daemon_{name}{{{label}=\"{value}\"}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_by_label() {
        let mut text = String::new();
        let states = ["attached", "available", "attached"].map(str::to_owned);
        gauge(&mut text, "volumes", "state", states.into_iter());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# TYPE migratekit_volume_daemon_volumes gauge");
        assert_eq!(lines[1], "migratekit_volume_daemon_volumes{state=\"attached\"} 2");
        assert_eq!(lines.len(), 3);
    }
}
