//! The `tracing` layer that copies events inside a job's spans into the job log. It never waits: what does not fit
//! into its queue is counted. What the events say, secrets included, is their authors' concern.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::status::LogLevel;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::log_writer::LogWriter;
use crate::store::NewLogEvent;

/// Events that may wait for the store: some seconds of the busiest hub, at most 40 MiB.
pub const LOG_QUEUE_CAPACITY: usize = 4096;
/// Longest message, or text of a field, in bytes; the rest is cut off.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Most fields of an event.
pub const MAX_FIELDS: usize = 32;

/// Fields of spans that say where an event belongs.
const JOB_ID: &str = "job_id";
const STEP_ID: &str = "step_id";
const STEP: &str = "step";

/// Routes events inside a span with a `job_id` field (and `step_id`, `step`) into the job log.
pub struct LogLayer {
    queue: mpsc::Sender<NewLogEvent>,
    dropped: Arc<AtomicU64>,
    most_verbose: Level,
}

impl LogLayer {
    /// The layer, for events up to this level of detail, and the writer that stores what it collects. The writer may
    /// begin later; until then events wait in the queue.
    #[must_use]
    pub fn new(most_verbose: Level) -> (Self, LogWriter) {
        let (queue, events) = mpsc::channel(LOG_QUEUE_CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        (Self { queue, dropped: dropped.clone(), most_verbose }, LogWriter::new(events, dropped))
    }
}

impl LogLayer {
    /// The layer with its level as a filter of its own, in the form in which a process adds it to its subscriber: what
    /// only others want to see costs it nothing, and what only it wants to see is made.
    #[must_use]
    pub fn boxed(self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let filter = LevelFilter::from_level(self.most_verbose);
        Layer::boxed(self.with_filter(filter))
    }
}

/// What a span says about where its events belong.
#[derive(Debug, Clone, Default)]
struct Place {
    job_id: Option<String>,
    step_id: Option<String>,
    step: Option<String>,
}

impl Place {
    fn set(&mut self, field: &str, text: String) {
        match field {
            JOB_ID => self.job_id = Some(text),
            STEP_ID => self.step_id = Some(text),
            STEP => self.step = Some(text),
            _ => {}
        }
    }
}

impl Visit for Place {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), JOB_ID | STEP_ID | STEP) {
            self.set(field.name(), bounded(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.to_owned());
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut place = Place::default();
        attributes.record(&mut place);
        let Some(span) = context.span(id) else { return };
        // A span inside a step belongs to that step.
        let outer = span.parent().and_then(|parent| parent.extensions().get::<Place>().cloned());
        if let Some(outer) = outer {
            let same_job = place.job_id.is_none() || place.job_id == outer.job_id;
            place.job_id = place.job_id.or(outer.job_id);
            if same_job {
                place.step_id = place.step_id.or(outer.step_id);
                place.step = place.step.or(outer.step);
            }
        }
        if place.job_id.is_some() {
            span.extensions_mut().insert(place);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > self.most_verbose {
            return;
        }
        let place = context.event_span(event).and_then(|span| span.extensions().get::<Place>().cloned());
        let mut content = Content::default();
        event.record(&mut content);
        // An event may name its job itself, outside of any span.
        let Some(job_id) = content.job_id.or_else(|| place.as_ref()?.job_id.clone()) else { return };
        let place = place.filter(|place| place.job_id.as_deref() == Some(&job_id)).unwrap_or_default();
        let new = NewLogEvent {
            job_id: Some(job_id),
            step_id: place.step_id,
            step: place.step,
            level: stored_level(level),
            message: content.message,
            attrs: Value::Object(content.fields),
            at: OffsetDateTime::now_utc(),
        };
        if self.queue.try_send(new).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn stored_level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// The fields of an event.
#[derive(Default)]
struct Content {
    message: String,
    job_id: Option<String>,
    fields: Map<String, Value>,
}

impl Content {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (JOB_ID, Value::String(text)) => self.job_id = Some(text),
            // Added by `tracing-log` for records of the `log` crate; they repeat the metadata.
            (name, _) if name.starts_with("log.") => {}
            (name, value) if self.fields.len() < MAX_FIELDS => {
                self.fields.insert(name.to_owned(), value);
            }
            _ => {}
        }
    }
}

impl Visit for Content {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(bounded(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(bounded(value.to_owned())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let chain: Vec<String> =
            std::iter::successors(Some(value), |error| error.source()).map(ToString::to_string).collect();
        self.put(field, Value::String(bounded(chain.join(": "))));
    }
}

/// Cuts a text at [`MAX_TEXT_BYTES`], at a character's end.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}
