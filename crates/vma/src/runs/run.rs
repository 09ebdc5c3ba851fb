//! One run: its state as the hub sees it, and its way from the first vm_snapshot to the end of the last.

use std::path::PathBuf;
use std::sync::Arc;

use api::Problem;
use api::vma::{RunLimits, RunPhase, RunView, StartRun};
use mover::MoverError;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tunnel::JobPace;

use super::Surroundings;
use super::cycle;
use super::disk::DiskState;
use super::phase_text;
use super::session::RunSession;
use crate::error::VmaError;
use crate::wan::bytes_per_s;

/// What changes while a run goes on.
#[derive(Debug, Clone)]
struct State {
    phase: RunPhase,
    vm_snapshot: Option<String>,
    quiesced: bool,
    error: Option<Problem>,
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
    started_at: OffsetDateTime,
}

impl Run {
    pub(super) fn new(request: StartRun, surroundings: Arc<Surroundings>, cancel: CancellationToken) -> Self {
        let (pace, links) = surroundings.wan.share_of(&request);
        let disks = request.disks.iter().zip(links);
        let disks = disks.map(|(disk, link)| Arc::new(DiskState::new(disk.disk_id.clone(), link))).collect();
        let state =
            State { phase: RunPhase::Preparing, vm_snapshot: None, quiesced: false, error: None, ended_at: None };
        Self {
            request,
            surroundings,
            disks,
            pace,
            state: Mutex::new(state),
            phases: watch::Sender::new(RunPhase::Preparing),
            source: tokio::sync::Mutex::default(),
            cancel,
            started_at: OffsetDateTime::now_utc(),
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
        RunView {
            job_id: self.request.job_id.clone(),
            phase: state.phase,
            vm_snapshot: state.vm_snapshot,
            quiesced: state.quiesced,
            disks: self.disks.iter().map(|disk| disk.view()).collect(),
            error: state.error,
            started_at: self.started_at,
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

    pub(super) fn took_vm_snapshot(&self, moref: &str, quiesced: bool) {
        let mut state = self.state.lock();
        state.vm_snapshot = Some(moref.to_owned());
        state.quiesced = quiesced;
    }

    /// From start to `copied`, or to the end. Whatever happens, no vm_snapshot is left that could be removed.
    pub(super) async fn drive(&self) {
        let copied = {
            let mut source = self.source.lock().await;
            let copied = tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(VmaError::Cancelled),
                copied = cycle::copy(self, &mut source) => copied,
            };
            if copied.is_err() {
                self.clean_up(&mut source).await;
            }
            copied
        };
        match copied {
            Ok(()) => self.enter(RunPhase::Copied),
            // The copy may see the stop before this does.
            Err(VmaError::Cancelled | VmaError::Copy { source: MoverError::Cancelled, .. }) => {
                self.end(RunPhase::Cancelled, None);
            }
            Err(error) => {
                tracing::error!(job_id = self.job_id(), error = &error as &dyn std::error::Error, "run failed");
                let mut problem = error.to_problem().job(self.job_id());
                // From here on bytes are written into the replica itself.
                problem.data_safe = !matches!(self.phase(), RunPhase::Copying | RunPhase::Flushing);
                self.end(RunPhase::Failed, Some(problem));
            }
        }
    }

    /// Stops it and waits for its end.
    pub(super) async fn cancel(&self) {
        self.cancel.cancel();
        let mut phases = self.phases.subscribe();
        let settled = |phase: &RunPhase| {
            matches!(phase, RunPhase::Copied | RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled)
        };
        // The sender lives as long as this run, so the wait cannot fail.
        let _ = phases.wait_for(settled).await;
        let mut source = self.source.lock().await;
        if !self.has_ended() {
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

    /// Removes what the run leaves: the vm_snapshot, the session, the digests.
    async fn clean_up(&self, source: &mut Option<RunSession>) {
        if let Some(open) = source.take() {
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
