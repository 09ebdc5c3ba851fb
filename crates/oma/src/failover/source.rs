//! The source VM of a live failover: switched off, copied once more, switched on again when that is undone.

use std::time::Duration;

use api::oma::failovers::PowerOff;
use api::vma::{PowerOffRequest, PowerOnRequest, ShutdownKind, VmRequest, VmaClient};
use joblog::{StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::JobStatus;
use serde::{Deserialize, Serialize};
use store::failover_jobs::{self, Learnt};
use store::vm_replication_contexts::{self, VmContext};
use tokio::time::Instant;

use super::params::Params;
use crate::failure::failed;
use crate::inventory::vcenter;
use crate::replication::{self, Wanted};
use crate::state::OmaState;

/// How vCenter says that a VM is off.
const POWERED_OFF: &str = "poweredOff";
/// How often it is asked while a guest shuts down.
const POWER_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the power-off found and did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SwitchedOff {
    /// Whether we asked for it: only then is it undone.
    #[serde(default)]
    pub(super) by_us: bool,
}

/// Switches the source off as asked.
pub(super) async fn power_off(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    if params.request.power_off_source == PowerOff::No {
        return output(&SwitchedOff::default());
    }
    let source = Source::of(state, &params.vm_context_id).await?;
    let earlier: SwitchedOff = context.own_output()?.unwrap_or_default();
    if source.is_off().await? {
        return output(&earlier);
    }
    // Known before it is asked for, so that the undo switches on what may have been switched off.
    context.checkpoint(&SwitchedOff { by_us: true }).await?;
    tracing::info!(vm = source.vm.vm_name, "asking the guest to shut down");
    match (source.switch_off(ShutdownKind::GuestShutdown).await, params.request.power_off_source) {
        // A guest without tools cannot be asked.
        (Err(error), PowerOff::Forced) if !error.kind.is_transient() => {
            tracing::warn!(vm = source.vm.vm_name, "the guest cannot be asked: {error}");
        }
        (outcome, _) => {
            outcome?;
            let patience = Duration::from_secs(params.shutdown_seconds().into());
            match (source.until_off(context, patience).await, params.request.power_off_source) {
                (Ok(()), _) => return output(&SwitchedOff { by_us: true }),
                (Err(error), PowerOff::Forced) if error.kind == FailureKind::Exhausted => {
                    tracing::warn!(vm = source.vm.vm_name, "{error}: cutting the power");
                }
                (Err(error), _) => return Err(error),
            }
        }
    }
    source.switch_off(ShutdownKind::Hard).await?;
    source.until_off(context, Duration::from_secs(params.shutdown_seconds().into())).await?;
    output(&SwitchedOff { by_us: true })
}

/// Switches the source on again, if this failover switched it off.
pub(super) async fn undo_power_off(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    let params: Params = context.params()?;
    match context.own_output::<SwitchedOff>()? {
        Some(SwitchedOff { by_us: true }) => power_on(state, &params.vm_context_id).await,
        _ => Ok(()),
    }
}

/// Switches the source on; one that runs is left alone.
pub(super) async fn power_on(state: &OmaState, vm_context_id: &str) -> Result<(), StepError> {
    let source = Source::of(state, vm_context_id).await?;
    let request = PowerOnRequest { vcenter: source.vcenter.clone(), instance_uuid: source.vm.vmware_vm_id.clone() };
    source.agent.power_on(&source.vm.vmware_moref, &request).await.map_err(failed)?;
    tracing::info!(vm = source.vm.vm_name, "the source VM is switched on");
    Ok(())
}

/// The source VM with the way to it.
struct Source {
    vm: VmContext,
    agent: VmaClient,
    vcenter: api::vma::VcenterConnection,
}

impl Source {
    async fn of(state: &OmaState, vm_context_id: &str) -> Result<Self, StepError> {
        let vm = vm_replication_contexts::by_id(state.store(), vm_context_id).await.map_err(failed)?;
        let agent = replication::agent_of(state, &vm).map_err(failed)?;
        let vcenter = vcenter::connection(state, vm.credential_id.as_deref()).await.map_err(failed)?;
        Ok(Self { vm, agent, vcenter })
    }

    async fn is_off(&self) -> Result<bool, StepError> {
        let request = VmRequest { vcenter: self.vcenter.clone() };
        let now = self.agent.vm(&self.vm.vmware_moref, &request).await.map_err(failed)?;
        Ok(now.power_state == POWERED_OFF)
    }

    async fn switch_off(&self, how: ShutdownKind) -> Result<(), StepError> {
        let request =
            PowerOffRequest { vcenter: self.vcenter.clone(), instance_uuid: self.vm.vmware_vm_id.clone(), how };
        self.agent.power_off(&self.vm.vmware_moref, &request).await.map(|_| ()).map_err(failed)
    }

    /// Waits until the VM is off; `exhausted` when it is not in time.
    async fn until_off(&self, context: &StepContext, patience: Duration) -> Result<(), StepError> {
        let given_up_at = Instant::now() + patience;
        while !self.is_off().await? {
            if Instant::now() >= given_up_at {
                let name = &self.vm.vm_name;
                let message = format!("{name} is still on after {} s", patience.as_secs());
                return Err(StepError::new(FailureKind::Exhausted, message)
                    .remedy("shut the guest down by hand, give it more time, or allow --force-power-off"));
            }
            tokio::select! {
                () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
                () = tokio::time::sleep(POWER_LOOK_INTERVAL) => {}
            }
        }
        Ok(())
    }
}

/// The final replication.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FinalSync {
    /// Its job in the JobLog.
    tracking_id: String,
    /// `job-…`.
    replication_job_id: String,
}

