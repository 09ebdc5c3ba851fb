//! Stores what the `tracing` layer collects, in batches, and tells listeners. Knows nothing of jobs but their ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::status::LogLevel;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::JobError;
use crate::events::{Events, JobEvent};
use crate::store::{JobStore, LogEventRow, NewLogEvent};

/// Most events in one insert: a transaction of at most 1.3 MiB.
pub const MAX_BATCH_EVENTS: usize = 128;
/// How often a batch is offered to a store that cannot be reached before it is counted as lost.
const MAX_OFFERS: u32 = 20;
/// Pause between two offers: with [`MAX_OFFERS`], ten seconds of outage are outlasted.
const OFFER_PAUSE: Duration = Duration::from_millis(500);

/// Takes events from the layer's queue to the store.
pub struct LogWriter {
    queue: mpsc::Receiver<NewLogEvent>,
    lost: Arc<AtomicU64>,
}

impl LogWriter {
    pub(crate) fn new(queue: mpsc::Receiver<NewLogEvent>, lost: Arc<AtomicU64>) -> Self {
        Self { queue, lost }
    }

    /// Stores events until `shutdown`, then what is still queued. To be awaited outside of any job's span, so that
    /// what the store logs about it is not logged into the store again.
    pub async fn run(mut self, store: Arc<dyn JobStore>, events: Events, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(MAX_BATCH_EVENTS);
        loop {
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
                received = self.queue.recv_many(&mut batch, MAX_BATCH_EVENTS) => received,
            };
            self.store_all(&*store, &events, std::mem::take(&mut batch), &shutdown).await;
            if received == 0 {
                return;
            }
        }
    }

    async fn store_all(
        &self,
        store: &dyn JobStore,
        events: &Events,
        mut batch: Vec<NewLogEvent>,
        shutdown: &CancellationToken,
    ) {
        batch.extend(self.take_losses());
        if batch.is_empty() {
            return;
        }
        match offer(store, &batch, shutdown).await {
            Ok(ids) => publish(events, batch, &ids),
            Err(error) if error.kind().is_transient() => self.count_lost(&batch),
            Err(_) => self.store_singly(store, events, batch).await,
        }
    }

    /// One event (of a job deleted meanwhile) must not take the others with it.
    async fn store_singly(&self, store: &dyn JobStore, events: &Events, batch: Vec<NewLogEvent>) {
        for event in batch {
            let event = vec![event];
            match store.append_log(&event).await {
                Ok(ids) => publish(events, event, &ids),
                Err(_) => self.count_lost(&event),
            }
        }
    }

    fn count_lost(&self, batch: &[NewLogEvent]) {
        // A lost report of losses still stands for as many events as it reported.
        let lost: u64 = batch.iter().map(|event| event.attrs[LOST].as_u64().unwrap_or(1)).sum();
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// One warning for everything that was lost since the last one.
    fn take_losses(&self) -> Option<NewLogEvent> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        (lost > 0).then(|| NewLogEvent {
            job_id: None,
            step_id: None,
            step: None,
            level: LogLevel::Warn,
            message: format!("{lost} log events of jobs were lost: the log is written faster than it can be stored"),
            attrs: json!({ LOST: lost }),
            at: OffsetDateTime::now_utc(),
        })
    }
}

/// Field with the number of lost events.
const LOST: &str = "lost_events";

async fn offer(
    store: &dyn JobStore,
    batch: &[NewLogEvent],
    shutdown: &CancellationToken,
) -> Result<Vec<i64>, JobError> {
    let mut offers = 1;
    loop {
        match store.append_log(batch).await {
            Err(error) if error.kind().is_transient() && offers < MAX_OFFERS && !shutdown.is_cancelled() => {
                offers += 1;
                tokio::time::sleep(OFFER_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

fn publish(events: &Events, batch: Vec<NewLogEvent>, ids: &[i64]) {
    for (event, &id) in batch.into_iter().zip(ids) {
        let NewLogEvent { job_id, step_id, step, level, message, attrs, at } = event;
        let row = LogEventRow { id, job_id, step_id, step, level, message, attrs, at };
        events.publish(JobEvent::Log(Arc::new(row)));
    }
}

#[cfg(test)]
mod tests;
