//! Changes pursued through jobs that fail, get lost or are taken up again, against a scripted server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::scripted::{Answer, Scripted, ok};
use async_trait::async_trait;
use cloudstack::{Change, Client, CloudstackError, JobHandle, PursuitError, Trace, VmState, WaitPolicy, pursue};
use parking_lot::Mutex;

const ASK: &str = "queryAsyncJobResult";
const START: &str = "startVirtualMachine";
const LIST: &str = "listVirtualMachines";

fn quickly() -> WaitPolicy {
    WaitPolicy {
        deadline: Duration::from_secs(20),
        first_interval: Duration::from_millis(1),
        longest_interval: Duration::from_millis(5),
    }
}

fn job(status: u8, result: &str) -> Answer {
    ok(format!(r#"{{"queryasyncjobresultresponse":{{"jobresultcode":530,{result}"jobid":"j","jobstatus":{status}}}}}"#))
}

fn accepted(job_id: &str) -> Answer {
    ok(format!(r#"{{"startvirtualmachineresponse":{{"jobid":"{job_id}"}}}}"#))
}

fn vm(state: &str) -> Answer {
    ok(format!(
        r#"{{"listvirtualmachinesresponse":{{"count":1,"virtualmachine":[{{"id":"9156","state":"{state}"}}]}}}}"#
    ))
}

struct Starting<'a>(&'a Client);

#[async_trait]
impl Change for Starting<'_> {
    type Found = ();
    type Error = CloudstackError;

    async fn look(&self, _: &Trace) -> Result<Option<()>, CloudstackError> {
        Ok((self.0.virtual_machine("9156").await?.state == VmState::Running).then_some(()))
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, CloudstackError> {
        self.0.start_virtual_machine("9156").await.map(Some)
    }
}

type Outcome = Result<Trace, PursuitError<CloudstackError, &'static str>>;

/// Pursues it from a trace; answers with the outcome and everything that was kept.
async fn pursued(server: &Scripted, trace: Trace) -> (Outcome, Vec<Trace>) {
    let client = server.client();
    let kept = Mutex::new(Vec::new());
    let keep = |trace: Trace| {
        kept.lock().push(trace);
        async { Ok(()) }
    };
    let outcome = pursue(&client, quickly(), trace, &Starting(&client), keep).await;
    (outcome.map(|((), trace)| trace), kept.into_inner())
}

#[tokio::test]
async fn what_has_happened_is_not_asked_for() {
    let server = Scripted::start().await;
    server.always(LIST, vm("Running"));
    let (outcome, kept) = pursued(&server, Trace::default()).await;
    assert!(!outcome.unwrap().submitted, "somebody else had made it");
    assert_eq!((kept.len(), server.asked(START).len()), (0, 0));
}

#[tokio::test]
async fn a_list_that_lags_behind_is_not_believed_at_once() {
    let server = Scripted::start().await;
    // As it was before somebody stopped it.
    server.expect(LIST, [vm("Running"), vm("Stopped")]).always(LIST, vm("Running"));
    server.expect(START, [accepted("j1")]).always(ASK, job(1, ""));
    let (outcome, _) = pursued(&server, Trace::default()).await;
    assert!(outcome.unwrap().submitted);
    assert_eq!(server.asked(START).len(), 1);
}

#[tokio::test]
async fn the_jobs_id_is_kept_and_taken_up_again() {
    let server = Scripted::start().await;
    server.expect(LIST, [vm("Stopped")]).expect(START, [accepted("j1")]);
    server.expect(ASK, [job(0, ""), job(1, "")]).always(LIST, vm("Running"));
    let (outcome, kept) = pursued(&server, Trace::default()).await;
    assert!(outcome.unwrap().job_succeeded);
    let ids: Vec<Option<&str>> = kept.iter().map(|trace| trace.job_id.as_deref()).collect();
    assert_eq!(ids, [None, Some("j1")], "the intent first, then the job");
    assert!(kept[0].submitted);
    server.always(ASK, job(1, ""));
    pursued(&server, kept[1].clone()).await.0.unwrap();
    assert_eq!(server.asked(START).len(), 1, "whoever begins again waits for the job that is known");
}

#[tokio::test]
async fn a_failed_job_that_did_its_work_counts() {
    let server = Scripted::start().await;
    server.expect(LIST, [vm("Stopped")]).always(LIST, vm("Running")).expect(START, [accepted("j1")]);
    server.expect(ASK, [job(2, r#""jobresult":{"errorcode":530,"errortext":"Unexpected exception"},"#)]);
    let (outcome, _) = pursued(&server, Trace::default()).await;
    assert!(!outcome.unwrap().job_succeeded);
}

#[tokio::test]
async fn a_failed_job_is_forgotten_so_that_a_repeat_asks_anew() {
    let server = Scripted::start().await;
    server.always(LIST, vm("Stopped")).expect(START, [accepted("j1")]);
    server.expect(ASK, [job(2, r#""jobresult":{"errorcode":530,"errortext":"Unexpected exception"},"#)]);
    let (outcome, kept) = pursued(&server, Trace::default()).await;
    assert!(matches!(outcome, Err(PursuitError::Change(CloudstackError::JobFailed { .. }))), "{outcome:?}");
    let last = kept.last().unwrap();
    assert_eq!((last.job_id.as_deref(), last.submitted), (None, true));
}

#[tokio::test]
async fn lost_jobs_are_submitted_anew_within_bounds() {
    let server = Scripted::start().await;
    server.always(LIST, vm("Stopped")).always(START, accepted("j1")).always(ASK, job(2, ""));
    let (outcome, _) = pursued(&server, Trace::default()).await;
    assert!(matches!(outcome, Err(PursuitError::Change(CloudstackError::JobsLost { submissions: 3 }))), "{outcome:?}");
    assert_eq!(server.asked(START).len(), 3);
}

#[tokio::test]
async fn a_success_that_cannot_be_seen_is_waited_for_and_not_repeated() {
    let server = Scripted::start().await;
    server.always(LIST, vm("Stopped")).always(START, accepted("j1")).always(ASK, job(1, ""));
    let (outcome, kept) = pursued(&server, Trace::default()).await;
    let Err(PursuitError::Change(error @ CloudstackError::NotVisibleYet { .. })) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(error.kind().is_transient());
    server.always(LIST, vm("Running"));
    pursued(&server, kept.last().unwrap().clone()).await.0.unwrap();
    assert_eq!(server.asked(START).len(), 1);
}

#[tokio::test]
async fn nothing_is_asked_for_before_the_intent_is_kept() {
    let server = Scripted::start().await;
    server.always(LIST, vm("Stopped"));
    let client = server.client();
    let tried = AtomicBool::new(false);
    let keep = |_| {
        tried.store(true, Ordering::Relaxed);
        async { Err("the disk is full") }
    };
    let outcome = pursue(&client, quickly(), Trace::default(), &Starting(&client), keep).await;
    assert!(matches!(outcome, Err(PursuitError::Keep("the disk is full"))), "{:?}", outcome.err());
    assert!(tried.load(Ordering::Relaxed) && server.asked(START).is_empty());
}
