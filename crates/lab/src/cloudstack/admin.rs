//! The lab endpoint: armed faults, placements, speed and counts over plain JSON, for tests that start the server as a process.
//!
//! Unauthenticated by design; it listens on an address of its own, loopback unless told otherwise.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::config::JobTiming;
use super::faults::Fault;
use super::inspection::{self, Counts, VmView, VolumeView};
use super::jobs::Engine;
use super::persist::VolumeSelector;
use super::world::World;

/// Answer of `GET /lab/state`.
#[derive(Debug, Serialize)]
struct LabState {
    #[serde(flatten)]
    counts: Counts,
    oma_vm_id: String,
    requests: std::collections::BTreeMap<String, u64>,
    faults: Vec<Fault>,
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
    })
}

async fn volumes(State(engine): State<Arc<Engine>>) -> Json<Vec<VolumeView>> {
    Json(inspection::volumes(&engine.world.lock()))
}

async fn vms(State(engine): State<Arc<Engine>>) -> Json<Vec<VmView>> {
    Json(inspection::vms(&engine.world.lock()))
}

async fn faults(State(engine): State<Arc<Engine>>) -> Json<Vec<Fault>> {
    Json(engine.world.lock().faults.armed())
}

async fn arm(State(engine): State<Arc<Engine>>, Json(fault): Json<Fault>) -> StatusCode {
    engine.world.lock().faults.arm(fault);
    StatusCode::NO_CONTENT
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
