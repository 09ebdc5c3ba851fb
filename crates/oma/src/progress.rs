//! How far running replications are: one set of numbers for the API, its events, the command line and metrics.
//!
//! Kept in memory: after a restart the next answers of agents and gateway bring it back. It decides nothing, and a
//! reader that is slow sees the latest, never a queue.

mod job;

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use api::gateway::ExportWork;
use api::oma::progress::{JobProgress, Phase};
use api::vma::RunView;
use model::status::JobStatus;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::watch;

use job::{Job, Moment};

/// Replications kept; more than that do not run at once. The oldest goes first: only what is shown suffers.
const MAX_JOBS: usize = 1000;

/// Which replication it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobName {
    /// `job-…`.
    pub job_id: String,
    /// Id of the job in the job log.
    pub tracking_id: String,
    /// The VM (context id).
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
}

/// What the gateway does for each disk, by disk id.
pub type DiskWork = HashMap<String, ExportWork>;

/// What has ended since this process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replications, by how they ended.
    pub ended: BTreeMap<&'static str, u64>,
    /// Bytes of data sent by those.
    pub bytes_sent: u64,
    /// Leaves that differed when they were verified.
    pub mismatched_leaves: u64,
}

/// Every replication under way.
pub struct Board {
    began: Instant,
    jobs: Mutex<Jobs>,
    /// The version of the newest change.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Jobs {
    version: u64,
    by_id: BTreeMap<String, (u64, Job)>,
    totals: Totals,
}

impl Default for Board {
    fn default() -> Self {
        Self { began: Instant::now(), jobs: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Board {
    /// A replication is at a phase in which nothing is counted; `percent` is that of the whole job.
    pub fn entered(&self, name: &JobName, phase: Phase, percent: f64) -> JobProgress {
        self.change(name, |job, moment| job.entered(phase, percent, moment))
    }

    /// The agent and the gateway say how far the copy is.
    pub fn copied(&self, name: &JobName, run: &RunView, work: &DiskWork, percent: f64) -> JobProgress {
        self.change(name, |job, moment| job.copied(run, work, percent, moment))
    }

    /// So many leaves of a disk have been verified. `percent` makes that of the whole job, 0 to 100, of the share of the
    /// verification that is done, 0 to 1.
    pub fn verified(
        &self,
        name: &JobName,
        disk_id: &str,
        leaves: u64,
        percent: impl FnOnce(f64) -> f64,
    ) -> JobProgress {
        self.change(name, |job, moment| {
            job.verified(disk_id, leaves, moment);
            job.reached(percent(job.share_verified()));
        })
    }

    /// So many leaves were not what they should be.
    pub fn mismatched(&self, leaves: u64) {
        self.jobs.lock().totals.mismatched_leaves += leaves;
    }

    /// A replication has ended, or waits for an operator: it is no longer shown.
    pub fn ended(&self, job_id: &str, outcome: JobStatus) {
        let mut jobs = self.jobs.lock();
        let sent = jobs.by_id.remove(job_id).map_or(0, |(_, job)| job.view().bytes_sent);
        jobs.totals.bytes_sent += sent;
        *jobs.totals.ended.entry(outcome.into()).or_default() += 1;
    }

    fn change(&self, name: &JobName, change: impl FnOnce(&mut Job, Moment)) -> JobProgress {
        let moment = Moment { since: self.began.elapsed(), at: OffsetDateTime::now_utc() };
        let mut jobs = self.jobs.lock();
        jobs.version += 1;
        let version = jobs.version;
        if jobs.by_id.len() >= MAX_JOBS && !jobs.by_id.contains_key(&name.job_id) {
            let oldest = jobs.by_id.iter().min_by_key(|(_, (version, _))| *version).map(|(id, _)| id.clone());
            oldest.and_then(|id| jobs.by_id.remove(&id));
        }
        let (newest, job) = jobs.by_id.entry(name.job_id.clone()).or_insert_with(|| (version, Job::new(name, moment)));
        change(job, moment);
        *newest = version;
        let view = job.view().clone();
        drop(jobs);
        self.changes.send_if_modified(|told| {
            let is_newer = version > *told;
            *told = version.max(*told);
            is_newer
        });
        view
    }

    /// One replication, if it is under way.
    pub fn of(&self, job_id: &str) -> Option<JobProgress> {
        self.jobs.lock().by_id.get(job_id).map(|(_, job)| job.view().clone())
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<JobProgress> {
        self.jobs.lock().by_id.values().map(|(_, job)| job.view().clone()).collect()
    }

    /// What has changed after a version, and the version that is.
    pub fn since(&self, version: u64) -> (u64, Vec<JobProgress>) {
        let jobs = self.jobs.lock();
        let newer = jobs.by_id.values().filter(|(changed, _)| *changed > version);
        (jobs.version, newer.map(|(_, job)| job.view().clone()).collect())
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What has ended.
    pub fn totals(&self) -> Totals {
        self.jobs.lock().totals.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(job_id: &str) -> JobName {
        JobName {
            job_id: job_id.to_owned(),
            tracking_id: "t".to_owned(),
            vm_context_id: "c".to_owned(),
            vm_name: "web1".to_owned(),
        }
    }

    #[test]
    fn only_what_changed_is_told_and_only_its_latest_state() {
        let board = Board::default();
        let changes = board.changes();
        board.entered(&name("a"), Phase::Preparing, 0.0);
        board.entered(&name("b"), Phase::Preparing, 0.0);
        board.entered(&name("a"), Phase::Snapshotting, 1.0);
        assert!(changes.has_changed().unwrap());
        let (version, told) = board.since(0);
        let told: Vec<_> = told.iter().map(|job| (job.job_id.as_str(), job.phase)).collect();
        assert_eq!(told, [("a", Phase::Snapshotting), ("b", Phase::Preparing)]);
        assert_eq!(board.since(version).1, []);
        board.entered(&name("b"), Phase::Committing, 5.0);
        assert_eq!(board.since(version).1.len(), 1);
    }

    #[test]
    fn what_has_ended_is_counted_and_no_longer_shown() {
        let board = Board::default();
        board.entered(&name("a"), Phase::Releasing, 99.0);
        board.mismatched(3);
        board.ended("a", JobStatus::Completed);
        board.ended("unknown since a restart", JobStatus::Completed);
        board.ended("b", JobStatus::Failed);
        assert_eq!(board.of("a"), None);
        let totals = board.totals();
        assert_eq!(totals.ended, BTreeMap::from([("completed", 2), ("failed", 1)]));
        assert_eq!(totals.mismatched_leaves, 3);
    }

    #[test]
    fn however_many_begin_memory_is_bounded() {
        let board = Board::default();
        for number in 0..=MAX_JOBS {
            board.entered(&name(&format!("job-{number}")), Phase::Preparing, 0.0);
        }
        assert_eq!(board.all().len(), MAX_JOBS);
        assert!(board.of("job-0").is_none() && board.of(&format!("job-{MAX_JOBS}")).is_some());
    }
}
