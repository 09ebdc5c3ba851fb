//! `vm_replication_contexts`: the VMs known to the platform. Discovery is in [`crate::discovery`].

use model::status::{ContextStatus, VolumeState};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};
use crate::{ossea_volumes, replication_jobs};

pub use entity::Model as VmContext;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "VM";

mod entity {
    use model::status::{ContextStatus, Firmware};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A VM known to the platform.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "vm_replication_contexts")]
    pub struct Model {
        /// Row id.
        #[sea_orm(primary_key, auto_increment = false)]
        pub context_id: String,
        /// Name in VMware.
        pub vm_name: String,
        /// Instance uuid.
        pub vmware_vm_id: String,
        /// Managed object id.
        pub vmware_moref: String,
        /// Inventory path.
        pub vm_path: String,
        /// Host of the vCenter.
        pub vcenter_host: String,
        /// Datacenter.
        pub datacenter: String,
        /// Where it stands.
        pub current_status: Stored<ContextStatus>,
        /// The replication that runs.
        pub current_job_id: Option<String>,
        /// The last replication that was committed.
        pub last_successful_job_id: Option<String>,
        /// Replications ever.
        pub total_jobs_run: Count,
        /// Of these, committed.
        pub successful_jobs: Count,
        /// Of these, failed.
        pub failed_jobs: Count,
        /// Virtual CPUs.
        pub cpu_count: Count,
        /// Memory in MiB.
        pub memory_mb: Count,
        /// Guest OS in words.
        pub os_type: String,
        /// VMware's guest id.
        pub guest_id: String,
        /// Firmware.
        pub firmware: Stored<Firmware>,
        /// Whether secure boot is on.
        pub secure_boot: bool,
        /// Power state when last seen.
        pub power_state: String,
        /// Version of the tools; empty when there are none.
        pub vm_tools_version: String,
        /// The network cards.
        pub networks: Json,
        /// The vCenter credential it is read with.
        pub credential_id: Option<String>,
        /// The target it goes to.
        pub ossea_config_id: Option<String>,
        /// The agent that reads it.
        pub enrollment_id: Option<String>,
        /// Whether schedules apply to it.
        pub scheduler_enabled: bool,
        /// When it is due.
        pub next_scheduled_at: Option<Timestamp>,
        /// The last replication a schedule began.
        pub last_scheduled_job_id: Option<String>,
        /// Whether a rule added it, not a person.
        pub auto_added: bool,
        /// Summary of the last operation.
        pub last_operation_summary: Option<Json>,
        /// When its first replication began.
        pub first_job_at: Option<Timestamp>,
        /// When its last replication began.
        pub last_job_at: Option<Timestamp>,
        /// When its status changed last.
        pub last_status_change: Timestamp,
        /// When it was added.
        pub created_at: Timestamp,
        /// When the row changed last.
        pub updated_at: Timestamp,
        /// Recovery points kept beside its volumes; 0: each is merged once it is committed.
        pub keep_points: Count,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The context with this id.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, context_id: &str) -> Result<VmContext, StoreError> {
    get(store.connection(), context_id).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, context_id: &str) -> Result<VmContext, StoreError> {
    let row = Entity::find_by_id(context_id).one(connection).await.map_err(while_doing("read a VM"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, context_id))
}

/// The context with this id, locked until the transaction ends. Whoever writes a VM and what hangs on it begins with
/// this, so that two of them wait for each other instead of running into a deadlock.
pub(crate) async fn lock(transaction: &DatabaseTransaction, context_id: &str) -> Result<VmContext, StoreError> {
    let query = Entity::find_by_id(context_id).lock_exclusive();
    let row = query.one(transaction).await.map_err(while_doing("lock a VM"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, context_id))
}

/// The context with this id, else the only one with this name.
///
/// # Errors
/// There is none, or several have the name; the database fails.
pub async fn find(store: &Store, id_or_name: &str) -> Result<VmContext, StoreError> {
    let read = while_doing("read a VM");
    if let Some(row) = Entity::find_by_id(id_or_name).one(store.connection()).await.map_err(&read)? {
        return Ok(row);
    }
    let named = Entity::find().filter(Column::VmName.eq(id_or_name)).limit(2).all(store.connection());
    let mut named = named.await.map_err(&read)?;
    match (named.pop(), named.is_empty()) {
        (Some(row), true) => Ok(row),
        (Some(_), false) => Err(StoreError::Ambiguous { what: WHAT, name: id_or_name.to_owned() }),
        (None, _) => Err(StoreError::not_found(WHAT, id_or_name)),
    }
}

/// Every context by name, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, limit: u32) -> Result<Vec<VmContext>, StoreError> {
    let query = Entity::find().order_by_asc(Column::VmName).order_by_asc(Column::ContextId).limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list VMs"))
}

