//! `/events` and `/jobs/{id}/events`: what happens to jobs, as server-sent events. Resumable: the id of an event is that
//! of its log line.
//!
//! A listener that falls behind is told how jobs stand by then, and reads the lines it missed from the log: of a state
//! only the latest is worth telling, and nothing is queued for it without bounds.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::Problem;
use api::extract::{Path, Query};
use api::oma::events::{EventQuery, HubEvent};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use joblog::{JobEvent, JobFilter, JobRow, JobStore, LogFilter, MAX_PAGE_LOG_EVENTS};
use model::FailureKind;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::error::OmaError;
use crate::http::{job_view, jobs};
use crate::replication;
use crate::state::OmaState;

/// Listeners at once: each holds a queue's reader and reads rows for what it hears.
const MAX_LISTENERS: usize = 256;
/// Longest silence on the stream; proxies cut what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Jobs a listener that fell behind is told of.
const MAX_CAUGHT_UP_JOBS: u32 = 100;
/// Jobs whose facts a listener remembers.
const MAX_KNOWN_JOBS: usize = 1024;
/// The header browsers send when they come back (HTML living standard, "server-sent events").
const LAST_EVENT_ID: &str = "last-event-id";

/// How many listeners there may be; part of the shared state.
pub(crate) struct Listeners(Arc<Semaphore>);

impl Default for Listeners {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LISTENERS)))
    }
}

impl Listeners {
    fn enter(&self) -> Result<OwnedSemaphorePermit, OmaError> {
        let full = |_| {
            let remedy = "close other listeners (consoles, scripts) and try again";
            Problem::new(FailureKind::Exhausted, format!("{MAX_LISTENERS} listeners are connected already"))
                .remedy(remedy)
        };
        Ok(Arc::clone(&self.0).try_acquire_owned().map_err(full)?)
    }
}

