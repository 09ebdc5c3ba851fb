//! `replication_jobs`: what was replicated, how far it is, how it ended. The commit is in [`crate::commit`].

use joblog::StepError;
use model::status::{ContextStatus, DiskSyncStatus, ReplicationStatus, ReplicationType, Transitions};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp, bounded_text, short_text};
use crate::vm_replication_contexts::{self as contexts, JobEnd};
use crate::{failover_jobs, nbd_exports, vm_disks};

pub use entity::Model as ReplicationJob;
pub(crate) use entity::{Column, Entity};

/// What these rows are called in errors.
pub(crate) const WHAT: &str = "replication";

/// NBD's registered port, kept in `nbd_port` for those who read the table.
const NBD_PORT: u64 = 10_809;

mod entity {
    use model::ChangeId;
    use model::status::{ReplicationStatus, ReplicationType};
    use sea_orm::entity::prelude::*;

    use crate::value::{Count, Stored, Timestamp};

    /// A replication.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "replication_jobs")]
    pub struct Model {
        /// `job-YYYYMMDD-HHMMSS-<6 hex>`.
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        /// The VM.
        pub vm_context_id: String,
        /// Its instance uuid.
        pub source_vm_id: String,
        /// Its name.
        pub source_vm_name: String,
        /// Its inventory path.
        pub source_vm_path: String,
        /// Its vCenter.
        pub vcenter_host: String,
        /// Its datacenter.
        pub datacenter: String,
        /// What is copied.
        pub replication_type: Stored<ReplicationType>,
        /// Unused by replication; kept for those who read the table.
        pub target_network: Option<String>,
        /// Status.
        pub status: Stored<ReplicationStatus>,
        /// 0 to 100.
        pub progress_percent: f64,
        /// Of the preparation, 0 to 100.
        pub setup_progress_percent: f64,
        /// What is being done.
        pub current_operation: String,
        /// Bytes of data sent.
        pub bytes_transferred: Count,
        /// Bytes to look at.
        pub total_bytes: Count,
        /// Bytes per second.
        pub transfer_speed_bps: Count,
        /// Why it failed.
        pub error_message: Option<String>,
        /// The failure with remedy and evidence: see [`ReplicationJob::error`](super::ReplicationJob::error).
        pub error_detail: Option<Json>,
        /// The change id reached (first disk).
        pub change_id: Option<Stored<ChangeId>>,
        /// The one before (first disk).
        pub previous_change_id: Option<Stored<ChangeId>>,
        /// The vm_snapshot's managed object id.
        pub snapshot_id: Option<String>,
        /// NBD's port.
        pub nbd_port: Count,
        /// The export of its first disk.
        pub nbd_export_name: Option<String>,
        /// The device of its first disk.
        pub target_device: Option<String>,
        /// The target.
        pub ossea_config_id: Option<String>,
        /// The agent's change source.
        pub vma_sync_type: Option<String>,
        /// The agent's phase.
        pub vma_current_phase: Option<String>,
        /// The agent's speed in MiB/s.
        pub vma_throughput_mbps: f64,
        /// Seconds left.
        pub vma_eta_seconds: Option<Count>,
        /// 0 to 100, of the transfer alone.
        pub vma_progress_percent: f64,
        /// Bytes of data the agent sent.
        pub vma_bytes_transferred: Count,
        /// Bytes the agent has to look at.
        pub vma_total_bytes: Count,
        /// The agent's speed in bytes per second.
        pub vma_transfer_speed_bps: Count,
        /// When the agent was last heard of.
        pub vma_last_poll_at: Option<Timestamp>,
        /// Kind of the agent's failure.
        pub vma_error_classification: Option<String>,
        /// The agent's failure in words.
        pub vma_error_details: Option<String>,
        /// The execution of a schedule that began it.
        pub schedule_execution_id: Option<String>,
        /// Who or what scheduled it.
        pub scheduled_by: Option<String>,
        /// The group it was begun for.
        pub vm_group_id: Option<String>,
        /// When it began.
        pub started_at: Option<Timestamp>,
        /// When it ended.
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

impl ReplicationJob {
    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> Option<StepError> {
        let message = self.error_message.clone()?;
        Some(StepError::from_columns(message, self.error_detail.clone()))
    }
}

/// Begins a replication: its row, and the VM's status, counters and current job, together. Repeating it with the same
/// id answers with the row that is there. A VM held by a failover is replicated only for that failover.
///
/// # Errors
/// There is no such VM; another replication or a failover of it runs, or its status forbids one; the database fails.
pub async fn start(
    store: &Store,
    job_id: &str,
    context_id: &str,
    replication_type: ReplicationType,
    for_failover: Option<&str>,
) -> Result<ReplicationJob, StoreError> {
    let starting = while_doing("begin a replication");
    let transaction = store.begin_write().await?;
    if let Some(row) = Entity::find_by_id(job_id).one(&transaction).await.map_err(&starting)? {
        return Ok(row);
    }
    let vm = contexts::lock(&transaction, context_id).await?;
    failover_jobs::refuse_held(&transaction, context_id, &vm.vm_name, for_failover).await?;
    let row = new_row(job_id, vm, replication_type);
    let insert = Entity::insert(row.clone().into_active_model());
    insert.exec_without_returning(&transaction).await.map_err(&starting)?;
    contexts::take(&transaction, context_id, job_id).await?;
    transaction.commit().await.map_err(&starting)?;
    Ok(row)
}

fn new_row(job_id: &str, vm: contexts::VmContext, replication_type: ReplicationType) -> ReplicationJob {
    let now = Timestamp::now();
    ReplicationJob {
        id: job_id.to_owned(),
        vm_context_id: vm.context_id,
        source_vm_id: vm.vmware_vm_id,
        source_vm_name: vm.vm_name,
        source_vm_path: vm.vm_path,
        vcenter_host: vm.vcenter_host,
        datacenter: vm.datacenter,
        replication_type: replication_type.into(),
        target_network: None,
        status: ReplicationStatus::Pending.into(),
        progress_percent: 0.0,
        setup_progress_percent: 0.0,
        current_operation: String::new(),
        bytes_transferred: Count(0),
        total_bytes: Count(0),
        transfer_speed_bps: Count(0),
        error_message: None,
        error_detail: None,
        change_id: None,
        previous_change_id: None,
        snapshot_id: None,
        nbd_port: Count(NBD_PORT),
        nbd_export_name: None,
        target_device: None,
        ossea_config_id: vm.ossea_config_id,
        vma_sync_type: None,
        vma_current_phase: None,
        vma_throughput_mbps: 0.0,
        vma_eta_seconds: None,
        vma_progress_percent: 0.0,
        vma_bytes_transferred: Count(0),
        vma_total_bytes: Count(0),
        vma_transfer_speed_bps: Count(0),
        vma_last_poll_at: None,
        vma_error_classification: None,
        vma_error_details: None,
        schedule_execution_id: None,
        scheduled_by: None,
        vm_group_id: None,
        started_at: None,
        completed_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// The replication with this id.
///
/// # Errors
/// There is none; the database fails.
pub async fn by_id(store: &Store, job_id: &str) -> Result<ReplicationJob, StoreError> {
    get(store.connection(), job_id).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, job_id: &str) -> Result<ReplicationJob, StoreError> {
    let row = Entity::find_by_id(job_id).one(connection).await.map_err(while_doing("read a replication"))?;
    row.ok_or_else(|| StoreError::not_found(WHAT, job_id))
}

/// Which replications to list; an absent field does not filter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this VM.
    pub vm_context_id: Option<String>,
    /// Only with this status.
    pub status: Option<ReplicationStatus>,
    /// Only with an id below this one (ids sort by time): the last id of the page before.
    pub before: Option<String>,
}

/// Replications, newest first, at most `limit`.
///
/// # Errors
/// The database fails.
pub async fn list(store: &Store, filter: &Filter, limit: u32) -> Result<Vec<ReplicationJob>, StoreError> {
    let query = Entity::find()
        .apply_if(filter.vm_context_id.as_deref(), |query, id| query.filter(Column::VmContextId.eq(id)))
        .apply_if(filter.status, |query, status| query.filter(Column::Status.eq(Stored(status))))
        .apply_if(filter.before.as_deref(), |query, id| query.filter(Column::Id.lt(id)))
        .order_by_desc(Column::Id)
        .limit(u64::from(limit));
    query.all(store.connection()).await.map_err(while_doing("list replications"))
}

/// Replications that have not ended, oldest first: what a restarted process looks after.
///
/// # Errors
/// The database fails.
pub async fn unfinished(store: &Store) -> Result<Vec<ReplicationJob>, StoreError> {
    let open = ReplicationStatus::may_come_from(ReplicationStatus::Failed).into_iter();
    let open = open.filter(|status| !status.is_final()).map(Stored);
    let query = Entity::find().filter(Column::Status.is_in(open)).order_by_asc(Column::Id);
    query.all(store.connection()).await.map_err(while_doing("list unfinished replications"))
}

/// Moves the status and says what is being done; the first move from pending sets when it began.
///
/// # Errors
/// There is no such replication, or its status forbids it (to completed only [`crate::commit`] moves it); the database
/// fails.
pub async fn set_status(
    store: &Store,
    job_id: &str,
    to: ReplicationStatus,
    current_operation: &str,
) -> Result<(), StoreError> {
    if to == ReplicationStatus::Completed {
        let reason = "only the commit of its change ids completes a replication";
        return Err(StoreError::conflict(WHAT, job_id, reason));
    }
    let now = Timestamp::now();
    let mut update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::CurrentOperation, Expr::value(short_text(current_operation)))
        .col_expr(Column::UpdatedAt, Expr::value(now));
    if to != ReplicationStatus::Pending {
        update = update.col_expr(Column::StartedAt, Expr::col(Column::StartedAt).if_null(Expr::value(now)));
    }
    let update = update.filter(Column::Id.eq(job_id)).filter(Column::Status.is_in(may_precede(to)));
    let changed = update.exec(store.connection()).await.map_err(while_doing("change a replication's status"))?;
    if changed.rows_affected > 0 {
        return Ok(());
    }
    let row = by_id(store, job_id).await?;
    Err(refused(WHAT, job_id, Some(row.status), &to))
}

/// What the agent says about a running transfer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// 0 to 100, of the whole replication.
    pub progress_percent: f64,
    /// What is being done.
    pub current_operation: String,
    /// The agent's phase.
    pub phase: String,
    /// Change source in use (`cbt`, `compare`).
    pub sync_type: Option<String>,
    /// Bytes of data sent.
    pub bytes_transferred: u64,
    /// Bytes to look at.
    pub total_bytes: u64,
    /// Bytes per second.
    pub speed_bps: u64,
    /// Seconds left.
    pub eta_seconds: Option<u64>,
    /// 0 to 100, of the transfer alone.
    pub transfer_percent: f64,
    /// The vm_snapshot's managed object id, once taken.
    pub vm_snapshot: Option<String>,
}

/// Records how far a replication is; one that has ended is left alone and answers `false`.
///
/// # Errors
/// The database fails.
pub async fn set_progress(store: &Store, job_id: &str, progress: &Progress) -> Result<bool, StoreError> {
    const MIB_BYTES: f64 = 1_048_576.0;
    #[allow(clippy::cast_precision_loss, reason = "a speed for people")]
    let throughput_mbps = progress.speed_bps as f64 / MIB_BYTES;
    let now = Timestamp::now();
    let running = may_precede(ReplicationStatus::Failed).into_iter().filter(|status| !status.is_final());
    let update = Entity::update_many()
        .col_expr(Column::ProgressPercent, Expr::value(progress.progress_percent.clamp(0.0, 100.0)))
        .col_expr(Column::CurrentOperation, Expr::value(short_text(&progress.current_operation)))
        .col_expr(Column::BytesTransferred, Expr::value(Count(progress.bytes_transferred)))
        .col_expr(Column::TotalBytes, Expr::value(Count(progress.total_bytes)))
        .col_expr(Column::TransferSpeedBps, Expr::value(Count(progress.speed_bps)))
        .col_expr(Column::VmaSyncType, Expr::value(progress.sync_type.clone()))
        .col_expr(Column::VmaCurrentPhase, Expr::value(short_text(&progress.phase)))
        .col_expr(Column::VmaThroughputMbps, Expr::value(throughput_mbps))
        .col_expr(Column::VmaEtaSeconds, Expr::value(progress.eta_seconds.map(Count)))
        .col_expr(Column::VmaProgressPercent, Expr::value(progress.transfer_percent.clamp(0.0, 100.0)))
        .col_expr(Column::VmaBytesTransferred, Expr::value(Count(progress.bytes_transferred)))
        .col_expr(Column::VmaTotalBytes, Expr::value(Count(progress.total_bytes)))
        .col_expr(Column::VmaTransferSpeedBps, Expr::value(Count(progress.speed_bps)))
        .col_expr(Column::VmaLastPollAt, Expr::value(now))
        .col_expr(Column::SnapshotId, Expr::value(progress.vm_snapshot.clone()))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(job_id))
        .filter(Column::Status.is_in(running));
    let changed = update.exec(store.connection()).await.map_err(while_doing("record the progress of a replication"))?;
    Ok(changed.rows_affected > 0)
}

