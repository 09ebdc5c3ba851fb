//! `vma_pairing_codes`: codes that let one agent ask to be enrolled, once. Only their hash is kept. They are used up by
//! [`crate::vma_enrollments::enroll`].

use model::id;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};
use time::OffsetDateTime;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Timestamp};

pub use entity::Model as PairingCodeRow;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "pairing code";

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    /// A pairing code.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vma_pairing_codes")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// SHA-256 of the code's secret part, hex.
        pub code_hash: String,
        /// Who asked for it.
        pub generated_by: String,
        /// When it stops working.
        pub expires_at: Timestamp,
        /// When it was used.
        pub used_at: Option<Timestamp>,
        /// The enrolment it was used for.
        pub used_by_enrollment_id: Option<String>,
        /// How often it was tried after it stopped working.
        pub failed_attempts: Count,
        /// When it was made.
        pub created_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Keeps a new code.
///
/// # Errors
/// The hash is known already; the database fails.
pub async fn create(
    store: &Store,
    code_hash: &str,
    generated_by: &str,
    expires_at: OffsetDateTime,
) -> Result<PairingCodeRow, StoreError> {
    let row = PairingCodeRow {
        id: id::new_id(),
        code_hash: code_hash.to_owned(),
        generated_by: generated_by.to_owned(),
        expires_at: expires_at.into(),
        used_at: None,
        used_by_enrollment_id: None,
        failed_attempts: Count(0),
        created_at: Timestamp::now(),
    };
    let insert = Entity::insert(row.clone().into_active_model()).exec_without_returning(store.connection());
    insert.await.map_err(while_doing("keep a pairing code"))?;
    Ok(row)
}

/// Uses a code up; of several at the same time exactly one succeeds.
pub(crate) async fn consume(
    connection: &impl ConnectionTrait,
    code_hash: &str,
    now: Timestamp,
) -> Result<PairingCodeRow, StoreError> {
    let using = while_doing("use a pairing code");
    let update = Entity::update_many()
        .col_expr(Column::UsedAt, Expr::value(now))
        .filter(Column::CodeHash.eq(code_hash))
        .filter(Column::UsedAt.is_null())
        .filter(Column::ExpiresAt.gt(now));
    let used = update.exec(connection).await.map_err(&using)?.rows_affected > 0;
    let row = Entity::find().filter(Column::CodeHash.eq(code_hash)).one(connection).await.map_err(&using)?;
    let row = row.ok_or_else(|| StoreError::not_found(WHAT, "(unknown)"))?;
    match (used, row.used_at) {
        (true, _) => Ok(row),
        (false, Some(_)) => Err(StoreError::conflict(WHAT, row.id, "it was used already")),
        (false, None) => Err(StoreError::conflict(WHAT, row.id, "it has expired")),
    }
}

/// Ties a used code to the enrolment it was used for.
pub(crate) async fn tie(
    connection: &impl ConnectionTrait,
    code_id: &str,
    enrollment_id: &str,
) -> Result<(), StoreError> {
    let update = Entity::update_many().col_expr(Column::UsedByEnrollmentId, Expr::value(enrollment_id));
    let update = update.filter(Column::Id.eq(code_id)).exec(connection).await;
    update.map(|_| ()).map_err(while_doing("use a pairing code"))
}

/// Counts an attempt with a code that does not work any more; an unknown code has nothing to count on.
///
/// # Errors
/// The database fails.
pub async fn note_failure(store: &Store, code_hash: &str) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::FailedAttempts, Expr::col(Column::FailedAttempts).add(1))
        .filter(Column::CodeHash.eq(code_hash))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("count a failed pairing attempt"))
}
