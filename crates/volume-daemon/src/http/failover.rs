//! The operations of a failover: roots, volume_snapshots, strays.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::volume::{AttachRoot, DiscardRoot, SnapshotVolume};
use axum::extract::State;
use axum::http::HeaderMap;
use model::FailureKind;
use model::status::OperationType;
use serde::Deserialize;
use store::ossea_volumes;
use store::ossea_volumes::OsseaVolume;

use super::volumes::{Accepted, MAX_NAME_CHARS, accept, repeated};
use super::{Served, key_of, problem};
use crate::error::VolumeDaemonError;
use crate::ops::SnapshotOfVolume;
use crate::ops::attach_root::AttachRootRequest;
use crate::ops::discard_root::DiscardRootRequest;
use crate::ops::snapshot::SnapshotRequest;
use crate::ops::strays::StrayRequest;

#[derive(Debug, Deserialize)]
pub(super) struct TargetQuery {
    /// The target; the active one when absent.
    ossea_config_id: Option<String>,
}

async fn known(served: &Served, volume_uuid: &str) -> Result<OsseaVolume, Problem> {
    ossea_volumes::by_volume_id(&served.daemon.store, volume_uuid).await.map_err(problem)
}

pub(super) async fn attach_root(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    headers: HeaderMap,
    Json(to): Json<AttachRoot>,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    known(&served, &volume_uuid).await?;
    let request = AttachRootRequest { volume_uuid: volume_uuid.clone(), vm_id: to.vm_id.clone() };
    accept(&served, OperationType::AttachRoot, Some(volume_uuid), Some(to.vm_id), &request, key).await
}

pub(super) async fn snapshot(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<SnapshotVolume>,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    if asked.name.is_empty() || asked.name.chars().count() > MAX_NAME_CHARS || asked.job_id.is_empty() {
        let reason = format!("a volume_snapshot needs a job and a name of 1 to {MAX_NAME_CHARS} characters");
        return Err(problem(VolumeDaemonError::Request(reason)));
    }
    let owner = known(&served, &volume_uuid).await?.vm_context_id;
    if let Some(asked) = asked.vm_context_id.clone().filter(|asked| *asked != owner) {
        return Err(problem(VolumeDaemonError::ForeignVolume { volume_uuid, owner, asked }));
    }
    let request = SnapshotRequest { volume_uuid: volume_uuid.clone(), asked };
    accept(&served, OperationType::Snapshot, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn revert(
    State(served): State<Served>,
    Path((volume_uuid, snapshot_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    known(&served, &volume_uuid).await?;
    let request = SnapshotOfVolume { volume_uuid: volume_uuid.clone(), snapshot_id };
    accept(&served, OperationType::RevertSnapshot, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn delete_snapshot(
    State(served): State<Served>,
    Path((volume_uuid, snapshot_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    if let Err(refused) = known(&served, &volume_uuid).await {
        // The repeat of a request that has ended finds its operation all the same.
        let again = if refused.kind == FailureKind::NotFound { repeated(&served, &key).await? } else { None };
        return again.ok_or(refused);
    }
    let request = SnapshotOfVolume { volume_uuid: volume_uuid.clone(), snapshot_id };
    accept(&served, OperationType::DeleteSnapshot, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn discard_root(
    State(served): State<Served>,
    Path(vm_id): Path<String>,
    headers: HeaderMap,
    Json(proof): Json<DiscardRoot>,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    let request = DiscardRootRequest { vm_id: vm_id.clone(), proof };
    accept(&served, OperationType::Cleanup, None, Some(vm_id), &request, key).await
}

pub(super) async fn delete_stray(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    Query(TargetQuery { ossea_config_id }): Query<TargetQuery>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    let request = StrayRequest { volume_uuid: volume_uuid.clone(), snapshot_id: None, ossea_config_id };
    accept(&served, OperationType::Cleanup, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn delete_stray_snapshot(
    State(served): State<Served>,
    Path((volume_uuid, snapshot_id)): Path<(String, String)>,
    Query(TargetQuery { ossea_config_id }): Query<TargetQuery>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    let snapshot_id = Some(snapshot_id);
    let request = StrayRequest { volume_uuid: volume_uuid.clone(), snapshot_id, ossea_config_id };
    accept(&served, OperationType::Cleanup, Some(volume_uuid), None, &request, key).await
}
