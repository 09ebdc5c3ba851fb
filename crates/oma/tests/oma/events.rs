//! Server-sent events: live, filtered, and resumed.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use joblog::{JobEvent, JobStore, LogEventRow, NewJob, NewLogEvent};
use model::status::LogLevel;
use serde_json::{Value, json};
use time::OffsetDateTime;
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
