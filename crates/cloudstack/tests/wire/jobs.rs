//! Waiting for asynchronous jobs against a scripted server.

use std::time::Duration;

use crate::scripted::{Answer, Scripted, ok, refusal, silence, status};
use cloudstack::{CloudstackError, RefusalClass, VirtualMachine, VmState, WaitPolicy};
use model::FailureKind;

const ASK: &str = "queryAsyncJobResult";

fn quickly() -> WaitPolicy {
    WaitPolicy {
        deadline: Duration::from_secs(20),
        first_interval: Duration::from_millis(1),
        longest_interval: Duration::from_millis(5),
    }
}

fn pending() -> Answer {
    ok(r#"{"queryasyncjobresultresponse":{"accountid":"27ef","cmd":"x","jobprocstatus":0,"jobresultcode":0,
        "jobinstancetype":"VirtualMachine","jobinstanceid":"9156","created":"2026-01-02T03:04:05+0000","jobid":"j",
        "jobstatus":0}}"#)
}

fn done() -> Answer {
    ok(r#"{"queryasyncjobresultresponse":{"jobprocstatus":0,"jobresultcode":0,"jobresulttype":"object","jobresult":
        {"virtualmachine":{"id":"9156","name":"shell","state":"Stopped","nic":[],"jobid":"j","jobstatus":0}},
        "jobinstanceid":"9156","completed":"2026-01-02T03:04:09+0000","jobid":"j","jobstatus":1}}"#)
}

fn failed(result: &str) -> Answer {
    ok(format!(
        r#"{{"queryasyncjobresultresponse":{{"jobprocstatus":0,"jobresultcode":530,{result}"jobid":"j","jobstatus":2}}}}"#
    ))
}

#[tokio::test]
async fn a_job_is_asked_about_until_it_ends_also_through_a_restart_of_the_server() {
    let server = Scripted::start().await;
    let down = status(503, "");
    // Three attempts make one question.
    server.expect(ASK, [pending(), down.clone(), down.clone(), down, pending(), done()]);
    let mut seen = Vec::new();
    let success = server
        .client()
        .wait_observed("j", quickly(), &mut |progress| seen.push((progress.polls, progress.trouble.is_some())))
        .await
        .unwrap();
    assert_eq!(seen, [(1, false), (2, true), (3, false)]);
    let vm: VirtualMachine = success.entity("virtualmachine").unwrap();
    assert_eq!((vm.id.as_str(), vm.state), ("9156", VmState::Stopped));
    assert!(success.entity::<VirtualMachine>("volume").is_err());
    assert!(server.asked(ASK).iter().all(|asked| asked.params["jobid"] == "j" && asked.method == "GET"));
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let server = Scripted::start().await;
    let result = r#""jobresulttype":"object","jobresult":{"errorcode":431,
        "errortext":"Please specify a volume that is not attached to any VM."},"#;
    server.expect(ASK, [failed(result)]);
    let error = server.client().wait("j", quickly()).await.unwrap_err();
    assert_eq!((error.kind(), error.refusal_class()), (FailureKind::Conflict, Some(RefusalClass::Attached)));
}

#[tokio::test]
async fn a_job_without_a_result_and_a_purged_one_leave_the_outcome_open() {
    let server = Scripted::start().await;
    server.expect(ASK, [failed("")]);
    let lost = server.client().wait("j", quickly()).await.unwrap_err();
    assert!(matches!(lost, CloudstackError::JobLost { code: 530, .. }), "{lost}");
    let text = "Unable to execute API command queryasyncjobresult due to invalid value. Invalid parameter jobid \
        value=j due to incorrect long value format, or entity does not exist or due to incorrect parameter annotation \
        for the field in api cmd class.";
    server.expect(ASK, [refusal(431, Some(9999), text)]);
    let purged = server.client().wait("j", quickly()).await.unwrap_err();
    assert!(matches!(purged, CloudstackError::JobForgotten { .. }), "{purged}");
    assert!(lost.is_outcome_unknown() && purged.is_outcome_unknown());
}

#[tokio::test]
async fn waiting_ends_at_the_deadline_and_can_be_taken_up_again() {
    let server = Scripted::start().await;
    server.always(ASK, pending());
    let hasty = WaitPolicy { deadline: Duration::from_millis(20), ..quickly() };
    let error = server.client().wait("j", hasty).await.unwrap_err();
    assert!(matches!(error, CloudstackError::JobPending { .. }) && error.kind().is_transient(), "{error}");
    server.always(ASK, done());
    assert_eq!(server.client().wait("j", hasty).await.unwrap().entity_id.as_deref(), Some("9156"));
}

#[tokio::test]
async fn a_server_that_stays_silent_does_not_hold_a_wait_past_its_deadline() {
    let server = Scripted::start().await;
    server.always(ASK, silence());
    let error = server.client().wait("j", WaitPolicy { deadline: Duration::ZERO, ..quickly() }).await.unwrap_err();
    let CloudstackError::JobPending { waited, .. } = error else { panic!("{error}") };
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let server = Scripted::start().await;
    server.always(ASK, pending());
    let client = server.client();
    let (asked, was_asked) = tokio::sync::oneshot::channel();
    let mut asked = Some(asked);
    let waiting = tokio::spawn(async move {
        let mut observe = |_: &cloudstack::JobProgress| {
            let _ = asked.take().map(|sender| sender.send(()));
        };
        client.wait_observed("j", quickly(), &mut observe).await
    });
    was_asked.await.unwrap();
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    server.always(ASK, done());
    server.client().wait("j", quickly()).await.unwrap();
}

#[tokio::test]
async fn a_question_refused_for_good_ends_the_wait() {
    let server = Scripted::start().await;
    server.always(ASK, refusal(531, Some(4365), "Acct does not have permission to operate with resource"));
    let error = server.client().wait("j", quickly()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Forbidden);
    assert_eq!(server.asked(ASK).len(), 1);
}
