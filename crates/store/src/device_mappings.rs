//! `device_mappings`: which volume is which device on this machine. The single truth about that; written by the volume
//! daemon.

use model::id;
use model::status::{LinuxState, OperationMode, VolumeSnapshotStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};

pub use entity::Model as DeviceMapping;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "device of volume";

mod entity {
    use model::status::{LinuxState, OperationMode, VolumeSnapshotStatus};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A volume and its device.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "device_mappings")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// CloudStack's uuid of the volume.
        pub volume_uuid: String,
        /// The VM whose disk it replicates.
        pub vm_context_id: Option<String>,
        /// CloudStack's number of the volume, only for its API.
        pub volume_id_numeric: Option<Count>,
        /// The CloudStack VM that holds it.
        pub vm_id: String,
        /// Whether that is the hub's own.
        pub operation_mode: Stored<OperationMode>,
        /// CloudStack's number of the device.
        pub cloudstack_device_id: Option<Count>,
        /// The device node; null while another VM holds the volume or nothing was seen.
        pub device_path: Option<String>,
        /// The kernel's persistent name.
        pub persistent_device_name: Option<String>,
        /// The link under `/dev/disk/by-id`.
        pub symlink_path: Option<String>,
        /// The serial the device is found by.
        pub serial: String,
        /// Whether the device has to be found by more than its serial.
        pub requires_device_correlation: bool,
        /// CloudStack's word for the volume's state.
        pub cloudstack_state: String,
        /// What Linux shows.
        pub linux_state: Stored<LinuxState>,
        /// Size in bytes.
        pub size_bytes: Count,
        /// Its volume_snapshot.
        pub ossea_snapshot_id: Option<String>,
        /// State of that.
        pub snapshot_status: Stored<VolumeSnapshotStatus>,
        /// When that was taken.
        pub snapshot_created_at: Option<Timestamp>,
        /// When row and machine were last compared.
        pub last_sync: Timestamp,
        /// When the row was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A volume that was attached to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMapping {
    /// CloudStack's uuid of the volume.
    pub volume_uuid: String,
    /// The VM whose disk it replicates.
    pub vm_context_id: Option<String>,
    /// The CloudStack VM that holds it.
    pub vm_id: String,
    /// Whether that is the hub's own.
    pub operation_mode: OperationMode,
    /// CloudStack's number of the device.
    pub cloudstack_device_id: Option<u64>,
    /// The serial the device is found by.
    pub serial: String,
    /// CloudStack's word for the volume's state.
    pub cloudstack_state: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Records that a volume is attached. An existing mapping is refreshed and keeps its device while the same VM holds the
/// volume; otherwise the device has to be found again.
///
/// # Errors
/// The VM context does not exist; the database fails.
pub async fn record(store: &Store, mapping: &NewMapping) -> Result<DeviceMapping, StoreError> {
    let recording = while_doing("record a device mapping");
    let transaction = store.begin_write().await?;
    let query = Entity::find().filter(Column::VolumeUuid.eq(mapping.volume_uuid.as_str()));
    let known = query.lock_exclusive().one(&transaction).await.map_err(&recording)?;
    let exists = known.is_some();
    let row = refreshed(known, mapping);
    let model = row.clone().into_active_model();
    if exists {
        let update = Entity::update_many().set(model.reset_all()).filter(Column::Id.eq(row.id.as_str()));
        update.exec(&transaction).await.map_err(&recording)?;
    } else {
        Entity::insert(model).exec_without_returning(&transaction).await.map_err(&recording)?;
    }
    transaction.commit().await.map_err(&recording)?;
    Ok(row)
}

fn refreshed(known: Option<DeviceMapping>, mapping: &NewMapping) -> DeviceMapping {
    let now = Timestamp::now();
    let mapping = mapping.clone();
    let stays =
        known.as_ref().is_some_and(|row| row.vm_id == mapping.vm_id && *row.operation_mode == mapping.operation_mode);
    let expected = match mapping.operation_mode {
        OperationMode::Oma => LinuxState::Appearing,
        OperationMode::Failover => LinuxState::Absent,
    };
    let kept = known.as_ref().filter(|_| stays);
    DeviceMapping {
        id: known.as_ref().map_or_else(id::new_id, |row| row.id.clone()),
        volume_uuid: mapping.volume_uuid,
        vm_context_id: mapping.vm_context_id.or_else(|| known.as_ref().and_then(|row| row.vm_context_id.clone())),
        volume_id_numeric: known.as_ref().and_then(|row| row.volume_id_numeric),
        vm_id: mapping.vm_id,
        operation_mode: mapping.operation_mode.into(),
        cloudstack_device_id: mapping.cloudstack_device_id.map(Count),
        device_path: kept.and_then(|row| row.device_path.clone()),
        persistent_device_name: kept.and_then(|row| row.persistent_device_name.clone()),
        symlink_path: kept.and_then(|row| row.symlink_path.clone()),
        serial: mapping.serial,
        requires_device_correlation: kept.is_none_or(|row| row.requires_device_correlation),
        cloudstack_state: mapping.cloudstack_state,
        linux_state: kept.map_or(Stored(expected), |row| row.linux_state),
        size_bytes: mapping.size_bytes.into(),
        ossea_snapshot_id: known.as_ref().and_then(|row| row.ossea_snapshot_id.clone()),
        snapshot_status: known.as_ref().map_or(Stored(VolumeSnapshotStatus::None), |row| row.snapshot_status),
        snapshot_created_at: known.as_ref().and_then(|row| row.snapshot_created_at),
        last_sync: now,
        created_at: known.as_ref().map_or(now, |row| row.created_at),
        updated_at: now,
    }
}

