//! `vmware_credentials`: how to reach each vCenter. Passwords are sealed by the caller
//! (aad `vmware_credentials.password_encrypted:<id>`).

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Timestamp};

pub use entity::Model as VmwareCredential;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "vCenter credential";

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    /// How to reach a vCenter.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vmware_credentials")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Unique name.
        pub credential_name: String,
        /// Host of the vCenter.
        pub vcenter_host: String,
        /// User name.
        pub username: String,
        /// Password, sealed.
        pub password_encrypted: String,
        /// Datacenter to look at; empty for all.
        pub datacenter: String,
        /// Pinned certificate.
        pub tls_thumbprint: Option<String>,
        /// Whether it may be used.
        pub is_active: bool,
        /// Whether it is the one used when none is named.
        pub is_default: bool,
        /// When it was last used.
        pub last_used: Option<Timestamp>,
        /// How often it was used.
        pub usage_count: Count,
        /// Who made it.
        pub created_by: Option<String>,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A credential to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// Row id, chosen by the caller: the password is sealed for it.
    pub id: String,
    /// Unique name.
    pub credential_name: String,
    /// Host of the vCenter.
    pub vcenter_host: String,
    /// User name.
    pub username: String,
    /// Password, sealed.
    pub password_encrypted: String,
    /// Datacenter to look at; empty for all.
    pub datacenter: String,
    /// Pinned certificate.
    pub tls_thumbprint: Option<String>,
    /// Whether it becomes the default (and the one before is it no more).
    pub is_default: bool,
    /// Who makes it.
    pub created_by: Option<String>,
}

/// Makes a credential.
///
/// # Errors
/// The name is taken; the database fails.
pub async fn create(store: &Store, credential: &NewCredential) -> Result<VmwareCredential, StoreError> {
    let creating = while_doing("create a vCenter credential");
    let now = Timestamp::now();
    let given = credential.clone();
    let row = VmwareCredential {
        id: given.id,
        credential_name: given.credential_name,
        vcenter_host: given.vcenter_host,
        username: given.username,
        password_encrypted: given.password_encrypted,
        datacenter: given.datacenter,
        tls_thumbprint: given.tls_thumbprint,
        is_active: true,
        is_default: given.is_default,
        last_used: None,
        usage_count: Count(0),
        created_by: given.created_by,
        created_at: now,
        updated_at: now,
    };
    let transaction = store.begin_write().await?;
    if row.is_default {
        let others = Entity::update_many().col_expr(Column::IsDefault, Expr::value(false));
        others.filter(Column::IsDefault.eq(true)).exec(&transaction).await.map_err(&creating)?;
    }
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction);
    insert.await.map_err(&creating)?;
    transaction.commit().await.map_err(&creating)?;
    Ok(row)
}

/// The credential with this id, else with this name.
///
/// # Errors
/// There is none; the database fails.
pub async fn find(store: &Store, id_or_name: &str) -> Result<VmwareCredential, StoreError> {
    let either = Column::Id.eq(id_or_name).or(Column::CredentialName.eq(id_or_name));
    let row = Entity::find().filter(either).one(store.connection()).await;
    row.map_err(while_doing("read a vCenter credential"))?.ok_or_else(|| StoreError::not_found(WHAT, id_or_name))
}

/// The one used when none is named: the default, or the only one there is.
///
/// # Errors
/// There is none, or several and no default; the database fails.
pub async fn default(store: &Store) -> Result<VmwareCredential, StoreError> {
    let mut rows: Vec<_> = list(store).await?.into_iter().filter(|row| row.is_active).collect();
    if let Some(at) = rows.iter().position(|row| row.is_default) {
        return Ok(rows.swap_remove(at));
    }
    match (rows.pop(), rows.is_empty()) {
        (Some(row), true) => Ok(row),
        (Some(_), false) => Err(StoreError::conflict(WHAT, "default", "there are several and none is the default")),
        (None, _) => Err(StoreError::not_found(WHAT, "default")),
    }
}

/// Every credential by name.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<VmwareCredential>, StoreError> {
    let query = Entity::find().order_by_asc(Column::CredentialName);
    query.all(store.connection()).await.map_err(while_doing("list vCenter credentials"))
}

/// Counts a use.
///
/// # Errors
/// The database fails.
pub async fn note_use(store: &Store, id: &str) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::UsageCount, Expr::col(Column::UsageCount).add(1))
        .col_expr(Column::LastUsed, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(id))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("note the use of a vCenter credential"))
}

/// Deletes a credential; VMs that used it have none then.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn delete(store: &Store, id: &str) -> Result<(), StoreError> {
    let deleted = Entity::delete_by_id(id).exec(store.connection()).await;
    match deleted.map_err(while_doing("delete a vCenter credential"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, id)),
        _ => Ok(()),
    }
}
