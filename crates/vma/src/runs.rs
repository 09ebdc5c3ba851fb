//! Runs: each moves the disks of one vm_snapshot to the hub. Started and ended by the hub. One that was cut off goes on when
//! the hub asks for it again.

mod cycle;
mod delivery;
mod disk;
mod folder;
pub(crate) mod leftovers;
mod record;
mod resume;
mod run;
mod session;
mod source;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::vma::{RunDisk, RunLimits, RunPhase, RunView, StartRun};
use futures::future::join_all;
use model::wan::MAX_BANDWIDTH_LIMITS;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::Dialer;

use crate::config::VmaConfig;
use crate::error::VmaError;
use crate::hotadd::HotAdd;
use crate::wan::Wan;
use run::Run;

/// Ended runs kept for whoever asks.
const MAX_ENDED_RUNS: usize = 64;
/// Most disks of one run (vSphere allows 256 per VM).
const MAX_DISKS: usize = 256;
/// Longest id of a job or disk, in bytes: both become names of files.
const MAX_ID_BYTES: usize = 128;
/// Most NBD connections per disk.
const MAX_CONNECTIONS_PER_DISK: u32 = 8;

/// What every run needs.
pub(crate) struct Surroundings {
    pub(crate) config: VmaConfig,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) hotadd: Arc<HotAdd>,
    pub(crate) budgets: folder::Budgets,
    pub(crate) wan: Wan,
}

/// All runs of this process.
pub struct Runs {
    surroundings: Arc<Surroundings>,
    known: Mutex<HashMap<String, Arc<Run>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Runs {
    /// No runs yet; those that are under way at shutdown are left where they are, to be gone on with. To be called where
    /// tasks can be started.
    #[must_use]
    pub fn new(config: VmaConfig, dialer: Arc<Dialer>, hotadd: HotAdd, shutdown: CancellationToken) -> Self {
        let (wan, hotadd) = (Wan::new(config.wan.clone()), Arc::new(hotadd));
        let budgets = folder::Budgets::default();
        let surroundings = Arc::new(Surroundings { config, dialer, hotadd, budgets, wan });
        let (tasks, watching, until) = (TaskTracker::new(), Arc::clone(&surroundings), shutdown.clone());
        tasks.spawn(async move { watching.wan.watch_the_clock(until).await });
        Self { surroundings, known: Mutex::default(), tasks, shutdown }
    }

    /// Starts a run; one of the same job that is under way (or copied) is answered with instead. One that was cut off goes
    /// on in its vm_snapshot if that can be.
    ///
    /// # Errors
    /// The request cannot be right, or another job copies the VM.
    pub fn start(&self, request: StartRun) -> Result<RunView, VmaError> {
        check(&request)?;
        let mut known = self.known.lock();
        if let Some(run) = known.get(&request.job_id).filter(|run| !run.has_ended()) {
            return Ok(run.view());
        }
        if let Some(other) = known.values().find(|run| run.is_of(&request) && !run.has_ended()) {
            return Err(VmaError::Busy { moref: request.moref, job_id: other.job_id().to_owned() });
        }
        forget_oldest(&mut known);
        self.surroundings.wan.allow(&request.limits.agent_limits);
        let run = Arc::new(Run::new(request, Arc::clone(&self.surroundings), self.shutdown.clone()));
        known.insert(run.job_id().to_owned(), Arc::clone(&run));
        let driven = Arc::clone(&run);
        self.tasks.spawn(async move { driven.drive().await });
        Ok(run.view())
    }

    /// A run.
    ///
    /// # Errors
    /// There is none of that job.
    pub fn view(&self, job_id: &str) -> Result<RunView, VmaError> {
        Ok(self.find(job_id)?.view())
    }

    /// Every run that is known, the oldest first.
    #[must_use]
    pub fn views(&self) -> Vec<RunView> {
        let mut views: Vec<RunView> = self.known.lock().values().map(|run| run.view()).collect();
        views.sort_by(|a, b| (a.started_at, &a.job_id).cmp(&(b.started_at, &b.job_id)));
        views
    }

    /// Runs that have not ended.
    #[must_use]
    pub fn active(&self) -> usize {
        self.known.lock().values().filter(|run| !run.has_ended()).count()
    }

    /// The disks added to this VM.
    pub(crate) fn hotadd(&self) -> &Arc<HotAdd> {
        &self.surroundings.hotadd
    }

    /// Names of the NBD commands the configuration knows.
    #[must_use]
    pub fn nbd_commands(&self) -> Vec<String> {
        self.surroundings.config.nbd_commands.keys().cloned().collect()
    }

    /// Limits a run, and the agent, from now on.
    ///
    /// # Errors
    /// There is no run of that job, or there are too many limits.
    pub fn limit(&self, job_id: &str, limits: &RunLimits) -> Result<RunView, VmaError> {
        check_limits(limits)?;
        let run = self.find(job_id)?;
        self.surroundings.wan.allow(&limits.agent_limits);
        run.limit(limits);
        Ok(run.view())
    }

    /// Stops a run and removes its vm_snapshot; answers when that is done. It goes on when nobody waits any more.
    ///
    /// # Errors
    /// There is none of that job.
    pub async fn cancel(&self, job_id: &str) -> Result<RunView, VmaError> {
        let run = self.find(job_id)?;
        let cancelling = self.tasks.spawn(async move {
            run.cancel().await;
            run.view()
        });
        cancelling.await.map_err(|source| VmaError::Interrupted { doing: "stopping the run", source })
    }

    /// Removes the vm_snapshot of a copied run and forgets its digests. It goes on when nobody waits any more.
    ///
    /// # Errors
    /// There is none of that job, it is not copied, or the vm_snapshot cannot be removed: then it may be repeated.
    pub async fn release(&self, job_id: &str) -> Result<RunView, VmaError> {
        let run = self.find(job_id)?;
        let releasing = self.tasks.spawn(async move { run.release().await.map(|()| run.view()) });
        releasing.await.map_err(|source| VmaError::Interrupted { doing: "releasing the run", source })?
    }

    /// Refuses when a run of that VM has not ended.
    ///
    /// # Errors
    /// [`VmaError::Busy`].
    pub fn refuse_if_busy(&self, moref: &str) -> Result<(), VmaError> {
        let known = self.known.lock();
        match known.values().find(|run| run.request().moref == moref && !run.has_ended()) {
            Some(run) => Err(VmaError::Busy { moref: moref.to_owned(), job_id: run.job_id().to_owned() }),
            None => Ok(()),
        }
    }

    /// Forgets what was written down of runs of a VM whose vm_snapshots were removed.
    ///
    /// # Errors
    /// The files cannot be removed.
    pub async fn forget_cut_off(&self, moref: &str) -> Result<(), VmaError> {
        const DOING: &str = "forgetting runs that were cut off";
        let (folder, moref) = (self.surroundings.config.runs_folder(), moref.to_owned());
        let runs = folder.clone();
        let forgetting = tokio::task::spawn_blocking(move || leftovers::forget(&runs, |run| run.moref == moref)).await;
        let forgotten = forgetting.map_err(|source| VmaError::Interrupted { doing: DOING, source })?;
        forgotten.map_err(|source| VmaError::StateFile { path: folder, source })
    }

    /// The file with the source digests of a copied disk.
    ///
    /// # Errors
    /// There is no such run or disk, or it is not copied.
    pub fn digests(&self, job_id: &str, disk_id: &str) -> Result<PathBuf, VmaError> {
        let run = self.find(job_id)?;
        let view = run.view();
        if view.phase != RunPhase::Copied {
            return Err(VmaError::WrongPhase { job_id: job_id.to_owned(), phase: phase_text(view.phase) });
        }
        if !view.disks.iter().any(|disk| disk.disk_id == disk_id) {
            return Err(VmaError::NoRun { job_id: format!("{job_id} of {disk_id}") });
        }
        Ok(run.digest_path(disk_id))
    }

    /// Ends when every run has ended or was left, after a shutdown.
    pub async fn ended(&self) {
        self.tasks.close();
        let known: Vec<Arc<Run>> = self.known.lock().values().cloned().collect();
        join_all(known.iter().map(|run| run.process_ends())).await;
        self.tasks.wait().await;
    }

    fn find(&self, job_id: &str) -> Result<Arc<Run>, VmaError> {
        let found = self.known.lock().get(job_id).cloned();
        found.ok_or_else(|| VmaError::NoRun { job_id: job_id.to_owned() })
    }
}

pub(crate) fn phase_text(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Preparing => "preparing",
        RunPhase::Snapshotting => "snapshotting",
        RunPhase::Copying => "copying",
        RunPhase::Flushing => "flushing",
        RunPhase::Copied => "copied",
        RunPhase::Released => "released",
        RunPhase::Failed => "failed",
        RunPhase::Cancelled => "cancelled",
    }
}

