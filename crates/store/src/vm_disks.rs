//! `vm_disks`: the disks of the VMs, the volumes that replicate them, and the change ids those are equal to.

use model::ChangeId;
use model::status::DiskSyncStatus;
use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};
use crate::{ossea_volumes, vm_replication_contexts as contexts};

pub use entity::Model as VmDisk;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "disk";

mod entity {
    use model::ChangeId;
    use model::status::DiskSyncStatus;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A disk of a VM.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "vm_disks")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// The replication that wrote its replica last.
        pub job_id: Option<String>,
        /// `disk-<device key>`.
        pub disk_id: String,
        /// The VMDK's uuid.
        pub disk_uuid: String,
        /// `[datastore] dir/file.vmdk`.
        pub vmdk_path: String,
        /// Datastore.
        pub datastore: String,
        /// `Hard disk 1`.
        pub label: String,
        /// `pvscsi`, `nvme`, …
        pub controller_type: String,
        /// Bus of the controller.
        pub controller_bus: i64,
        /// Unit on the controller.
        pub unit_number: i64,
        /// Size in GiB, rounded up.
        pub size_gb: Count,
        /// Size in bytes.
        pub capacity_bytes: Count,
        /// `thin`, `thick`, …
        pub provisioning_type: String,
        /// VMware's disk mode.
        pub disk_mode: String,
        /// VMware's sharing mode.
        pub sharing: String,
        /// Whether the VM boots from it, where that can be told.
        pub is_boot_disk: Option<bool>,
        /// The replica volume (CloudStack's uuid), once it is mapped to a device.
        pub volume_uuid: Option<String>,
        /// The replica volume (row id).
        pub ossea_volume_id: Option<String>,
        /// The change id the replica is equal to.
        pub disk_change_id: Option<Stored<ChangeId>>,
        /// State of the replica.
        pub sync_status: Stored<DiskSyncStatus>,
        /// 0 to 100.
        pub sync_progress_percent: f64,
        /// Bytes the last replication sent.
        pub bytes_synced: Count,
        /// When it was discovered.
        pub created_at: Timestamp,
        /// When the row changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The disks of a VM, by disk id.
///
/// # Errors
/// The database fails.
pub async fn of_context(store: &Store, context_id: &str) -> Result<Vec<VmDisk>, StoreError> {
    of(store.connection(), context_id).await
}

pub(crate) async fn of(connection: &impl ConnectionTrait, context_id: &str) -> Result<Vec<VmDisk>, StoreError> {
    let query = Entity::find().filter(Column::VmContextId.eq(context_id)).order_by_asc(Column::DiskId);
    query.all(connection).await.map_err(while_doing("list the disks of a VM"))
}

/// One disk of a VM.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn get(store: &Store, context_id: &str, disk_id: &str) -> Result<VmDisk, StoreError> {
    one(store.connection(), context_id, disk_id).await
}

pub(crate) async fn one(
    connection: &impl ConnectionTrait,
    context_id: &str,
    disk_id: &str,
) -> Result<VmDisk, StoreError> {
    let query = Entity::find().filter(Column::VmContextId.eq(context_id)).filter(Column::DiskId.eq(disk_id));
    let row = query.one(connection).await.map_err(while_doing("read a disk"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, disk_id))
}

/// A disk by its row id; `None` when there is none (any more).
///
/// # Errors
/// The database fails.
pub async fn by_row_id(store: &Store, vm_disk_id: &str) -> Result<Option<VmDisk>, StoreError> {
    Entity::find_by_id(vm_disk_id).one(store.connection()).await.map_err(while_doing("read a disk"))
}

/// The disks whose replica a volume is said to be.
///
/// # Errors
/// The database fails.
pub async fn replicated_by(store: &Store, volume_uuid: &str) -> Result<Vec<VmDisk>, StoreError> {
    let query = Entity::find().filter(is_on(volume_uuid)).order_by_asc(Column::DiskId);
    query.all(store.connection()).await.map_err(while_doing("list the disks a volume replicates"))
}

/// A disk and the volume it names.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct LinkedDisk {
    /// The VM.
    pub vm_context_id: String,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The replica volume (CloudStack's uuid).
    pub volume_uuid: Option<String>,
    /// The replica volume (row id).
    pub ossea_volume_id: Option<String>,
}

