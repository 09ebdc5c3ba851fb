//! The job log on the database: [`JobStore`] over `job_tracking`, `job_steps` and `log_events`.
//!
//! Whoever writes a job names owner and fence in the WHERE clause; an update that finds no row was fenced off.

mod rows;

use async_trait::async_trait;
use joblog::{
    ClaimRequest, ClaimableFilter, Heartbeat, JobError, JobFilter, JobPage, JobRecord, JobRow, JobStore, JobWrite,
    Lease, LogEventRow, LogFilter, MAX_PAGE_JOBS, MAX_PAGE_LOG_EVENTS, NewLogEvent, StepRow,
};
use model::status::JobStatus;
use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use time::OffsetDateTime;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::job_tracking::{Column, Entity, Job};
use crate::transition::may_precede;
use crate::value::{Count, Stored, Timestamp};
use crate::{job_steps, log_events};

#[async_trait]
impl JobStore for Store {
    async fn create(&self, job: &JobRow, steps: &[StepRow]) -> Result<(), JobError> {
        let transaction = self.begin_write().await.map_err(failed("create a job"))?;
        insert(&transaction, job, steps).await?;
        transaction.commit().await.map_err(database("create a job"))
    }

    async fn load(&self, job_id: &str) -> Result<Option<JobRecord>, JobError> {
        load(self.connection(), job_id).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Option<JobRecord>, JobError> {
        let claiming = database("claim a job");
        let own = request.take_own.then_some(request.owner.as_str());
        let transaction = self.begin_write().await.map_err(failed("claim a job"))?;
        let update = Entity::update_many()
            .col_expr(Column::Owner, Expr::value(request.owner.as_str()))
            .col_expr(Column::LeaseUntil, Expr::value(Timestamp::from(request.lease_until)))
            .col_expr(Column::Fence, Expr::col(Column::Fence).add(1))
            .col_expr(Column::UpdatedAt, Expr::value(Timestamp::from(request.now)))
            .filter(Column::Id.eq(request.job_id.as_str()))
            .filter(Column::Status.is_in(stored(request.statuses)))
            .filter(free(request.now, own));
        if update.exec(&transaction).await.map_err(&claiming)?.rows_affected == 0 {
            return Ok(None);
        }
        let record = load(&transaction, &request.job_id).await?;
        transaction.commit().await.map_err(&claiming)?;
        Ok(record)
    }

    async fn claimable(&self, filter: &ClaimableFilter) -> Result<Vec<String>, JobError> {
        let query = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::JobType.is_in(filter.job_types.iter().map(String::as_str)))
            .filter(Column::Status.is_in(stored(filter.statuses)))
            .filter(free(filter.now, filter.also_owned_by.as_deref()))
            .order_by_asc(Column::Id)
            .limit(u64::from(filter.limit))
            .into_tuple();
        query.all(self.connection()).await.map_err(database("look for jobs"))
    }

    async fn heartbeat(&self, lease: &Lease, lease_until: OffsetDateTime) -> Result<Heartbeat, JobError> {
        let renewed = [(Column::LeaseUntil, Expr::value(Timestamp::from(lease_until)))];
        write_under_lease(self.connection(), lease, renewed, "renew a lease").await?;
        let job = one(self.connection(), &lease.job_id).await?;
        Ok(Heartbeat { cancel_requested: job.is_some_and(|job| job.canceled_at.is_some()) })
    }

    async fn save(&self, lease: &Lease, job: &JobWrite, step: Option<&StepRow>) -> Result<(), JobError> {
        let transaction = self.begin_write().await.map_err(failed("save a job"))?;
        save_job(&transaction, lease, job).await?;
        if let Some(step) = step {
            save_step(&transaction, &lease.job_id, step).await?;
        }
        transaction.commit().await.map_err(database("save a job"))
    }

