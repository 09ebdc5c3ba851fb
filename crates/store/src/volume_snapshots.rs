//! The volume_snapshot of a replica volume: columns of `ossea_volumes` and `device_mappings` that change together.
//! A volume has at most one of ours. Written by the volume daemon.

use model::status::VolumeSnapshotStatus;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::connect::Store;
use crate::device_mappings;
use crate::error::{StoreError, while_doing};
use crate::ossea_volumes::{self, OsseaVolume};
use crate::transition::{may_precede, refused};
use crate::value::{Stored, Timestamp};

/// What these are called in errors.
const WHAT: &str = "volume_snapshot of volume";

/// Moves the state of a volume's volume_snapshot in its row and in that of its device. `taken` names one that was taken
/// just now; with `none` and `creating` the rows forget an earlier one; otherwise they keep it.
///
/// # Errors
/// There is no such volume, or the state forbids it; the database fails.
pub async fn set_status(
    store: &Store,
    volume_id: &str,
    to: VolumeSnapshotStatus,
    taken: Option<&str>,
) -> Result<(), StoreError> {
    let moving = while_doing("change the state of a volume_snapshot");
    let now = Timestamp::now();
    let forgets = matches!(to, VolumeSnapshotStatus::None | VolumeSnapshotStatus::Creating);
    let transaction = store.begin_write().await?;
    let mut volume = ossea_volumes::Entity::update_many()
        .col_expr(ossea_volumes::Column::SnapshotStatus, Expr::value(Stored(to)))
        .col_expr(ossea_volumes::Column::UpdatedAt, Expr::value(now));
    // Follows the volume, whatever it said before; a volume that was never attached has no such row.
    let mut device = device_mappings::Entity::update_many()
        .col_expr(device_mappings::Column::SnapshotStatus, Expr::value(Stored(to)))
        .col_expr(device_mappings::Column::UpdatedAt, Expr::value(now));
    if forgets || taken.is_some() {
        let (id, at) = (taken.map(str::to_owned), taken.map(|_| now));
        volume = volume
            .col_expr(ossea_volumes::Column::SnapshotId, Expr::value(id.clone()))
            .col_expr(ossea_volumes::Column::SnapshotCreatedAt, Expr::value(at));
        device = device
            .col_expr(device_mappings::Column::OsseaSnapshotId, Expr::value(id))
            .col_expr(device_mappings::Column::SnapshotCreatedAt, Expr::value(at));
    }
    let volume = volume
        .filter(ossea_volumes::Column::VolumeId.eq(volume_id))
        .filter(ossea_volumes::Column::SnapshotStatus.is_in(may_precede(to)));
    if volume.exec(&transaction).await.map_err(&moving)?.rows_affected == 0 {
        let row = ossea_volumes::get(&transaction, volume_id).await?;
        return Err(refused(WHAT, volume_id, Some(row.snapshot_status), &to));
    }
    let device = device.filter(device_mappings::Column::VolumeUuid.eq(volume_id));
    device.exec(&transaction).await.map_err(&moving)?;
    transaction.commit().await.map_err(&moving)
}

/// The volume whose row names a volume_snapshot, or none.
///
/// # Errors
/// The database fails.
pub async fn volume_of(store: &Store, snapshot_id: &str) -> Result<Option<OsseaVolume>, StoreError> {
    let query = ossea_volumes::Entity::find().filter(ossea_volumes::Column::SnapshotId.eq(snapshot_id));
    query.one(store.connection()).await.map_err(while_doing("look up a volume_snapshot"))
}
