//! The lab endpoint: armed faults, placements, speed and counts over plain JSON, for tests that start the server as a process.
//!
//! Unauthenticated by design; it listens on an address of its own, loopback unless told otherwise.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::FailureKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::JobTiming;
use super::error::CloudstackSimError;
use super::faults::{Fault, FaultView};
use super::inspection::{self, Counts, SnapshotView, TaggedView, VmSnapshotView, VmView, VolumeView};
use super::jobs::Engine;
use super::persist::VolumeSelector;
use super::server::hypervisor_of;
use super::world::World;

/// Answer of `GET /lab/state`.
#[derive(Debug, Serialize)]
struct LabState {
    #[serde(flatten)]
    counts: Counts,
    oma_vm_id: String,
    requests: std::collections::BTreeMap<String, u64>,
    faults: Vec<Fault>,
    /// Absent where VMs are not booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervisor: Option<HypervisorState>,
}

/// The machines behind VMs.
#[derive(Debug, Serialize)]
struct HypervisorState {
    running: usize,
    /// Why nothing can boot here.
    problem: Option<String>,
}

/// Query of `GET /lab/vms/{id}/console`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleQuery {
    /// Only what was said since the latest start.
    #[serde(default)]
    since_start: bool,
}

/// Query of `GET /lab/tagged`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TagQuery {
    key: String,
    value: Option<String>,
}

/// Answer of `GET /lab/snapshots`.
#[derive(Debug, Serialize)]
struct Snapshots {
    snapshots: Vec<SnapshotView>,
    vm_snapshots: Vec<VmSnapshotView>,
}

/// A failure as JSON: `{"error"}`.
struct Failure(CloudstackSimError);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            FailureKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::Conflict => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": self.0.to_string() }))).into_response()
    }
}

impl From<CloudstackSimError> for Failure {
    fn from(error: CloudstackSimError) -> Self {
        Self(error)
    }
}

/// Body of `POST /lab/placements`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placement {
    volume: VolumeSelector,
    directory: PathBuf,
}

/// Body of `POST /lab/device-sizes`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceSize {
    volume: VolumeSelector,
    size_bytes: u64,
}

/// The routes of the lab endpoint.
pub(crate) fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/lab/state", get(state))
        .route("/lab/volumes", get(volumes))
        .route("/lab/vms", get(vms))
        .route("/lab/vms/{id}/console", get(console))
        .route("/lab/vms/{id}/screenshot", post(screenshot))
        .route("/lab/snapshots", get(snapshots))
        .route("/lab/tagged", get(tagged))
        .route("/lab/faults", get(faults).post(arm).delete(clear))
        .route("/lab/placements", post(place))
        .route("/lab/device-sizes", post(resize_device))
        .route("/lab/job-timing", post(set_timing))
        .with_state(engine)
}

async fn state(State(engine): State<Arc<Engine>>) -> Json<LabState> {
    let world = engine.world.lock();
    Json(LabState {
        counts: inspection::counts(&world),
        oma_vm_id: world.oma_vm_id.clone(),
        requests: world.requests.clone(),
        faults: world.faults.armed(),
        hypervisor: engine
            .hypervisor
            .as_ref()
            .map(|hypervisor| HypervisorState { running: hypervisor.running(), problem: hypervisor.problem() }),
    })
}

async fn volumes(State(engine): State<Arc<Engine>>) -> Json<Vec<VolumeView>> {
    Json(inspection::volumes(&engine.world.lock()))
}

async fn vms(State(engine): State<Arc<Engine>>) -> Json<Vec<VmView>> {
    Json(inspection::vms(&engine.world.lock(), engine.hypervisor.as_ref()))
}

async fn snapshots(State(engine): State<Arc<Engine>>) -> Json<Snapshots> {
    let world = engine.world.lock();
    Json(Snapshots { snapshots: inspection::snapshots(&world), vm_snapshots: inspection::vm_snapshots(&world) })
}

async fn tagged(State(engine): State<Arc<Engine>>, Query(query): Query<TagQuery>) -> Json<Vec<TaggedView>> {
    Json(inspection::tagged(&engine.world.lock(), &query.key, query.value.as_deref()))
}

async fn console(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    Query(query): Query<ConsoleQuery>,
) -> Result<String, Failure> {
    let said = hypervisor_of(&engine)?.console(&id, query.since_start).map_err(CloudstackSimError::machine);
    Ok(said?)
}

async fn screenshot(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let path = screenshot_of(&engine, &id).await?;
    Ok(Json(json!({ "path": path })))
}

/// Takes a screenshot without holding up anyone else.
pub(crate) async fn screenshot_of(engine: &Arc<Engine>, vm_id: &str) -> Result<PathBuf, CloudstackSimError> {
    hypervisor_of(engine)?;
    let (engine, vm_id) = (Arc::clone(engine), vm_id.to_owned());
    let taken = tokio::task::spawn_blocking(move || {
        hypervisor_of(&engine)?.screenshot(&vm_id).map_err(CloudstackSimError::machine)
    });
    taken.await.map_err(|error| CloudstackSimError::Machine(error.to_string()))?
}

async fn faults(State(engine): State<Arc<Engine>>) -> Json<Vec<FaultView>> {
    Json(engine.world.lock().faults.views())
}

async fn arm(State(engine): State<Arc<Engine>>, Json(fault): Json<Fault>) -> Result<Json<Value>, Failure> {
    let id = engine.world.lock().faults.arm(fault).map_err(CloudstackSimError::Fault)?;
    Ok(Json(json!({ "id": id })))
}

async fn clear(State(engine): State<Arc<Engine>>) -> StatusCode {
    engine.world.lock().faults.clear();
    StatusCode::NO_CONTENT
}

async fn place(State(engine): State<Arc<Engine>>, Json(placement): Json<Placement>) -> StatusCode {
    place_volumes(&engine, placement.volume, placement.directory);
    StatusCode::NO_CONTENT
}

async fn resize_device(State(engine): State<Arc<Engine>>, Json(size): Json<DeviceSize>) -> StatusCode {
    set_device_size(&engine, size.volume, size.size_bytes);
    StatusCode::NO_CONTENT
}

async fn set_timing(State(engine): State<Arc<Engine>>, Json(timing): Json<JobTiming>) -> StatusCode {
    engine.world.lock().config.jobs = timing;
    StatusCode::NO_CONTENT
}

/// Adds a rule for where files are made; existing files stay.
pub(crate) fn place_volumes(engine: &Engine, selector: VolumeSelector, directory: PathBuf) {
    change_overrides(engine, |world| world.overrides.folders.push((selector, directory)));
}

/// Adds a rule for the size of devices that appear from now on.
pub(crate) fn set_device_size(engine: &Engine, selector: VolumeSelector, size_bytes: u64) {
    change_overrides(engine, |world| {
        for volume in world.inventory.volumes.iter_mut().filter(|volume| selector.matches(volume)) {
            volume.device_size_bytes = Some(size_bytes);
        }
        world.overrides.device_sizes.push((selector, size_bytes));
    });
}

fn change_overrides(engine: &Engine, change: impl FnOnce(&mut World)) {
    let mut world = engine.world.lock();
    change(&mut world);
    world.touch();
    engine.commit(&mut world);
}
