//! `disk_scrubs`: how far the source of each disk was read again although change tracking called it unchanged, and which
//! disks' change tracking was caught lying. Moved by the commit alone; goes with its disk.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Timestamp};
use crate::vm_disks;

use entity::{Column, Entity};

pub use entity::Model as DiskScrub;

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    /// The scrub of one disk.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "disk_scrubs")]
    pub struct Model {
        /// The disk (row id).
        #[sea_orm(primary_key, auto_increment = false)]
        pub vm_disk_id: String,
        /// Where the next stretch begins, in bytes.
        pub position_bytes: Count,
        /// When it moved last.
        pub advanced_at: Timestamp,
        /// When the whole disk had been looked at for the last time.
        pub completed_at: Option<Timestamp>,
        /// Since when change tracking is not believed; none while it is.
        pub distrusted_at: Option<Timestamp>,
        /// Leaves ever found different that change tracking had called unchanged.
        pub omissions: Count,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Where a commit leaves the scrub of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scrubbed {
    /// The stretch up to here was compared; the whole disk is done where this is its end.
    UpTo {
        /// In bytes from the disk's start.
        position_bytes: u64,
        /// Whether that is the disk's end.
        is_end: bool,
    },
    /// Every leaf was read and compared: change tracking begins anew.
    Whole,
}

/// The scrub of a disk (row id); none before its first commit.
///
/// # Errors
/// The database fails.
pub async fn of_disk(store: &Store, vm_disk_id: &str) -> Result<Option<DiskScrub>, StoreError> {
    Entity::find_by_id(vm_disk_id).one(store.connection()).await.map_err(while_doing("read the scrub of a disk"))
}

/// No longer believes what change tracking says of a disk until it was compared as a whole.
///
/// # Errors
/// There is no such disk; the database fails.
pub async fn distrust(store: &Store, context_id: &str, disk_id: &str, omissions: u64) -> Result<(), StoreError> {
    let disk = vm_disks::get(store, context_id, disk_id).await?;
    let transaction = store.begin_write().await?;
    let doing = while_doing("distrust the change tracking of a disk");
    let now = Timestamp::now();
    ensure(&transaction, &disk.id, now).await?;
    Entity::update_many()
        .col_expr(Column::DistrustedAt, Expr::value(now))
        .col_expr(Column::Omissions, Expr::col(Column::Omissions).add(Count(omissions)))
        .filter(Column::VmDiskId.eq(disk.id.as_str()))
        .exec(&transaction)
        .await
        .map_err(&doing)?;
    transaction.commit().await.map_err(&doing)
}

/// Moves the scrub of a disk, in the transaction of its commit.
pub(crate) async fn advance(
    connection: &impl ConnectionTrait,
    vm_disk_id: &str,
    to: Option<Scrubbed>,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    ensure(connection, vm_disk_id, now).await?;
    let Some(to) = to else { return Ok(()) };
    let (position, is_end) = match to {
        Scrubbed::UpTo { position_bytes, is_end } => (if is_end { 0 } else { position_bytes }, is_end),
        Scrubbed::Whole => (0, true),
    };
    let mut update = Entity::update_many()
        .col_expr(Column::PositionBytes, Expr::value(Count(position)))
        .col_expr(Column::AdvancedAt, Expr::value(now))
        .filter(Column::VmDiskId.eq(vm_disk_id));
    if is_end {
        update = update.col_expr(Column::CompletedAt, Expr::value(now));
    }
    if to == Scrubbed::Whole {
        update = update.col_expr(Column::DistrustedAt, Expr::value(Option::<Timestamp>::None));
    }
    update.exec(connection).await.map(|_| ()).map_err(while_doing("move the scrub of a disk"))
}

async fn ensure(connection: &impl ConnectionTrait, vm_disk_id: &str, now: Timestamp) -> Result<(), StoreError> {
    let row = DiskScrub {
        vm_disk_id: vm_disk_id.to_owned(),
        position_bytes: Count(0),
        advanced_at: now,
        completed_at: None,
        distrusted_at: None,
        omissions: Count(0),
    };
    let kept = OnConflict::column(Column::VmDiskId).do_nothing_on([Column::VmDiskId]).to_owned();
    let insert = Entity::insert(row.into_active_model()).on_conflict(kept).exec_without_returning(connection);
    insert.await.map(|_| ()).map_err(while_doing("begin the scrub of a disk"))
}