/// Every disk that names a volume, by either of its two links; of every VM.
///
/// # Errors
/// The database fails.
pub async fn linked(store: &Store) -> Result<Vec<LinkedDisk>, StoreError> {
    let query = Entity::find()
        .select_only()
        .columns([Column::VmContextId, Column::DiskId, Column::VolumeUuid, Column::OsseaVolumeId])
        .filter(Column::VolumeUuid.is_not_null().or(Column::OsseaVolumeId.is_not_null()))
        .into_model();
    query.all(store.connection()).await.map_err(while_doing("list the disks with a volume"))
}

/// Whether a disk is linked to a volume, by either of its two links.
fn is_on(volume_uuid: &str) -> SimpleExpr {
    let rows = ossea_volumes::Entity::find()
        .select_only()
        .column(ossea_volumes::Column::Id)
        .filter(ossea_volumes::Column::VolumeId.eq(volume_uuid))
        .into_query();
    Column::VolumeUuid.eq(volume_uuid).or(Column::OsseaVolumeId.in_subquery(rows))
}

/// Links a disk to its replica volume. Another volume than before clears the change id: it said something about that one.
///
/// # Errors
/// There is no such disk, or the volume has no device mapping or row; the database fails.
pub async fn set_volume(store: &Store, vm_disk_id: &str, volume: &VolumeLink) -> Result<(), StoreError> {
    let other = Column::VolumeUuid.is_null().or(Column::VolumeUuid.ne(volume.volume_uuid.as_str()));
    let kept = Expr::case(other.clone(), Expr::value(Option::<String>::None)).finally(Expr::col(Column::DiskChangeId));
    let status = Expr::case(other, Expr::value(Stored(DiskSyncStatus::Pending))).finally(Expr::col(Column::SyncStatus));
    let update = Entity::update_many()
        // MariaDB assigns from left to right: what looks at the old volume comes before the new one is set.
        .col_expr(Column::DiskChangeId, kept.into())
        .col_expr(Column::SyncStatus, status.into())
        .col_expr(Column::VolumeUuid, Expr::value(volume.volume_uuid.as_str()))
        .col_expr(Column::OsseaVolumeId, Expr::value(volume.ossea_volume_id.as_str()))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(vm_disk_id));
    match update.exec(store.connection()).await.map_err(while_doing("link a disk to its volume"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, vm_disk_id)),
        _ => Ok(()),
    }
}

/// The replica volume of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeLink {
    /// CloudStack's uuid; its device mapping must exist.
    pub volume_uuid: String,
    /// Row of the volume.
    pub ossea_volume_id: String,
}

/// Moves the state of a disk's replica.
///
/// # Errors
/// There is no such disk, or its state forbids it; the database fails.
pub async fn set_sync_status(store: &Store, vm_disk_id: &str, to: DiskSyncStatus) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::SyncStatus, Expr::value(Stored(to)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(vm_disk_id))
        .filter(Column::SyncStatus.is_in(may_precede(to)));
    let changing = while_doing("change the state of a disk");
    if update.exec(store.connection()).await.map_err(&changing)?.rows_affected > 0 {
        return Ok(());
    }
    let row = Entity::find_by_id(vm_disk_id).one(store.connection()).await.map_err(&changing)?;
    Err(refused(WHAT, vm_disk_id, row.map(|row| row.sync_status), &to))
}

/// Marks every disk of a VM as being written by `job_id`: from now on the replicas are incomplete until committed.
/// Their change ids stay: an increment from them covers whatever an increment has written half; for anything else see
/// [`distrust`].
///
/// # Errors
/// There is no such job; the database fails.
pub async fn begin_sync(store: &Store, context_id: &str, job_id: &str) -> Result<(), StoreError> {
    let to = DiskSyncStatus::Syncing;
    Entity::update_many()
        .col_expr(Column::SyncStatus, Expr::value(Stored(to)))
        .col_expr(Column::JobId, Expr::value(job_id))
        .col_expr(Column::SyncProgressPercent, Expr::value(0.0))
        .col_expr(Column::BytesSynced, Expr::value(Count(0)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::SyncStatus.is_in(may_precede(to)))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("mark disks as being written"))
}

/// Forgets what a disk's replica is equal to: the next replication copies all of it. For a replica that turned out not
/// to be what was committed, and for a commit that is no base for an increment any more.
///
/// # Errors
/// The database fails.
pub async fn distrust(store: &Store, context_id: &str, disk_id: &str) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::DiskChangeId, Expr::value(Option::<String>::None))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::DiskId.eq(disk_id))
        .filter(Column::DiskChangeId.is_not_null())
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("forget the change id of a disk"))
}

/// Forgets what the replica on a volume is equal to: somebody else may have written to the volume.
///
/// # Errors
/// The database fails.
pub async fn distrust_volume(store: &Store, volume_uuid: &str) -> Result<(), StoreError> {
    forget_replica(store.connection(), volume_uuid).await
}

