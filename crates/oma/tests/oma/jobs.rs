//! The queue of jobs as operators see and steer it.

use std::sync::Arc;

use futures::future::BoxFuture;
use hyper::{Method, StatusCode};
use joblog::{JobView, NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::JobStatus;
use serde_json::json;
use tokio::sync::Notify;

use crate::hub::Hub;

/// What the test's saga shares with the test.
#[derive(Default)]
pub struct Signals {
    pub go_on: Notify,
}

fn wait<'a>(signals: &'a Signals, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(async move {
        tokio::select! {
            () = signals.go_on.notified() => output(&json!({ "waited": true })),
            () = context.cancellation().cancelled() => Err(StepError::cancelled()),
        }
    })
}

fn fail_once<'a>(_: &'a Signals, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(async move {
        match context.attempt() {
            1 => Err(StepError::new(FailureKind::Invalid, "no room").remedy("make room")),
            _ => output(&()),
        }
    })
}

fn finished<'a>(_: &'a Signals, _: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async { Ok(()) })
}

/// Waits for a signal, then fails until an operator retries.
pub static EXAMPLE: Saga<Signals> =
    Saga { job_type: "example", steps: &[Step::check("wait", wait), Step::retried("tidy", fail_once)], finished };

/// A hub that runs the saga, and a job of it.
pub async fn hub_with_job() -> (Hub, Arc<Signals>, String) {
    let signals = Arc::new(Signals::default());
    let context = signals.clone();
    let hub = Hub::start_with(move |builder, _| builder.register(&EXAMPLE, context)).await;
    let job = NewJob::new("example", "an example", &()).unwrap().external_id("job-1");
    let id = hub.runner().start(job).await.unwrap();
    (hub, signals, id)
}

#[tokio::test]
async fn a_job_is_found_by_both_ids_and_retried_after_it_failed() {
    let (hub, signals, id) = hub_with_job().await;
    signals.go_on.notify_one();
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    let page = hub.ask(Method::GET, "/api/v1/jobs?status=needs_operator&type=example", None).await;
    assert_eq!(page.expect(StatusCode::OK)["items"][0]["id"], json!(id));
    let none = hub.ask(Method::GET, "/api/v1/jobs?status=completed", None).await.expect(StatusCode::OK);
    assert_eq!(none["items"], json!([]));

    for name in [&id, "job-1"] {
        let detail = hub.ask(Method::GET, &format!("/api/v1/jobs/{name}"), None).await.expect(StatusCode::OK);
        assert_eq!(detail["steps"][0]["output"], json!({ "waited": true }));
        let error = &detail["steps"][1]["error"];
        assert_eq!((&error["detail"], &error["remedy"]), (&json!("no room"), &json!("make room")));
        assert_eq!(error["job_id"], "job-1");
    }
    hub.ask(Method::POST, "/api/v1/jobs/job-1/retry", None).await.expect(StatusCode::OK);
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::Completed);
    hub.ask(Method::POST, "/api/v1/jobs/job-1/retry", None).await.problem(StatusCode::CONFLICT);
    hub.ask(Method::GET, "/api/v1/jobs/none", None).await.problem(StatusCode::NOT_FOUND);
    hub.stop().await;
}

#[tokio::test]
async fn a_running_job_is_cancelled() {
    let (hub, _signals, id) = hub_with_job().await;
    hub.ask(Method::POST, "/api/v1/jobs/job-1/cancel", None).await.expect(StatusCode::OK);
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::Cancelled);
    hub.stop().await;
}
