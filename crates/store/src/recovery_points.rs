//! `recovery_points`: the committed journals beside the volumes. Written by the commit alone, moved on by whoever merges
//! or discards them; a row goes with its disk. The files are the gateway's.

use model::id;
use model::status::PointState;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::commit::CommittedDisk;
use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::replication_jobs::ReplicationJob;
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};
use crate::vm_disks::VmDisk;

use entity::{Column, Entity};

pub use entity::Model as RecoveryPoint;

/// What these rows are called in errors.
const WHAT: &str = "recovery point";

mod entity {
    use model::status::PointState;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A recovery point of one disk.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "recovery_points")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// The disk (row id).
        pub vm_disk_id: String,
        /// The replication that was committed with it: the points of all disks of one moment share it, and it names the
        /// files of the journal.
        pub job_id: String,
        /// The export that was written, and with it the volume the journal lies beside.
        pub export_name: String,
        /// Its place among the points of the disk: later ones have larger numbers.
        pub sequence: Count,
        /// The change id the content is equal to the source at.
        pub change_id: Option<String>,
        /// Length of the journal's index that belongs to the point, in bytes.
        pub index_bytes: Count,
        /// Length of the journal's payloads that belong to the point, in bytes.
        pub data_bytes: Count,
        /// What became of it.
        pub state: Stored<PointState>,
        /// When it was committed.
        pub committed_at: Timestamp,
        /// When it was merged or discarded; while it is kept: when its merge began.
        pub ended_at: Option<Timestamp>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The sealed journal of one disk, to be committed with its change id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPoint {
    /// The export it was written through.
    pub export_name: String,
    /// Length of its index, in bytes.
    pub index_bytes: u64,
    /// Length of its payloads, in bytes.
    pub data_bytes: u64,
}

/// Stores the recovery point of a disk, in the transaction of its commit.
pub(crate) async fn insert(
    transaction: &DatabaseTransaction,
    job: &ReplicationJob,
    row: &VmDisk,
    disk: &CommittedDisk,
    new: &NewPoint,
) -> Result<(), StoreError> {
    let storing = while_doing("store a recovery point");
    // The VM's row is locked by the commit: nobody takes the same number.
    let last = Entity::find().filter(Column::VmDiskId.eq(row.id.as_str())).order_by_desc(Column::Sequence);
    let last = last.one(transaction).await.map_err(&storing)?;
    let point = RecoveryPoint {
        id: id::new_id(),
        vm_context_id: job.vm_context_id.clone(),
        vm_disk_id: row.id.clone(),
        job_id: job.id.clone(),
        export_name: new.export_name.clone(),
        sequence: Count(last.map_or(0, |last| *last.sequence) + 1),
        change_id: disk.change_id.as_ref().map(ToString::to_string),
        index_bytes: new.index_bytes.into(),
        data_bytes: new.data_bytes.into(),
        state: PointState::Kept.into(),
        committed_at: Timestamp::now(),
        ended_at: None,
    };
    let insert = Entity::insert(point.into_active_model()).exec_without_returning(transaction);
    insert.await.map(|_| ()).map_err(storing)
}

/// The recovery points kept beside the volume of an export, oldest first: what the volume's content continues into.
///
/// # Errors
/// The database fails.
pub async fn of_export(store: &Store, export_name: &str) -> Result<Vec<RecoveryPoint>, StoreError> {
    let query = Entity::find()
        .filter(Column::ExportName.eq(export_name))
        .filter(Column::State.eq(Stored(PointState::Kept)))
        .order_by_asc(Column::Sequence);
    query.all(store.connection()).await.map_err(while_doing("list the recovery points of an export"))
}

/// The recovery points of a VM in one state or in any, newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn of_context(
    store: &Store,
    context_id: &str,
    state: Option<PointState>,
    limit: u32,
) -> Result<Vec<RecoveryPoint>, StoreError> {
    let query = Entity::find()
        .filter(Column::VmContextId.eq(context_id))
        .apply_if(state, |query, state| query.filter(Column::State.eq(Stored(state))))
        .order_by_desc(Column::CommittedAt)
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list the recovery points of a VM"))
}

/// Every recovery point that is kept, by export and then oldest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn kept(store: &Store, limit: u32) -> Result<Vec<RecoveryPoint>, StoreError> {
    let query = Entity::find()
        .filter(Column::State.eq(Stored(PointState::Kept)))
        .order_by_asc(Column::ExportName)
        .order_by_asc(Column::Sequence)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list the recovery points"))
}

/// The recovery point that the replication `job_id` made of an export, whatever became of it.
///
/// # Errors
/// The database fails.
pub async fn of_job(store: &Store, export_name: &str, job_id: &str) -> Result<Option<RecoveryPoint>, StoreError> {
    let query = Entity::find().filter(Column::ExportName.eq(export_name)).filter(Column::JobId.eq(job_id));
    query.one(store.connection()).await.map_err(while_doing("read the recovery point of a replication"))
}

/// One recovery point.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn by_id(store: &Store, id: &str) -> Result<RecoveryPoint, StoreError> {
    let row = Entity::find_by_id(id).one(store.connection()).await.map_err(while_doing("read a recovery point"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, id))
}

/// A recovery point is about to be written into its volume, which holds neither state until that is done.
///
/// # Errors
/// The database fails.
pub async fn merge_begins(store: &Store, id: &str) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::EndedAt, Expr::value(Some(Timestamp::now())))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(Stored(PointState::Kept)))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("note that a recovery point is merged"))
}

/// Says what became of a recovery point; saying it again changes nothing.
///
/// # Errors
/// There is none with that id, or something else became of it; the database fails.
pub async fn set_state(store: &Store, id: &str, to: PointState) -> Result<(), StoreError> {
    let changing = while_doing("change the state of a recovery point");
    let update = Entity::update_many()
        .col_expr(Column::State, Expr::value(Stored(to)))
        .col_expr(Column::EndedAt, Expr::value(Some(Timestamp::now())))
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(Stored(PointState::Kept)));
    if update.exec(store.connection()).await.map_err(changing)?.rows_affected > 0 {
        return Ok(());
    }
    let row = by_id(store, id).await?;
    if may_precede(to).contains(&row.state) { Ok(()) } else { Err(refused(WHAT, id, Some(row.state), &to)) }
}

/// Discards every kept recovery point beside the volume of an export; answers with how many there were.
///
/// # Errors
/// The database fails.
pub async fn discard_all_of(store: &Store, export_name: &str) -> Result<u64, StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::State, Expr::value(Stored(PointState::Discarded)))
        .col_expr(Column::EndedAt, Expr::value(Some(Timestamp::now())))
        .filter(Column::ExportName.eq(export_name))
        .filter(Column::State.eq(Stored(PointState::Kept)));
    let update = update.exec(store.connection()).await;
    update.map(|done| done.rows_affected).map_err(while_doing("discard recovery points"))
}
