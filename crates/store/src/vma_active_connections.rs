//! `vma_active_connections`: one row per agent: whether its control connection is open and when it was last heard of.

use model::id;
use model::status::ConnectionStatus;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp, short_text};

pub use entity::Model as Connection;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "connection of agent";

mod entity {
    use model::status::ConnectionStatus;
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// The control connection of an agent.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "vma_active_connections")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The agent.
        pub enrollment_id: String,
        /// Status.
        pub connection_status: Stored<ConnectionStatus>,
        /// Where it calls from.
        pub remote_address: String,
        /// What it speaks.
        pub protocol_version: String,
        /// When it was opened.
        pub connected_at: Timestamp,
        /// When the agent was last heard of.
        pub last_seen_at: Timestamp,
        /// Round trip in milliseconds.
        pub round_trip_ms: Option<Count>,
        /// When it was revoked.
        pub revoked_at: Option<Timestamp>,
        /// By whom.
        pub revoked_by: Option<String>,
        /// When the row was made.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Records that an agent connected.
///
/// # Errors
/// There is no such agent, or it was revoked; the database fails.
pub async fn connected(
    store: &Store,
    enrollment_id: &str,
    remote_address: &str,
    protocol_version: &str,
) -> Result<(), StoreError> {
    let recording = while_doing("record an agent's connection");
    let to = ConnectionStatus::Connected;
    let now = Timestamp::now();
    let transaction = store.begin_write().await?;
    let query = Entity::find().filter(Column::EnrollmentId.eq(enrollment_id));
    let Some(known) = query.one(&transaction).await.map_err(&recording)? else {
        let row = Connection {
            id: id::new_id(),
            enrollment_id: enrollment_id.to_owned(),
            connection_status: to.into(),
            remote_address: short_text(remote_address),
            protocol_version: short_text(protocol_version),
            connected_at: now,
            last_seen_at: now,
            round_trip_ms: None,
            revoked_at: None,
            revoked_by: None,
            created_at: now,
            updated_at: now,
        };
        let insert = Entity::insert(row.into_active_model()).exec_without_returning(&transaction);
        insert.await.map_err(&recording)?;
        return transaction.commit().await.map_err(&recording);
    };
    let update = Entity::update_many()
        .col_expr(Column::ConnectionStatus, Expr::value(Stored(to)))
        .col_expr(Column::RemoteAddress, Expr::value(short_text(remote_address)))
        .col_expr(Column::ProtocolVersion, Expr::value(short_text(protocol_version)))
        .col_expr(Column::ConnectedAt, Expr::value(now))
        .col_expr(Column::LastSeenAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::EnrollmentId.eq(enrollment_id))
        .filter(Column::ConnectionStatus.is_in(may_precede(to)));
    if update.exec(&transaction).await.map_err(&recording)?.rows_affected == 0 {
        return Err(refused(WHAT, enrollment_id, Some(known.connection_status), &to));
    }
    transaction.commit().await.map_err(&recording)
}

/// Records that an agent was heard of.
///
/// # Errors
/// The database fails.
pub async fn seen(store: &Store, enrollment_id: &str, round_trip_ms: Option<u64>) -> Result<(), StoreError> {
    let now = Timestamp::now();
    Entity::update_many()
        .col_expr(Column::LastSeenAt, Expr::value(now))
        .col_expr(Column::RoundTripMs, Expr::value(round_trip_ms.map(Count)))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::EnrollmentId.eq(enrollment_id))
        .filter(Column::ConnectionStatus.eq(Stored(ConnectionStatus::Connected)))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("record that an agent lives"))
}

/// Records that an agent's connection ended; `None`: of all agents, when the hub starts.
///
/// # Errors
/// The database fails.
pub async fn disconnected(store: &Store, enrollment_id: Option<&str>) -> Result<(), StoreError> {
    let mut update = Entity::update_many()
        .col_expr(Column::ConnectionStatus, Expr::value(Stored(ConnectionStatus::Disconnected)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::ConnectionStatus.eq(Stored(ConnectionStatus::Connected)));
    if let Some(enrollment_id) = enrollment_id {
        update = update.filter(Column::EnrollmentId.eq(enrollment_id));
    }
    update.exec(store.connection()).await.map(|_| ()).map_err(while_doing("record the end of an agent's connection"))
}

/// Ends an agent's connection for good.
pub(crate) async fn revoke(
    connection: &impl ConnectionTrait,
    enrollment_id: &str,
    revoked_by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::ConnectionStatus, Expr::value(Stored(ConnectionStatus::Revoked)))
        .col_expr(Column::RevokedAt, Expr::value(now))
        .col_expr(Column::RevokedBy, Expr::value(revoked_by))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::EnrollmentId.eq(enrollment_id))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(while_doing("revoke an agent's connection"))
}

/// The connection of every agent that ever connected.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store) -> Result<Vec<Connection>, StoreError> {
    Entity::find().all(store.connection()).await.map_err(while_doing("list agents' connections"))
}
