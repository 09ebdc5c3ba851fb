//! Watching tasks: by notification, by polling, over the end of a session, and to the end of patience.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use vsphere::{MoRef, Task, VmSnapshotSpec, VsphereError};

use crate::server::{Reply, Server, object};

fn info(inner: &str) -> Reply {
    let info = format!("<propSet><name>info</name><val xsi:type=\"TaskInfo\"><key>task-1</key>{inner}</val></propSet>");
    Reply::Ok(format!("<returnval>{}</returnval>", object("Task", "task-1", &info)))
}

fn notify(method: &str) -> Reply {
    match method {
        "CreatePropertyCollector" => {
            Reply::Ok("<returnval type=\"PropertyCollector\">session[1]p</returnval>".to_owned())
        }
        "CreateFilter" => Reply::Ok("<returnval type=\"PropertyFilter\">session[1]f</returnval>".to_owned()),
        "WaitForUpdatesEx" => Reply::Ok("<returnval><version>1</version></returnval>".to_owned()),
        _ => Reply::Ok("<returnval type=\"Task\">task-1</returnval>".to_owned()),
    }
}

const DONE: &str = "<state>success</state><result type=\"VirtualMachineSnapshot\" xsi:type=\"ManagedObjectReference\">snapshot-7</result>";

fn task() -> Task {
    Task { moref: MoRef::task("task-1"), doing: "CreateSnapshot_Task" }
}

#[tokio::test]
async fn a_task_is_followed_to_its_result() {
    let looks = AtomicUsize::new(0);
    let server = Server::start(move |call| match call.method.as_str() {
        "RetrievePropertiesEx" => match looks.fetch_add(1, Ordering::SeqCst) {
            0 => info("<state>queued</state>"),
            1 | 2 => info("<state>running</state><progress>40</progress>"),
            _ => info(DONE),
        },
        method => notify(method),
    })
    .await;
    let session = server.session().await;
    let spec = VmSnapshotSpec { name: "n".to_owned(), description: "d".to_owned(), quiesce: true };
    let made = session.create_vm_snapshot(&MoRef::vm("vm-1"), &spec).await.unwrap();
    assert_eq!(made, MoRef::vm_snapshot("snapshot-7"));
    let waits: Vec<_> = server.calls().into_iter().filter(|call| call.method == "WaitForUpdatesEx").collect();
    assert!(waits[0].has("<version></version>") && waits[1].has("<version>1</version>"), "{waits:?}");
    assert!(waits[0].has("type=\"PropertyCollector\">session[1]p<"), "the wait is on the private collector");
    assert_eq!(server.count("DestroyPropertyCollector"), 1);
}

#[tokio::test]
async fn a_failed_task_tells_its_fault_and_progress_is_heard() {
    let looks = AtomicUsize::new(0);
    let server = Server::start(move |call| match call.method.as_str() {
        "RetrievePropertiesEx" => match looks.fetch_add(1, Ordering::SeqCst) {
            0 => info("<state>running</state><progress>10</progress>"),
            1 => info("<state>running</state><progress>90</progress>"),
            _ => info(
                "<state>error</state><error><fault xsi:type=\"ApplicationQuiesceFault\"/><localizedMessage>VSS</localizedMessage></error>",
            ),
        },
        method => notify(method),
    })
    .await;
    let heard = Mutex::new(Vec::new());
    let ended = server.session().await.wait_for_task(&task(), |percent| heard.lock().unwrap().push(percent)).await;
    let error = ended.unwrap_err();
    assert!(error.fault().unwrap().is_quiesce_failure() && error.remedy().is_some(), "{error}");
    assert_eq!(*heard.lock().unwrap(), [10, 90]);
}

#[tokio::test]
async fn a_server_that_cannot_notify_is_polled() {
    let looks = AtomicUsize::new(0);
    let server = Server::start(move |call| match call.method.as_str() {
        "RetrievePropertiesEx" if looks.fetch_add(1, Ordering::SeqCst) == 0 => info("<state>running</state>"),
        "RetrievePropertiesEx" => info("<state>success</state>"),
        _ => Reply::Fault("MethodNotFound"),
    })
    .await;
    let outcome = server.session().await.wait_for_task(&task(), |_| {}).await.unwrap();
    assert_eq!((outcome.result, server.count("CreatePropertyCollector")), (None, 1));
}

#[tokio::test]
async fn the_end_of_the_session_does_not_end_the_wait() {
    let looks = AtomicUsize::new(0);
    let waits = AtomicUsize::new(0);
    let server = Server::start(move |call| match call.method.as_str() {
        "RetrievePropertiesEx" if looks.fetch_add(1, Ordering::SeqCst) < 2 => info("<state>running</state>"),
        "RetrievePropertiesEx" => info("<state>success</state>"),
        "WaitForUpdatesEx" if waits.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Fault("NotAuthenticated"),
        method => notify(method),
    })
    .await;
    server.session().await.wait_for_task(&task(), |_| {}).await.unwrap();
    assert_eq!((server.logins(), server.count("CreatePropertyCollector")), (2, 2));
}

#[tokio::test]
async fn a_task_that_stands_still_is_given_up_with_its_id() {
    let server = Server::start(|call| match call.method.as_str() {
        "RetrievePropertiesEx" => info("<state>running</state><progress>95</progress>"),
        method => notify(method),
    })
    .await;
    let session = server.session().await;
    let error = session.wait_for_task_within(&task(), Duration::from_millis(150), |_| {}).await.unwrap_err();
    match error {
        VsphereError::TaskStalled { task, progress_percent: 95, .. } => assert_eq!(task, "task-1"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn removing_a_vm_snapshot_that_is_gone_is_done() {
    let server = Server::start(|_| Reply::Fault("ManagedObjectNotFound")).await;
    let session = server.session().await;
    session.remove_vm_snapshot(&MoRef::vm_snapshot("snapshot-1")).await.unwrap();
    assert!(session.start_vm_snapshot_removal(&MoRef::vm_snapshot("snapshot-1")).await.is_err());
}