fn forget_oldest(known: &mut HashMap<String, Arc<Run>>) {
    let ended = known.values().filter(|run| run.has_ended()).count();
    if ended < MAX_ENDED_RUNS {
        return;
    }
    let oldest = known.values().filter(|run| run.has_ended()).min_by_key(|run| run.view().started_at);
    if let Some(job_id) = oldest.map(|run| run.job_id().to_owned()) {
        known.remove(&job_id);
    }
}

fn check_limits(limits: &RunLimits) -> Result<(), VmaError> {
    if limits.agent_limits.len() <= MAX_BANDWIDTH_LIMITS {
        return Ok(());
    }
    Err(VmaError::Invalid { what: "agent_limits", reason: format!("must be {MAX_BANDWIDTH_LIMITS} at most") })
}

/// The request is the hub's, but what becomes a file name or a count is checked here.
fn check(request: &StartRun) -> Result<(), VmaError> {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= MAX_ID_BYTES
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let invalid = |what, reason: &str| Err(VmaError::Invalid { what, reason: reason.to_owned() });
    if !plain(&request.job_id) {
        return invalid("job_id", "must be letters, digits and hyphens");
    }
    if request.disks.is_empty() || request.disks.len() > MAX_DISKS {
        return invalid("disks", "must name 1 to 256 disks");
    }
    if !(1..=MAX_CONNECTIONS_PER_DISK).contains(&request.connections_per_disk) {
        return invalid("connections_per_disk", "must be 1 to 8");
    }
    check_limits(&request.limits)?;
    for (index, disk) in request.disks.iter().enumerate() {
        if !plain(&disk.disk_id) {
            return invalid("disk_id", "must be letters, digits and hyphens");
        }
        let twice = |other: &RunDisk| other.disk_id == disk.disk_id || other.export_name == disk.export_name;
        if request.disks[..index].iter().any(twice) {
            return invalid("disks", "name a disk or an export twice");
        }
    }
    Ok(())
}
