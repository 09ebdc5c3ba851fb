//! `failover_jobs`: what was failed over, where it stands, what can be put back. Whoever begins one holds the VM's row,
//! so that no second one and no replication begins beside it.

use joblog::{Lease, StepError};
use model::status::{ContextStatus, FailoverStatus, FailoverType};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde_json::{Value, json};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::joblog::check_lease;
use crate::transition::{may_precede, refused};
use crate::value::{Stored, Timestamp, bounded_text, short_text};
use crate::vm_replication_contexts as contexts;

pub use entity::Model as FailoverJob;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "failover";

/// Most ids in one query: SQLite bounds the parameters of a statement.
const MAX_IDS: usize = 500;

mod entity {
    use model::status::{FailoverStatus, FailoverType};
    use sea_orm::entity::prelude::*;

    use crate::value::{Stored, Timestamp};

    /// A failover.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "failover_jobs")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// `failover-YYYYMMDD-HHMMSS-<6 hex>`.
        pub job_id: String,
        /// The VM.
        pub vm_context_id: String,
        /// Its instance uuid.
        pub vm_id: String,
        /// The final replication, when one was asked for.
        pub replication_job_id: Option<String>,
        /// Live or test.
        pub job_type: Stored<FailoverType>,
        /// Status.
        pub status: Stored<FailoverStatus>,
        /// Name of the source VM.
        pub source_vm_name: String,
        /// The VM to be made, exactly.
        pub source_vm_spec: Json,
        /// The VM in the target cloud, once it may exist.
        pub destination_vm_id: Option<String>,
        /// Its name.
        pub destination_vm_name: Option<String>,
        /// Its network cards.
        pub network_mappings: Json,
        /// What each volume can be put back to.
        pub snapshot_ids: Json,
        /// Unused until Linstor comes.
        pub linstor_config_id: Option<String>,
        /// Whether the source is switched off.
        pub power_off_source: bool,
        /// Whether it is copied once more.
        pub final_sync: bool,
        /// Whether the guest was converted.
        pub guest_conversion: bool,
        /// What the health probes found.
        pub probe_results: Option<Json>,
        /// When a test ends by itself.
        pub expires_at: Option<Timestamp>,
        /// 0 to 100.
        pub progress_percent: f64,
        /// What is being done.
        pub current_step: String,
        /// Why it failed.
        pub error_message: Option<String>,
        /// The failure with remedy and evidence.
        pub error_detail: Option<Json>,
        /// When it began.
        pub started_at: Option<Timestamp>,
        /// When the VM ran, or when it ended without.
        pub completed_at: Option<Timestamp>,
        /// When it was asked for.
        pub created_at: Timestamp,
        /// When the row changed last.
        pub updated_at: Timestamp,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

impl FailoverJob {
    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> Option<StepError> {
        let message = self.error_message.clone()?;
        Some(StepError::from_columns(message, self.error_detail.clone()))
    }

    /// Whether it holds its VM: it is under way, or its VM runs in the target cloud.
    #[must_use]
    pub fn holds_vm(&self) -> bool {
        HOLDING.contains(&self.status)
    }
}

/// Statuses in which a failover holds its VM: it is under way, or its VM runs in the target cloud.
const HOLDING: &[FailoverStatus] = &[
    FailoverStatus::Pending,
    FailoverStatus::Validating,
    FailoverStatus::Snapshotting,
    FailoverStatus::CreatingVm,
    FailoverStatus::SwitchingVolume,
    FailoverStatus::PoweringOn,
    FailoverStatus::Completed,
    FailoverStatus::Cleanup,
    FailoverStatus::Reverting,
];

/// A failover to be begun.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFailover {
    /// `failover-…`.
    pub job_id: String,
    /// The VM.
    pub vm_context_id: String,
    /// Live or test.
    pub job_type: FailoverType,
    /// Whether the source is to be switched off.
    pub power_off_source: bool,
    /// Whether it is to be copied once more.
    pub final_sync: bool,
}

