//! `leases`: which process does what only one may do, such as the scheduler's tick. The fence rises with every holder.

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter};
use time::OffsetDateTime;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Timestamp};

use entity::{Column, Entity, Model};

mod entity {
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Timestamp};

    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "leases")]
    pub(super) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub name: String,
        pub holder: String,
        pub fence: Count,
        pub until: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Takes or renews the lease `name` until `until`, if nobody else holds it at `now`. Answers with its fence, which
/// stays when the holder renews and rises when it changes; none while another one holds it.
///
/// # Errors
/// The database fails.
pub async fn acquire(
    store: &Store,
    name: &str,
    holder: &str,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Option<u64>, StoreError> {
    let taking = while_doing("take a lease");
    let (now, until) = (Timestamp::from(now), Timestamp::from(until));
    let transaction = store.begin_write().await?;
    let mine = Condition::all().add(Column::Holder.eq(holder)).add(Column::Until.gt(now));
    let renew = Entity::update_many().col_expr(Column::Until, Expr::value(until));
    let renew = renew.filter(Column::Name.eq(name)).filter(mine).exec(&transaction).await;
    let mut held = renew.map_err(&taking)?.rows_affected > 0;
    if !held {
        let take = Entity::update_many()
            .col_expr(Column::Holder, Expr::value(holder))
            .col_expr(Column::Until, Expr::value(until))
            .col_expr(Column::Fence, Expr::col(Column::Fence).add(1))
            .filter(Column::Name.eq(name))
            .filter(Column::Until.lte(now));
        held = take.exec(&transaction).await.map_err(&taking)?.rows_affected > 0;
    }
    let known = Entity::find_by_id(name).one(&transaction).await.map_err(&taking)?;
    let fence = match known {
        Some(row) => held.then_some(*row.fence),
        None => {
            let row = Model { name: name.to_owned(), holder: holder.to_owned(), fence: Count(1), until };
            let insert = Entity::insert(row.into_active_model()).exec_without_returning(&transaction).await;
            match insert.map_err(&taking) {
                Ok(_) => Some(1),
                // Another process made the row since we looked: it holds the lease.
                Err(StoreError::Duplicate { .. }) => None,
                Err(error) => return Err(error),
            }
        }
    };
    transaction.commit().await.map_err(&taking)?;
    Ok(fence)
}

/// Gives the lease `name` back, if `holder` holds it.
///
/// # Errors
/// The database fails.
pub async fn release(store: &Store, name: &str, holder: &str, now: OffsetDateTime) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::Until, Expr::value(Timestamp::from(now)))
        .filter(Column::Name.eq(name))
        .filter(Column::Holder.eq(holder));
    update.exec(store.connection()).await.map(|_| ()).map_err(while_doing("give a lease back"))
}
