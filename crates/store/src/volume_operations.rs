//! `volume_operations` and `volume_operation_history`: what the volume daemon was asked to do, so that it survives a
//! restart. Whoever executes an operation holds its fence; a later executor raises it, and the earlier can write no more.

use model::id;
use model::status::{OperationStatus, OperationType, Transitions};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp, bounded_text};
use crate::volume_operation_history as history;

pub use entity::Model as VolumeOperation;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
const WHAT: &str = "volume operation";

mod entity {
    use model::status::{OperationStatus, OperationType};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// An operation on a volume.
    #[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "volume_operations")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// What it does.
        #[sea_orm(column_name = "type")]
        pub operation_type: Stored<OperationType>,
        /// How far it is.
        pub status: Stored<OperationStatus>,
        /// CloudStack's uuid of the volume, once known.
        pub volume_id: Option<String>,
        /// The CloudStack VM it concerns.
        pub vm_id: Option<String>,
        /// What was asked for.
        pub request: Json,
        /// What came of it.
        pub response: Option<Json>,
        /// Why it failed.
        pub error: Option<String>,
        /// The CloudStack job it waits for.
        pub cloudstack_job_id: Option<String>,
        /// The job in the JobLog.
        pub correlation_id: String,
        /// The same key means the same operation.
        pub idempotency_key: String,
        /// Rises with every executor.
        pub fence: Count,
        /// How often it was begun.
        pub attempts: Count,
        /// When it ended.
        pub completed_at: Option<Timestamp>,
        /// When it was accepted.
        pub created_at: Timestamp,
        /// When it changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An operation that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOperation {
    /// What it does.
    pub operation_type: OperationType,
    /// CloudStack's uuid of the volume, where there is one.
    pub volume_id: Option<String>,
    /// The CloudStack VM it concerns.
    pub vm_id: Option<String>,
    /// What is asked for.
    pub request: Value,
    /// The job in the JobLog.
    pub correlation_id: String,
    /// The same key means the same operation.
    pub idempotency_key: String,
}

/// An accepted operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The operation.
    pub operation: VolumeOperation,
    /// Whether it is new; otherwise its key was used before.
    pub created: bool,
}

/// Accepts an operation; a key that was used before answers with the operation it was used for.
///
/// # Errors
/// The key was used for something else; the database fails.
pub async fn submit(store: &Store, operation: &NewOperation) -> Result<Submitted, StoreError> {
    let submitting = while_doing("accept a volume operation");
    let transaction = store.begin_write().await?;
    let query = Entity::find().filter(Column::IdempotencyKey.eq(operation.idempotency_key.as_str()));
    if let Some(row) = query.one(&transaction).await.map_err(&submitting)? {
        return same_request(row, operation).map(|operation| Submitted { operation, created: false });
    }
    let now = Timestamp::now();
    let asked = operation.clone();
    let row = VolumeOperation {
        id: id::new_id(),
        operation_type: asked.operation_type.into(),
        status: OperationStatus::Pending.into(),
        volume_id: asked.volume_id,
        vm_id: asked.vm_id,
        request: asked.request,
        response: None,
        error: None,
        cloudstack_job_id: None,
        correlation_id: asked.correlation_id,
        idempotency_key: asked.idempotency_key,
        fence: Count(0),
        attempts: Count(0),
        completed_at: None,
        created_at: now,
        updated_at: now,
    };
    let inserted = Entity::insert(row.clone().into_active_model()).exec_without_returning(&transaction).await;
    match inserted.map_err(&submitting) {
        Ok(_) => {
            transaction.commit().await.map_err(&submitting)?;
            Ok(Submitted { operation: row, created: true })
        }
        // Another request with the same key was faster (MariaDB: both looked before either wrote).
        Err(StoreError::Duplicate { .. }) => {
            transaction.rollback().await.map_err(&submitting)?;
            let query = Entity::find().filter(Column::IdempotencyKey.eq(operation.idempotency_key.as_str()));
            let row = query.one(store.connection()).await.map_err(&submitting)?;
            let row = row.ok_or_else(|| StoreError::not_found(WHAT, operation.idempotency_key.as_str()))?;
            same_request(row, operation).map(|operation| Submitted { operation, created: false })
        }
        Err(error) => Err(error),
    }
}

fn same_request(row: VolumeOperation, operation: &NewOperation) -> Result<VolumeOperation, StoreError> {
    if *row.operation_type == operation.operation_type && row.request == operation.request {
        return Ok(row);
    }
    let reason = "this idempotency key was used for another request";
    Err(StoreError::conflict(WHAT, operation.idempotency_key.as_str(), reason))
}

/// The operation with this id.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, operation_id: &str) -> Result<VolumeOperation, StoreError> {
    get(store.connection(), operation_id).await
}

async fn get(connection: &impl ConnectionTrait, operation_id: &str) -> Result<VolumeOperation, StoreError> {
    let row = Entity::find_by_id(operation_id).one(connection).await.map_err(while_doing("read a volume operation"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, operation_id))
}