/// Begins a failover. Repeating it with the same id answers with the row that is there.
///
/// # Errors
/// There is no such VM; a replication or another failover of it runs, or its status forbids one; the database fails.
pub async fn start(store: &Store, new: &NewFailover) -> Result<FailoverJob, StoreError> {
    let starting = while_doing("begin a failover");
    let transaction = store.begin_write().await?;
    if let Some(row) = find(&transaction, &new.job_id).await? {
        return Ok(row);
    }
    let vm = contexts::lock(&transaction, &new.vm_context_id).await?;
    if let Some(job_id) = vm.current_job_id {
        return Err(StoreError::conflict(contexts::WHAT, vm.vm_name, format!("{job_id} replicates it")));
    }
    refuse_held(&transaction, &vm.context_id, &vm.vm_name, None).await?;
    if *vm.current_status != ContextStatus::ReadyForFailover {
        let reason = format!("it is {}: only one that is ready_for_failover can be failed over", *vm.current_status);
        return Err(StoreError::conflict(contexts::WHAT, vm.vm_name, reason));
    }
    let row = new_row(new, vm);
    let insert = Entity::insert(row.clone().into_active_model());
    insert.exec_without_returning(&transaction).await.map_err(&starting)?;
    transaction.commit().await.map_err(&starting)?;
    Ok(row)
}

fn new_row(new: &NewFailover, vm: contexts::VmContext) -> FailoverJob {
    let now = Timestamp::now();
    FailoverJob {
        id: model::id::new_id(),
        job_id: new.job_id.clone(),
        vm_context_id: vm.context_id,
        vm_id: vm.vmware_vm_id,
        replication_job_id: None,
        job_type: new.job_type.into(),
        status: FailoverStatus::Pending.into(),
        source_vm_name: vm.vm_name,
        source_vm_spec: json!({}),
        destination_vm_id: None,
        destination_vm_name: None,
        network_mappings: json!([]),
        snapshot_ids: json!([]),
        linstor_config_id: None,
        power_off_source: new.power_off_source,
        final_sync: new.final_sync,
        guest_conversion: false,
        probe_results: None,
        expires_at: None,
        progress_percent: 0.0,
        current_step: String::new(),
        error_message: None,
        error_detail: None,
        started_at: None,
        completed_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// Refuses while a failover holds the VM, other than `but` itself: it takes the volumes a replication writes to.
pub(crate) async fn refuse_held(
    connection: &impl ConnectionTrait,
    context_id: &str,
    vm_name: &str,
    but: Option<&str>,
) -> Result<(), StoreError> {
    let query = Entity::find()
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::Status.is_in(HOLDING.iter().copied().map(Stored)))
        .apply_if(but, |query, own| query.filter(Column::JobId.ne(own)));
    match query.one(connection).await.map_err(while_doing("look for failovers of a VM"))? {
        None => Ok(()),
        Some(row) => {
            let reason = format!("{} ({}, {}) holds it", row.job_id, *row.job_type, *row.status);
            Err(StoreError::conflict(contexts::WHAT, vm_name, reason))
        }
    }
}

async fn find(connection: &impl ConnectionTrait, job_id: &str) -> Result<Option<FailoverJob>, StoreError> {
    let query = Entity::find().filter(Column::JobId.eq(job_id));
    query.one(connection).await.map_err(while_doing("read a failover"))
}

async fn get(connection: &impl ConnectionTrait, job_id: &str) -> Result<FailoverJob, StoreError> {
    find(connection, job_id).await?.ok_or_else(|| StoreError::not_found(WHAT, job_id))
}

/// The failover with this id (`failover-…`).
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, job_id: &str) -> Result<FailoverJob, StoreError> {
    get(store.connection(), job_id).await
}

/// The failovers with these ids (`failover-…`); those that do not exist are left out.
///
/// # Errors
/// The database fails.
pub async fn with_ids(store: &Store, job_ids: &[String]) -> Result<Vec<FailoverJob>, StoreError> {
    let mut found = Vec::new();
    for ids in job_ids.chunks(MAX_IDS) {
        let query = Entity::find().filter(Column::JobId.is_in(ids.iter().map(String::as_str)));
        found.extend(query.all(store.connection()).await.map_err(while_doing("read failovers"))?);
    }
    Ok(found)
}

/// The failover that holds a VM: under way, or with its VM in the target cloud.
///
/// # Errors
/// The database fails.
pub async fn holding(store: &Store, context_id: &str) -> Result<Option<FailoverJob>, StoreError> {
    let query = Entity::find()
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::Status.is_in(HOLDING.iter().copied().map(Stored)));
    query.one(store.connection()).await.map_err(while_doing("look for failovers of a VM"))
}

