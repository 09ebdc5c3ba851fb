//! `settings`: documents by key, such as the hub's own name.

use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::Timestamp;

use entity::{Column, Entity, Model};

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::Timestamp;

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "settings")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub value: Json,
        pub created_at: Timestamp,
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The document under `key`, or none.
///
/// # Errors
/// The database fails.
pub async fn get(store: &Store, key: &str) -> Result<Option<Value>, StoreError> {
    let row = Entity::find_by_id(key).one(store.connection()).await.map_err(while_doing("read a setting"))?;
    Ok(row.map(|row| row.value))
}

/// Puts a document under `key`.
///
/// # Errors
/// The database fails.
pub async fn put(store: &Store, key: &str, value: Value) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let row = Model { key: key.to_owned(), value, created_at: now, updated_at: now };
    let replace = OnConflict::column(Column::Key).update_columns([Column::Value, Column::UpdatedAt]).to_owned();
    let put = Entity::insert(row.into_active_model()).on_conflict(replace);
    put.exec_without_returning(store.connection()).await.map(|_| ()).map_err(while_doing("write a setting"))
}
