//! Finds unfinished jobs that nobody runs and continues them: at start, and again and again.

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::JobError;
use crate::runner::{Runner, UNFINISHED};
use crate::store::ClaimableFilter;

/// Jobs taken up in one round; the rest waits for the next.
const MAX_JOBS_PER_ROUND: u32 = 256;

impl Runner {
    /// Takes up what this instance left behind, then whatever has nobody, until `shutdown`. Then no step begins any
    /// more, running ones get the configured grace, and every job is left free for the next runner.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut rounds = tokio::time::interval(self.inner.config.sweep);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut just_started = true;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = rounds.tick() => {}
            }
            match self.recover(just_started).await {
                Ok(()) => just_started = false,
                Err(error) => warn!(error = &error as &dyn std::error::Error, "cannot look for unfinished jobs"),
            }
        }
        self.stop().await;
    }

    /// One round. With `take_own`, jobs whose unexpired lease bears this instance's name are taken too.
    async fn recover(&self, take_own: bool) -> Result<(), JobError> {
        let inner = &self.inner;
        let filter = ClaimableFilter {
            job_types: inner.sagas.keys().map(|&job_type| job_type.to_owned()).collect(),
            statuses: UNFINISHED,
            now: inner.around.clock.now(),
            also_owned_by: take_own.then(|| inner.config.owner.clone()),
            limit: MAX_JOBS_PER_ROUND,
        };
        let found = inner.around.store.claimable(&filter).await?;
        if take_own && !found.is_empty() {
            info!("{} unfinished jobs are continued", found.len());
        }
        for job_id in found {
            self.take_up(&job_id, take_own).await?;
        }
        Ok(())
    }

    /// Stops: see [`Runner::run`].
    async fn stop(&self) {
        let inner = &self.inner;
        inner.stopping.cancel();
        inner.tasks.close();
        if tokio::time::timeout(inner.config.shutdown_grace, inner.tasks.wait()).await.is_err() {
            inner.dropping.cancel();
            inner.tasks.wait().await;
        }
    }
}