/// Copies the source once more, as a job of its own, and waits for its commit.
pub(super) async fn final_sync(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    if !params.request.final_sync {
        return output(&None::<FinalSync>);
    }
    let mut known = context.own_output::<Option<FinalSync>>()?.flatten();
    if let Some(sync) = &known
        && has_failed(state, &sync.tracking_id).await?
    {
        known = None;
    }
    let sync = match known {
        Some(sync) => sync,
        None => {
            // Known before it begins, so that a repeat finds it.
            let sync = FinalSync {
                tracking_id: model::id::new_id(),
                replication_job_id: model::id::replication_job_id(context.now()),
            };
            context.checkpoint(&Some(&sync)).await?;
            sync
        }
    };
    let child = replication::Child {
        parent: context.job(),
        tracking_id: &sync.tracking_id,
        job_id: &sync.replication_job_id,
        failover_id: &params.job_id,
    };
    let wanted = Wanted { scrub: params.request.scrub, ..Wanted::default() };
    replication::start_child(state, &params.vm_context_id, wanted, &child).await.map_err(failed)?;
    let learnt = Learnt { replication_job_id: Some(sync.replication_job_id.clone()), ..Learnt::default() };
    failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
    let job = tokio::select! {
        () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
        job = state.runner().wait(&sync.tracking_id) => job.map_err(failed)?,
    };
    if job.status == JobStatus::Completed {
        return output(&Some(sync));
    }
    let why = job.error.unwrap_or_else(|| StepError::new(FailureKind::Internal, "no reason is known"));
    Err(StepError {
        message: format!("the final replication {} is {}: {}", sync.replication_job_id, job.status, why),
        ..why
    })
}

async fn has_failed(state: &OmaState, tracking_id: &str) -> Result<bool, StepError> {
    use joblog::JobStore;
    let record = state.store().load(tracking_id).await.map_err(failed)?;
    Ok(record.is_some_and(|record| matches!(record.job.status, JobStatus::Failed | JobStatus::Cancelled)))
}

/// Stops the final replication and waits until it is undone; the last commit stays what it was.
pub(super) async fn undo_final_sync(state: &OmaState, context: &StepContext) -> Result<(), StepError> {
    use joblog::JobStore;
    let Some(sync) = context.own_output::<Option<FinalSync>>()?.flatten() else { return Ok(()) };
    if state.store().load(&sync.tracking_id).await.map_err(failed)?.is_none() {
        return Ok(());
    }
    match state.runner().cancel(&sync.tracking_id).await {
        // It has ended, or is past its commit and ends by itself.
        Err(joblog::JobError::Conflict { .. }) | Ok(()) => {}
        Err(error) => return Err(failed(error)),
    }
    state.runner().wait(&sync.tracking_id).await.map(|_| ()).map_err(failed)
}