    async fn save_progress(&self, lease: &Lease, percent_complete: f64) -> Result<(), JobError> {
        let progress = [(Column::PercentComplete, Expr::value(percent_complete))];
        write_under_lease(self.connection(), lease, progress, "save the progress of a job").await
    }

    async fn request_cancel(&self, job_id: &str, now: OffsetDateTime) -> Result<JobRow, JobError> {
        let cancellable = [JobStatus::Pending, JobStatus::Running];
        let now = Timestamp::from(now);
        let update = Entity::update_many()
            .col_expr(Column::CanceledAt, Expr::col(Column::CanceledAt).if_null(Expr::value(now)))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(job_id))
            .filter(Column::Status.is_in(stored(&cancellable)));
        let asked = update.exec(self.connection()).await.map_err(database("ask for a job's end"))?.rows_affected > 0;
        let job = one(self.connection(), job_id).await?;
        let job = job.ok_or_else(|| JobError::UnknownJob { job_id: job_id.to_owned() })?;
        if asked {
            return Ok(rows::job(job));
        }
        Err(conflict(job_id, format!("it is {} and cannot be cancelled", *job.status)))
    }

    async fn append_log(&self, events: &[NewLogEvent]) -> Result<Vec<i64>, JobError> {
        let transaction = self.begin_write().await.map_err(failed("write the log"))?;
        let mut ids = Vec::with_capacity(events.len());
        for event in events {
            let insert = log_events::Entity::insert(rows::new_log_event(event)).exec(&transaction);
            ids.push(insert.await.map_err(database("write the log"))?.last_insert_id);
        }
        transaction.commit().await.map_err(database("write the log"))?;
        Ok(ids)
    }

    async fn list_jobs(&self, filter: &JobFilter) -> Result<JobPage, JobError> {
        let limit = filter.limit.clamp(1, MAX_PAGE_JOBS);
        let wanted = [
            (Column::JobType, &filter.job_type),
            (Column::VmContextId, &filter.vm_context_id),
            (Column::ExternalJobId, &filter.external_job_id),
            (Column::ParentJobId, &filter.parent_job_id),
        ];
        let mut query = Entity::find().order_by_desc(Column::Id).limit(u64::from(limit) + 1);
        for (column, value) in wanted {
            query = query.apply_if(value.as_deref(), |query, value| query.filter(column.eq(value)));
        }
        query = query.apply_if(filter.status, |query, status| query.filter(Column::Status.eq(Stored(status))));
        query = query.apply_if(filter.cursor.as_deref(), |query, cursor| query.filter(Column::Id.lt(cursor)));
        let mut jobs = query.all(self.connection()).await.map_err(database("list jobs"))?;
        let more = jobs.len() > limit as usize;
        jobs.truncate(limit as usize);
        let next_cursor = jobs.last().filter(|_| more).map(|job| job.id.clone());
        Ok(JobPage { jobs: jobs.into_iter().map(rows::job).collect(), next_cursor })
    }

    async fn log_after(&self, filter: &LogFilter) -> Result<Vec<LogEventRow>, JobError> {
        let limit = filter.limit.clamp(1, MAX_PAGE_LOG_EVENTS);
        let query = log_events::Entity::find()
            .filter(log_events::Column::Id.gt(filter.after))
            .order_by_asc(log_events::Column::Id)
            .limit(u64::from(limit))
            .apply_if(filter.job_id.as_deref(), |query, id| query.filter(log_events::Column::JobId.eq(id)));
        let events = query.all(self.connection()).await.map_err(database("read the log"))?;
        let step_ids = events.iter().filter_map(|event| event.step_id.as_deref());
        let steps = job_steps::Entity::find().filter(job_steps::Column::Id.is_in(step_ids));
        let steps = steps.all(self.connection()).await.map_err(database("read the log"))?;
        Ok(rows::log_events(events, &steps))
    }
}

fn database(doing: &'static str) -> impl Fn(DbErr) -> JobError {
    move |error| failed(doing)(while_doing(doing)(error))
}

