//! The steps of a live failover: the source is switched off and copied once more, then the replica becomes the VM.
//!
//! `switch` is the pivot: one transaction. Before it everything is undone; after it the steps only go forward, and the
//! way back is a rollback of its own.

use joblog::{RetryPolicy, Saga, Step, StepContext, StepResult, output};
use model::status::{ContextStatus, FailoverStatus};
use serde_json::json;
use store::failover_jobs::{self, Standing};

use super::params::Params;
use super::{finish, source, steps};
use crate::failure::failed;
use crate::state::OmaState;

/// The saga.
pub static LIVE: Saga<OmaState> = Saga {
    job_type: "failover_live",
    steps: &[
        steps::VALIDATE,
        Step::undoable(
            "power_off_source",
            |state, context| Box::pin(source::power_off(state, context)),
            |state, context| Box::pin(source::undo_power_off(state, context)),
        )
        .with_weight(3),
        Step::undoable(
            "final_sync",
            |state, context| Box::pin(source::final_sync(state, context)),
            |state, context| Box::pin(source::undo_final_sync(state, context)),
        )
        .with_weight(8),
        steps::SNAPSHOT,
        steps::APPLY,
        steps::CONVERT,
        steps::CREATE_VM,
        steps::DISCARD_ROOT,
        Step::pivot("switch", |state, context| Box::pin(switch(state, context))),
        Step::retried("discard_points", |state, context| Box::pin(steps::discard_points(state, context))),
        Step::retried("detach", |state, context| Box::pin(steps::detach(state, context))),
        Step::retried("attach", |state, context| Box::pin(steps::attach(state, context))),
        Step::retried("power_on", |state, context| Box::pin(steps::power_on(state, context))).with_weight(2),
        Step::retried("probe", |state, context| Box::pin(steps::probes(state, context)))
            .with_retry(RetryPolicy::ONCE)
            .with_weight(4),
        Step::retried("settle", |state, context| Box::pin(settle(state, context))),
    ],
    finished: |state, view| Box::pin(finish::of_failover(state, view)),
};

/// The point of no return: from here on the volumes belong to the new VM.
async fn switch(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    steps::set_status(state, &params, FailoverStatus::SwitchingVolume, "the volumes change hands").await?;
    output(&())
}

/// Says that the VM lives in the target cloud now; not a moment earlier.
async fn settle(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let to = Standing {
        status: FailoverStatus::Completed,
        context: ContextStatus::FailedOverLive,
        doing: "the VM runs in the target cloud",
        summary: json!({ "operation": "failover_live", "job_id": params.job_id, "outcome": "completed" }),
    };
    failover_jobs::settle(state.store(), &params.job_id, &to, Some(context.lease())).await.map_err(failed)?;
    output(&())
}
