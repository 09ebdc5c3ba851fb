//! NBD exports: making, listing, closing.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::page::{Page, PageQuery};
use api::volume::{CreateExport, VolumeExportView};
use axum::extract::State;
use store::nbd_exports;

use super::{Served, problem};
use crate::exports;
use crate::views;

pub(super) async fn create(
    State(served): State<Served>,
    Json(asked): Json<CreateExport>,
) -> Result<Json<VolumeExportView>, Problem> {
    let row = exports::create(&served.daemon, asked).await.map_err(problem)?;
    Ok(Json(views::export(row)))
}

pub(super) async fn list(
    State(served): State<Served>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<VolumeExportView>>, Problem> {
    let rows = nbd_exports::list(&served.daemon.store, query.bounded_limit()).await.map_err(problem)?;
    Ok(Json(Page { items: rows.into_iter().map(views::export).collect(), next_cursor: None }))
}

pub(super) async fn close(State(served): State<Served>, Path(name): Path<String>) -> Result<Json<()>, Problem> {
    exports::close(&served.daemon, &name).await.map_err(problem)?;
    Ok(Json(()))
}
