//! Volumes: what there is, and the operations that change it.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::page::{Page, PageQuery};
use api::volume::{AttachVolume, CreateVolume, DeviceView, OperationView, VolumeView};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use model::FailureKind;
use model::status::{OperationType, VolumeState};
use serde::{Deserialize, Serialize};
use store::{device_mappings, ossea_volumes, vm_replication_contexts};

use super::{Served, key_of, problem};
use crate::error::VolumeDaemonError;
use crate::ops::attach::AttachRequest;
use crate::ops::{Asked, VolumeRequest, submit};
use crate::views;

/// Longest name CloudStack and the row take, in characters.
pub(super) const MAX_NAME_CHARS: usize = 255;

pub(super) type Accepted = (StatusCode, Json<OperationView>);

#[derive(Debug, Deserialize)]
pub(super) struct VolumesQuery {
    /// Only of this VM.
    vm_context_id: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(served): State<Served>,
    Query(query): Query<VolumesQuery>,
) -> Result<Json<Page<VolumeView>>, Problem> {
    let limit = PageQuery { limit: query.limit, cursor: None }.bounded_limit();
    let rows = ossea_volumes::list(&served.daemon.store, query.vm_context_id.as_deref(), limit).await;
    let items = rows.map_err(problem)?.into_iter().map(views::volume).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

pub(super) async fn one(State(served): State<Served>, Path(uuid): Path<String>) -> Result<Json<VolumeView>, Problem> {
    let row = ossea_volumes::by_volume_id(&served.daemon.store, &uuid).await.map_err(problem)?;
    Ok(Json(views::volume(row)))
}

pub(super) async fn device(
    State(served): State<Served>,
    Path(uuid): Path<String>,
) -> Result<Json<DeviceView>, Problem> {
    let row = device_mappings::by_volume(&served.daemon.store, &uuid).await.map_err(problem)?;
    Ok(Json(views::device(row)))
}

pub(super) async fn create(
    State(served): State<Served>,
    headers: HeaderMap,
    Json(request): Json<CreateVolume>,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    if request.name.is_empty() || request.name.chars().count() > MAX_NAME_CHARS || request.size_bytes == 0 {
        let reason = format!("a volume needs a name of 1 to {MAX_NAME_CHARS} characters and a size above 0");
        return Err(problem(VolumeDaemonError::Request(reason)));
    }
    vm_replication_contexts::by_id(&served.daemon.store, &request.vm_context_id).await.map_err(problem)?;
    accept(&served, OperationType::Create, None, None, &request, key).await
}

pub(super) async fn attach(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    headers: HeaderMap,
    Json(to): Json<AttachVolume>,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    if let Some(wrong) = to.device_id.filter(|&id| id == 0 || !cloudstack::is_attachable_device_id(id)) {
        let reason = format!("device id {wrong} cannot be used: 1, 2 and 4 to 33 can");
        return Err(problem(VolumeDaemonError::Request(reason)));
    }
    ossea_volumes::by_volume_id(&served.daemon.store, &volume_uuid).await.map_err(problem)?;
    let vm_id = to.vm_id.clone();
    let request = AttachRequest { volume_uuid: volume_uuid.clone(), to };
    accept(&served, OperationType::Attach, Some(volume_uuid), vm_id, &request, key).await
}

pub(super) async fn detach(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    ossea_volumes::by_volume_id(&served.daemon.store, &volume_uuid).await.map_err(problem)?;
    let request = VolumeRequest { volume_uuid: volume_uuid.clone() };
    accept(&served, OperationType::Detach, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn delete(
    State(served): State<Served>,
    Path(volume_uuid): Path<String>,
    headers: HeaderMap,
) -> Result<Accepted, Problem> {
    let key = key_of(&headers)?;
    let request = VolumeRequest { volume_uuid: volume_uuid.clone() };
    match ossea_volumes::by_volume_id(&served.daemon.store, &volume_uuid).await {
        Ok(row) if *row.state == VolumeState::Attached => {
            let vm_id = row.vm_id.unwrap_or_default();
            return Err(problem(VolumeDaemonError::Attached { volume_uuid, vm_id }));
        }
        Ok(_) => {}
        // The repeat of a deletion that has ended finds its operation all the same.
        Err(error) if error.kind() == FailureKind::NotFound => {
            return repeated(&served, &key).await?.ok_or_else(|| problem(error));
        }
        Err(error) => return Err(problem(error)),
    }
    accept(&served, OperationType::Delete, Some(volume_uuid), None, &request, key).await
}

pub(super) async fn repeated(served: &Served, key: &str) -> Result<Option<Accepted>, Problem> {
    let found = crate::ops::with_key(&served.daemon, key).await.map_err(problem)?;
    Ok(found.map(|row| (StatusCode::ACCEPTED, Json(views::operation(row)))))
}

pub(super) async fn accept<R: Serialize + Sync>(
    served: &Served,
    operation_type: OperationType,
    volume_uuid: Option<String>,
    vm_id: Option<String>,
    request: &R,
    key: String,
) -> Result<Accepted, Problem> {
    let request = serde_json::to_value(request)
        .map_err(|error| Problem::new(FailureKind::Internal, format!("the request cannot be stored: {error}")))?;
    let asked = Asked { operation_type, volume_uuid, vm_id, request, key };
    let row = submit(&served.daemon, asked).await.map_err(problem)?;
    Ok((StatusCode::ACCEPTED, Json(views::operation(row))))
}
