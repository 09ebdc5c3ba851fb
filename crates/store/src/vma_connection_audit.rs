//! `vma_connection_audit`: what happened to agents. Lines are only ever added; they outlive the enrolment.

use model::id;
use model::status::AuditEvent;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Timestamp, short_text};

pub use entity::Model as AuditLine;
pub(crate) use entity::{Column, Entity};

mod entity {
    use model::status::AuditEvent;
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// A line of the agents' audit.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vma_connection_audit")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The agent, unless its enrolment is gone.
        pub enrollment_id: Option<String>,
        /// What happened.
        pub event_type: Stored<AuditEvent>,
        /// Fingerprint of its key.
        pub vma_fingerprint: Option<String>,
        /// Where from.
        pub source_ip: String,
        /// With what.
        pub user_agent: Option<String>,
        /// Who decided.
        pub approved_by: Option<String>,
        /// Details.
        pub event_details: Json,
        /// When.
        pub created_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A line to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAudit {
    /// The agent, where it is known.
    pub enrollment_id: Option<String>,
    /// What happened.
    pub event_type: AuditEvent,
    /// Fingerprint of its key.
    pub vma_fingerprint: Option<String>,
    /// Where from.
    pub source_ip: String,
    /// With what.
    pub user_agent: Option<String>,
    /// Who decided.
    pub approved_by: Option<String>,
    /// Details.
    pub event_details: Value,
}

/// Adds a line.
///
/// # Errors
/// There is no such agent; the database fails.
pub async fn append(store: &Store, line: &NewAudit) -> Result<(), StoreError> {
    append_in(store.connection(), line).await
}

pub(crate) async fn append_in(connection: &impl ConnectionTrait, line: &NewAudit) -> Result<(), StoreError> {
    let row = AuditLine {
        id: id::new_id(),
        enrollment_id: line.enrollment_id.clone(),
        event_type: line.event_type.into(),
        vma_fingerprint: line.vma_fingerprint.clone(),
        source_ip: short_text(&line.source_ip),
        user_agent: line.user_agent.as_deref().map(short_text),
        approved_by: line.approved_by.as_deref().map(short_text),
        event_details: line.event_details.clone(),
        created_at: Timestamp::now(),
    };
    let insert = Entity::insert(row.into_active_model()).exec_without_returning(connection);
    insert.await.map(|_| ()).map_err(while_doing("write the agents' audit"))
}

/// The lines, newest first, at most `limit`, older than the line `before`.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, before: Option<&str>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
    let query = Entity::find()
        .apply_if(before, |query, id| query.filter(Column::Id.lt(id)))
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("read the agents' audit"))
}
