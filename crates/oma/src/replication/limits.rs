//! How much a run may send: what it was started with, and what operators say of its agent meanwhile.

use api::vma::{RunLimits, VmaClient};
use joblog::StepError;
use store::vm_replication_contexts::VmContext;

use super::Params;
use crate::agents::limits;
use crate::failure::failed;
use crate::state::OmaState;

/// The limits of a run now.
pub(super) async fn limits_of(state: &OmaState, params: &Params, vm: &VmContext) -> Result<RunLimits, StepError> {
    let enrollment_id = match &vm.enrollment_id {
        Some(id) => Some(id.clone()),
        None => state.agents().only_connected().ok().map(|(id, _)| id),
    };
    let agent_limits = match enrollment_id {
        Some(id) => limits::of(state.store(), &id).await.map_err(failed)?,
        None => Vec::new(),
    };
    Ok(RunLimits { limit_mib_per_s: params.limit_mib_per_s, agent_limits })
}

/// What the agent of a run was told last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<RunLimits>);

impl Told {
    /// Tells the agent what is new. One that does not hear it now is told at the next look.
    pub(super) async fn keep_current(
        &mut self,
        state: &OmaState,
        agent: &VmaClient,
        params: &Params,
        vm: &VmContext,
    ) -> Result<(), StepError> {
        let now = limits_of(state, params, vm).await?;
        if self.0.as_ref() == Some(&now) {
            return Ok(());
        }
        match agent.limit_run(&params.job_id, &now).await {
            Ok(_) => self.0 = Some(now),
            Err(error) => tracing::debug!(%error, "the agent was not told its limits"),
        }
        Ok(())
    }
}
