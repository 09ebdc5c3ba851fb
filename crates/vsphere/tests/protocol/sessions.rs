//! Logging in, staying logged in, and what is repeated when the session is gone.

use model::{FailureKind, Secret};
use vsphere::{ConnectionSpec, MoRef, PowerState, VimSession, VmSnapshotSpec, VsphereError};

use crate::server::{Reply, Server, object, prop, status};

fn powered_on() -> Reply {
    let on = object("VirtualMachine", "vm-1", &prop("runtime.powerState", "poweredOn"));
    Reply::Ok(format!("<returnval>{on}</returnval>"))
}

fn spec() -> VmSnapshotSpec {
    VmSnapshotSpec { name: "migratekit-1".to_owned(), description: String::new(), quiesce: false }
}

#[tokio::test]
async fn a_session_knows_its_server_and_sends_the_cookie_as_it_was_set() {
    let server = Server::start(|_| Reply::Ok("<returnval>2024-01-01T00:00:00Z</returnval>".to_owned())).await;
    let session = server.session().await;
    assert!(session.about().is_vcenter());
    assert_eq!(session.about().instance_uuid.as_deref(), Some("uu-id"));
    assert_eq!(session.host(), "127.0.0.1");
    session.keep_alive().await.unwrap();
    assert_eq!(server.calls()[0].cookie, "vmware_soap_session=\"52 1;a%b\"");
    assert_eq!(session.cookie().unwrap().expose(), "vmware_soap_session=\"52 1;a%b\"");
    session.log_out().await.unwrap();
    session.log_out().await.unwrap();
    let error = session.keep_alive().await.unwrap_err();
    assert_eq!((error.kind(), server.logins()), (FailureKind::Unauthenticated, 1), "logged out means logged out");
}

#[tokio::test]
async fn an_ended_session_is_renewed_and_the_call_repeated() {
    let server = Server::start(|call| match call.method.as_str() {
        "RetrievePropertiesEx" => powered_on(),
        _ => Reply::Ok(String::new()),
    })
    .await;
    let session = server.session().await;
    server.expire();
    session.keep_alive().await.unwrap();
    assert_eq!(server.logins(), 2, "a fault tells that the session is gone");
    server.expire();
    assert_eq!(session.power_state(&MoRef::vm("vm-1")).await.unwrap(), PowerState::PoweredOn);
    assert_eq!(server.logins(), 3, "so does a missing property");
    server.expire();
    let vm = MoRef::vm("vm-1");
    let (a, b, c) = tokio::join!(session.power_state(&vm), session.power_state(&vm), session.power_state(&vm));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(server.logins(), 4, "all who wait share one login");
}

#[tokio::test]
async fn a_vm_snapshot_is_never_asked_for_twice() {
    let server = Server::start(|_| Reply::Ok("<returnval type=\"Task\">task-1</returnval>".to_owned())).await;
    let session = server.session().await;
    server.expire();
    let error = session.start_vm_snapshot(&MoRef::vm("vm-1"), &spec()).await.unwrap_err();
    assert!(matches!(error, VsphereError::SessionExpired { doing: "CreateSnapshot_Task" }), "{error}");
    assert!(error.kind().is_transient());
    assert_eq!((server.count("CreateSnapshot_Task"), server.logins()), (0, 2));
    let task = session.start_vm_snapshot(&MoRef::vm("vm-1"), &spec()).await.unwrap();
    assert_eq!((task.moref.id(), server.count("CreateSnapshot_Task")), ("task-1", 1));
}

#[tokio::test]
async fn wrong_credentials_are_said_and_not_tried_again() {
    let server = Server::start(|_| Reply::Ok(String::new())).await;
    let wrong = ConnectionSpec { password: Secret::new("wrong"), ..server.spec() };
    let error = VimSession::connect(wrong).await.unwrap_err();
    assert!(matches!(error, VsphereError::WrongCredentials { .. }), "{error}");
    assert!(error.remedy().is_some() && !error.to_string().contains("wrong"));
    assert_eq!((error.kind(), server.logins()), (FailureKind::Unauthenticated, 1));
}

#[tokio::test]
async fn answers_that_are_no_soap_are_typed() {
    let server = Server::start(|call| match call.method.as_str() {
        "CurrentTime" => Reply::Http(status(200, "<html>maintenance</html>")),
        "ShutdownGuest" => Reply::Http(status(503, "busy")),
        "PowerOnVM_Task" => Reply::Http(status(500, "not xml")),
        "PowerOffVM_Task" => Reply::Ok(String::new()),
        _ => Reply::Fault("NoPermission"),
    })
    .await;
    let session = server.session().await;
    let vm = MoRef::vm("vm-1");
    assert!(matches!(session.keep_alive().await, Err(VsphereError::Malformed { .. })));
    let busy = session.shut_down_guest(&vm).await.unwrap_err();
    assert!(matches!(busy, VsphereError::HttpStatus { status: 503, .. }) && busy.kind().is_transient());
    assert!(matches!(session.start_power_on(&vm).await, Err(VsphereError::HttpStatus { status: 500, .. })));
    assert!(matches!(session.start_power_off(&vm).await, Err(VsphereError::Unexpected { .. })));
    let refused = session.power_state(&vm).await.unwrap_err();
    assert_eq!((refused.kind(), refused.fault().unwrap().type_name.as_str()), (FailureKind::Forbidden, "NoPermission"));
    assert!(refused.remedy().is_some());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let spec = ConnectionSpec {
        url: format!("http://{address}"),
        username: "u".to_owned(),
        password: Secret::new("p"),
        trust: vsphere::Trust::SystemRoots,
    };
    let error = VimSession::connect(spec).await.unwrap_err();
    assert!(matches!(error, VsphereError::Connect { .. }) && error.kind().is_transient(), "{error}");
}
