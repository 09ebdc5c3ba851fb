//! `volume_operation_history`: every move of an operation's status. Written with the move itself.

use model::id;
use model::status::OperationStatus;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::Timestamp;

pub use entity::Model as OperationMove;
pub(crate) use entity::{Column, Entity};

mod entity {
    use model::status::OperationStatus;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// A move of an operation's status.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "volume_operation_history")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The operation.
        pub operation_id: String,
        /// From.
        pub previous_status: Stored<OperationStatus>,
        /// To.
        pub new_status: Stored<OperationStatus>,
        /// When.
        pub changed_at: Timestamp,
        /// Details.
        pub details: Json,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) async fn append(
    connection: &impl ConnectionTrait,
    operation_id: &str,
    from: OperationStatus,
    to: OperationStatus,
    details: Value,
) -> Result<(), StoreError> {
    let row = OperationMove {
        id: id::new_id(),
        operation_id: operation_id.to_owned(),
        previous_status: from.into(),
        new_status: to.into(),
        changed_at: Timestamp::now(),
        details,
    };
    let insert = Entity::insert(row.into_active_model()).exec_without_returning(connection);
    insert.await.map(|_| ()).map_err(while_doing("record the history of a volume operation"))
}

/// The moves of an operation, oldest first.
///
/// # Errors
/// The database fails.
pub async fn of_operation(store: &Store, operation_id: &str) -> Result<Vec<OperationMove>, StoreError> {
    let query = Entity::find().filter(Column::OperationId.eq(operation_id)).order_by_asc(Column::Id);
    query.all(store.connection()).await.map_err(while_doing("read the history of a volume operation"))
}
