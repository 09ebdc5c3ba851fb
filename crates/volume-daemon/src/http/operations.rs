//! Operations: how far they are, and waiting for their end.

use std::time::Duration;

use api::Problem;
use api::extract::{Json, Path, Query};
use api::page::{Page, PageQuery};
use api::volume::OperationView;
use axum::extract::State;
use joblog::JobEvent;
use serde::Deserialize;
use store::volume_operations::{self, VolumeOperation, has_ended};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{Served, problem};
use crate::error::VolumeDaemonError;
use crate::views;

/// Longest wait one request may ask for, in seconds: below what clients and proxies give up after.
const MAX_WAIT_SECONDS: u32 = 30;

pub(super) async fn list(
    State(served): State<Served>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<OperationView>>, Problem> {
    let rows = volume_operations::list(&served.daemon.store, None, query.bounded_limit()).await.map_err(problem)?;
    Ok(Json(Page { items: rows.into_iter().map(views::operation).collect(), next_cursor: None }))
}

#[derive(Debug, Deserialize)]
pub(super) struct WaitQuery {
    #[serde(default)]
    wait_seconds: u32,
}

pub(super) async fn one(
    State(served): State<Served>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<OperationView>, Problem> {
    let longest = Duration::from_secs(query.wait_seconds.min(MAX_WAIT_SECONDS).into());
    let row = waited(&served, &id, longest).await.map_err(problem)?;
    Ok(Json(views::operation(row)))
}

/// The operation as soon as it has ended, or as it is when the time is over or the daemon stops.
async fn waited(served: &Served, id: &str, longest: Duration) -> Result<VolumeOperation, VolumeDaemonError> {
    let deadline = Instant::now() + longest;
    // Listening before looking: an end in between is not missed.
    let mut events = served.daemon.runner().subscribe();
    loop {
        let row = volume_operations::by_id(&served.daemon.store, id).await?;
        if has_ended(&row) || Instant::now() >= deadline || served.shutdown.is_cancelled() {
            return Ok(row);
        }
        tokio::select! {
            () = heard_of(&mut events, &row.correlation_id) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = served.shutdown.cancelled() => {}
        }
    }
}

/// Returns when the job's row was written, or may have been.
async fn heard_of(events: &mut broadcast::Receiver<JobEvent>, job_id: &str) {
    loop {
        match events.recv().await {
            Ok(JobEvent::Job(job)) if job.id == job_id => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
