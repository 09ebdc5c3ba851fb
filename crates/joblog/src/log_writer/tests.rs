//! From `tracing` to the store: what arrives, where it belongs, and what happens when the store cannot keep up.

use super::*;
use crate::layer::{LOG_QUEUE_CAPACITY, LogLayer, MAX_TEXT_BYTES};
use crate::store::{
    ClaimRequest, ClaimableFilter, Heartbeat, JobFilter, JobPage, JobRecord, JobRow, JobWrite, Lease, LogFilter,
    StepRow,
};
use async_trait::async_trait;
use model::FailureKind;
use parking_lot::Mutex;
use serde_json::Value;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;

/// A store that only keeps logs: refuses events of the job `deleted`, and everything while `outages` lasts.
#[derive(Default)]
struct Log {
    kept: Mutex<Vec<NewLogEvent>>,
    outages: Mutex<u32>,
}

fn refused(kind: FailureKind) -> JobError {
    JobError::Store { doing: "append to the log", kind, source: "refused".into() }
}

#[async_trait]
impl JobStore for Log {
    async fn append_log(&self, events: &[NewLogEvent]) -> Result<Vec<i64>, JobError> {
        let mut outages = self.outages.lock();
        if *outages > 0 {
            *outages -= 1;
            return Err(refused(FailureKind::Unavailable));
        }
        if events.iter().any(|event| event.job_id.as_deref() == Some("deleted")) {
            return Err(refused(FailureKind::Internal));
        }
        let mut kept = self.kept.lock();
        let first = kept.len() as i64 + 1;
        kept.extend_from_slice(events);
        Ok((first..=kept.len() as i64).collect())
    }
    async fn create(&self, _: &JobRow, _: &[StepRow]) -> Result<(), JobError> {
        unimplemented!()
    }
    async fn load(&self, _: &str) -> Result<Option<JobRecord>, JobError> {
        unimplemented!()
    }
    async fn claim(&self, _: &ClaimRequest) -> Result<Option<JobRecord>, JobError> {
        unimplemented!()
    }
    async fn claimable(&self, _: &ClaimableFilter) -> Result<Vec<String>, JobError> {
        unimplemented!()
    }
    async fn heartbeat(&self, _: &Lease, _: OffsetDateTime) -> Result<Heartbeat, JobError> {
        unimplemented!()
    }
    async fn save(&self, _: &Lease, _: &JobWrite, _: Option<&StepRow>) -> Result<(), JobError> {
        unimplemented!()
    }
    async fn save_progress(&self, _: &Lease, _: f64) -> Result<(), JobError> {
        unimplemented!()
    }
    async fn request_cancel(&self, _: &str, _: OffsetDateTime) -> Result<JobRow, JobError> {
        unimplemented!()
    }
    async fn list_jobs(&self, _: &JobFilter) -> Result<JobPage, JobError> {
        unimplemented!()
    }
    async fn log_after(&self, _: &LogFilter) -> Result<Vec<LogEventRow>, JobError> {
        unimplemented!()
    }
}

/// Collects what `emit` logs and stores it all.
async fn stored(log: Arc<Log>, emit: impl FnOnce()) -> Vec<NewLogEvent> {
    let (layer, writer) = LogLayer::new(Level::INFO);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.boxed()), emit);
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    writer.run(log.clone(), Events::default(), shutdown).await;
    let kept = log.kept.lock();
    kept.clone()
}

