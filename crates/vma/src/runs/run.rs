//! One run: its state as the hub sees it, and its way from the first vm_snapshot to the end of the last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Problem;
use api::vma::{RunLimits, RunPhase, RunView, StartRun};
use mover::MoverError;
use parking_lot::Mutex;
use runtime::retry::Backoff;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tunnel::JobPace;

use super::Surroundings;
use super::cycle;
use super::disk::DiskState;
use super::record::{RECORD_FILE, RunRecord};
use super::session::RunSession;
use super::{leftovers, phase_text};
use crate::error::VmaError;
use crate::wan::bytes_per_s;

/// Pauses before vCenter is asked again when a run that was cut off is to go on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// Only the agent's user may look into a run's files.
const FOLDER_MODE: u32 = 0o700;

/// What changes while a run goes on.
#[derive(Debug, Clone)]
struct State {
    phase: RunPhase,
    vm_snapshot: Option<String>,
    quiesced: bool,
    error: Option<Problem>,
    /// Whether what is needed to go on after a restart is written down.
    is_written_down: bool,
    /// How often it went on before this process.
    resumed_before: u32,
    started_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

/// A run.
pub(crate) struct Run {
    request: StartRun,
    surroundings: Arc<Surroundings>,
    disks: Vec<Arc<DiskState>>,
    pace: Arc<JobPace>,
    state: Mutex<State>,
    phases: watch::Sender<RunPhase>,
    /// The open session and the vm_snapshot, from its creation to its removal.
    source: tokio::sync::Mutex<Option<RunSession>>,
    cancel: CancellationToken,
    /// The process ends; the run is left where it is.
    shutdown: CancellationToken,
    /// It was left.
    left: CancellationToken,
}

impl Run {
    pub(super) fn new(request: StartRun, surroundings: Arc<Surroundings>, shutdown: CancellationToken) -> Self {
        let (pace, links) = surroundings.wan.share_of(&request);
        let disks = request.disks.iter().zip(links);
        let disks = disks.map(|(disk, link)| Arc::new(DiskState::new(disk.disk_id.clone(), link))).collect();
        let state = State {
            phase: RunPhase::Preparing,
            vm_snapshot: None,
            quiesced: false,
            error: None,
            is_written_down: false,
            resumed_before: 0,
            started_at: OffsetDateTime::now_utc(),
            ended_at: None,
        };
        Self {
            request,
            surroundings,
            disks,
            pace,
            state: Mutex::new(state),
            phases: watch::Sender::new(RunPhase::Preparing),
            source: tokio::sync::Mutex::default(),
            cancel: CancellationToken::new(),
            shutdown,
            left: CancellationToken::new(),
        }
    }

    pub(super) fn job_id(&self) -> &str {
        &self.request.job_id
    }

    pub(super) fn request(&self) -> &StartRun {
        &self.request
    }

    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(super) fn disks(&self) -> &[Arc<DiskState>] {
        &self.disks
    }

    /// What the run sends, from now on.
    pub(super) fn limit(&self, limits: &RunLimits) {
        self.pace.set_limit(bytes_per_s(limits));
    }

    pub(super) fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(super) fn started_at(&self) -> OffsetDateTime {
        self.state.lock().started_at
    }

    /// Whether it is about the VM of another request.
    pub(super) fn is_of(&self, other: &StartRun) -> bool {
        self.request.instance_uuid == other.instance_uuid
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.lock().phase, RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled)
    }

    fn phase(&self) -> RunPhase {
        self.state.lock().phase
    }