/// Operations, newest first, at most `limit`; with a status only those.
///
/// # Errors
/// The database fails.
pub async fn list(
    store: &Store,
    status: Option<OperationStatus>,
    limit: u32,
) -> Result<Vec<VolumeOperation>, StoreError> {
    let query = Entity::find()
        .apply_if(status, |query, status| query.filter(Column::Status.eq(Stored(status))))
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list volume operations"))
}

/// Operations that have not ended, oldest first: what a restarted daemon resumes.
///
/// # Errors
/// The database fails.
pub async fn unfinished(store: &Store) -> Result<Vec<VolumeOperation>, StoreError> {
    let open = [OperationStatus::Pending, OperationStatus::Executing].map(Stored);
    let query = Entity::find().filter(Column::Status.is_in(open)).order_by_asc(Column::Id);
    query.all(store.connection()).await.map_err(while_doing("list unfinished volume operations"))
}

/// The right to write one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationLease {
    /// The operation.
    pub operation_id: String,
    /// The fence it was begun with.
    pub fence: u64,
}

/// Begins (or, after a restart, begins again) to execute an operation: whoever executed it before can write no more.
///
/// # Errors
/// There is no such operation, or it has ended; the database fails.
pub async fn begin(store: &Store, operation_id: &str) -> Result<OperationLease, StoreError> {
    let beginning = while_doing("begin a volume operation");
    let to = OperationStatus::Executing;
    let transaction = store.begin_write().await?;
    let before = Entity::find_by_id(operation_id).lock_exclusive().one(&transaction).await.map_err(&beginning)?;
    let before = before.ok_or_else(|| StoreError::not_found(WHAT, operation_id))?;
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::Fence, Expr::col(Column::Fence).add(1))
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(operation_id))
        .filter(Column::Status.is_in(may_precede(to)));
    if update.exec(&transaction).await.map_err(&beginning)?.rows_affected == 0 {
        return Err(refused(WHAT, operation_id, Some(before.status), &to));
    }
    let row = get(&transaction, operation_id).await?;
    let details = serde_json::json!({ "attempt": *row.attempts });
    history::append(&transaction, operation_id, *before.status, to, details).await?;
    transaction.commit().await.map_err(&beginning)?;
    Ok(OperationLease { operation_id: operation_id.to_owned(), fence: *row.fence })
}

/// What is learnt while an operation runs; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learnt {
    /// CloudStack's uuid of the volume.
    pub volume_id: Option<String>,
    /// The CloudStack VM it concerns.
    pub vm_id: Option<String>,
    /// The CloudStack job it waits for.
    pub cloudstack_job_id: Option<String>,
}

/// Records what was learnt, so that a restart can adopt instead of doing it twice.
///
/// # Errors
/// The lease was lost; the database fails.
pub async fn record(store: &Store, lease: &OperationLease, learnt: &Learnt) -> Result<(), StoreError> {
    let mut update = Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()));
    let columns = [
        (Column::VolumeId, &learnt.volume_id),
        (Column::VmId, &learnt.vm_id),
        (Column::CloudstackJobId, &learnt.cloudstack_job_id),
    ];
    for (column, value) in columns {
        if let Some(value) = value {
            update = update.col_expr(column, Expr::value(value.as_str()));
        }
    }
    let update = update
        .filter(Column::Id.eq(lease.operation_id.as_str()))
        .filter(Column::Fence.eq(Count(lease.fence)))
        .filter(Column::Status.eq(Stored(OperationStatus::Executing)));
    match update.exec(store.connection()).await.map_err(while_doing("record a volume operation"))?.rows_affected {
        0 => Err(stale(lease)),
        _ => Ok(()),
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum OperationEnd {
    /// Done, with this answer.
    Completed(Value),
    /// Failed: the problem as JSON text.
    Failed(String),
    /// Stopped on request.
    Cancelled,
}

/// Ends an operation.
///
/// # Errors
/// The lease was lost; the database fails.
pub async fn finish(store: &Store, lease: &OperationLease, end: &OperationEnd) -> Result<(), StoreError> {
    let finishing = while_doing("end a volume operation");
    let (to, response, error) = match end {
        OperationEnd::Completed(response) => (OperationStatus::Completed, Some(response.clone()), None),
        OperationEnd::Failed(error) => (OperationStatus::Failed, None, Some(bounded_text(error.clone()))),
        OperationEnd::Cancelled => (OperationStatus::Cancelled, None, None),
    };
    let now = Timestamp::now();
    let transaction = store.begin_write().await?;
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::Response, Expr::value(response))
        .col_expr(Column::Error, Expr::value(error))
        .col_expr(Column::CompletedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(lease.operation_id.as_str()))
        .filter(Column::Fence.eq(Count(lease.fence)))
        .filter(Column::Status.eq(Stored(OperationStatus::Executing)));
    if update.exec(&transaction).await.map_err(&finishing)?.rows_affected == 0 {
        return Err(stale(lease));
    }
    history::append(&transaction, &lease.operation_id, OperationStatus::Executing, to, Value::Null).await?;
    transaction.commit().await.map_err(&finishing)
}

fn stale(lease: &OperationLease) -> StoreError {
    StoreError::Stale { what: WHAT, id: lease.operation_id.clone() }
}

/// Whether nothing more will happen to an operation.
#[must_use]
pub fn has_ended(operation: &VolumeOperation) -> bool {
    operation.status.is_final()
}