#[tokio::test]
async fn events_are_routed_by_the_spans_around_them() {
    let kept = stored(Arc::default(), || {
        tracing::info!("nobody's");
        let step = tracing::info_span!("step", job_id = %"j1", step_id = %"s1", step = "copy").entered();
        tracing::warn!(bytes = 7_u64, path = "/dev/x", "slow");
        tracing::debug!("too detailed");
        let inner = tracing::info_span!("read", disk = 1).entered();
        tracing::info!("inside");
        drop((inner, step));
        tracing::error!(job_id = "j2", "named by itself");
        let _other = tracing::info_span!("job", job_id = "j3").entered();
        tracing::info!("without a step");
    })
    .await;
    let seen: Vec<_> = kept
        .iter()
        .map(|event| (event.job_id.as_deref(), event.step_id.as_deref(), event.step.as_deref(), event.message.as_str()))
        .collect();
    let copy = (Some("j1"), Some("s1"), Some("copy"));
    let expected = [
        (copy.0, copy.1, copy.2, "slow"),
        (copy.0, copy.1, copy.2, "inside"),
        (Some("j2"), None, None, "named by itself"),
        (Some("j3"), None, None, "without a step"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(kept[0].level, LogLevel::Warn);
    assert_eq!(kept[0].attrs, json!({ "bytes": 7, "path": "/dev/x" }));
}

#[tokio::test]
async fn a_child_job_s_span_inside_a_step_is_its_own() {
    let kept = stored(Arc::default(), || {
        let _step = tracing::info_span!("step", job_id = "parent", step_id = "s1").entered();
        let _child = tracing::info_span!("job", job_id = "child").entered();
        tracing::info!("x");
    })
    .await;
    assert_eq!((kept[0].job_id.as_deref(), &kept[0].step_id), (Some("child"), &None));
}

#[tokio::test]
async fn long_texts_are_cut_at_a_character() {
    let kept = stored(Arc::default(), || {
        tracing::info!(job_id = "j", text = "ä".repeat(MAX_TEXT_BYTES), "x{}", "ö".repeat(MAX_TEXT_BYTES));
    })
    .await;
    let message = &kept[0].message;
    assert!(message.len() <= MAX_TEXT_BYTES + '…'.len_utf8() && message.ends_with("ö…"), "{}", message.len());
    assert!(kept[0].attrs["text"].as_str().unwrap().ends_with("ä…"));
}

#[tokio::test]
async fn what_does_not_fit_is_counted_in_one_warning() {
    let kept = stored(Arc::default(), || {
        for number in 0..LOG_QUEUE_CAPACITY + 5 {
            tracing::info!(job_id = "j", number, "again");
        }
    })
    .await;
    let warnings: Vec<&NewLogEvent> = kept.iter().filter(|event| event.job_id.is_none()).collect();
    assert_eq!((kept.len(), warnings.len()), (LOG_QUEUE_CAPACITY + 1, 1));
    assert_eq!((warnings[0].level, &warnings[0].attrs), (LogLevel::Warn, &json!({ LOST: 5 })));
    let numbers = kept.iter().filter_map(|event| event.attrs["number"].as_u64());
    assert!(numbers.eq(0..LOG_QUEUE_CAPACITY as u64), "in order");
}

#[tokio::test]
async fn an_event_of_a_deleted_job_takes_no_other_with_it() {
    let kept = stored(Arc::default(), || {
        for job_id in ["a", "deleted", "b"] {
            tracing::info!(job_id, "x");
        }
    })
    .await;
    let jobs: Vec<_> = kept.iter().map(|event| event.job_id.as_deref()).collect();
    assert_eq!(jobs, [Some("a"), Some("b"), None], "and the loss is said");
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_loses_nothing_and_a_long_one_is_counted() {
    for (outages, expected) in [(3, json!({})), (MAX_OFFERS, json!({ LOST: 1 }))] {
        let log = Arc::new(Log { outages: Mutex::new(outages), ..Log::default() });
        let (layer, writer) = LogLayer::new(Level::INFO);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || tracing::info!(job_id = "j", "x"));
        let (events, shutdown) = (Events::default(), CancellationToken::new());
        let mut heard = events.subscribe();
        let writing = tokio::spawn(writer.run(log.clone(), events, shutdown.clone()));
        while *log.outages.lock() > 0 {
            tokio::time::sleep(OFFER_PAUSE).await;
        }
        shutdown.cancel();
        writing.await.unwrap();
        let kept = log.kept.lock().clone();
        assert_eq!(kept.iter().map(|event| &event.attrs).collect::<Vec<&Value>>(), [&expected]);
        let JobEvent::Log(row) = heard.recv().await.unwrap() else { panic!("not a log event") };
        assert_eq!((row.id, &row.attrs), (1, &expected), "listeners hear what is stored, with its id");
    }
}
