//! `users`: the people (and the first administrator) who may use the hub.

use model::id;
use model::status::Role;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::Timestamp;

pub use entity::Model as User;
pub(crate) use entity::{Column, Entity};

mod entity {
    use model::status::Role;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// A user.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Unique name.
        pub name: String,
        /// Hash of the password; none: no sign-in with a password.
        pub password_hash: Option<String>,
        /// The identity provider's name for them.
        pub oidc_subject: Option<String>,
        /// What they may do.
        pub role: Stored<Role>,
        /// Whether they may use the hub at all.
        pub is_active: bool,
        /// When the account was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Makes a user without a password.
///
/// # Errors
/// The name is taken; the database fails.
pub async fn create(store: &Store, name: &str, role: Role) -> Result<User, StoreError> {
    let now = Timestamp::now();
    let row = User {
        id: id::new_id(),
        name: name.to_owned(),
        password_hash: None,
        oidc_subject: None,
        role: role.into(),
        is_active: true,
        created_at: now,
        updated_at: now,
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(store.connection());
    insert.await.map_err(while_doing("create a user"))?;
    Ok(row)
}

/// The user with this name, or none.
///
/// # Errors
/// The database fails.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<User>, StoreError> {
    let query = Entity::find().filter(Column::Name.eq(name));
    query.one(store.connection()).await.map_err(while_doing("read a user"))
}
