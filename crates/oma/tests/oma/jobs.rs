//! The queue of jobs as operators see and steer it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use hyper::{Method, StatusCode};
use joblog::{JobStore, JobView, NewJob, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::JobStatus;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::hub::Hub;

/// What the test's sagas share with the test.
#[derive(Default)]
pub struct Signals {
    pub go_on: Notify,
    undone: AtomicU32,
    ends: Mutex<Vec<JobStatus>>,
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

fn finished<'a>(signals: &'a Signals, job: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async {
        signals.ends.lock().push(job.outcome);
        Ok(())
    })
}

fn prepare<'a>(_: &'a Signals, _: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(async { output(&json!({ "made": "a thing" })) })
}

fn take_away<'a>(signals: &'a Signals, _: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async {
        signals.undone.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
}

fn unknown<'a>(_: &'a Signals, _: &'a StepContext) -> BoxFuture<'a, StepResult> {
    Box::pin(async { Err(StepError::new(FailureKind::Internal, "the answer was lost")) })
}

/// Ends at a pivot whose outcome nobody knows.
static UNSURE: Saga<Signals> = Saga {
    job_type: "unsure",
    steps: &[Step::undoable("prepare", prepare, take_away), Step::pivot("switch", unknown)],
    finished,
};

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

/// A hub with a job whose pivot failed in a way that says nothing, and its id.
async fn hub_with_unsure_job() -> (Hub, Arc<Signals>, String) {
    let signals = Arc::new(Signals::default());
    let context = signals.clone();
    let hub =
        Hub::start_with(move |builder, _| builder.register(&UNSURE, context.clone())?.register(&EXAMPLE, context))
            .await;
    let job = NewJob::new("unsure", "an unsure example", &()).unwrap().external_id("job-2");
    let id = hub.runner().start(job).await.unwrap();
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    (hub, signals, id)
}

#[tokio::test]
async fn a_job_with_an_unknown_pivot_is_turned_back_on_the_operators_word() {
    let (hub, signals, id) = hub_with_unsure_job().await;
    assert_eq!(signals.undone.load(Ordering::Relaxed), 0, "it undoes nothing by itself");
    hub.ask(Method::POST, "/api/v1/jobs/job-2/turn-back", None).await.expect(StatusCode::OK);
    let ended = hub.runner().wait(&id).await.unwrap();
    assert_eq!(ended.status, JobStatus::Failed);
    assert_eq!(ended.error.unwrap().message, "the answer was lost");
    let detail = hub.ask(Method::GET, "/api/v1/jobs/job-2", None).await.expect(StatusCode::OK);
    assert_eq!((&detail["steps"][0]["status"], &detail["steps"][1]["status"]), (&json!("undone"), &json!("skipped")));
    assert_eq!(signals.undone.load(Ordering::Relaxed), 1);
    let again = hub.ask(Method::POST, "/api/v1/jobs/job-2/turn-back", None).await.problem(StatusCode::CONFLICT);
    assert!(again["detail"].as_str().unwrap().contains("it is failed"), "{again}");
    hub.ask(Method::POST, "/api/v1/jobs/none/turn-back", None).await.problem(StatusCode::NOT_FOUND);
    hub.stop().await;
}

#[tokio::test]
async fn an_abandoned_job_ends_as_failed_and_stays_as_it_is() {
    let (hub, signals, id) = hub_with_unsure_job().await;
    let view = hub.ask(Method::POST, "/api/v1/jobs/job-2/abandon", None).await.expect(StatusCode::OK);
    assert_eq!((&view["status"], &view["id"]), (&json!("failed"), &json!(id)));
    assert!(view["completed_at"].is_string() && view["error"]["detail"] == "the answer was lost", "{view}");
    assert_eq!(signals.undone.load(Ordering::Relaxed), 0, "nothing is undone");
    assert_eq!(*signals.ends.lock(), [JobStatus::NeedsOperator, JobStatus::Failed], "the domain is told");
    for verb in ["abandon", "retry", "turn-back", "cancel"] {
        hub.ask(Method::POST, &format!("/api/v1/jobs/job-2/{verb}"), None).await.problem(StatusCode::CONFLICT);
    }
    hub.ask(Method::POST, "/api/v1/jobs/none/abandon", None).await.problem(StatusCode::NOT_FOUND);
    hub.stop().await;
}

#[tokio::test]
async fn a_job_that_can_go_on_by_itself_or_by_a_retry_is_not_turned_back() {
    let (hub, signals, id) = hub_with_job().await;
    for verb in ["turn-back", "abandon"] {
        let refused = hub.ask(Method::POST, &format!("/api/v1/jobs/{id}/{verb}"), None).await;
        let problem = refused.problem(StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("does not wait for an operator"), "{problem}");
    }
    signals.go_on.notify_one();
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::NeedsOperator);
    let refused = hub.ask(Method::POST, &format!("/api/v1/jobs/{id}/turn-back"), None).await;
    let problem = refused.problem(StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("retry or abandon"), "{problem}");
    // The refusal left it as it was.
    hub.ask(Method::POST, &format!("/api/v1/jobs/{id}/retry"), None).await.expect(StatusCode::OK);
    assert_eq!(hub.runner().wait(&id).await.unwrap().status, JobStatus::Completed);
    hub.stop().await;
}

#[tokio::test]
async fn a_job_shows_its_parts_in_the_order_they_were_made() {
    let (hub, _signals, id) = hub_with_unsure_job().await;
    let parent = hub.state.store().load(&id).await.unwrap().unwrap().job;
    for name in ["job-3", "job-4"] {
        let part = NewJob::new("unsure", name, &()).unwrap().external_id(name).child_of(&parent);
        hub.runner().start(part).await.unwrap();
    }
    let detail = hub.ask(Method::GET, "/api/v1/jobs/job-2", None).await.expect(StatusCode::OK);
    let parts: Vec<_> = detail["children"].as_array().unwrap().iter().map(|part| &part["external_job_id"]).collect();
    assert_eq!(parts, ["job-3", "job-4"]);
    let part = hub.ask(Method::GET, "/api/v1/jobs/job-4", None).await.expect(StatusCode::OK);
    assert_eq!((&part["job"]["parent_job_id"], &part["children"]), (&json!(id), &json!([])));
    hub.stop().await;
}