fn failed(doing: &'static str) -> impl Fn(StoreError) -> JobError {
    move |source| JobError::Store { doing, kind: source.kind(), source: Box::new(source) }
}

fn conflict(job_id: &str, reason: String) -> JobError {
    JobError::Conflict { job_id: job_id.to_owned(), reason }
}

fn stored(statuses: &[JobStatus]) -> Vec<Stored<JobStatus>> {
    statuses.iter().copied().map(Stored).collect()
}

/// Whether nobody, or only `own`, holds the job.
fn free(now: OffsetDateTime, own: Option<&str>) -> Condition {
    let expired = Column::LeaseUntil.lte(Timestamp::from(now));
    let free = Condition::any().add(Column::Owner.is_null()).add(Column::LeaseUntil.is_null()).add(expired);
    match own {
        Some(owner) => free.add(Column::Owner.eq(owner)),
        None => free,
    }
}

async fn one(connection: &impl ConnectionTrait, job_id: &str) -> Result<Option<Job>, JobError> {
    Entity::find_by_id(job_id).one(connection).await.map_err(database("read a job"))
}

async fn load(connection: &impl ConnectionTrait, job_id: &str) -> Result<Option<JobRecord>, JobError> {
    let Some(job) = one(connection, job_id).await? else { return Ok(None) };
    let steps = job_steps::Entity::find().filter(job_steps::Column::JobId.eq(job_id));
    let steps = steps.order_by_asc(job_steps::Column::Seq).all(connection).await.map_err(database("read a job"))?;
    Ok(Some(JobRecord { job: rows::job(job), steps: steps.into_iter().map(rows::step).collect() }))
}

async fn insert(transaction: &DatabaseTransaction, job: &JobRow, steps: &[StepRow]) -> Result<(), JobError> {
    if let Some(parent) = &job.parent_job_id
        && one(transaction, parent).await?.is_none()
    {
        return Err(JobError::UnknownJob { job_id: parent.clone() });
    }
    let inserted = Entity::insert(rows::new_job(job)).exec_without_returning(transaction).await;
    inserted.map_err(while_doing("create a job")).map_err(|error| match error {
        StoreError::Duplicate { .. } => conflict(&job.id, "it exists already".to_owned()),
        other => failed("create a job")(other),
    })?;
    for step in steps {
        let insert = job_steps::Entity::insert(rows::new_step(step));
        insert.exec_without_returning(transaction).await.map_err(database("create the steps of a job"))?;
    }
    Ok(())
}

/// Writes columns of a job if the lease still holds.
async fn write_under_lease(
    connection: &impl ConnectionTrait,
    lease: &Lease,
    columns: impl IntoIterator<Item = (Column, SimpleExpr)>,
    doing: &'static str,
) -> Result<(), JobError> {
    let mut update = Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()));
    for (column, value) in columns {
        update = update.col_expr(column, value);
    }
    let update = update.filter(holds(lease)).exec(connection).await.map_err(database(doing))?;
    if update.rows_affected > 0 { Ok(()) } else { Err(fenced_off(lease)) }
}

/// The job is still the lease's.
fn holds(lease: &Lease) -> Condition {
    Condition::all()
        .add(Column::Id.eq(lease.job_id.as_str()))
        .add(Column::Owner.eq(lease.owner.as_str()))
        .add(Column::Fence.eq(lease.fence))
}

fn fenced_off(lease: &Lease) -> JobError {
    JobError::FencedOff { job_id: lease.job_id.clone(), fence: lease.fence }
}

