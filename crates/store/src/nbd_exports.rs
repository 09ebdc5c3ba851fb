//! `nbd_exports`: what may be opened over NBD, and by whom. Written by the volume daemon, read by the gateway when a
//! connection asks for a name: there is nothing to go stale.

use model::id;
use model::status::{ExportKind, ExportStatus, LinuxState};
use sea_orm::sea_query::{Expr, JoinType};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, RelationTrait, Select,
};
use serde_json::Value;

use crate::connect::Store;
use crate::device_mappings;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};

pub use entity::Model as NbdExport;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "export";
/// NBD's registered port.
const NBD_PORT: u64 = 10_809;

mod entity {
    use model::status::{ExportKind, ExportStatus};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// An NBD export.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "nbd_exports")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Its name on the wire.
        pub export_name: String,
        /// The VM it belongs to.
        pub vm_context_id: String,
        /// The replication it is for.
        pub job_id: Option<String>,
        /// The disk whose replica it is.
        pub vm_disk_id: Option<String>,
        /// The volume behind it (CloudStack's uuid).
        pub device_mapping_uuid: Option<String>,
        /// What is behind it.
        pub kind: Stored<ExportKind>,
        /// Whether writes are refused.
        pub read_only: bool,
        /// Size in bytes.
        pub size_bytes: Count,
        /// The only agent that may open it.
        pub enrollment_id: Option<String>,
        /// NBD's port.
        pub port: Count,
        /// Status.
        pub status: Stored<ExportStatus>,
        /// Facts about the source, such as `disk_uuid`.
        pub metadata: Json,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    /// The mapping is joined by its uuid.
    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {
        #[sea_orm(
            belongs_to = "crate::device_mappings::Entity",
            from = "Column::DeviceMappingUuid",
            to = "crate::device_mappings::Column::VolumeUuid"
        )]
        Mapping,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// An export to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExport {
    /// Its name on the wire: see [`model::id::volume_export_name`].
    pub export_name: String,
    /// The VM it belongs to.
    pub vm_context_id: String,
    /// The replication it is for.
    pub job_id: Option<String>,
    /// The disk whose replica it is.
    pub vm_disk_id: Option<String>,
    /// The volume behind it (CloudStack's uuid).
    pub device_mapping_uuid: Option<String>,
    /// What is behind it.
    pub kind: ExportKind,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The only agent that may open it.
    pub enrollment_id: Option<String>,
    /// Facts about the source, such as `disk_uuid`: a JSON object.
    pub metadata: Value,
}

/// Makes an export, or opens the one of that name again for the same disk and volume; it is active then.
///
/// # Errors
/// The name belongs to another disk or volume; what it names does not exist; the database fails.
pub async fn open(store: &Store, export: &NewExport) -> Result<NbdExport, StoreError> {
    let opening = while_doing("make an export");
    let transaction = store.begin_write().await?;
    let query = Entity::find().filter(Column::ExportName.eq(export.export_name.as_str()));
    let known = query.one(&transaction).await.map_err(&opening)?;
    let row = match known {
        None => insert(&transaction, export).await?,
        Some(row) => reopen(&transaction, row, export).await?,
    };
    transaction.commit().await.map_err(&opening)?;
    Ok(row)
}

/// The disks (row ids) a replication writes through a journal: their volumes are what they were.
///
/// # Errors
/// The database fails.
pub async fn journaled(store: &Store, job_id: &str) -> Result<Vec<String>, StoreError> {
    journaled_by(store.connection(), job_id).await
}

pub(crate) async fn journaled_by(connection: &impl ConnectionTrait, job_id: &str) -> Result<Vec<String>, StoreError> {
    let query = Entity::find().filter(Column::JobId.eq(job_id));
    let rows = query.all(connection).await.map_err(while_doing("list the exports of a replication"))?;
    let journaled = rows.into_iter().filter(|row| row.metadata["journal"] == true);
    Ok(journaled.filter_map(|row| row.vm_disk_id).collect())
}

async fn insert(connection: &impl ConnectionTrait, export: &NewExport) -> Result<NbdExport, StoreError> {
    let now = Timestamp::now();
    let export = export.clone();
    let row = NbdExport {
        id: id::new_id(),
        export_name: export.export_name,
        vm_context_id: export.vm_context_id,
        job_id: export.job_id,
        vm_disk_id: export.vm_disk_id,
        device_mapping_uuid: export.device_mapping_uuid,
        kind: export.kind.into(),
        read_only: export.read_only,
        size_bytes: export.size_bytes.into(),
        enrollment_id: export.enrollment_id,
        port: Count(NBD_PORT),
        status: ExportStatus::Active.into(),
        metadata: export.metadata,
        created_at: now,
        updated_at: now,
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(connection);
    insert.await.map_err(while_doing("make an export"))?;
    Ok(row)
}

async fn reopen(
    connection: &impl ConnectionTrait,
    row: NbdExport,
    export: &NewExport,
) -> Result<NbdExport, StoreError> {
    let same = row.vm_disk_id == export.vm_disk_id
        && row.device_mapping_uuid == export.device_mapping_uuid
        && *row.kind == export.kind;
    if !same {
        return Err(StoreError::conflict(WHAT, row.export_name, "it belongs to another disk or volume"));
    }
    let to = ExportStatus::Active;
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::JobId, Expr::value(export.job_id.clone()))
        .col_expr(Column::ReadOnly, Expr::value(export.read_only))
        .col_expr(Column::SizeBytes, Expr::value(Count(export.size_bytes)))
        .col_expr(Column::EnrollmentId, Expr::value(export.enrollment_id.clone()))
        .col_expr(Column::Metadata, Expr::value(export.metadata.clone()))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(row.id.as_str()))
        .filter(Column::Status.is_in(may_precede(to)));
    if update.exec(connection).await.map_err(while_doing("open an export"))?.rows_affected == 0 {
        return Err(refused(WHAT, &row.export_name, Some(row.status), &to));
    }
    by_name_in(connection, &row.export_name).await
}

