//! Marks enrolments that nobody approved in time as expired. Takes no input: it looks at the rows again and again.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::state::OmaState;

/// Between two looks. Nothing waits for it: an enrolment past its time is refused at once, whatever its status says.
const INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps until `shutdown`.
pub async fn run(state: OmaState, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match store::vma_enrollments::expire_abandoned(state.store(), OffsetDateTime::now_utc()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "enrolments expired"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "enrolments cannot be swept");
            }
        }
    }
}