/// Records where the first disk of a replication goes, for those who read the table.
///
/// # Errors
/// The database fails.
pub async fn set_export(store: &Store, job_id: &str, name: &str, device: Option<&str>) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::NbdExportName, Expr::value(name))
        .col_expr(Column::TargetDevice, Expr::value(device))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::Id.eq(job_id))
        .exec(store.connection())
        .await
        .map(|_| ())
        .map_err(while_doing("record the export of a replication"))
}

/// How a replication ended without a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Whether it was stopped on request; otherwise it failed.
    pub cancelled: bool,
    /// Why.
    pub error: StepError,
}

/// Ends a replication without a commit: its row, its disks, its exports, the VM's status, counters and current job,
/// together. The VM goes back to ready for failover where a replica was committed before and nothing was written to it
/// since; disks that were being written are marked failed, but for those whose journal alone was written: they are what
/// they were. Repeating it changes nothing.
///
/// # Errors
/// There is no such replication, or it was committed; the database fails.
pub async fn end(store: &Store, job_id: &str, ending: &Ending) -> Result<(), StoreError> {
    let doing = while_doing("end a replication");
    let to = if ending.cancelled { ReplicationStatus::Cancelled } else { ReplicationStatus::Failed };
    let transaction = store.begin_write().await?;
    let context_id = get(&transaction, job_id).await?.vm_context_id;
    let vm = contexts::lock(&transaction, &context_id).await?;
    let row = get(&transaction, job_id).await?;
    if *row.status == to {
        return Ok(());
    }
    let (message, detail) = ending.error.to_columns();
    let now = Timestamp::now();
    let update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::ErrorMessage, Expr::value(bounded_text(message)))
        .col_expr(Column::ErrorDetail, Expr::value(detail))
        .col_expr(Column::TransferSpeedBps, Expr::value(Count(0)))
        .col_expr(Column::CompletedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(job_id))
        .filter(Column::Status.is_in(may_precede(to)));
    if update.exec(&transaction).await.map_err(&doing)?.rows_affected == 0 {
        return Err(refused(WHAT, job_id, Some(row.status), &to));
    }
    let untouched = nbd_exports::journaled_by(&transaction, job_id).await?;
    let touched = fail_disks(&transaction, &context_id, untouched).await?;
    nbd_exports::close_of_job(&transaction, job_id).await?;
    let left = status_after(touched, vm.last_successful_job_id.is_some(), ending.cancelled);
    let end = if ending.cancelled { JobEnd::Cancelled(left) } else { JobEnd::Failed(left) };
    contexts::release(&transaction, &context_id, job_id, end).await?;
    transaction.commit().await.map_err(&doing)
}