/// Which failovers to list; an absent field does not filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this VM.
    pub vm_context_id: Option<String>,
    /// Only those that hold their VM.
    pub only_holding: bool,
    /// Only with an id below this one (ids sort by time): the last id of the page before.
    pub before: Option<String>,
}

/// Failovers, newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, filter: &Filter, limit: u32) -> Result<Vec<FailoverJob>, StoreError> {
    let query = Entity::find()
        .apply_if(filter.vm_context_id.as_deref(), |query, id| query.filter(Column::VmContextId.eq(id)))
        .apply_if(filter.only_holding.then_some(()), |query, ()| {
            query.filter(Column::Status.is_in(HOLDING.iter().copied().map(Stored)))
        })
        .apply_if(filter.before.as_deref(), |query, id| query.filter(Column::JobId.lt(id)))
        .order_by_desc(Column::JobId)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list failovers"))
}

/// Tests whose time is over at `now` and that still run.
///
/// # Errors
/// The database fails.
pub async fn expired(store: &Store, now: Timestamp) -> Result<Vec<FailoverJob>, StoreError> {
    let query = Entity::find()
        .filter(Column::Status.eq(Stored(FailoverStatus::Completed)))
        .filter(Column::JobType.eq(Stored(FailoverType::Test)))
        .filter(Column::ExpiresAt.lte(now))
        .order_by_asc(Column::ExpiresAt);
    query.all(store.connection()).await.map_err(while_doing("list expired tests"))
}

/// Moves the status and says what is being done; the first move from pending sets when it began.
///
/// # Errors
/// There is no such failover, or its status forbids it; the database fails.
pub async fn set_status(store: &Store, job_id: &str, to: FailoverStatus, doing: &str) -> Result<(), StoreError> {
    move_status(store.connection(), job_id, to, doing).await
}

async fn move_status(
    connection: &impl ConnectionTrait,
    job_id: &str,
    to: FailoverStatus,
    doing: &str,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let mut update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::CurrentStep, Expr::value(short_text(doing)))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    if to != FailoverStatus::Pending {
        update = update.col_expr(Column::StartedAt, Expr::col(Column::StartedAt).if_null(Expr::value(now)));
    }
    if to == FailoverStatus::Completed {
        update = update
            .col_expr(Column::CompletedAt, Expr::value(now))
            .col_expr(Column::ProgressPercent, Expr::value(100.0))
            .col_expr(Column::ErrorMessage, Expr::value(Option::<String>::None))
            .col_expr(Column::ErrorDetail, Expr::value(Option::<Value>::None));
    }
    let update = update.filter(Column::JobId.eq(job_id)).filter(Column::Status.is_in(may_precede(to)));
    if update.exec(connection).await.map_err(while_doing("change a failover's status"))?.rows_affected > 0 {
        return Ok(());
    }
    let row = get(connection, job_id).await?;
    Err(refused(WHAT, job_id, Some(row.status), &to))
}

/// What becomes known of a failover while it runs; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learnt {
    /// The final replication.
    pub replication_job_id: Option<String>,
    /// The VM to be made, exactly.
    pub source_vm_spec: Option<Value>,
    /// The VM in the target cloud.
    pub destination_vm_id: Option<String>,
    /// Its name.
    pub destination_vm_name: Option<String>,
    /// Its network cards.
    pub network_mappings: Option<Value>,
    /// What each volume can be put back to.
    pub snapshot_ids: Option<Value>,
    /// Whether the guest was converted.
    pub guest_conversion: Option<bool>,
    /// What the health probes found.
    pub probe_results: Option<Value>,
    /// When a test ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Records what became known.
