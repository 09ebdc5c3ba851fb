//! The steps of a test failover: the replica is booted in isolation. Everything can be undone until the very end, which
//! is one transaction; afterwards `cleanup` puts the replica back.

use joblog::{RetryPolicy, Saga, Step, StepContext, StepResult, output};
use model::status::{ContextStatus, FailoverStatus};
use serde_json::json;
use store::failover_jobs::{self, Learnt, Standing};
use time::Duration;

use super::params::Params;
use super::{finish, steps};
use crate::failure::failed;
use crate::state::OmaState;

/// The saga.
pub static TEST: Saga<OmaState> = Saga {
    job_type: "failover_test",
    steps: &[
        steps::VALIDATE,
        steps::SNAPSHOT,
        steps::APPLY,
        steps::CONVERT,
        steps::CREATE_VM,
        steps::DISCARD_ROOT,
        Step::undoable(
            "detach",
            |state, context| Box::pin(steps::detach(state, context)),
            |state, context| Box::pin(steps::undo_detach(state, context)),
        ),
        Step::undoable(
            "attach",
            |state, context| Box::pin(steps::attach(state, context)),
            |state, context| Box::pin(steps::undo_attach(state, context)),
        ),
        Step::undoable(
            "power_on",
            |state, context| Box::pin(steps::power_on(state, context)),
            |state, context| Box::pin(steps::undo_power_on(state, context)),
        )
        .with_weight(2),
        Step::check("probe", |state, context| Box::pin(steps::probes(state, context)))
            .with_retry(RetryPolicy::ONCE)
            .with_weight(4),
        Step::pivot("settle", |state, context| Box::pin(settle(state, context))),
    ],
    finished: |state, view| Box::pin(finish::of_failover(state, view)),
};

/// The one point of no return: the test stands, until it is cleaned up.
async fn settle(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    if let Some(seconds) = params.request.test_duration_seconds {
        let row = failover_jobs::by_id(state.store(), &params.job_id).await.map_err(failed)?;
        // A repeat does not give it more time.
        if row.expires_at.is_none() {
            let lasts = Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
            let ends = context.now().checked_add(lasts).map(store::Timestamp::from);
            let learnt = Learnt { expires_at: ends, ..Learnt::default() };
            failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)?;
        }
    }
    let to = Standing {
        status: FailoverStatus::Completed,
        context: ContextStatus::FailedOverTest,
        doing: "the test VM runs",
        summary: json!({ "operation": "failover_test", "job_id": params.job_id, "outcome": "completed" }),
    };
    failover_jobs::settle(state.store(), &params.job_id, &to, Some(context.lease())).await.map_err(failed)?;
    output(&())
}