/// Where a VM stands after a replication that was not committed.
fn status_after(touched: bool, committed_before: bool, cancelled: bool) -> ContextStatus {
    match (touched, committed_before, cancelled) {
        (false, true, _) => ContextStatus::ReadyForFailover,
        (false, false, true) => ContextStatus::Discovered,
        _ => ContextStatus::Failed,
    }
}

/// Marks the disks that were being written as failed, the untouched ones (row ids) as complete; whether any failed.
async fn fail_disks(
    connection: &impl ConnectionTrait,
    context_id: &str,
    untouched: Vec<String>,
) -> Result<bool, StoreError> {
    use vm_disks::Column;
    let marking = while_doing("mark disks as incomplete");
    vm_disks::Entity::update_many()
        .col_expr(Column::SyncStatus, Expr::value(Stored(DiskSyncStatus::Completed)))
        .col_expr(Column::SyncProgressPercent, Expr::value(100.0))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::Id.is_in(untouched))
        .filter(Column::SyncStatus.eq(Stored(DiskSyncStatus::Syncing)))
        .exec(connection)
        .await
        .map_err(&marking)?;
    let update = vm_disks::Entity::update_many()
        .col_expr(Column::SyncStatus, Expr::value(Stored(DiskSyncStatus::Failed)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()))
        .filter(Column::VmContextId.eq(context_id))
        .filter(Column::SyncStatus.eq(Stored(DiskSyncStatus::Syncing)));
    update.exec(connection).await.map_err(&marking)?;
    let failed = vm_disks::of(connection, context_id).await?;
    Ok(failed.iter().any(|disk| *disk.sync_status == DiskSyncStatus::Failed))
}

/// Deletes the row of a replication that has ended; disks and change ids stay.
///
/// # Errors
/// There is no such replication, or it has not ended; the database fails.
pub async fn delete(store: &Store, job_id: &str) -> Result<(), StoreError> {
    let row = by_id(store, job_id).await?;
    if !row.status.is_final() {
        return Err(StoreError::conflict(WHAT, job_id, format!("it is {}: cancel it first", *row.status)));
    }
    Entity::delete_by_id(job_id).exec(store.connection()).await.map(|_| ()).map_err(while_doing("delete a replication"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_was_written_to_without_a_commit_is_not_ready() {
        for (touched, committed_before, cancelled, expected) in [
            (false, true, false, ContextStatus::ReadyForFailover),
            (false, true, true, ContextStatus::ReadyForFailover),
            (false, false, true, ContextStatus::Discovered),
            (false, false, false, ContextStatus::Failed),
            (true, true, false, ContextStatus::Failed),
            (true, true, true, ContextStatus::Failed),
        ] {
            assert_eq!(status_after(touched, committed_before, cancelled), expected);
        }
    }
}
