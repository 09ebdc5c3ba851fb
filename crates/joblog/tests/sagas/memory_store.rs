//! A job store in memory, as strict about fences and transitions as a database's. It outlives the runners on it.

use async_trait::async_trait;
use joblog::{
    ClaimRequest, ClaimableFilter, Heartbeat, JobError, JobFilter, JobPage, JobRecord, JobRow, JobStore, JobWrite,
    Lease, LogEventRow, LogFilter, NewLogEvent, StepRow,
};
use model::status::{JobStatus, StepStatus, Transitions};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use time::OffsetDateTime;

#[derive(Default)]
pub struct MemoryStore {
    jobs: Mutex<BTreeMap<String, JobRecord>>,
    log: Mutex<Vec<LogEventRow>>,
}

impl MemoryStore {
    pub fn record(&self, job_id: &str) -> JobRecord {
        self.jobs.lock()[job_id].clone()
    }

    pub fn statuses(&self, job_id: &str) -> Vec<StepStatus> {
        self.record(job_id).steps.iter().map(|step| step.status).collect()
    }

    /// Changes rows behind the runner's back.
    pub fn edit(&self, job_id: &str, edit: impl FnOnce(&mut JobRecord)) {
        edit(self.jobs.lock().get_mut(job_id).unwrap());
    }

    fn held<T>(&self, lease: &Lease, act: impl FnOnce(&mut JobRecord) -> Result<T, JobError>) -> Result<T, JobError> {
        let mut jobs = self.jobs.lock();
        let record = jobs.get_mut(&lease.job_id).ok_or_else(|| unknown(&lease.job_id))?;
        if record.job.fence != lease.fence || record.job.owner.as_deref() != Some(&lease.owner) {
            return Err(JobError::FencedOff { job_id: lease.job_id.clone(), fence: lease.fence });
        }
        act(record)
    }
}

fn unknown(job_id: &str) -> JobError {
    JobError::UnknownJob { job_id: job_id.to_owned() }
}

fn moved<T: Transitions + std::fmt::Display>(job_id: &str, from: T, to: T) -> Result<(), JobError> {
    if from.may_become(to) {
        return Ok(());
    }
    Err(JobError::Conflict { job_id: job_id.to_owned(), reason: format!("{from} may not become {to}") })
}

fn is_free(job: &JobRow, now: OffsetDateTime, own: Option<&str>) -> bool {
    job.owner.is_none() || job.lease_until.is_none_or(|until| until <= now) || job.owner.as_deref() == own
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn create(&self, job: &JobRow, steps: &[StepRow]) -> Result<(), JobError> {
        let mut jobs = self.jobs.lock();
        if jobs.contains_key(&job.id) {
            return Err(JobError::Conflict { job_id: job.id.clone(), reason: "it exists".into() });
        }
        if let Some(parent) = job.parent_job_id.as_ref().filter(|parent| !jobs.contains_key(*parent)) {
            return Err(unknown(parent));
        }
        jobs.insert(job.id.clone(), JobRecord { job: job.clone(), steps: steps.to_vec() });
        Ok(())
    }

    async fn load(&self, job_id: &str) -> Result<Option<JobRecord>, JobError> {
        Ok(self.jobs.lock().get(job_id).cloned())
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Option<JobRecord>, JobError> {
        let mut jobs = self.jobs.lock();
        let Some(record) = jobs.get_mut(&request.job_id) else { return Ok(None) };
        let own = request.take_own.then_some(request.owner.as_str());
        if !request.statuses.contains(&record.job.status) || !is_free(&record.job, request.now, own) {
            return Ok(None);
        }
        record.job.owner = Some(request.owner.clone());
        record.job.lease_until = Some(request.lease_until);
        record.job.fence += 1;
        Ok(Some(record.clone()))
    }

    async fn claimable(&self, filter: &ClaimableFilter) -> Result<Vec<String>, JobError> {
        let own = filter.also_owned_by.as_deref();
        let wanted = |job: &&JobRow| {
            filter.job_types.contains(&job.job_type)
                && filter.statuses.contains(&job.status)
                && is_free(job, filter.now, own)
        };
        let jobs = self.jobs.lock();
        let ids = jobs.values().map(|record| &record.job).filter(wanted).map(|job| job.id.clone());
        Ok(ids.take(filter.limit as usize).collect())
    }

    async fn heartbeat(&self, lease: &Lease, lease_until: OffsetDateTime) -> Result<Heartbeat, JobError> {
        self.held(lease, |record| {
            record.job.lease_until = Some(lease_until);
            Ok(Heartbeat { cancel_requested: record.job.cancel_requested_at.is_some() })
        })
    }

    async fn save(&self, lease: &Lease, write: &JobWrite, step: Option<&StepRow>) -> Result<(), JobError> {
        self.held(lease, |record| {
            moved(&lease.job_id, record.job.status, write.status)?;
            if let Some(new) = step {
                let row = &mut record.steps[new.seq as usize];
                moved(&lease.job_id, row.status, new.status)?;
                *row = new.clone();
            }
            let job = &mut record.job;
            (job.status, job.error) = (write.status, write.error.clone());
            job.percent_complete = write.percent_complete;
            (job.started_at, job.completed_at) = (write.started_at, write.completed_at);
            if write.release {
                (job.owner, job.lease_until) = (None, None);
            }
            Ok(())
        })
    }

    async fn save_progress(&self, lease: &Lease, percent_complete: f64) -> Result<(), JobError> {
        self.held(lease, |record| {
            record.job.percent_complete = percent_complete;
            Ok(())
        })
    }

    async fn request_cancel(&self, job_id: &str, now: OffsetDateTime) -> Result<JobRow, JobError> {
        let mut jobs = self.jobs.lock();
        let job = &mut jobs.get_mut(job_id).ok_or_else(|| unknown(job_id))?.job;
        if !matches!(job.status, JobStatus::Pending | JobStatus::Running) {
            return Err(JobError::Conflict { job_id: job_id.to_owned(), reason: format!("it is {}", job.status) });
        }
        job.cancel_requested_at.get_or_insert(now);
        Ok(job.clone())
    }

    async fn append_log(&self, events: &[NewLogEvent]) -> Result<Vec<i64>, JobError> {
        let mut log = self.log.lock();
        let first = log.len() as i64 + 1;
        for (id, event) in (first..).zip(events.iter().cloned()) {
            let NewLogEvent { job_id, step_id, step, level, message, attrs, at } = event;
            log.push(LogEventRow { id, job_id, step_id, step, level, message, attrs, at });
        }
        Ok((first..=log.len() as i64).collect())
    }

    async fn list_jobs(&self, filter: &JobFilter) -> Result<JobPage, JobError> {
        let jobs = self.jobs.lock().values().rev().map(|record| record.job.clone()).collect();
        assert!(filter.limit > 0);
        Ok(JobPage { jobs, next_cursor: None })
    }

    async fn log_after(&self, filter: &LogFilter) -> Result<Vec<LogEventRow>, JobError> {
        let log = self.log.lock();
        let events = log.iter().filter(|event| event.id > filter.after && event.job_id == filter.job_id);
        Ok(events.take(filter.limit as usize).cloned().collect())
    }
}
