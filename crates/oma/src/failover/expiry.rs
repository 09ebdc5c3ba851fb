//! Tests end by themselves when their time is over: looked at again and again, from the rows alone.

use std::time::Duration;

use store::{Timestamp, failover_jobs};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::start::cleanup;
use crate::state::OmaState;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Begins the cleanup of every test whose time is over, until `shutdown`.
pub(crate) async fn run(state: OmaState, shutdown: CancellationToken) {
    let mut rounds = tokio::time::interval(LOOK_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let expired = match failover_jobs::expired(state.store(), Timestamp::now()).await {
            Ok(expired) => expired,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for expired tests");
                continue;
            }
        };
        for row in expired {
            match cleanup(&state, &row.job_id).await {
                Ok(accepted) => {
                    tracing::info!(failover = row.job_id, job = accepted.tracking_id, "the test's time is over")
                }
                // Somebody works on the VM: the next look tries again.
                Err(error) => tracing::debug!(failover = row.job_id, %error, "the test cannot be put back yet"),
            }
        }
    }
}