async fn save_job(transaction: &DatabaseTransaction, lease: &Lease, job: &JobWrite) -> Result<(), JobError> {
    let (message, detail) = rows::error_columns(job.error.as_ref());
    let mut update = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(job.status)))
        .col_expr(Column::ErrorMessage, Expr::value(message))
        .col_expr(Column::ErrorDetail, Expr::value(detail))
        .col_expr(Column::PercentComplete, Expr::value(job.percent_complete))
        .col_expr(Column::StartedAt, Expr::value(job.started_at.map(Timestamp::from)))
        .col_expr(Column::CompletedAt, Expr::value(job.completed_at.map(Timestamp::from)))
        .col_expr(Column::UpdatedAt, Expr::value(Timestamp::now()));
    if job.release {
        update = update
            .col_expr(Column::Owner, Expr::value(Option::<String>::None))
            .col_expr(Column::LeaseUntil, Expr::value(Option::<Timestamp>::None));
    }
    let update = update.filter(holds(lease)).filter(Column::Status.is_in(may_precede(job.status)));
    if update.exec(transaction).await.map_err(database("save a job"))?.rows_affected > 0 {
        return Ok(());
    }
    match one(transaction, &lease.job_id).await? {
        Some(row) if row.owner.as_deref() == Some(&lease.owner) && row.fence == fence_of(lease) => {
            Err(conflict(&lease.job_id, format!("it is {} and cannot become {}", *row.status, job.status)))
        }
        _ => Err(fenced_off(lease)),
    }
}

fn fence_of(lease: &Lease) -> Count {
    Count(u64::try_from(lease.fence).unwrap_or(0))
}

async fn save_step(transaction: &DatabaseTransaction, job_id: &str, step: &StepRow) -> Result<(), JobError> {
    use job_steps::Column;
    let (message, detail) = rows::error_columns(step.error.as_ref());
    let update = job_steps::Entity::update_many()
        .col_expr(Column::Status, Expr::value(Stored(step.status)))
        .col_expr(Column::Attempt, Expr::value(Count::from(step.attempt)))
        .col_expr(Column::Output, Expr::value(step.output.clone()))
        .col_expr(Column::ErrorMessage, Expr::value(message))
        .col_expr(Column::ErrorDetail, Expr::value(detail))
        .col_expr(Column::StartedAt, Expr::value(step.started_at.map(Timestamp::from)))
        .col_expr(Column::CompletedAt, Expr::value(step.completed_at.map(Timestamp::from)))
        .filter(Column::JobId.eq(job_id))
        .filter(Column::Seq.eq(Count::from(step.seq)))
        .filter(Column::Status.is_in(may_precede(step.status)));
    if update.exec(transaction).await.map_err(database("save a step"))?.rows_affected > 0 {
        return Ok(());
    }
    Err(conflict(job_id, format!("its step {} cannot become {}", step.name, step.status)))
}

/// Jobs of every kind that have not ended, oldest first, at most `limit`; in one look, so that none is missed while it
/// moves from one status to another.
///
/// # Errors
/// The database fails.
pub async fn unfinished_jobs(store: &Store, limit: u32) -> Result<Vec<JobRow>, StoreError> {
    let open = [JobStatus::Pending, JobStatus::Running, JobStatus::Unwinding, JobStatus::NeedsOperator];
    let query =
        Entity::find().filter(Column::Status.is_in(stored(&open))).order_by_asc(Column::Id).limit(u64::from(limit));
    let found = query.all(store.connection()).await.map_err(while_doing("list unfinished jobs"))?;
    Ok(found.into_iter().map(rows::job).collect())
}

/// The lease of a runner, checked inside another transaction: what a job writes to other tables is refused, too, once
/// it was taken over.
pub(crate) async fn check_lease(transaction: &DatabaseTransaction, lease: &Lease) -> Result<(), StoreError> {
    // An update and not a read: it locks the row until the transaction ends.
    let update = Entity::update_many().col_expr(Column::UpdatedAt, Expr::value(Timestamp::now())).filter(holds(lease));
    match update.exec(transaction).await.map_err(while_doing("check a lease"))?.rows_affected {
        0 => Err(StoreError::Stale { what: "job", id: lease.job_id.clone() }),
        _ => Ok(()),
    }
}
