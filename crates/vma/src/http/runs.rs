//! `/runs`: start, look, stop, let go, and the digests of what was read.

use api::extract::{Json, Path};
use api::vma::{RunLimits, RunView, StartRun};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::AgentState;
use crate::error::VmaError;

/// Bytes of a digest file read at a time.
const DIGEST_CHUNK_BYTES: usize = 64 * 1024;

pub(super) async fn start(
    State(state): State<AgentState>,
    Json(request): Json<StartRun>,
) -> Result<Json<RunView>, VmaError> {
    state.runs.start(request).map(Json)
}

pub(super) async fn list(State(state): State<AgentState>) -> Json<Vec<RunView>> {
    Json(state.runs.views())
}

pub(super) async fn one(
    State(state): State<AgentState>,
    Path(job_id): Path<String>,
) -> Result<Json<RunView>, VmaError> {
    state.runs.view(&job_id).map(Json)
}

pub(super) async fn limit(
    State(state): State<AgentState>,
    Path(job_id): Path<String>,
    Json(limits): Json<RunLimits>,
) -> Result<Json<RunView>, VmaError> {
    state.runs.limit(&job_id, &limits).map(Json)
}

pub(super) async fn cancel(
    State(state): State<AgentState>,
    Path(job_id): Path<String>,
) -> Result<Json<RunView>, VmaError> {
    state.runs.cancel(&job_id).await.map(Json)
}

pub(super) async fn release(
    State(state): State<AgentState>,
    Path(job_id): Path<String>,
) -> Result<Json<RunView>, VmaError> {
    state.runs.release(&job_id).await.map(Json)
}

/// The records as they lie in the file: what is sent never has to fit into memory.
pub(super) async fn digests(
    State(state): State<AgentState>,
    Path((job_id, disk_id)): Path<(String, String)>,
) -> Result<Response, VmaError> {
    let path = state.runs.digests(&job_id, &disk_id)?;
    let failed = |source| VmaError::StateFile { path: path.clone(), source };
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let body = Body::from_stream(ReaderStream::with_capacity(file, DIGEST_CHUNK_BYTES));
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, body).into_response())
}
