//! `ossea_volumes`: the replica volumes in CloudStack. Written by the volume daemon.

use model::status::{VolumeSnapshotStatus, VolumeState, VolumeType};
use model::{id, size};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Stored, Timestamp};
use crate::{device_mappings, vm_disks};

pub use entity::Model as OsseaVolume;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "volume";

mod entity {
    use model::status::{VolumeSnapshotStatus, VolumeState, VolumeType};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A replica volume.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "ossea_volumes")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// CloudStack's uuid.
        pub volume_id: String,
        /// The VM it belongs to.
        pub vm_context_id: String,
        /// Name in CloudStack.
        pub volume_name: String,
        /// Size in GiB.
        pub size_gb: Count,
        /// Size in bytes.
        pub size_bytes: Count,
        /// Disk offering.
        pub disk_offering_id: String,
        /// Zone.
        pub zone_id: String,
        /// Root or data disk.
        pub volume_type: Stored<VolumeType>,
        /// State.
        pub state: Stored<VolumeState>,
        /// Device on the hub's VM as CloudStack says; may be wrong, the truth is in `device_mappings`.
        pub device_path: Option<String>,
        /// The VM that holds it.
        pub vm_id: Option<String>,
        /// The target it is in.
        pub ossea_config_id: String,
        /// Its volume_snapshot.
        pub snapshot_id: Option<String>,
        /// State of that.
        pub snapshot_status: Stored<VolumeSnapshotStatus>,
        /// When that was taken.
        pub snapshot_created_at: Option<Timestamp>,
        /// When the row was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A volume that CloudStack made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// CloudStack's uuid.
    pub volume_id: String,
    /// The VM it belongs to.
    pub vm_context_id: String,
    /// Name in CloudStack.
    pub volume_name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Disk offering.
    pub disk_offering_id: String,
    /// Zone.
    pub zone_id: String,
    /// Root or data disk.
    pub volume_type: VolumeType,
    /// State.
    pub state: VolumeState,
    /// The target it is in.
    pub ossea_config_id: String,
}

/// Records a volume; one that is recorded already is answered as it is.
///
/// # Errors
/// The VM or the target does not exist; the database fails.
pub async fn record(store: &Store, volume: &NewVolume) -> Result<OsseaVolume, StoreError> {
    let recording = while_doing("record a volume");
    let transaction = store.begin_write().await?;
    let query = Entity::find().filter(Column::VolumeId.eq(volume.volume_id.as_str()));
    if let Some(row) = query.one(&transaction).await.map_err(&recording)? {
        return Ok(row);
    }
    let now = Timestamp::now();
    let volume = volume.clone();
    let row = OsseaVolume {
        id: id::new_id(),
        volume_id: volume.volume_id,
        vm_context_id: volume.vm_context_id,
        volume_name: volume.volume_name,
        size_gb: size::gib_rounded_up(volume.size_bytes).into(),
        size_bytes: volume.size_bytes.into(),
        disk_offering_id: volume.disk_offering_id,
        zone_id: volume.zone_id,
        volume_type: volume.volume_type.into(),
        state: volume.state.into(),
        device_path: None,
        vm_id: None,
        ossea_config_id: volume.ossea_config_id,
        snapshot_id: None,
        snapshot_status: VolumeSnapshotStatus::None.into(),
        snapshot_created_at: None,
        created_at: now,
        updated_at: now,
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction);
    insert.await.map_err(&recording)?;
    transaction.commit().await.map_err(&recording)?;
    Ok(row)
}

/// The volume with this CloudStack uuid, or none.
///
/// # Errors
/// The database fails.
pub async fn find(store: &Store, volume_id: &str) -> Result<Option<OsseaVolume>, StoreError> {
    let query = Entity::find().filter(Column::VolumeId.eq(volume_id));
    query.one(store.connection()).await.map_err(while_doing("read a volume"))
}

/// The volume with this CloudStack uuid.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_volume_id(store: &Store, volume_id: &str) -> Result<OsseaVolume, StoreError> {
    get(store.connection(), volume_id).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, volume_id: &str) -> Result<OsseaVolume, StoreError> {
    let query = Entity::find().filter(Column::VolumeId.eq(volume_id));
    let row = query.one(connection).await.map_err(while_doing("read a volume"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, volume_id))
}

/// Volumes by name, at most `limit`; of one VM when `context_id` is given.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, context_id: Option<&str>, limit: u32) -> Result<Vec<OsseaVolume>, StoreError> {
    let query = Entity::find()
        .apply_if(context_id, |query, id| query.filter(Column::VmContextId.eq(id)))
        .order_by_asc(Column::VolumeName)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list volumes"))
}

/// Moves the state of a volume and records which VM holds it and as which device, both as CloudStack says.
///
/// # Errors
/// There is no such volume, or its state forbids it; the database fails.
pub async fn set_state(
    store: &Store,
    volume_id: &str,
    to: VolumeState,
    held: Option<&HeldBy>,
) -> Result<(), StoreError> {
    move_state(store.connection(), volume_id, to, held).await
}

/// The VM that holds a volume, as CloudStack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// The VM.
    pub vm_id: String,
    /// The device it says the volume is.
    pub device_path: Option<String>,
}

async fn move_state(
    connection: &impl ConnectionTrait,
    volume_id: &str,
    to: VolumeState,
    held: Option<&HeldBy>,
) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::State, Expr::value(Stored(to)))
        .col_expr(Column::VmId, Expr::value(held.map(|held| held.vm_id.clone())))
        .col_expr(Column::DevicePath, Expr::value(held.and_then(|held| held.device_path.clone())))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VolumeId.eq(volume_id))
        .filter(Column::State.is_in(may_precede(to)));
    if update.exec(connection).await.map_err(while_doing("change the state of a volume"))?.rows_affected > 0 {
        return Ok(());
    }
    let row = get(connection, volume_id).await?;
    Err(refused(WHAT, volume_id, Some(row.state), &to))
}

/// Marks a volume as being deleted. From now on its content is not to be trusted: the change id of its disk is cleared
/// in the same transaction. To be called before CloudStack is asked.
///
/// # Errors
/// There is no such volume, or its state forbids it (it is attached); the database fails.
pub async fn begin_delete(store: &Store, volume_id: &str) -> Result<(), StoreError> {
    let transaction = store.begin_write().await?;
    move_state(&transaction, volume_id, VolumeState::Deleting, None).await?;
    vm_disks::forget_replica(&transaction, volume_id).await?;
    transaction.commit().await.map_err(while_doing("begin to delete a volume"))
}

/// Removes a volume that CloudStack no longer has: its row, its device mapping, its exports, and the change id of its
/// disk, together. Nothing to remove is no error.
///
/// # Errors
/// The database fails.
pub async fn delete(store: &Store, volume_id: &str) -> Result<(), StoreError> {
    let deleting = while_doing("delete a volume");
    let transaction = store.begin_write().await?;
    // First, while the links to the disk still exist: deleting the rows clears them.
    vm_disks::forget_replica(&transaction, volume_id).await?;
    let mappings = device_mappings::Entity::delete_many();
    let mappings = mappings.filter(device_mappings::Column::VolumeUuid.eq(volume_id));
    mappings.exec(&transaction).await.map_err(&deleting)?;
    let volumes = Entity::delete_many().filter(Column::VolumeId.eq(volume_id));
    volumes.exec(&transaction).await.map_err(&deleting)?;
    transaction.commit().await.map_err(&deleting)
}
