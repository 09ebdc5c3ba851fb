//! What is shown of a replication while it runs: on the board, in its row, and in its job. It decides nothing.

use std::time::Duration;

use api::ClientError;
use api::gateway::VerifyReport;
use api::oma::progress::{JobProgress, Phase};
use api::vma::RunView;
use joblog::{StepContext, StepError};
use store::replication_jobs::Progress;
use store::vm_replication_contexts::VmContext;

use super::Params;
use super::provision::ProvisionedDisk;
use crate::failure::failed;
use crate::progress::JobName;
use crate::state::OmaState;

/// How often the gateway is asked how far a verification is: what is shown is at most a second old.
const VERIFY_INTERVAL: Duration = Duration::from_millis(500);

/// What the board knows a replication by.
pub(super) fn name_of(context: &StepContext, params: &Params, vm: &VmContext) -> JobName {
    JobName {
        job_id: params.job_id.clone(),
        tracking_id: context.job_id().to_owned(),
        vm_context_id: params.vm_context_id.clone(),
        vm_name: vm.vm_name.clone(),
    }
}

/// A step begins in which nothing is counted.
pub(super) async fn enter(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    phase: Phase,
) -> Result<(), StepError> {
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    state.progress().entered(&name_of(context, params, &vm), phase, context.progress(0.0));
    Ok(())
}

/// What is seen goes into the replication's row.
pub(super) async fn write_down(
    state: &OmaState,
    params: &Params,
    run: &RunView,
    seen: &JobProgress,
    doing: &str,
) -> Result<(), StepError> {
    let (total, done) =
        seen.disks.iter().fold((0, 0), |(total, done), disk| (total + disk.copy_total, done + disk.copy_done));
    let progress = Progress {
        progress_percent: seen.percent,
        current_operation: doing.to_owned(),
        phase: doing.to_owned(),
        sync_type: None,
        bytes_transferred: seen.bytes_sent,
        total_bytes: total,
        speed_bps: seen.speed_bps,
        // The cautious end of the range, where there is room for one number.
        eta_seconds: seen.eta.map(|eta| eta.high_seconds),
        transfer_percent: share(done, total) * 100.0,
        vm_snapshot: run.vm_snapshot.clone(),
    };
    store::replication_jobs::set_progress(state.store(), &params.job_id, &progress).await.map_err(failed)?;
    Ok(())
}

/// 0 to 1; 0 of nothing.
#[allow(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn share(done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { (done as f64 / total as f64).min(1.0) }
}

/// The verification of one disk of a run.
pub(super) struct Verifying<'a> {
    pub(super) state: &'a OmaState,
    pub(super) context: &'a StepContext,
    pub(super) params: &'a Params,
    pub(super) vm: &'a VmContext,
    pub(super) run: &'a RunView,
    pub(super) disk: &'a ProvisionedDisk,
}

impl Verifying<'_> {
    /// Waits for the gateway's report and shows meanwhile how far it is.
    ///
    /// # Errors
    /// The gateway's; the job is being cancelled; the database fails.
    pub(super) async fn shown(
        &self,
        export: &str,
        request: impl Future<Output = Result<VerifyReport, ClientError>>,
    ) -> Result<VerifyReport, StepError> {
        let mut request = std::pin::pin!(request);
        loop {
            tokio::select! {
                () = self.context.cancellation().cancelled() => return Err(StepError::cancelled()),
                report = &mut request => {
                    let report = report.map_err(failed)?;
                    self.show(report.leaves_verified).await?;
                    return Ok(report);
                }
                () = tokio::time::sleep(VERIFY_INTERVAL) => {}
            }
            // Where the gateway does not say it, only the end of a disk is seen.
            if let Ok(work) = self.state.gateway().export_work(export).await {
                self.show(work.leaves_verified.unwrap_or(0)).await?;
            }
        }
    }

    async fn show(&self, leaves: u64) -> Result<(), StepError> {
        let name = name_of(self.context, self.params, self.vm);
        let board = self.state.progress();
        let seen = board.verified(&name, &self.disk.disk_id, leaves, |share| self.context.progress(share));
        write_down(self.state, self.params, self.run, &seen, Phase::Verifying.word()).await
    }
}
