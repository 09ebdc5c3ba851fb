//! `vm_group_memberships`: which VMs belong to which group, and in which order they are started.

use std::collections::HashMap;

use model::id;
use model::status::ContextStatus;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QuerySelect};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Stored, Timestamp};
use crate::{vm_machine_groups as groups, vm_replication_contexts as contexts};

pub use entity::Model as GroupMembership;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "member";
/// Most VMs of one group: each of them is a child of one job, whose steps are shown whole.
pub const MAX_MEMBERS: u64 = 200;

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    /// That a VM belongs to a group.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vm_group_memberships")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The group.
        pub group_id: String,
        /// The VM.
        pub vm_context_id: String,
        /// Whether it takes part.
        pub enabled: bool,
        /// Higher ones come first among equals.
        pub priority: i64,
        /// Lower ones are started first; equal ones together.
        pub boot_order: i64,
        /// How long to wait before it is started when its turn has come, in seconds.
        pub boot_delay_seconds: Count,
        /// A schedule of its own instead of the group's.
        pub schedule_override_id: Option<String>,
        /// Who added it.
        pub added_by: String,
        /// When it was added.
        pub added_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// How a VM takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberFields {
    /// Whether it does.
    pub enabled: bool,
    /// Higher ones come first among equals.
    pub priority: i32,
    /// Lower ones are started first; equal ones together.
    pub boot_order: u32,
    /// How long to wait before it is started when its turn has come, in seconds.
    pub boot_delay_seconds: u32,
}

/// A member with what is known of its VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The membership.
    pub row: GroupMembership,
    /// Name of the VM.
    pub vm_name: String,
    /// Where it stands.
    pub current_status: ContextStatus,
}

/// The members of a group in the order in which they are started: by boot order, then the higher priority, then the name.
///
/// # Errors
/// The database fails.
pub async fn of_group(store: &Store, group_id: &str) -> Result<Vec<Member>, StoreError> {
    let listing = while_doing("list the members of a group");
    let query = Entity::find().filter(Column::GroupId.eq(group_id)).limit(MAX_MEMBERS);
    let rows = query.all(store.connection()).await.map_err(&listing)?;
    let vms: Vec<(String, String, Stored<ContextStatus>)> = contexts::Entity::find()
        .select_only()
        .columns([contexts::Column::ContextId, contexts::Column::VmName, contexts::Column::CurrentStatus])
        .filter(contexts::Column::ContextId.is_in(rows.iter().map(|row| row.vm_context_id.as_str())))
        .into_tuple()
        .all(store.connection())
        .await
        .map_err(&listing)?;
    let mut vms: HashMap<_, _> = vms.into_iter().map(|(id, name, status)| (id, (name, *status))).collect();
    let with_vm = |row: GroupMembership| {
        let (vm_name, current_status) = vms.remove(&row.vm_context_id)?;
        Some(Member { row, vm_name, current_status })
    };
    let mut members: Vec<Member> = rows.into_iter().filter_map(with_vm).collect();
    members.sort_by(|a, b| {
        let order = |member: &Member| (member.row.boot_order, -member.row.priority);
        order(a).cmp(&order(b)).then_with(|| a.vm_name.cmp(&b.vm_name))
    });
    Ok(members)
}

/// How many members each group has, by its id; those without any are absent.
///
/// # Errors
/// The database fails.
pub async fn counts(store: &Store) -> Result<HashMap<String, u64>, StoreError> {
    let counted: Vec<(String, i64)> = Entity::find()
        .select_only()
        .column(Column::GroupId)
        .column_as(Column::Id.count(), "members")
        .group_by(Column::GroupId)
        .into_tuple()
        .all(store.connection())
        .await
        .map_err(while_doing("count the members of groups"))?;
    Ok(counted.into_iter().map(|(group, members)| (group, members.unsigned_abs())).collect())
}

/// Adds a VM to a group, or changes how it takes part.
///
/// # Errors
/// There is no such VM or group, or the group has [`MAX_MEMBERS`]; the database fails.
pub async fn put(
    store: &Store,
    group_id: &str,
    context_id: &str,
    fields: MemberFields,
    added_by: &str,
) -> Result<GroupMembership, StoreError> {
    let adding = while_doing("add a VM to a group");
    let transaction = store.begin_write().await?;
    contexts::lock(&transaction, context_id).await?;
    let group = groups::lock(&transaction, group_id).await?;
    let query = Entity::find().filter(Column::GroupId.eq(group_id)).filter(Column::VmContextId.eq(context_id));
    let known = query.one(&transaction).await.map_err(&adding)?;
    let row = row(group_id, context_id, fields, added_by, known.as_ref());
    if known.is_some() {
        let update = Entity::update_many().set(row.clone().into_active_model().reset_all());
        update.filter(Column::Id.eq(row.id.as_str())).exec(&transaction).await.map_err(&adding)?;
    } else {
        let members = Entity::find().filter(Column::GroupId.eq(group_id)).count(&transaction).await;
        if members.map_err(&adding)? >= MAX_MEMBERS {
            let reason = format!("it has {MAX_MEMBERS} members, the most there may be");
            return Err(StoreError::conflict(groups::WHAT, group.name, reason));
        }
        let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction);
        insert.await.map_err(&adding)?;
    }
    transaction.commit().await.map_err(&adding)?;
    Ok(row)
}

fn row(
    group_id: &str,
    context_id: &str,
    fields: MemberFields,
    added_by: &str,
    known: Option<&GroupMembership>,
) -> GroupMembership {
    GroupMembership {
        id: known.map_or_else(id::new_id, |row| row.id.clone()),
        group_id: group_id.to_owned(),
        vm_context_id: context_id.to_owned(),
        enabled: fields.enabled,
        priority: fields.priority.into(),
        boot_order: fields.boot_order.into(),
        boot_delay_seconds: Count::from(fields.boot_delay_seconds),
        schedule_override_id: known.and_then(|row| row.schedule_override_id.clone()),
        added_by: known.map_or_else(|| added_by.to_owned(), |row| row.added_by.clone()),
        added_at: known.map_or_else(Timestamp::now, |row| row.added_at),
    }
}

/// Takes a VM out of a group.
///
/// # Errors
/// It is not in it; the database fails.
pub async fn remove(store: &Store, group_id: &str, context_id: &str) -> Result<(), StoreError> {
    let mine = Column::GroupId.eq(group_id).and(Column::VmContextId.eq(context_id));
    let deleted = Entity::delete_many().filter(mine).exec(store.connection()).await;
    match deleted.map_err(while_doing("take a VM out of a group"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, context_id)),
        _ => Ok(()),
    }
}