    pub(super) fn view(&self) -> RunView {
        let state = self.state.lock().clone();
        let disks: Vec<_> = self.disks.iter().map(|disk| disk.view()).collect();
        let resumed = self.disks.iter().map(|disk| disk.resumed()).max().unwrap_or(0);
        RunView {
            job_id: self.request.job_id.clone(),
            phase: state.phase,
            vm_snapshot: state.vm_snapshot,
            quiesced: state.quiesced,
            error: state.error,
            resumed: state.resumed_before.saturating_add(resumed),
            bytes_kept: disks.iter().map(|disk| disk.bytes_kept).sum(),
            waiting_for_hub: self.disks.iter().any(|disk| disk.is_waiting()),
            disks,
            started_at: state.started_at,
            ended_at: state.ended_at,
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.surroundings.config.run_folder(self.job_id())
    }

    /// Where the digests of a disk are.
    pub(super) fn digest_path(&self, disk_id: &str) -> PathBuf {
        self.folder().join(format!("{disk_id}.digests"))
    }

    pub(super) fn enter(&self, phase: RunPhase) {
        tracing::info!(job_id = self.job_id(), phase = phase_text(phase), "run");
        self.state.lock().phase = phase;
        self.phases.send_replace(phase);
    }

    pub(super) fn has_vm_snapshot(&self, moref: &str, quiesced: bool) {
        let mut state = self.state.lock();
        state.vm_snapshot = Some(moref.to_owned());
        state.quiesced = quiesced;
    }

    /// An earlier process had begun it.
    pub(super) fn was_cut_off(&self, started_at: OffsetDateTime, resumed: u32) {
        let mut state = self.state.lock();
        state.started_at = started_at;
        state.resumed_before = resumed;
    }

    /// What an earlier process wrote down of it.
    pub(super) async fn written_down(&self) -> Result<Option<RunRecord>, VmaError> {
        let folder = self.folder();
        blocking("reading what is known of the run", move || RunRecord::load(&folder)).await
    }

    /// From now on the run can go on after a restart.
    pub(super) async fn write_down(&self, record: &RunRecord) -> Result<(), VmaError> {
        record.save(&self.folder()).await?;
        self.state.lock().is_written_down = true;
        Ok(())
    }

    /// Makes an empty folder for the run's files.
    pub(super) async fn clear_folder(&self) -> Result<(), VmaError> {
        let folder = self.folder();
        let cleared = match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => tokio::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder).await,
        };
        cleared.map_err(|source| VmaError::StateFile { path: folder, source })
    }

    /// Removes the files of other runs of this VM: their vm_snapshots go, and nobody goes on with them.
    pub(super) async fn forget_other_runs(&self) -> Result<(), VmaError> {
        let folder = self.surroundings.config.runs_folder();
        let (uuid, own) = (self.request.instance_uuid.clone(), self.request.job_id.clone());
        let runs = folder.clone();
        let is_over = move |record: &RunRecord| record.instance_uuid == uuid && record.job_id != own;
        let forgotten = blocking("forgetting earlier runs", move || leftovers::forget(&runs, is_over)).await?;
        forgotten.map_err(|source| VmaError::StateFile { path: folder, source })
    }

    /// From start to `copied`, or to the end. Whatever happens, no vm_snapshot is left that could be removed, but for a run
    /// that can be gone on with.
    pub(super) async fn drive(&self) {
        let mut source = self.source.lock().await;
        let copied = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(VmaError::Cancelled),
            () = self.shutdown.cancelled() => return self.leave(&mut source).await,
            copied = self.copied(&mut source) => copied,
        };
        let Err(error) = copied else { return self.enter(RunPhase::Copied) };
        self.clean_up(&mut source).await;
        drop(source);
        match error {
            // The copy may see the stop before this does.
            VmaError::Cancelled | VmaError::Copy { source: MoverError::Cancelled, .. } => {
                self.end(RunPhase::Cancelled, None);
            }
            error => {
                tracing::error!(job_id = self.job_id(), error = &error as &dyn std::error::Error, "run failed");
                let mut problem = error.to_problem().job(self.job_id());
                // From here on bytes are written into the replica itself.
                problem.data_safe = !matches!(self.phase(), RunPhase::Copying | RunPhase::Flushing);
                self.end(RunPhase::Failed, Some(problem));
            }
        }
    }

    /// Copies; while an earlier process's part of the run is not taken over, a vCenter that is away is waited for as a hub is.
    async fn copied(&self, source: &mut Option<RunSession>) -> Result<(), VmaError> {
        let (began, mut pauses) = (Instant::now(), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE));
        loop {
            let Err(error) = cycle::copy(self, source).await else { return Ok(()) };
            let is_early = began.elapsed() < self.surroundings.config.resume_patience();
            if !is_early || !error.kind().is_transient() || !self.is_cut_off().await {
                return Err(error);
            }
            tracing::warn!(
                job_id = self.job_id(),
                error = &error as &dyn std::error::Error,
                "the run was cut off and cannot go on yet"
            );
            if let Some(open) = source.take() {
                open.leave().await;
            }
            tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    /// Leaves the run to the next process; one that has no point in time yet is stopped instead.
    async fn leave(&self, source: &mut Option<RunSession>) {
        if !self.state.lock().is_written_down && !self.is_cut_off().await {
            self.clean_up(source).await;
            return self.end(RunPhase::Cancelled, None);
        }
        let disks = self.disks.clone();
        let keeping = move || disks.iter().try_for_each(|disk| disk.keep_digests());
        if let Ok(Err(error)) = blocking("keeping the digests", keeping).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "some of the disk will be sent again");
        }
        if let Some(open) = source.take() {
            open.leave().await;
        }
        tracing::info!(job_id = self.job_id(), "the run is left where it is; it goes on when the hub asks again");
        self.left.cancel();
    }

    /// The process ends: a run that waits for the hub is left, like one that copies.
    pub(super) async fn process_ends(&self) {
        let mut source = self.source.lock().await;
        if !self.has_ended() && !self.left.is_cancelled() {
            self.leave(&mut source).await;
        }
    }

    /// Stops it and waits for its end.
    pub(super) async fn cancel(&self) {
        self.cancel.cancel();
        let mut phases = self.phases.subscribe();
        let settled = |phase: &RunPhase| {
            matches!(phase, RunPhase::Copied | RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled)
        };
        tokio::select! {
            // The sender lives as long as this run, so the wait cannot fail.
            _ = phases.wait_for(settled) => {}
            // The next process hears of it.
            () = self.left.cancelled() => return,
        }
        let mut source = self.source.lock().await;
        if !self.has_ended() && !self.left.is_cancelled() {
            self.clean_up(&mut source).await;
            self.end(RunPhase::Cancelled, None);
        }
    }

    /// Removes the vm_snapshot after the commit.
    pub(super) async fn release(&self) -> Result<(), VmaError> {
        let is_released = || match self.phase() {
            RunPhase::Copied => Ok(false),
            RunPhase::Released => Ok(true),
            other => Err(VmaError::WrongPhase { job_id: self.job_id().to_owned(), phase: phase_text(other) }),
        };
        // Looked at before waiting for a copy to end, and again after somebody else may have been first.
        is_released()?;
        let mut source = self.source.lock().await;
        if is_released()? {
            return Ok(());
        }
        if let Some(open) = source.as_mut() {
            open.remove_vm_snapshot().await?;
        }
        self.clean_up(&mut source).await;
        self.end(RunPhase::Released, None);
        Ok(())
    }

    /// Whether an earlier process left something that this one has not taken over yet.
    async fn is_cut_off(&self) -> bool {
        let is_taken_over = self.state.lock().is_written_down;
        !is_taken_over && tokio::fs::try_exists(self.folder().join(RECORD_FILE)).await.unwrap_or(false)
    }

    /// Removes what the run leaves: the vm_snapshot, the session, the digests.
    async fn clean_up(&self, source: &mut Option<RunSession>) {
        // An earlier process may have left a vm_snapshot that this one has not come to yet.
        let doubtful = self.is_cut_off().await;
        if doubtful && source.is_none() {
            *source = RunSession::open(&self.request, &self.surroundings.hotadd).await.ok();
        }
        if let Some(mut open) = source.take() {
            if doubtful {
                open.doubt();
            }
            open.close().await;
        }
        match tokio::fs::remove_dir_all(self.folder()).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, job_id = self.job_id(), "the files of the run stay");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn end(&self, phase: RunPhase, error: Option<Problem>) {
        self.pace.set_limit(None);
        {
            let mut state = self.state.lock();
            state.error = error;
            state.ended_at = Some(OffsetDateTime::now_utc());
        }
        self.enter(phase);
    }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, VmaError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| VmaError::Interrupted { doing, source })
}
