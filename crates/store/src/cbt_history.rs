//! `cbt_history`: every change id that was reached, and from which.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};

pub use entity::Model as CbtHistory;
pub(crate) use entity::{Column, Entity};

mod entity {
    use model::status::ReplicationType;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A change id that was reached.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "cbt_history")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// The replication.
        pub job_id: Option<String>,
        /// `disk-<device key>`.
        pub disk_id: String,
        /// The change id reached.
        pub change_id: String,
        /// The one before.
        pub previous_change_id: Option<String>,
        /// What was copied.
        pub sync_type: Stored<ReplicationType>,
        /// 64 KiB blocks that changed.
        pub blocks_changed: Count,
        /// Bytes of data sent.
        pub bytes_transferred: Count,
        /// How long it took.
        pub sync_duration_seconds: Count,
        /// Whether it was committed.
        pub sync_success: bool,
        /// When.
        pub created_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The rows of a VM, newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn of_context(store: &Store, context_id: &str, limit: u32) -> Result<Vec<CbtHistory>, StoreError> {
    let query = Entity::find()
        .filter(Column::VmContextId.eq(context_id))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("read the CBT history of a VM"))
}