/// A volume that holds again, byte for byte, what a commit said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// CloudStack's uuid of the volume.
    pub volume_uuid: String,
    /// The change id its content is equal to.
    pub change_id: ChangeId,
}

/// Takes up again what the replicas on volumes are equal to, after each was reverted to a volume snapshot of its
/// committed content; all of them or none. A disk that was replicated meanwhile keeps what that says.
///
/// # Errors
/// A disk is being written; the database fails.
pub async fn restore(store: &Store, restored: &[Restored]) -> Result<(), StoreError> {
    let restoring = while_doing("restore the change ids of disks");
    let to = DiskSyncStatus::Completed;
    let transaction = store.begin_write().await?;
    for volume in restored {
        Entity::update_many()
            .col_expr(Column::DiskChangeId, Expr::value(Stored(volume.change_id.clone())))
            .col_expr(Column::SyncStatus, Expr::value(Stored(to)))
            .col_expr(Column::SyncProgressPercent, Expr::value(100.0))
            .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
            .filter(Column::VolumeUuid.eq(volume.volume_uuid.as_str()))
            .filter(Column::DiskChangeId.is_null())
            .filter(Column::SyncStatus.is_in(may_precede(to)))
            .exec(&transaction)
            .await
            .map_err(&restoring)?;
    }
    transaction.commit().await.map_err(&restoring)
}

/// Marks the replicas on volumes as written to by the guest of a failed-over VM: the next replication compares them.
///
/// # Errors
/// The database fails.
pub async fn mark_diverged(store: &Store, volume_uuids: &[String]) -> Result<(), StoreError> {
    let to = DiskSyncStatus::Diverged;
    Entity::update_many()
        .col_expr(Column::DiskChangeId, Expr::value(Option::<String>::None))
        .col_expr(Column::SyncStatus, Expr::value(Stored(to)))
        .col_expr(Column::SyncProgressPercent, Expr::value(0.0))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VolumeUuid.is_in(volume_uuids.iter().map(String::as_str)))
        .filter(Column::SyncStatus.is_in(may_precede(to)))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("mark replicas as diverged"))
}

/// How far a disk's transfer is; a disk that is not being written is left alone.
///
/// # Errors
/// The database fails.
pub async fn set_progress(
    store: &Store,
    context_id: &str,
    disk_id: &str,
    percent: f64,
    bytes_synced: u64,
) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::SyncProgressPercent, Expr::value(percent.clamp(0.0, 100.0)))
        .col_expr(Column::BytesSynced, Expr::value(Count(bytes_synced)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::DiskId.eq(disk_id))
        .filter(Column::SyncStatus.eq(Stored(DiskSyncStatus::Syncing)))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("record the progress of a disk"))
}

/// The newest committed change id of the disk `disk_id` of the VM at `vm_path`; `None` means: copy everything.
///
/// # Errors
/// There is no such VM or disk; the database fails.
pub async fn change_id_of(store: &Store, vm_path: &str, disk_id: &str) -> Result<Option<ChangeId>, StoreError> {
    let looking = while_doing("look up a change id");
    let contexts: Vec<String> = contexts::Entity::find()
        .select_only()
        .column(contexts::Column::ContextId)
        .filter(contexts::Column::VmPath.eq(vm_path))
        .into_tuple()
        .all(store.connection())
        .await
        .map_err(&looking)?;
    if contexts.is_empty() {
        return Err(StoreError::not_found(contexts::WHAT, vm_path));
    }
    let query = Entity::find().filter(Column::VmContextId.is_in(contexts)).filter(Column::DiskId.eq(disk_id));
    let rows = query.order_by_desc(Column::UpdatedAt).all(store.connection()).await.map_err(&looking)?;
    if rows.is_empty() {
        return Err(StoreError::not_found(WHAT, disk_id));
    }
    Ok(rows.into_iter().find_map(|row| row.disk_change_id).map(|id| id.0))
}

/// Clears the change id of the disk a volume replicates and makes its replica worth nothing: whoever begins to destroy
/// the volume does this in the same transaction.
pub(crate) async fn forget_replica(connection: &impl ConnectionTrait, volume_uuid: &str) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::DiskChangeId, Expr::value(Option::<String>::None))
        .col_expr(Column::SyncStatus, Expr::value(Stored(DiskSyncStatus::Pending)))
        .col_expr(Column::SyncProgressPercent, Expr::value(0.0))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(is_on(volume_uuid))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(while_doing("clear a disk's change id"))
}
