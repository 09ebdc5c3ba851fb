//! Server-sent events: live, filtered, and resumed.

use std::sync::Arc;
use std::time::Duration;

use api::oma::progress::Phase;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use joblog::{EVENTS_CAPACITY, JobEvent, JobStore, LogEventRow, NewJob, NewLogEvent};
use model::status::LogLevel;
use oma::progress::JobName;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::hub::{Hub, REMOTE, begin, request};
use crate::jobs::hub_with_job;

/// What the API promises, doubled for slow machines.
const AT_MOST: Duration = Duration::from_secs(2);

/// Reads events of an open stream.
struct Reader {
    body: Incoming,
    text: String,
}

/// One event.
#[derive(Debug)]
struct Heard {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Reader {
    async fn open(hub: &Hub, path: &str, last_event_id: Option<i64>) -> Self {
        let mut request = request(Method::GET, path, Some(&hub.token), None);
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", id.into());
        }
        let response = begin(hub.public(REMOTE).await, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    async fn next(&mut self) -> Heard {
        timeout(AT_MOST, self.read()).await.expect("an event comes within a second")
    }

    /// Waits for the stream's end.
    async fn end(mut self) {
        timeout(AT_MOST, async { while self.body.frame().await.is_some() {} }).await.expect("the stream ends");
    }

    async fn read(&mut self) -> Heard {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
                if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                    return Heard { name, id: field("id:"), data: serde_json::from_str(&data).unwrap() };
                }
                continue;
            }
            let frame = self.body.frame().await.expect("the stream goes on").unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next event of a kind.
    async fn next_of(&mut self, name: &str) -> Heard {
        loop {
            let heard = self.next().await;
            if heard.name == name {
                return heard;
            }
        }
    }
}

/// Logs a line for a job the way the log's writer does.
async fn log(hub: &Hub, job_id: &str, message: &str) -> i64 {
    let event = NewLogEvent {
        job_id: Some(job_id.to_owned()),
        step_id: None,
        step: None,
        level: LogLevel::Info,
        message: message.to_owned(),
        attrs: json!({}),
        at: OffsetDateTime::now_utc(),
    };
    let id = hub.state.store().append_log(std::slice::from_ref(&event)).await.unwrap()[0];
    let NewLogEvent { job_id, step_id, step, level, message, attrs, at } = event;
    let row = LogEventRow { id, job_id, step_id, step, level, message, attrs, at };
    hub.events.publish(JobEvent::Log(Arc::new(row)));
    id
}

#[tokio::test]
async fn jobs_and_lines_are_heard_as_they_happen() {
    let (hub, signals, id) = hub_with_job().await;
    let mut reader = Reader::open(&hub, "/api/v1/events?job=job-1", None).await;
    let line_id = log(&hub, &id, "hello").await;
    let line = reader.next_of("log").await;
    assert_eq!((line.id.as_deref(), &line.data["message"]), (Some(line_id.to_string().as_str()), &json!("hello")));
    signals.go_on.notify_one();
    loop {
        let heard = reader.next_of("job").await;
        assert_eq!((&heard.data["event"], &heard.data["id"]), (&json!("job"), &json!(id)));
        if heard.data["status"] == "needs_operator" {
            break;
        }
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_listener_that_comes_back_misses_no_line_and_hears_none_twice() {
    let (hub, _signals, id) = hub_with_job().await;
    let first = log(&hub, &id, "one").await;
    log(&hub, &id, "two").await;
    let mut reader = Reader::open(&hub, "/api/v1/events", Some(first)).await;
    assert_eq!(reader.next_of("log").await.data["message"], "two");
    log(&hub, &id, "three").await;
    assert_eq!(reader.next_of("log").await.data["message"], "three");

    let path = format!("/api/v1/jobs/{id}/log?after={first}&limit=1");
    let page = hub.ask(Method::GET, &path, None).await.expect(StatusCode::OK);
    assert_eq!(page["items"][0]["message"], "two");
    assert_eq!(page["next_cursor"], json!(page["items"][0]["id"].to_string()));
    hub.stop().await;
}

#[tokio::test]
async fn other_jobs_are_not_heard_through_a_filter() {
    let (hub, _signals, id) = hub_with_job().await;
    let other = NewJob::new("example", "another", &()).unwrap();
    let mut reader = Reader::open(&hub, &format!("/api/v1/events?job={id}"), None).await;
    let other = hub.runner().start(other).await.unwrap();
    log(&hub, &other, "not for you").await;
    log(&hub, &id, "for you").await;
    loop {
        let heard = reader.next().await;
        if heard.name == "log" {
            assert_eq!(heard.data["message"], "for you");
            break;
        }
        assert_eq!(heard.data["id"], json!(id));
    }
    let unknown = hub.ask(Method::GET, "/api/v1/events?job=none", None).await;
    unknown.problem(StatusCode::NOT_FOUND);
    tokio::join!(hub.stop(), reader.end());
}

#[tokio::test]
async fn progress_is_told_within_a_second_and_only_its_latest_state_to_whoever_comes_late() {
    let (hub, _signals, id) = hub_with_job().await;
    let name = JobName {
        job_id: "job-1".to_owned(),
        tracking_id: id.clone(),
        vm_context_id: "c".to_owned(),
        vm_name: "web1".to_owned(),
    };
    let of_another = JobName { job_id: "job-2".to_owned(), tracking_id: "nobody".to_owned(), ..name.clone() };
    for percent in 0..2000 {
        hub.state.progress().entered(&name, Phase::Preparing, f64::from(percent) / 100.0);
    }
    let mut reader = Reader::open(&hub, "/api/v1/jobs/job-1/events", None).await;
    let first = reader.next().await;
    assert_eq!((first.name.as_str(), &first.data["id"]), ("job", &json!(id)), "first how the job stands");
    assert_eq!(reader.next_of("progress").await.data["percent"], json!(19.99));
    hub.state.progress().entered(&of_another, Phase::Copying, 1.0);
    hub.state.progress().entered(&name, Phase::Snapshotting, 20.0);
    let told = reader.next_of("progress").await;
    let told_at = OffsetDateTime::now_utc();
    assert_eq!((&told.data["phase"], &told.data["job_id"]), (&json!("snapshotting"), &json!("job-1")));
    let seen_at = OffsetDateTime::parse(told.data["at"].as_str().unwrap(), &Rfc3339).unwrap();
    assert!(told_at - seen_at < Duration::from_secs(1), "seen at {seen_at}, told at {told_at}");
    hub.ask(Method::GET, "/api/v1/jobs/none/events", None).await.problem(StatusCode::NOT_FOUND);
    let stranger = request(Method::GET, "/api/v1/jobs/job-1/events", None, None);
    assert_eq!(begin(hub.public(REMOTE).await, stranger).await.status(), StatusCode::UNAUTHORIZED);
    hub.stop().await;
}

#[tokio::test]
async fn a_listener_that_fell_behind_reads_the_lines_it_missed_and_how_jobs_stand() {
    const LINES: usize = EVENTS_CAPACITY + 500;
    let (hub, _signals, id) = hub_with_job().await;
    let mut reader = Reader::open(&hub, &format!("/api/v1/events?job={id}"), None).await;
    log(&hub, &id, "the first").await;
    reader.next_of("log").await;
    let mut rows = Vec::with_capacity(LINES);
    for number in 0..LINES {
        let event = NewLogEvent {
            job_id: Some(id.clone()),
            step_id: None,
            step: None,
            level: LogLevel::Info,
            message: number.to_string(),
            attrs: json!({}),
            at: OffsetDateTime::now_utc(),
        };
        rows.push(event);
    }
    let mut ids = Vec::with_capacity(LINES);
    for batch in rows.chunks(128) {
        ids.extend(hub.state.store().append_log(batch).await.unwrap());
    }
    // Told at once: nobody can keep up with that.
    for (event, line_id) in rows.into_iter().zip(ids) {
        let NewLogEvent { job_id, step_id, step, level, message, attrs, at } = event;
        let row = LogEventRow { id: line_id, job_id, step_id, step, level, message, attrs, at };
        hub.events.publish(JobEvent::Log(Arc::new(row)));
    }
    let mut is_told_of_the_job = false;
    for number in 0..LINES {
        loop {
            let heard = reader.next().await;
            if heard.name == "log" {
                assert_eq!(heard.data["message"], json!(number.to_string()), "no line is missed or heard twice");
                break;
            }
            is_told_of_the_job |= heard.name == "job" && heard.data["id"] == json!(id);
        }
    }
    assert!(is_told_of_the_job);
    hub.stop().await;
}