/// The contexts of a vCenter as (instance uuid, context id): what a scan marks as known.
///
/// # Errors
/// The database fails.
pub async fn known_in(store: &Store, vcenter_host: &str) -> Result<Vec<(String, String)>, StoreError> {
    let query = Entity::find().select_only().columns([Column::VmwareVmId, Column::ContextId]);
    let query = query.filter(Column::VcenterHost.eq(vcenter_host)).into_tuple();
    query.all(store.connection()).await.map_err(while_doing("list the VMs of a vCenter"))
}

/// Moves the status.
///
/// # Errors
/// There is no such context, or its status forbids it; the database fails.
pub async fn set_status(store: &Store, context_id: &str, to: ContextStatus) -> Result<(), StoreError> {
    move_status(store.connection(), context_id, to).await
}

pub(crate) async fn move_status(
    connection: &impl ConnectionTrait,
    context_id: &str,
    to: ContextStatus,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let update = Entity::update_many()
        .col_expr(Column::CurrentStatus, Expr::value(Stored(to)))
        .col_expr(Column::LastStatusChange, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::ContextId.eq(context_id))
        .filter(Column::CurrentStatus.is_in(may_precede(to)));
    if update.exec(connection).await.map_err(while_doing("change a VM's status"))?.rows_affected > 0 {
        return Ok(());
    }
    let row = get(connection, context_id).await?;
    Err(refused(WHAT, context_id, Some(row.current_status), &to))
}

/// Sets the vCenter credential, the agent and the target of a VM; what is `None` stays.
///
/// # Errors
/// There is no such context, or what is named does not exist; the database fails.
pub async fn assign(store: &Store, context_id: &str, to: &Assignment) -> Result<(), StoreError> {
    let mut update = Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()));
    let columns = [
        (Column::CredentialId, &to.credential_id),
        (Column::EnrollmentId, &to.enrollment_id),
        (Column::OsseaConfigId, &to.ossea_config_id),
    ];
    for (column, value) in columns {
        if let Some(value) = value {
            update = update.col_expr(column, Expr::value(value.as_str()));
        }
    }
    let update = update.filter(Column::ContextId.eq(context_id)).exec(store.connection()).await;
    match update.map_err(while_doing("assign a VM"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, context_id)),
        _ => Ok(()),
    }
}

/// With what a VM is read and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The vCenter credential.
    pub credential_id: Option<String>,
    /// The agent.
    pub enrollment_id: Option<String>,
    /// The target.
    pub ossea_config_id: Option<String>,
}

/// Sets how many recovery points are kept beside the volumes of a VM. Only later merges look at it.
///
/// # Errors
/// There is no such context; the database fails.
pub async fn set_keep_points(store: &Store, context_id: &str, keep_points: u32) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::KeepPoints, Expr::value(Count::from(keep_points)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::ContextId.eq(context_id));
    let update = update.exec(store.connection()).await;
    match update.map_err(while_doing("set how many recovery points a VM keeps"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, context_id)),
        _ => Ok(()),
    }
}

/// Records what was last done with the VM, for the console.
///
/// # Errors
/// There is no such context; the database fails.
pub async fn set_last_operation(store: &Store, context_id: &str, summary: Value) -> Result<(), StoreError> {
    summarise(store.connection(), context_id, summary).await
}

pub(crate) async fn summarise(
    connection: &impl ConnectionTrait,
    context_id: &str,
    summary: Value,
) -> Result<(), StoreError> {
    let update = Entity::update_many()
        .col_expr(Column::LastOperationSummary, Expr::value(summary))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::ContextId.eq(context_id));
    match update.exec(connection).await.map_err(while_doing("record a VM's last operation"))?.rows_affected {
        0 => Err(StoreError::not_found(WHAT, context_id)),
        _ => Ok(()),
    }
}

/// Makes `job_id` the running replication; a second one at the same time is refused.
pub(crate) async fn take(connection: &impl ConnectionTrait, context_id: &str, job_id: &str) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let update = Entity::update_many()
        .col_expr(Column::CurrentJobId, Expr::value(job_id))
        .col_expr(Column::CurrentStatus, Expr::value(Stored(ContextStatus::Replicating)))
        .col_expr(Column::TotalJobsRun, Expr::col(Column::TotalJobsRun).add(1))
        .col_expr(Column::FirstJobAt, Expr::col(Column::FirstJobAt).if_null(Expr::value(now)))
        .col_expr(Column::LastJobAt, Expr::value(now))
        .col_expr(Column::LastStatusChange, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::ContextId.eq(context_id))
        .filter(Column::CurrentJobId.is_null())
        .filter(Column::CurrentStatus.is_in(may_precede(ContextStatus::Replicating)));
    if update.exec(connection).await.map_err(while_doing("begin a replication"))?.rows_affected > 0 {
        return Ok(());
    }
    let row = get(connection, context_id).await?;
    match row.current_job_id {
        Some(running) => Err(StoreError::conflict(WHAT, row.vm_name, format!("{running} replicates it already"))),
        None => Err(refused(WHAT, context_id, Some(row.current_status), &ContextStatus::Replicating)),
    }
}

