//! `/discover` and `/vms`: the source, each request in a session of its own with the credentials it brings.

use std::future::Future;
use std::sync::Arc;

use api::extract::{Json, Path};
use api::vma::{DiscoverRequest, Inventory, PowerOffRequest, PowerOnRequest, PowerView, SourceVm, VmRequest};
use axum::extract::State;

use super::AgentState;
use crate::error::VmaError;
use crate::{power, vcenter};

pub(super) async fn discover(Json(request): Json<DiscoverRequest>) -> Result<Json<Inventory>, VmaError> {
    let asking = async move { vcenter::inventory(&request.vcenter, request.filter.as_deref()).await };
    to_the_end("discovering", asking).await.map(Json)
}

pub(super) async fn vm(
    State(state): State<AgentState>,
    Path(moref): Path<String>,
    Json(request): Json<VmRequest>,
) -> Result<Json<SourceVm>, VmaError> {
    let reading = async move { vcenter::vm(&request.vcenter, &moref, &state.runs).await };
    to_the_end("reading the VM", reading).await.map(Json)
}

pub(super) async fn remove_our_vm_snapshots(
    State(state): State<AgentState>,
    Path(moref): Path<String>,
    Json(request): Json<VmRequest>,
) -> Result<Json<Vec<String>>, VmaError> {
    state.runs.refuse_if_busy(&moref)?;
    let hotadd = Arc::clone(state.runs.hotadd());
    let removing = async move {
        let removed = vcenter::remove_our_vm_snapshots(&request.vcenter, &moref, &hotadd).await?;
        state.runs.forget_cut_off(&moref).await.map(|()| removed)
    };
    to_the_end("removing vm_snapshots", removing).await.map(Json)
}

pub(super) async fn power_off(
    Path(moref): Path<String>,
    Json(request): Json<PowerOffRequest>,
) -> Result<Json<PowerView>, VmaError> {
    to_the_end("switching the VM off", async move { power::power_off(&moref, &request).await }).await.map(Json)
}

pub(super) async fn power_on(
    Path(moref): Path<String>,
    Json(request): Json<PowerOnRequest>,
) -> Result<Json<PowerView>, VmaError> {
    to_the_end("switching the VM on", async move { power::power_on(&moref, &request).await }).await.map(Json)
}

/// Goes on when the hub gives up the request, so that the session is always ended: hosts have few.
async fn to_the_end<T: Send + 'static>(
    doing: &'static str,
    work: impl Future<Output = Result<T, VmaError>> + Send + 'static,
) -> Result<T, VmaError> {
    tokio::spawn(work).await.map_err(|source| VmaError::Interrupted { doing, source })?
}