/// The mapping of a volume.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_volume(store: &Store, volume_uuid: &str) -> Result<DeviceMapping, StoreError> {
    get(store.connection(), volume_uuid).await
}

async fn get(connection: &impl ConnectionTrait, volume_uuid: &str) -> Result<DeviceMapping, StoreError> {
    let query = Entity::find().filter(Column::VolumeUuid.eq(volume_uuid));
    let row = query.one(connection).await.map_err(while_doing("read a device mapping"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, volume_uuid))
}

/// Every mapping.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<DeviceMapping>, StoreError> {
    let query = Entity::find().order_by_asc(Column::VolumeUuid);
    query.all(store.connection()).await.map_err(while_doing("list device mappings"))
}

/// A device as Linux shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDevice {
    /// The device node.
    pub device_path: String,
    /// The link under `/dev/disk/by-id`.
    pub symlink_path: Option<String>,
    /// The kernel's persistent name.
    pub persistent_device_name: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Records the device of a volume as found by serial and size: it is present now.
///
/// # Errors
/// There is no such mapping, its state forbids it, or another mapping claims that device; the database fails.
pub async fn set_present(store: &Store, volume_uuid: &str, device: &SeenDevice) -> Result<(), StoreError> {
    set(store, volume_uuid, LinuxState::Present, Some(device)).await
}

/// Records that a volume has no device here (any more): `to` says what kind of not here.
///
/// # Errors
/// There is no such mapping, or its state forbids it; the database fails.
pub async fn set_gone(store: &Store, volume_uuid: &str, to: LinuxState) -> Result<(), StoreError> {
    if to == LinuxState::Present {
        let reason = "a device that is present has a path".to_owned();
        return Err(StoreError::Invalid { what: "device mapping", reason });
    }
    set(store, volume_uuid, to, None).await
}

async fn set(store: &Store, volume_uuid: &str, to: LinuxState, device: Option<&SeenDevice>) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let mut update = Entity::update_many()
        .col_expr(Column::LinuxState, Expr::value(Stored(to)))
        .col_expr(Column::DevicePath, Expr::value(device.map(|seen| seen.device_path.clone())))
        .col_expr(Column::SymlinkPath, Expr::value(device.and_then(|seen| seen.symlink_path.clone())))
        .col_expr(
            Column::PersistentDeviceName,
            Expr::value(device.and_then(|seen| seen.persistent_device_name.clone())),
        )
        .col_expr(Column::RequiresDeviceCorrelation, Expr::value(device.is_none()))
        .col_expr(Column::LastSync, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    if let Some(seen) = device {
        update = update.col_expr(Column::SizeBytes, Expr::value(Count(seen.size_bytes)));
    }
    let update = update.filter(Column::VolumeUuid.eq(volume_uuid)).filter(Column::LinuxState.is_in(may_precede(to)));
    let changed = update.exec(store.connection()).await.map_err(while_doing("record what Linux shows of a volume"))?;
    if changed.rows_affected > 0 {
        return Ok(());
    }
    let row = by_volume(store, volume_uuid).await?;
    Err(refused(WHAT, volume_uuid, Some(row.linux_state), &to))
}

/// Records CloudStack's word for the state of a volume.
///
/// # Errors
/// The database fails.
pub async fn set_cloudstack_state(store: &Store, volume_uuid: &str, state: &str) -> Result<(), StoreError> {
    let now = Timestamp::now();
    Entity::update_many()
        .col_expr(Column::CloudstackState, Expr::value(state))
        .col_expr(Column::LastSync, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::VolumeUuid.eq(volume_uuid))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("record the state of a volume"))
}