/// Ends the running replication `job_id`: counters, status, pointers.
pub(crate) async fn release(
    connection: &impl ConnectionTrait,
    context_id: &str,
    job_id: &str,
    end: JobEnd,
) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let to = end.status();
    let mut update = Entity::update_many()
        .col_expr(Column::CurrentJobId, Expr::value(Option::<String>::None))
        .col_expr(Column::CurrentStatus, Expr::value(Stored(to)))
        .col_expr(Column::LastStatusChange, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    update = match end {
        JobEnd::Committed => update
            .col_expr(Column::SuccessfulJobs, Expr::col(Column::SuccessfulJobs).add(1))
            .col_expr(Column::LastSuccessfulJobId, Expr::value(job_id)),
        JobEnd::Failed(_) => update.col_expr(Column::FailedJobs, Expr::col(Column::FailedJobs).add(1)),
        JobEnd::Cancelled(_) => update,
    };
    let update = update
        .filter(Column::ContextId.eq(context_id))
        .filter(Column::CurrentJobId.eq(job_id))
        .filter(Column::CurrentStatus.is_in(may_precede(to)));
    if update.exec(connection).await.map_err(while_doing("end a replication"))?.rows_affected > 0 {
        return Ok(());
    }
    let row = get(connection, context_id).await?;
    if row.current_job_id.as_deref() != Some(job_id) {
        let reason = format!("{job_id} is not its running replication");
        return Err(StoreError::conflict(WHAT, row.vm_name, reason));
    }
    Err(refused(WHAT, context_id, Some(row.current_status), &to))
}

/// How a replication left its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    Committed,
    Failed(ContextStatus),
    Cancelled(ContextStatus),
}

impl JobEnd {
    fn status(self) -> ContextStatus {
        match self {
            Self::Committed => ContextStatus::ReadyForFailover,
            Self::Failed(status) | Self::Cancelled(status) => status,
        }
    }
}

/// What may be lost with a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forget {
    /// Rows of backups; the backups themselves stay in their repositories.
    pub backups: bool,
    /// Rows of volumes that still exist in CloudStack.
    pub volumes: bool,
}

/// Deletes a context with everything that hangs on it; the audits stay.
///
/// # Errors
/// There is no such context; a replication of it runs; it has backups or volumes that are not to be forgotten; the
/// database fails.
pub async fn delete(store: &Store, context_id: &str, forget: Forget) -> Result<(), StoreError> {
    let deleting = while_doing("delete a VM");
    let transaction = store.begin_write().await?;
    let row = lock(&transaction, context_id).await?;
    if let Some(job_id) = row.current_job_id {
        return Err(StoreError::conflict(WHAT, row.vm_name, format!("{job_id} replicates it")));
    }
    let volumes = ossea_volumes::Entity::find()
        .filter(ossea_volumes::Column::VmContextId.eq(context_id))
        .filter(ossea_volumes::Column::State.ne(Stored(VolumeState::Deleted)))
        .count(&transaction)
        .await
        .map_err(&deleting)?;
    if volumes > 0 && !forget.volumes {
        return Err(StoreError::conflict(WHAT, row.vm_name, format!("{volumes} replica volumes exist")));
    }
    let backups = count_backups(&transaction, context_id).await?;
    if backups > 0 && !forget.backups {
        return Err(StoreError::conflict(WHAT, row.vm_name, format!("{backups} backups exist")));
    }
    Entity::delete_by_id(context_id).exec(&transaction).await.map_err(&deleting)?;
    transaction.commit().await.map_err(&deleting)
}

async fn count_backups(connection: &impl ConnectionTrait, context_id: &str) -> Result<u64, StoreError> {
    use sea_orm::sea_query::Query;
    let query = Query::select()
        .expr_as(Expr::col("id").count(), "number")
        .from("backup_jobs")
        .and_where(Expr::col("vm_context_id").eq(context_id))
        .take();
    let counting = while_doing("count the backups of a VM");
    let row = connection.query_one(&query).await.map_err(&counting)?;
    let number = row.map(|row| row.try_get::<Count>("", "number")).transpose().map_err(&counting)?;
    Ok(number.map_or(0, |number| *number))
}

/// The replication that runs for a context, if one does.
///
/// # Errors
/// There is no such context; the database fails.
pub async fn current_job(
    store: &Store,
    context_id: &str,
) -> Result<Option<replication_jobs::ReplicationJob>, StoreError> {
    match by_id(store, context_id).await?.current_job_id {
        Some(job_id) => replication_jobs::by_id(store, &job_id).await.map(Some),
        None => Ok(None),
    }
}
