//! The laboratory endpoint: plain JSON over loopback to make guests write and things go wrong.
//!
//! No authentication on purpose; it must never listen beyond loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use model::FailureKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::error::VcenterError;
use super::injection::FaultRule;
use super::state::Lab;
use super::tls::ServerIdentity;
use super::{
    find_vm, inventory_path, own_disk, remove_all_vm_snapshots, reset_change_tracking, set_power, vm_snapshots,
};
use crate::guest::{Guest, Scatter};

/// Largest request body: one write of 8 MiB in base64, with room.
const MAX_BODY_BYTES: usize = 16 << 20;
/// Longest run of one byte a single request may write.
const MAX_FILL_BYTES: u64 = 64 << 20;

/// How to reach and trust the simulated vCenter.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    url: String,
    admin_url: String,
    username: String,
    sha1_thumbprint: String,
    sha256_thumbprint: String,
    ca_pem_path: PathBuf,
    datacenter_path: String,
}

impl About {
    /// Collects what clients need.
    pub(crate) fn new(lab: &Lab, identity: &ServerIdentity, admin: SocketAddr) -> Self {
        Self {
            url: format!("https://{}", lab.address),
            admin_url: format!("http://{admin}"),
            username: lab.config.username.clone(),
            sha1_thumbprint: identity.sha1_thumbprint.clone(),
            sha256_thumbprint: identity.sha256_thumbprint.clone(),
            ca_pem_path: identity.ca_path.clone(),
            datacenter_path: lab.inventory.datacenter_path.clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct Shared {
    lab: Arc<Lab>,
    about: About,
}

/// A failure as JSON: `{"error", "kind"}`.
struct Failure(VcenterError);

impl From<VcenterError> for Failure {
    fn from(error: VcenterError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = self.0.kind();
        let status = match kind {
            FailureKind::NotFound => StatusCode::NOT_FOUND,
            FailureKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::Conflict => StatusCode::CONFLICT,
            FailureKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let source = std::error::Error::source(&self.0).map(ToString::to_string);
        (status, Json(json!({ "error": self.0.to_string(), "cause": source, "kind": kind }))).into_response()
    }
}

type Outcome = Result<Json<Value>, Failure>;

/// Serves until the laboratory shuts down.
pub(crate) async fn serve(listener: TcpListener, lab: Arc<Lab>, about: About) {
    let shutdown = lab.shutdown.clone();
    let router = Router::new()
        .route("/lab/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/lab/info", get(|State(shared): State<Shared>| async move { Json(shared.about) }))
        .route("/lab/stats", get(stats))
        .route("/lab/vms", get(vms))
        .route("/lab/vms/{name}", get(vm))
        .route("/lab/vms/{name}/writes", post(write))
        .route("/lab/vms/{name}/marker", post(marker))
        .route("/lab/vms/{name}/scatter", post(scatter))
        .route("/lab/vms/{name}/zeroes", post(zero))
        .route("/lab/vms/{name}/materialise", post(materialise))
        .route("/lab/vms/{name}/power", post(power))
        .route("/lab/vms/{name}/vm-snapshots", delete(remove_vm_snapshots))
        .route("/lab/vms/{name}/cbt/reset", post(reset))
        .route("/lab/vms/{name}/cbt/omission", post(omission))
        .route("/lab/sessions/expire", post(expire))
        .route("/lab/tasks/delay", post(task_delay))
        .route("/lab/faults", get(faults).post(add_fault).delete(clear_faults))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Shared { lab, about });
    let stopped = async move { shutdown.cancelled().await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::warn!(%error, "the laboratory endpoint ended");
    }
}

/// Runs blocking disk work of a guest.
async fn on_guest<T: Send + 'static>(
    shared: &Shared,
    name: &str,
    work: impl FnOnce(Guest) -> Result<T, VcenterError> + Send + 'static,
) -> Result<T, Failure> {
    let guest = Guest::new(Arc::clone(&shared.lab), find_vm(&shared.lab, name)?);
    match tokio::task::spawn_blocking(move || work(guest)).await {
        Ok(outcome) => outcome.map_err(Failure),
        Err(error) => Err(Failure(VcenterError::disk("work on")(std::io::Error::other(error)))),
    }
}

async fn stats(State(shared): State<Shared>) -> Json<Value> {
    let counters = &shared.lab.counters;
    Json(json!({
        "calls": shared.lab.injections.calls(),
        "sessions": shared.lab.sessions.count(),
        "folder_requests": counters.folder_requests.load(Ordering::Relaxed),
        "folder_bytes": counters.folder_bytes.load(Ordering::Relaxed),
    }))
}

fn describe(lab: &Lab, name: &str) -> Outcome {
    let vm = find_vm(lab, name)?;
    let snapshots = vm_snapshots(&vm);
    let state = vm.state.lock();
    let disks: Vec<Value> = state
        .disks
        .iter()
        .filter_map(|device| Some((device, device.own()?)))
        .map(|(device, disk)| {
            json!({
                "key": device.key,
                "label": device.label,
                "capacity_bytes": disk.capacity,
                "uuid": disk.uuid,
                "links": disk.link_paths(),
                "tracked": disk.is_tracked(),
            })
        })
        .collect();
    Ok(Json(json!({
        "name": vm.spec.name,
        "moref": vm.moref.id,
        "instance_uuid": vm.instance_uuid,
        "inventory_path": inventory_path(lab, &vm),
        "powered_on": state.powered_on,
        "change_tracking_enabled": state.change_tracking,
        "disks": disks,
        "vm_snapshots": snapshots,
    })))
}

async fn vms(State(shared): State<Shared>) -> Outcome {
    let names: Vec<String> = shared.lab.inventory.vms.values().map(|vm| vm.spec.name.clone()).collect();
    let all = names.iter().map(|name| describe(&shared.lab, name).map(|Json(value)| value));
    Ok(Json(json!({ "vms": all.collect::<Result<Vec<_>, _>>()? })))
}

async fn vm(State(shared): State<Shared>, Path(name): Path<String>) -> Outcome {
    describe(&shared.lab, &name)
}

/// As another product or an operator at the console would.
async fn remove_vm_snapshots(State(shared): State<Shared>, Path(name): Path<String>) -> Outcome {
    let vm = find_vm(&shared.lab, &name)?;
    match tokio::task::spawn_blocking(move || remove_all_vm_snapshots(&vm)).await {
        Ok(removed) => removed?,
        Err(error) => return Err(Failure(VcenterError::disk("merge")(std::io::Error::other(error)))),
    }
    describe(&shared.lab, &name)
}

/// Either `data_base64`, or `fill` repeated `length_bytes` times.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteRequest {
    disk_key: i32,
    offset_bytes: u64,
    data_base64: Option<String>,
    #[serde(default)]
    fill: u8,
    #[serde(default)]
    length_bytes: u64,
}

async fn write(State(shared): State<Shared>, Path(name): Path<String>, Json(wanted): Json<WriteRequest>) -> Outcome {
    let data = match &wanted.data_base64 {
        Some(text) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| VcenterError::OutOfRange(format!("data_base64: {error}")))?,
        None if wanted.length_bytes > MAX_FILL_BYTES => {
            return Err(VcenterError::OutOfRange(format!("length_bytes may be {MAX_FILL_BYTES} at most")).into());
        }
        None => vec![wanted.fill; usize::try_from(wanted.length_bytes).unwrap_or_default()],
    };
    let length = data.len();
    on_guest(&shared, &name, move |guest| guest.write(wanted.disk_key, wanted.offset_bytes, &data)).await?;
    Ok(Json(json!({ "bytes_written": length })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkerRequest {
    text: String,
    /// The first disk with a marker when absent.
    disk_key: Option<i32>,
}

async fn marker(State(shared): State<Shared>, Path(name): Path<String>, Json(wanted): Json<MarkerRequest>) -> Outcome {
    let text = wanted.text.clone();
    on_guest(&shared, &name, move |guest| guest.write_marker(wanted.disk_key, &text)).await?;
    Ok(Json(json!({ "marker": wanted.text })))
}

#[derive(Deserialize)]
struct ScatterRequest {
    disk_key: i32,
    #[serde(flatten)]
    scatter: Scatter,
}

async fn scatter(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Json(wanted): Json<ScatterRequest>,
) -> Outcome {
    let offsets = on_guest(&shared, &name, move |guest| guest.scatter(wanted.disk_key, wanted.scatter)).await?;
    let bytes = offsets.len() as u64 * crate::guest::SCATTER_BLOCK_BYTES;
    Ok(Json(json!({ "bytes_written": bytes, "offsets": offsets })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeRequest {
    disk_key: i32,
    offset_bytes: u64,
    length_bytes: u64,
}

async fn zero(State(shared): State<Shared>, Path(name): Path<String>, Json(wanted): Json<RangeRequest>) -> Outcome {
    let RangeRequest { disk_key, offset_bytes, length_bytes } = wanted;
    on_guest(&shared, &name, move |guest| guest.zero(disk_key, offset_bytes, length_bytes)).await?;
    Ok(Json(json!({ "bytes_zeroed": length_bytes })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MaterialiseRequest {
    disk_key: i32,
    vm_snapshot: Option<String>,
    path: PathBuf,
}

async fn materialise(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Json(wanted): Json<MaterialiseRequest>,
) -> Outcome {
    let path = wanted.path.clone();
    on_guest(&shared, &name, move |guest| {
        guest.materialise(wanted.disk_key, wanted.vm_snapshot.as_deref(), &wanted.path)
    })
    .await?;
    Ok(Json(json!({ "path": path })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerRequest {
    on: bool,
}

async fn power(State(shared): State<Shared>, Path(name): Path<String>, Json(wanted): Json<PowerRequest>) -> Outcome {
    set_power(&shared.lab, &*find_vm(&shared.lab, &name)?, wanted.on);
    describe(&shared.lab, &name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetRequest {
    disk_key: Option<i32>,
}

async fn reset(State(shared): State<Shared>, Path(name): Path<String>, Json(wanted): Json<ResetRequest>) -> Outcome {
    let count = reset_change_tracking(&*find_vm(&shared.lab, &name)?, wanted.disk_key)?;
    Ok(Json(json!({ "disks_reset": count })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OmissionRequest {
    disk_key: i32,
    nth: Option<u64>,
}

async fn omission(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Json(wanted): Json<OmissionRequest>,
) -> Outcome {
    own_disk(&*find_vm(&shared.lab, &name)?, wanted.disk_key)?.omit_grain(wanted.nth);
    Ok(Json(json!({ "omitted": wanted.nth })))
}

async fn expire(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "sessions_expired": shared.lab.sessions.expire_all() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayRequest {
    delay_ms: u64,
}

async fn task_delay(State(shared): State<Shared>, Json(wanted): Json<DelayRequest>) -> Json<Value> {
    shared.lab.injections.set_task_delay(Duration::from_millis(wanted.delay_ms));
    Json(json!({ "delay_ms": wanted.delay_ms }))
}

async fn faults(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "rules": shared.lab.injections.rules() }))
}

async fn add_fault(State(shared): State<Shared>, Json(rule): Json<FaultRule>) -> Json<Value> {
    shared.lab.injections.add(rule);
    Json(json!({ "rules": shared.lab.injections.rules() }))
}

async fn clear_faults(State(shared): State<Shared>) -> StatusCode {
    shared.lab.injections.clear();
    StatusCode::NO_CONTENT
}
