//! The commit of a replication: the change ids of all disks of the VM, their history, certificates and recovery points,
//! the statuses of disks, job and VM, in one transaction. Before it nothing of the run counts; after it everything does.

use std::collections::HashMap;

use joblog::Lease;
use model::status::{DiskSyncStatus, ReplicationStatus, ReplicationType};
use model::{ChangeId, id};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::Value;

use crate::cbt_history::{self, CbtHistory};
use crate::connect::Store;
use crate::equality_certificates::{self, NewCertificate};
use crate::error::{StoreError, while_doing};
use crate::joblog::check_lease;
use crate::recovery_points::{self, NewPoint};
use crate::replication_jobs::{self as jobs, ReplicationJob};
use crate::transition::{may_precede, refused};
use crate::value::{Count, Stored, Timestamp};
use crate::vm_disks::{self, VmDisk};
use crate::vm_replication_contexts::{self as contexts, JobEnd};

/// What is committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The replication.
    pub job_id: String,
    /// Every disk of the VM.
    pub disks: Vec<CommittedDisk>,
    /// For the VM's `last_operation_summary`.
    pub summary: Value,
}

/// One disk whose replica was proven equal to the source at `change_id`.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The VMDK's uuid, as it was copied.
    pub disk_uuid: String,
    /// Size in bytes, as it was copied.
    pub capacity_bytes: u64,
    /// The change id reached; without one the whole commit is refused.
    pub change_id: Option<ChangeId>,
    /// The one the run began from.
    pub previous_change_id: Option<ChangeId>,
    /// What was copied.
    pub sync_type: ReplicationType,
    /// 64 KiB blocks that changed.
    pub blocks_changed: u64,
    /// Bytes of data sent.
    pub bytes_transferred: u64,
    /// How long it took.
    pub sync_duration_seconds: u64,
    /// What certifies that they are equal.
    pub certificate: NewCertificate,
    /// The sealed journal that holds what was copied; none when it was written in place.
    pub journal: Option<NewPoint>,
}

/// Whether a commit did anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is committed now.
    Committed,
    /// It was already: this call repeats one that succeeded.
    AlreadyCommitted,
}

/// Commits a replication. With a `lease`, only while that still holds its job.
///
/// # Errors
/// A disk of the VM is missing, has no change id, or is not the one that was copied; the replication is not the VM's
/// running one or its status forbids it; the lease was lost; the database fails. Nothing is written then.
pub async fn commit_replication(
    store: &Store,
    commit: &Commit,
    lease: Option<&Lease>,
) -> Result<CommitOutcome, StoreError> {
    let committing = while_doing("commit a replication");
    let transaction = store.begin_write().await?;
    if let Some(lease) = lease {
        check_lease(&transaction, lease).await?;
    }
    let job = jobs::get(&transaction, &commit.job_id).await?;
    if *job.status == ReplicationStatus::Completed {
        return Ok(CommitOutcome::AlreadyCommitted);
    }
    // The VM's row first: discovery begins with it, too, so no disk comes or goes while this runs.
    contexts::release(&transaction, &job.vm_context_id, &job.id, JobEnd::Committed).await?;
    let disks = vm_disks::of(&transaction, &job.vm_context_id).await?;
    for (row, disk) in matched(&disks, &commit.disks)? {
        commit_disk(&transaction, &job, row, disk).await?;
    }
    complete(&transaction, &job, commit).await?;
    contexts::summarise(&transaction, &job.vm_context_id, commit.summary.clone()).await?;
    transaction.commit().await.map_err(&committing)?;
    Ok(CommitOutcome::Committed)
}

fn incomplete(reason: String) -> StoreError {
    StoreError::Invalid { what: "commit of a replication", reason }
}

/// Pairs each disk row with what was copied of it: all of them, with change ids, and none beside.
fn matched<'a>(
    rows: &'a [VmDisk],
    copied: &'a [CommittedDisk],
) -> Result<Vec<(&'a VmDisk, &'a CommittedDisk)>, StoreError> {
    let mut by_id: HashMap<&str, &CommittedDisk> = copied.iter().map(|disk| (disk.disk_id.as_str(), disk)).collect();
    if by_id.len() != copied.len() || rows.is_empty() {
        return Err(incomplete("the VM has no disk, or one is named twice".to_owned()));
    }
    let mut pairs = Vec::with_capacity(rows.len());
    for row in rows {
        let disk = by_id.remove(row.disk_id.as_str());
        let disk = disk.ok_or_else(|| incomplete(format!("{} was not copied", row.disk_id)))?;
        if disk.change_id.is_none() {
            return Err(incomplete(format!("{} has no change id", row.disk_id)));
        }
        if disk.disk_uuid != row.disk_uuid || disk.capacity_bytes != *row.capacity_bytes {
            return Err(incomplete(format!("{} is not the disk that was copied", row.disk_id)));
        }
        pairs.push((row, disk));
    }
    match by_id.keys().next() {
        Some(stranger) => Err(incomplete(format!("the VM has no {stranger}"))),
        None => Ok(pairs),
    }
}

