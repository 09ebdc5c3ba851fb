//! The control API on the gateway's Unix socket: exports, connections, verification. Only processes of the hub reach it.

use std::sync::Arc;
use std::time::Duration;

use api::Problem;
use api::extract::{Json, Path, Query, method_not_allowed, not_found, panicked};
use api::gateway::{
    ApplyPoints, ConnectionView, DiscardReport, ExportView, ExportWork, MergePoints, PointsReport, RunQuery,
    SealReport, VerifyQuery, VerifyReport,
};
use api::{ResponseBody, TransportError};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use serde_json::{Value, json};
use store::nbd_exports::ExportTarget;
use store::{Store, nbd_exports};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use crate::connections::Connections;
use crate::error::GatewayError;
use crate::replicas::{Replicas, Usage};
use crate::verify::progress::Verifications;
use crate::verify::verify;

/// How long what is under way on an export may take once its connections are cut: longer than a connection takes to
/// answer its last requests.
const CLOSE_DEADLINE: Duration = Duration::from_secs(45);
/// Most exports in one answer.
const MAX_EXPORTS: u32 = 10_000;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) store: Store,
    pub(crate) connections: Arc<Connections>,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) verifications: Arc<Verifications>,
}

/// All routes on one screen.
pub(crate) fn router(control: Control) -> Router {
    Router::new()
        .route("/exports", get(exports))
        .route("/exports/{name}/verify", post(verify_export))
        .route("/exports/{name}/work", get(export_work))
        .route("/exports/{name}/close", post(close_export))
        .route("/exports/{name}/seal", post(seal))
        .route("/exports/{name}/forget", post(forget))
        .route("/exports/{name}/merge", post(merge_points))
        .route("/exports/{name}/apply", post(apply_points))
        .route("/exports/{name}/discard", post(discard_points))
        .route("/agents/{enrollment_id}/close", post(close_agent))
        .route("/connections", get(connections))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // The digests of a disk are 0.07 % of it and are never collected.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(control)
}

async fn exports(State(control): State<Control>) -> Result<Json<Vec<ExportView>>, GatewayError> {
    let active = nbd_exports::active(&control.store, None, MAX_EXPORTS).await;
    let active = active.map_err(|source| GatewayError::Database { source })?;
    let views = active.into_iter().map(|target| ExportView {
        connections: control.connections.count_on(&target.export_name),
        export_name: target.export_name,
        size_bytes: *target.size_bytes,
        read_only: target.read_only,
        enrollment_id: target.enrollment_id,
    });
    Ok(Json(views.collect()))
}

async fn verify_export(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(query): Query<VerifyQuery>,
    body: Body,
) -> Result<Json<VerifyReport>, GatewayError> {
    let found = nbd_exports::target(&control.store, &name).await;
    let found = found.map_err(|source| GatewayError::Database { source })?;
    let target = found.filter(ExportTarget::is_open).ok_or_else(|| GatewayError::NoExport { name: name.clone() })?;
    let device = control.replicas.proof(&target).await?;
    let digests: ResponseBody = body
        .into_data_stream()
        .map(|chunk| {
            chunk.map_err(|source| TransportError::Unreachable { peer: "the agent".to_owned(), source: source.into() })
        })
        .boxed();
    let under_way = control.verifications.begin(&name);
    Ok(Json(verify(&name, device, query, digests, under_way.counter()).await?))
}

async fn export_work(State(control): State<Control>, Path(name): Path<String>) -> Json<ExportWork> {
    let leaves_verified = control.verifications.leaves_of(&name);
    Json(ExportWork { device_ms: control.connections.device_ms_of(&name), leaves_verified })
}

/// Answers when nothing of the connections that were cut can reach the device any more.
async fn close_export(State(control): State<Control>, Path(name): Path<String>) -> Result<Json<()>, GatewayError> {
    control.connections.cut_export(&name);
    if control.connections.are_over(&name, Instant::now() + CLOSE_DEADLINE).await {
        control.replicas.unseal(&name).await;
        return Ok(Json(()));
    }
    Err(GatewayError::StillInUse { name })
}

async fn seal(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(query): Query<RunQuery>,
) -> Result<Json<SealReport>, GatewayError> {
    let replicas = control.replicas;
    to_its_end(name.clone(), async move { replicas.seal(&name, &query.job_id).await }).await
}

async fn forget(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(query): Query<RunQuery>,
) -> Result<Json<()>, GatewayError> {
    let replicas = control.replicas;
    to_its_end(name.clone(), async move { replicas.forget(&name, &query.job_id).await }).await
}

async fn merge_points(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(asked): Json<MergePoints>,
) -> Result<Json<PointsReport>, GatewayError> {
    let replicas = control.replicas;
    to_its_end(name.clone(), async move { replicas.merge(&name, asked.keep).await }).await
}

async fn apply_points(
    State(control): State<Control>,
    Path(name): Path<String>,
    Json(asked): Json<ApplyPoints>,
) -> Result<Json<PointsReport>, GatewayError> {
    let replicas = control.replicas;
    to_its_end(name.clone(), async move { replicas.apply(&name, asked.through.as_deref()).await }).await
}

async fn discard_points(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Json<DiscardReport>, GatewayError> {
    let replicas = control.replicas;
    to_its_end(name.clone(), async move { replicas.discard(&name).await }).await
}

/// Does what changes a volume to its end, also when who asked for it does not wait so long.
async fn to_its_end<T: Send + 'static>(
    name: String,
    work: impl Future<Output = Result<T, GatewayError>> + Send + 'static,
) -> Result<Json<T>, GatewayError> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|source| Err(GatewayError::Unfinished { name, source })).map(Json)
}

async fn close_agent(State(control): State<Control>, Path(enrollment_id): Path<String>) -> Json<()> {
    control.connections.cut_agent(&enrollment_id);
    Json(())
}

async fn connections(State(control): State<Control>) -> Json<Vec<ConnectionView>> {
    Json(control.connections.views())
}

async fn health(State(control): State<Control>) -> Result<Json<Value>, GatewayError> {
    control.store.ping().await.map_err(|source| GatewayError::Database { source })?;
    Ok(Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })))
}

async fn metrics(State(control): State<Control>) -> String {
    let (written, read) = control.connections.totals();
    let open = control.connections.views().len();
    let beside = control.replicas.usage().await.inspect_err(|error| {
        tracing::error!(error = error as &dyn std::error::Error, "cannot say what lies beside the volumes");
    });
    let beside = beside.map(|Usage { points, bytes }| {
        format!(
            "# TYPE migratekit_gateway_recovery_points gauge\nmigratekit_gateway_recovery_points {points}\n\
             # TYPE migratekit_gateway_journal_bytes gauge\nmigratekit_gateway_journal_bytes {bytes}\n"
        )
    });
    let connections = format!(
        "# TYPE migratekit_gateway_connections gauge\nmigratekit_gateway_connections {open}\n\
         # TYPE migratekit_gateway_written_bytes_total counter\nmigratekit_gateway_written_bytes_total {written}\n\
         # TYPE migratekit_gateway_read_bytes_total counter\nmigratekit_gateway_read_bytes_total {read}\n"
    );
    connections + &beside.unwrap_or_default()
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let mut problem = Problem::from_error(self.kind(), &self);
        problem.remedy = self.remedy().map(str::to_owned);
        problem.into_response()
    }
}
