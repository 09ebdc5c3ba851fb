//! `vm_machine_groups`: VMs that are handled together. Who belongs to one is in [`crate::vm_group_memberships`].

use model::id;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Timestamp};

pub use entity::Model as MachineGroup;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "group";
/// Most groups: a list of them is shown whole.
pub const MAX_GROUPS: u64 = 500;

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    /// A group of VMs.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vm_machine_groups")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Unique name.
        pub name: String,
        /// What it is for.
        pub description: String,
        /// The schedule it follows.
        pub schedule_id: Option<String>,
        /// How many of its VMs are worked on at once.
        pub max_concurrent_vms: Count,
        /// Higher ones come first where groups compete.
        pub priority: i64,
        /// Who made it.
        pub created_by: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What a group is made of or replaced with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFields {
    /// Unique name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How many of its VMs are worked on at once.
    pub max_concurrent_vms: u32,
    /// Higher ones come first where groups compete.
    pub priority: i32,
}

/// Makes a group.
///
/// # Errors
/// The name is taken, or there are [`MAX_GROUPS`]; the database fails.
pub async fn create(store: &Store, fields: &GroupFields, created_by: &str) -> Result<MachineGroup, StoreError> {
    let creating = while_doing("create a group");
    let now = Timestamp::now();
    let row = MachineGroup {
        id: id::new_id(),
        name: fields.name.clone(),
        description: fields.description.clone(),
        schedule_id: None,
        max_concurrent_vms: fields.max_concurrent_vms.into(),
        priority: fields.priority.into(),
        created_by: created_by.to_owned(),
        created_at: now,
        updated_at: now,
    };
    let transaction = store.begin_write().await?;
    if Entity::find().count(&transaction).await.map_err(&creating)? >= MAX_GROUPS {
        return Err(StoreError::conflict(
            WHAT,
            row.name,
            format!("there are {MAX_GROUPS} groups, the most there may be"),
        ));
    }
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction);
    insert.await.map_err(&creating)?;
    transaction.commit().await.map_err(&creating)?;
    Ok(row)
}

/// Replaces what a group says of itself; its members and its schedule stay.
///
/// # Errors
/// There is none with that id, or the name is taken; the database fails.
pub async fn replace(store: &Store, group_id: &str, fields: &GroupFields) -> Result<MachineGroup, StoreError> {
    Entity::update_many()
        .col_expr(Column::Name, Expr::value(fields.name.as_str()))
        .col_expr(Column::Description, Expr::value(fields.description.as_str()))
        .col_expr(Column::MaxConcurrentVms, Expr::value(Count::from(fields.max_concurrent_vms)))
        .col_expr(Column::Priority, Expr::value(i64::from(fields.priority)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(group_id))
        .exec(store.connection())
        .await
        .map_err(while_doing("replace a group"))?;
    get(store.connection(), group_id).await
}

async fn get(connection: &impl ConnectionTrait, group_id: &str) -> Result<MachineGroup, StoreError> {
    let row = Entity::find_by_id(group_id).one(connection).await.map_err(while_doing("read a group"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, group_id))
}

/// The group with this id, locked until the transaction ends.
pub(crate) async fn lock(transaction: &DatabaseTransaction, group_id: &str) -> Result<MachineGroup, StoreError> {
    let query = Entity::find_by_id(group_id).lock_exclusive();
    let row = query.one(transaction).await.map_err(while_doing("lock a group"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, group_id))
}

/// The group with this id, else with this name.
///
/// # Errors
/// There is none; the database fails.
pub async fn find(store: &Store, id_or_name: &str) -> Result<MachineGroup, StoreError> {
    let reading = while_doing("read a group");
    if let Some(row) = Entity::find_by_id(id_or_name).one(store.connection()).await.map_err(&reading)? {
        return Ok(row);
    }
    let named = Entity::find().filter(Column::Name.eq(id_or_name)).one(store.connection());
    named.await.map_err(&reading)?.ok_or_else(|| StoreError::not_found(WHAT, id_or_name))
}

/// Every group by name.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<MachineGroup>, StoreError> {
    let query = Entity::find().order_by_asc(Column::Name).limit(MAX_GROUPS);
    query.all(store.connection()).await.map_err(while_doing("list groups"))
}

/// Deletes a group; its VMs stay, and belong to it no more.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn delete(store: &Store, group_id: &str) -> Result<(), StoreError> {
    let deleted = Entity::delete_by_id(group_id).exec(store.connection()).await;
    match deleted.map_err(while_doing("delete a group"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, group_id)),
        _ => Ok(()),
    }
}