/// Job changes, progress and log lines as they happen; with `Last-Event-ID`, first the lines after that one.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "jobs",
    params(
        EventQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last log line received")
    ),
    responses(
        (status = 200, body = HubEvent, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)
    )
)]
pub async fn stream(
    State(state): State<OmaState>,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, OmaError> {
    Listener::begin(state, query, &headers).await
}

/// The same of one job and what was begun for it: first how it stands, then every change.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/events",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "Id in the job log, or the id of the replication or failover"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last log line received")
    ),
    responses(
        (status = 200, body = HubEvent, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)
    )
)]
pub async fn stream_of_job(
    State(state): State<OmaState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, OmaError> {
    Listener::begin(state, EventQuery { vm: None, job: Some(id) }, &headers).await
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, OmaError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong = || OmaError::Invalid { what: "Last-Event-ID", reason: "is not the number of a log line".to_owned() };
    id.map(Some).ok_or_else(wrong)
}

/// What a listener wants to hear of.
#[derive(Debug, Default)]
struct Filter {
    job_id: Option<String>,
    vm_context_id: Option<String>,
}

/// What of a job decides whether somebody wants to hear of it.
#[derive(Debug, Clone)]
struct Facts {
    id: String,
    root_job_id: String,
    vm_context_id: Option<String>,
}

impl From<&JobRow> for Facts {
    fn from(row: &JobRow) -> Self {
        Self { id: row.id.clone(), root_job_id: row.root_job_id.clone(), vm_context_id: row.vm_context_id.clone() }
    }
}

impl Filter {
    fn is_open(&self) -> bool {
        self.job_id.is_none() && self.vm_context_id.is_none()
    }

    /// A job is heard of together with everything that was begun for it.
    fn wants(&self, job: &Facts) -> bool {
        let right_job = self.job_id.as_ref().is_none_or(|id| *id == job.id || *id == job.root_job_id);
        let right_vm = self.vm_context_id.as_ref().is_none_or(|vm| job.vm_context_id.as_ref() == Some(vm));
        right_job && right_vm
    }
}

struct Listener {
    state: OmaState,
    heard: broadcast::Receiver<JobEvent>,
    filter: Filter,
    /// The newest line that was looked at.
    last_log_id: i64,
    /// Lines before what is heard live are still being read.
    replaying: bool,
    known: HashMap<String, Facts>,
    pending: VecDeque<HubEvent>,
    /// Progress changed since it was told.
    progressed: watch::Receiver<u64>,
    /// The version of the progress that was told.
    told_version: u64,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn begin(
        state: OmaState,
        query: EventQuery,
        headers: &HeaderMap,
    ) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, OmaError> {
        let place = state.listeners().enter()?;
        // Heard from here on: what happens while the rows are read is told after them.
        let (heard, mut progressed) = (state.runner().subscribe(), state.progress().changes());
        progressed.mark_changed();
        let last_id = last_event_id(headers)?;
        let job = match &query.job {
            Some(id) => Some(jobs::find(&state, id).await?.job),
            None => None,
        };
        let pending = job.iter().map(|row| HubEvent::Job(Box::new(job_view::job(row)))).collect();
        let listener = Self {
            filter: Filter { job_id: job.map(|row| row.id), vm_context_id: query.vm },
            last_log_id: last_id.unwrap_or(0),
            replaying: last_id.is_some(),
            known: HashMap::new(),
            pending,
            progressed,
            told_version: 0,
            state,
            heard,
            _place: place,
        };
        let events = futures::stream::unfold(listener, Self::next);
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
    }

    /// The next event; none when the store failed or the process stops: the listener comes back and replays.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(encode(&event)), self));
            }
            let outcome = if self.replaying { self.replay().await } else { self.hear().await };
            match outcome {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "an event listener is cut off");
                    return None;
                }
            }
        }
    }

    /// Reads one page of lines that were logged before.
    async fn replay(&mut self) -> Result<bool, OmaError> {
        let filter = LogFilter { job_id: None, after: self.last_log_id, limit: MAX_PAGE_LOG_EVENTS };
        let rows = self.state.store().log_after(&filter).await?;
        self.replaying = u32::try_from(rows.len()).is_ok_and(|count| count >= MAX_PAGE_LOG_EVENTS);
        for row in rows {
            self.last_log_id = row.id;
            if self.wants(row.job_id.as_deref()).await? {
                self.pending.push_back(HubEvent::Log(job_view::log_event(&row)));
            }
        }
        Ok(true)
    }

    /// Waits for what happens next.
    async fn hear(&mut self) -> Result<bool, OmaError> {
        let heard = tokio::select! {
            heard = self.heard.recv() => heard,
            Ok(()) = self.progressed.changed() => return self.tell_progress().await.map(|()| true),
            () = self.state.stopping().cancelled() => return Ok(false),
        };
        let event = match heard {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => return self.catch_up().await.map(|()| true),
            Err(RecvError::Closed) => return Ok(false),
        };
        match event {
            JobEvent::Job(row) => {
                if self.filter.wants(&Facts::from(&*row)) {
                    self.pending.push_back(HubEvent::Job(Box::new(job_view::job(&row))));
                }
            }
            JobEvent::Step(row) => self.tell_of_job(&row.job_id, None).await?,
            JobEvent::Progress { job_id, percent_complete } => {
                self.tell_of_job(&job_id, Some(percent_complete)).await?;
            }
            JobEvent::Log(row) if row.id <= self.last_log_id => {}
            JobEvent::Log(row) => {
                self.last_log_id = row.id;
                if self.wants(row.job_id.as_deref()).await? {
                    self.pending.push_back(HubEvent::Log(job_view::log_event(&row)));
                }
            }
        }
        Ok(true)
    }

    /// The latest of every replication that moved on.
    async fn tell_progress(&mut self) -> Result<(), OmaError> {
        let (version, moved) = self.state.progress().since(self.told_version);
        self.told_version = version;
        for progress in moved {
            if self.wants(Some(&progress.tracking_id)).await? {
                self.pending.push_back(HubEvent::Progress(Box::new(progress)));
            }
        }
        Ok(())
    }

    /// After it fell behind: how the newest jobs stand, and every line it missed.
    async fn catch_up(&mut self) -> Result<(), OmaError> {
        self.replaying = self.last_log_id > 0;
        let filter = JobFilter { limit: MAX_CAUGHT_UP_JOBS, ..JobFilter::default() };
        for row in self.state.store().list_jobs(&filter).await?.jobs.iter().rev() {
            if self.filter.wants(&Facts::from(row)) {
                self.pending.push_back(HubEvent::Job(Box::new(job_view::job(row))));
            }
        }
        Ok(())
    }

    async fn tell_of_job(&mut self, job_id: &str, percent_complete: Option<f64>) -> Result<(), OmaError> {
        if !self.wants(Some(job_id)).await? {
            return Ok(());
        }
        if let Some(mut record) = self.state.store().load(job_id).await? {
            record.job.percent_complete = percent_complete.unwrap_or(record.job.percent_complete);
            self.pending.push_back(HubEvent::Job(Box::new(job_view::job(&record.job))));
            if let Some(view) = replication::view_of_job(&self.state, &record.job).await? {
                self.pending.push_back(HubEvent::Replication(Box::new(view)));
            }
        }
        Ok(())
    }

    async fn wants(&mut self, job_id: Option<&str>) -> Result<bool, OmaError> {
        if self.filter.is_open() {
            return Ok(true);
        }
        let Some(job_id) = job_id else { return Ok(false) };
        if let Some(facts) = self.known.get(job_id) {
            return Ok(self.filter.wants(facts));
        }
        let Some(record) = self.state.store().load(job_id).await? else { return Ok(false) };
        let facts = Facts::from(&record.job);
        let wanted = self.filter.wants(&facts);
        if self.known.len() >= MAX_KNOWN_JOBS {
            self.known.clear();
        }
        self.known.insert(job_id.to_owned(), facts);
        Ok(wanted)
    }
}