///
/// # Errors
/// There is no such failover; the database fails.
pub async fn record(store: &Store, job_id: &str, learnt: &Learnt) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::JobId.eq(job_id));
    let texts = [
        (Column::ReplicationJobId, &learnt.replication_job_id),
        (Column::DestinationVmId, &learnt.destination_vm_id),
        (Column::DestinationVmName, &learnt.destination_vm_name),
    ];
    let documents = [
        (Column::SourceVmSpec, &learnt.source_vm_spec),
        (Column::NetworkMappings, &learnt.network_mappings),
        (Column::SnapshotIds, &learnt.snapshot_ids),
        (Column::ProbeResults, &learnt.probe_results),
    ];
    let texts = texts.into_iter().filter_map(|(column, value)| Some((column, Expr::value(value.clone()?))));
    let documents = documents.into_iter().filter_map(|(column, value)| Some((column, Expr::value(value.clone()?))));
    let others = [
        learnt.guest_conversion.map(|value| (Column::GuestConversion, Expr::value(value))),
        learnt.expires_at.map(|value| (Column::ExpiresAt, Expr::value(value))),
    ];
    let values = texts.chain(documents).chain(others.into_iter().flatten());
    let update = values.fold(update, |update, (column, value)| update.col_expr(column, value));
    match update.exec(store.connection()).await.map_err(while_doing("record what a failover learnt"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, job_id)),
        _ => Ok(()),
    }
}

/// Where a failover and its VM stand together.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The failover's status.
    pub status: FailoverStatus,
    /// The VM's status.
    pub context: ContextStatus,
    /// What the failover says it does.
    pub doing: &'static str,
    /// For the VM's `last_operation_summary`.
    pub summary: Value,
}

/// Moves a failover and its VM in one transaction. With a `lease`, only while that still holds its job.
///
/// # Errors
/// There is no such failover, a status forbids it, the lease was lost, or the database fails; nothing is written then.
pub async fn settle(store: &Store, job_id: &str, to: &Standing, lease: Option<&Lease>) -> Result<(), StoreError> {
    let settling = while_doing("settle a failover");
    let transaction = store.begin_write().await?;
    if let Some(lease) = lease {
        check_lease(&transaction, lease).await?;
    }
    let context_id = get(&transaction, job_id).await?.vm_context_id;
    contexts::lock(&transaction, &context_id).await?;
    move_status(&transaction, job_id, to.status, to.doing).await?;
    contexts::move_status(&transaction, &context_id, to.context).await?;
    contexts::summarise(&transaction, &context_id, to.summary.clone()).await?;
    transaction.commit().await.map_err(&settling)
}

/// Ends a failover whose steps were undone: its row, and the VM's status where that is to change, together. Repeating
/// it changes nothing.
///
/// # Errors
/// There is no such failover, or a status forbids it; the database fails.
pub async fn end(
    store: &Store,
    job_id: &str,
    cancelled: bool,
    error: &StepError,
    context: Option<ContextStatus>,
) -> Result<(), StoreError> {
    let doing = while_doing("end a failover");
    let to = if cancelled { FailoverStatus::Cancelled } else { FailoverStatus::Failed };
    let transaction = store.begin_write().await?;
    let row = get(&transaction, job_id).await?;
    if *row.status == to {
        return Ok(());
    }
    contexts::lock(&transaction, &row.vm_context_id).await?;
    move_status(&transaction, job_id, to, "").await?;
    note_error(&transaction, job_id, Some(error)).await?;
    let ended = Entity::update_many()
        .col_expr(Column::CompletedAt, Expr::value(Timestamp::now()))
        .filter(Column::JobId.eq(job_id));
    ended.exec(&transaction).await.map_err(&doing)?;
    if let Some(context) = context {
        contexts::move_status(&transaction, &row.vm_context_id, context).await?;
    }
    transaction.commit().await.map_err(&doing)
}

/// Shows why a failover waits for an operator, or that it does not any more. Its status stays.
///
/// # Errors
/// The database fails.
pub async fn set_error(store: &Store, job_id: &str, error: Option<&StepError>) -> Result<(), StoreError> {
    note_error(store.connection(), job_id, error).await
}

async fn note_error(
    connection: &impl ConnectionTrait,
    job_id: &str,
    error: Option<&StepError>,
) -> Result<(), StoreError> {
    let (message, detail) = match error.map(StepError::to_columns) {
        Some((message, detail)) => (Some(bounded_text(message)), Some(detail)),
        None => (None, None),
    };
    Entity::update_many()
        .col_expr(Column::ErrorMessage, Expr::value(message))
        .col_expr(Column::ErrorDetail, Expr::value(detail))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::JobId.eq(job_id))
        .exec(connection)
        .await
        .map(|_| ())
        .map_err(while_doing("record the error of a failover"))
}