/// The export with this name.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_name(store: &Store, export_name: &str) -> Result<NbdExport, StoreError> {
    by_name_in(store.connection(), export_name).await
}

async fn by_name_in(connection: &impl ConnectionTrait, export_name: &str) -> Result<NbdExport, StoreError> {
    let query = Entity::find().filter(Column::ExportName.eq(export_name));
    let row = query.one(connection).await.map_err(while_doing("read an export"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, export_name))
}

/// Every export, newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, limit: u32) -> Result<Vec<NbdExport>, StoreError> {
    let query = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id).limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list exports"))
}

/// What the gateway needs to open an export: the row with the device of its volume.
#[derive(Debug, Clone, PartialEq, FromQueryResult)]
pub struct ExportTarget {
    /// Its name on the wire.
    pub export_name: String,
    /// What is behind it.
    pub kind: Stored<ExportKind>,
    /// Status: only an active one may be opened.
    pub status: Stored<ExportStatus>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Size in bytes.
    pub size_bytes: Count,
    /// The only agent that may open it.
    pub enrollment_id: Option<String>,
    /// The replication it is for.
    pub job_id: Option<String>,
    /// Facts about the source, such as `disk_uuid`.
    pub metadata: Value,
    /// The volume behind it (CloudStack's uuid).
    pub volume_uuid: Option<String>,
    /// Its device node, read through the mapping; none while it is not on this machine.
    pub device_path: Option<String>,
    /// The link under `/dev/disk/by-id`.
    pub symlink_path: Option<String>,
    /// The serial of the device.
    pub serial: Option<String>,
    /// Size of the device in bytes.
    pub device_size_bytes: Option<Count>,
    /// What Linux shows of it.
    pub linux_state: Option<Stored<LinuxState>>,
}

impl ExportTarget {
    /// Whether it may be opened now: it is active and its device is here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let present = self.linux_state.is_some_and(|state| *state == LinuxState::Present);
        *self.status == ExportStatus::Active && present && self.device_path.is_some()
    }
}

fn targets() -> Select<Entity> {
    use device_mappings::Column as Mapping;
    Entity::find()
        .select_only()
        .columns([
            Column::ExportName,
            Column::Kind,
            Column::Status,
            Column::ReadOnly,
            Column::SizeBytes,
            Column::EnrollmentId,
            Column::JobId,
            Column::Metadata,
        ])
        .columns([Mapping::VolumeUuid, Mapping::DevicePath, Mapping::SymlinkPath, Mapping::Serial, Mapping::LinuxState])
        .column_as(Mapping::SizeBytes, "device_size_bytes")
        .join(JoinType::LeftJoin, entity::Relation::Mapping.def())
}

/// The export with this name and its device, or none: what the gateway asks at each connection.
///
/// # Errors
/// The database fails.
pub async fn target(store: &Store, export_name: &str) -> Result<Option<ExportTarget>, StoreError> {
    let query = targets().filter(Column::ExportName.eq(export_name)).into_model();
    query.one(store.connection()).await.map_err(while_doing("look up an export"))
}

/// The active exports, by name, at most `limit`; with an enrolment only those it may open.
///
/// # Errors
/// The database fails.
pub async fn active(store: &Store, enrollment_id: Option<&str>, limit: u32) -> Result<Vec<ExportTarget>, StoreError> {
    let query = targets()
        .filter(Column::Status.eq(Stored(ExportStatus::Active)))
        .apply_if(enrollment_id, |query, id| query.filter(Column::EnrollmentId.eq(id)))
        .order_by_asc(Column::ExportName)
        .limit(u64::from(limit))
        .into_model();
    query.all(store.connection()).await.map_err(while_doing("list active exports"))
}

/// Moves the status of an export.
///
/// # Errors
/// There is no such export, or its status forbids it; the database fails.
pub async fn set_status(store: &Store, export_name: &str, to: ExportStatus) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::ExportName.eq(export_name))
        .filter(Column::Status.is_in(may_precede(to)));
    let changed = update.exec(store.connection()).await.map_err(while_doing("change the status of an export"))?;
    if changed.rows_affected > 0 {
        return Ok(());
    }
    let row = by_name(store, export_name).await?;
    Err(refused(WHAT, export_name, Some(row.status), &to))
}

/// Closes every export made for a replication.
pub(crate) async fn close_of_job(connection: &impl ConnectionTrait, job_id: &str) -> Result<(), StoreError> {
    let to = ExportStatus::Closed;
    Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::JobId.eq(job_id))
        .filter(Column::Status.is_in(may_precede(to)))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(while_doing("close the exports of a replication"))
}