fn encode(event: &HubEvent) -> Event {
    let (name, id) = match event {
        HubEvent::Job(_) => ("job", None),
        HubEvent::Replication(_) => ("replication", None),
        HubEvent::Progress(_) => ("progress", None),
        HubEvent::Log(line) => ("log", Some(line.id)),
    };
    let encoded = Event::default().event(name).json_data(event);
    let encoded = encoded.unwrap_or_else(|_| Event::default().comment("an event that has no JSON form"));
    match id {
        Some(id) => encoded.id(id.to_string()),
        None => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, root: &str, vm: Option<&str>) -> Facts {
        Facts { id: id.into(), root_job_id: root.into(), vm_context_id: vm.map(str::to_owned) }
    }

    #[test]
    fn a_filter_takes_a_job_with_its_children_and_nothing_of_other_vms() {
        let by_job = Filter { job_id: Some("a".into()), vm_context_id: None };
        assert!(by_job.wants(&job("a", "a", None)));
        assert!(by_job.wants(&job("b", "a", None)));
        assert!(!by_job.wants(&job("b", "b", None)));
        let by_vm = Filter { job_id: None, vm_context_id: Some("vm".into()) };
        assert!(by_vm.wants(&job("a", "a", Some("vm"))));
        assert!(!by_vm.wants(&job("a", "a", None)));
        assert!(Filter::default().is_open() && Filter::default().wants(&job("a", "a", None)));
    }

    #[test]
    fn the_last_id_is_a_number_or_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers).unwrap(), None);
        headers.insert(LAST_EVENT_ID, "42".parse().unwrap());
        assert_eq!(last_event_id(&headers).unwrap(), Some(42));
        headers.insert(LAST_EVENT_ID, "x".parse().unwrap());
        assert!(last_event_id(&headers).is_err());
    }
}
