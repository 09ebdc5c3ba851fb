//! `api_tokens`: bearer tokens. Only the SHA-256 of a token is kept; the caller computes it.

use model::id;
use model::status::Role;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use time::OffsetDateTime;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::users;
use crate::value::Timestamp;

pub use entity::Model as ApiToken;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "API token";

mod entity {
    use model::status::Role;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// A bearer token.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "api_tokens")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// Whose it is.
        pub user_id: String,
        /// What it is for.
        pub name: String,
        /// SHA-256 of the token, hex.
        pub token_hash: String,
        /// What it may do at most.
        pub role: Stored<Role>,
        /// When it stops working.
        pub expires_at: Option<Timestamp>,
        /// When it was last used.
        pub last_used_at: Option<Timestamp>,
        /// When it was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A token to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose it is.
    pub user_id: String,
    /// What it is for.
    pub name: String,
    /// SHA-256 of the token, hex.
    pub token_hash: String,
    /// What it may do at most.
    pub role: Role,
    /// When it stops working.
    pub expires_at: Option<OffsetDateTime>,
}

/// Keeps a token.
///
/// # Errors
/// There is no such user, or the hash is known already; the database fails.
pub async fn create(store: &Store, token: &NewToken) -> Result<ApiToken, StoreError> {
    let now = Timestamp::now();
    let given = token.clone();
    let row = ApiToken {
        id: id::new_id(),
        user_id: given.user_id,
        name: given.name,
        token_hash: given.token_hash,
        role: given.role.into(),
        expires_at: given.expires_at.map(Timestamp::from),
        last_used_at: None,
        created_at: now,
        updated_at: now,
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(store.connection());
    insert.await.map_err(while_doing("keep an API token"))?;
    Ok(row)
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's row.
    pub token_id: String,
    /// The user.
    pub user_id: String,
    /// Their name.
    pub user_name: String,
    /// What they may do with it: the lesser of the token's and the user's role.
    pub role: Role,
}

/// Who the token with this hash speaks for; none when it is unknown or expired, or its user is not active.
///
/// # Errors
/// The database fails.
pub async fn verify(store: &Store, token_hash: &str, now: OffsetDateTime) -> Result<Option<Bearer>, StoreError> {
    let checking = while_doing("check an API token");
    let query = Entity::find().filter(Column::TokenHash.eq(token_hash)).one(store.connection());
    let Some(token) = query.await.map_err(&checking)? else { return Ok(None) };
    let user = users::Entity::find_by_id(token.user_id.as_str()).one(store.connection()).await.map_err(&checking)?;
    let expired = token.expires_at.is_some_and(|end| *end <= now);
    let bearer = user.filter(|user| user.is_active && !expired).map(|user| Bearer {
        token_id: token.id,
        user_id: user.id,
        user_name: user.name,
        role: (*token.role).min(*user.role),
    });
    Ok(bearer)
}

/// Notes that a token was used. Callers do this at most once a minute or so, not with every request.
///
/// # Errors
/// The database fails.
pub async fn note_use(store: &Store, token_id: &str, now: OffsetDateTime) -> Result<(), StoreError> {
    let update = Entity::update_many().col_expr(Column::LastUsedAt, Expr::value(Timestamp::from(now)));
    let update = update.filter(Column::Id.eq(token_id)).exec(store.connection()).await;
    update.map(|_| ()).map_err(while_doing("note the use of an API token"))
}

/// The tokens of a user, newest first.
///
/// # Errors
/// The database fails.
pub async fn of_user(store: &Store, user_id: &str) -> Result<Vec<ApiToken>, StoreError> {
    let query = Entity::find().filter(Column::UserId.eq(user_id)).order_by_desc(Column::Id);
    query.all(store.connection()).await.map_err(while_doing("list API tokens"))
}

/// Deletes a token.
///
/// # Errors
/// There is none with that id; the database fails.
pub async fn delete(store: &Store, token_id: &str) -> Result<(), StoreError> {
    let deleted = Entity::delete_by_id(token_id).exec(store.connection()).await;
    match deleted.map_err(while_doing("delete an API token"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, token_id)),
        _ => Ok(()),
    }
}
