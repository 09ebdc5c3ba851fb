//! `ossea_configs`: the CloudStack targets. Keys are sealed by the caller (aad `ossea_configs.<column>:<id>`).

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::Timestamp;

pub use entity::Model as OsseaConfig;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "target";

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::Timestamp;

    /// A CloudStack target.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "ossea_configs")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Unique name.
        pub name: String,
        /// `https://host:8443/client/api`.
        pub api_url: String,
        /// API key, sealed.
        pub api_key_encrypted: String,
        /// Secret key, sealed.
        pub secret_key_encrypted: String,
        /// Domain path; empty for the account's own.
        pub domain: String,
        /// Zone: name or id.
        pub zone: String,
        /// Template of the VMs to be made.
        pub template_id: Option<String>,
        /// Network of the VMs to be made.
        pub network_id: Option<String>,
        /// Service offering of the VMs to be made.
        pub service_offering_id: Option<String>,
        /// Disk offering of the replica volumes.
        pub disk_offering_id: Option<String>,
        /// The hub's own VM.
        pub oma_vm_id: Option<String>,
        /// SHA-256 of the server's certificate.
        pub tls_fingerprint: Option<String>,
        /// Whether it is the one used when none is named.
        pub is_active: bool,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What a target is made of or replaced with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsseaConfigFields {
    /// Unique name.
    pub name: String,
    /// `https://host:8443/client/api`.
    pub api_url: String,
    /// API key, sealed.
    pub api_key_encrypted: String,
    /// Secret key, sealed.
    pub secret_key_encrypted: String,
    /// Domain path.
    pub domain: String,
    /// Zone: name or id.
    pub zone: String,
    /// Template of the VMs to be made.
    pub template_id: Option<String>,
    /// Network of the VMs to be made.
    pub network_id: Option<String>,
    /// Service offering of the VMs to be made.
    pub service_offering_id: Option<String>,
    /// Disk offering of the replica volumes.
    pub disk_offering_id: Option<String>,
    /// The hub's own VM.
    pub oma_vm_id: Option<String>,
    /// SHA-256 of the server's certificate.
    pub tls_fingerprint: Option<String>,
    /// Whether it is the one used when none is named.
    pub is_active: bool,
}

fn row(id: &str, fields: &OsseaConfigFields, created_at: Timestamp) -> OsseaConfig {
    let fields = fields.clone();
    OsseaConfig {
        id: id.to_owned(),
        name: fields.name,
        api_url: fields.api_url,
        api_key_encrypted: fields.api_key_encrypted,
        secret_key_encrypted: fields.secret_key_encrypted,
        domain: fields.domain,
        zone: fields.zone,
        template_id: fields.template_id,
        network_id: fields.network_id,
        service_offering_id: fields.service_offering_id,
        disk_offering_id: fields.disk_offering_id,
        oma_vm_id: fields.oma_vm_id,
        tls_fingerprint: fields.tls_fingerprint,
        is_active: fields.is_active,
        created_at,
        updated_at: Timestamp::now(),
    }
}

/// Makes a target under an id chosen by the caller (its keys are sealed for that id).
///
/// # Errors
/// The name is taken; the database fails.
pub async fn create(store: &Store, id: &str, fields: &OsseaConfigFields) -> Result<OsseaConfig, StoreError> {
    let row = row(id, fields, Timestamp::now());
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(store.connection());
    insert.await.map_err(while_doing("create a target"))?;
    Ok(row)
}

/// Replaces a target.
///
/// # Errors
/// There is none with that id, or the name is taken; the database fails.
pub async fn replace(store: &Store, id: &str, fields: &OsseaConfigFields) -> Result<OsseaConfig, StoreError> {
    let row = row(id, fields, by_id(store, id).await?.created_at);
    let update = Entity::update_many().set(row.clone().into_active_model().reset_all()).filter(Column::Id.eq(id));
    update.exec(store.connection()).await.map_err(while_doing("replace a target"))?;
    Ok(row)
}

/// Records the hub's own VM and the disk offering as validation found them.
///
/// # Errors
/// There is no such target; the database fails.
pub async fn set_found(
    store: &Store,
    id: &str,
    oma_vm_id: Option<&str>,
    disk_offering_id: Option<&str>,
) -> Result<(), StoreError> {
    let mut update = Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()));
    for (column, value) in [(Column::OmaVmId, oma_vm_id), (Column::DiskOfferingId, disk_offering_id)] {
        if let Some(value) = value {
            update = update.col_expr(column, Expr::value(value));
        }
    }
    let update = update.filter(Column::Id.eq(id)).exec(store.connection());
    match update.await.map_err(while_doing("record what validation found"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, id)),
        _ => Ok(()),
    }
}

/// The target with this id.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, id: &str) -> Result<OsseaConfig, StoreError> {
    let row = Entity::find_by_id(id).one(store.connection()).await.map_err(while_doing("read a target"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, id))
}

/// The target with this id, else with this name.
///
/// # Errors
/// There is none; the database fails.
pub async fn find(store: &Store, id_or_name: &str) -> Result<OsseaConfig, StoreError> {
    let either = Column::Id.eq(id_or_name).or(Column::Name.eq(id_or_name));
    let row = Entity::find().filter(either).one(store.connection()).await.map_err(while_doing("read a target"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, id_or_name))
}

/// The target used when none is named: the newest active one.
///
/// # Errors
/// There is none; the database fails.
pub async fn active(store: &Store) -> Result<OsseaConfig, StoreError> {
    let query = Entity::find().filter(Column::IsActive.eq(true)).order_by_desc(Column::CreatedAt);
    let row = query.one(store.connection()).await.map_err(while_doing("read the active target"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, "active"))
}

/// Every target by name.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<OsseaConfig>, StoreError> {
    Entity::find().order_by_asc(Column::Name).all(store.connection()).await.map_err(while_doing("list targets"))
}

/// Deletes a target.
///
/// # Errors
/// There is none with that id, or volumes are in it; the database fails.
pub async fn delete(store: &Store, id: &str) -> Result<(), StoreError> {
    let deleted = Entity::delete_by_id(id).exec(store.connection()).await.map_err(while_doing("delete a target"))?;
    if deleted.rows_affected > 0 { Ok(()) } else { Err(StoreError::not_found(WHAT, id)) }
}