async fn commit_disk(
    transaction: &DatabaseTransaction,
    job: &ReplicationJob,
    row: &VmDisk,
    disk: &CommittedDisk,
) -> Result<(), StoreError> {
    use vm_disks::Column;
    let committing = while_doing("commit a disk");
    let to = DiskSyncStatus::Completed;
    let now = Timestamp::now();
    let update = vm_disks::Entity::update_many()
        .col_expr(Column::DiskChangeId, Expr::value(disk.change_id.clone().map(Stored)))
        .col_expr(Column::JobId, Expr::value(job.id.as_str()))
        .col_expr(Column::SyncStatus, Expr::value(Stored(to)))
        .col_expr(Column::SyncProgressPercent, Expr::value(100.0))
        .col_expr(Column::BytesSynced, Expr::value(Count(disk.bytes_transferred)))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(row.id.as_str()))
        .filter(Column::VolumeUuid.is_not_null())
        .filter(Column::SyncStatus.is_in(may_precede(to)));
    if update.exec(transaction).await.map_err(&committing)?.rows_affected == 0 {
        if row.volume_uuid.is_none() {
            return Err(incomplete(format!("{} has no volume", row.disk_id)));
        }
        return Err(refused(vm_disks::WHAT, &row.disk_id, Some(row.sync_status), &to));
    }
    let history = CbtHistory {
        id: id::new_id(),
        vm_context_id: job.vm_context_id.clone(),
        job_id: Some(job.id.clone()),
        disk_id: disk.disk_id.clone(),
        change_id: disk.change_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        previous_change_id: disk.previous_change_id.as_ref().map(ToString::to_string),
        sync_type: disk.sync_type.into(),
        blocks_changed: disk.blocks_changed.into(),
        bytes_transferred: disk.bytes_transferred.into(),
        sync_duration_seconds: disk.sync_duration_seconds.into(),
        sync_success: true,
        created_at: now,
    };
    let insert = cbt_history::Entity::insert(history.into_active_model());
    insert.exec_without_returning(transaction).await.map_err(&committing)?;
    equality_certificates::insert(transaction, job, row, disk).await?;
    match &disk.journal {
        Some(journal) => recovery_points::insert(transaction, job, row, disk, journal).await,
        None => Ok(()),
    }
}

async fn complete(transaction: &DatabaseTransaction, job: &ReplicationJob, commit: &Commit) -> Result<(), StoreError> {
    use jobs::Column;
    let to = ReplicationStatus::Completed;
    let now = Timestamp::now();
    let first = commit.disks.first();
    let update = jobs::Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(to)))
        .col_expr(Column::ProgressPercent, Expr::value(100.0))
        .col_expr(Column::CurrentOperation, Expr::value("completed"))
        .col_expr(Column::ChangeId, Expr::value(first.and_then(|disk| disk.change_id.clone()).map(Stored)))
        .col_expr(
            Column::PreviousChangeId,
            Expr::value(first.and_then(|disk| disk.previous_change_id.clone()).map(Stored)),
        )
        .col_expr(Column::TransferSpeedBps, Expr::value(Count(0)))
        .col_expr(Column::CompletedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(job.id.as_str()))
        .filter(Column::Status.is_in(may_precede(to)));
    if update.exec(transaction).await.map_err(while_doing("complete a replication"))?.rows_affected > 0 {
        return Ok(());
    }
    Err(refused(jobs::WHAT, &job.id, Some(job.status), &to))
}

/// What the older interface for a single disk's change id stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleChangeId {
    /// The replication it belongs to; must have been committed.
    pub job_id: String,
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The change id reached.
    pub change_id: ChangeId,
    /// The one before.
    pub previous_change_id: Option<ChangeId>,
}

/// Repeats the change id of one disk of a replication that was committed. Change ids are stored by
/// [`commit_replication`] alone, which knows what was proven: another one than it stored is refused.
///
/// # Errors
/// There is no such replication or disk, the replication was not committed, or it reached another change id; the
/// database fails.
pub async fn store_change_id(store: &Store, change: &SingleChangeId) -> Result<(), StoreError> {
    let job = jobs::get(store.connection(), &change.job_id).await?;
    let disk = vm_disks::one(store.connection(), &job.vm_context_id, &change.disk_id).await?;
    if *job.status != ReplicationStatus::Completed || disk.job_id.as_deref() != Some(&job.id) {
        let reason = format!("it is {}: a change id without its replica would be silent corruption", *job.status);
        return Err(StoreError::conflict(jobs::WHAT, job.id, reason));
    }
    if disk.disk_change_id.as_ref().map(|id| &id.0) != Some(&change.change_id) {
        let reason = format!("{} was not proven equal to the source at {}", change.disk_id, change.change_id);
        return Err(StoreError::conflict(jobs::WHAT, job.id, reason));
    }
    Ok(())
}
