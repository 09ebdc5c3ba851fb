//! What a `TaskInfo` means, and the order of the requests that watch it.

use super::*;
use crate::soap::parse;

fn info(inner: &str) -> TaskState {
    let text = format!(
        r#"<val xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="TaskInfo"><key>task-74</key>{inner}</val>"#
    );
    read_info(&parse(text.as_bytes()).unwrap())
}

#[test]
fn every_state_is_told_apart() {
    let pending = |progress_percent, state: &str| TaskState::Pending { progress_percent, state: state.to_owned() };
    assert_eq!(info("<state>queued</state>"), pending(0, "queued"));
    assert_eq!(info("<state>running</state><progress>45</progress>"), pending(45, "running"));
    let made = r#"<state>success</state><result type="VirtualMachineSnapshot" xsi:type="ManagedObjectReference">snapshot-75</result>"#;
    assert_eq!(info(made), TaskState::Succeeded(TaskOutcome { result: Some(MoRef::vm_snapshot("snapshot-75")) }));
    assert_eq!(info("<state>success</state>"), TaskState::Succeeded(TaskOutcome { result: None }));
    let failed = r#"<state>error</state><error><fault xsi:type="FileLocked"><file>[ds] a.vmdk</file></fault>
        <localizedMessage>Datei gesperrt</localizedMessage></error>"#;
    let TaskState::Failed(fault) = info(failed) else { panic!("not failed") };
    assert_eq!((fault.type_name.as_str(), fault.field("file")), ("FileLocked", Some("[ds] a.vmdk")));
    assert_eq!(fault.message, "Datei gesperrt");
}

#[test]
fn requests_follow_the_wsdl() {
    let names = |element: &Element| element.children.iter().map(|child| child.name.clone()).collect::<Vec<_>>();
    let collector = MoRef::new("PropertyCollector", "session[1]2");
    let filter = create_filter_request(&collector, &MoRef::task("task-1"));
    let root = parse(filter.envelope().as_bytes()).unwrap();
    let call = root.at(&["Body", "CreateFilter"]).unwrap();
    assert_eq!(names(call), ["_this", "spec", "partialUpdates"]);
    assert_eq!(names(call.child("spec").unwrap()), ["propSet", "objectSet"]);
    let wait = wait_request(&collector, "4");
    let root = parse(wait.envelope().as_bytes()).unwrap();
    let call = root.at(&["Body", "WaitForUpdatesEx"]).unwrap();
    assert_eq!(names(call), ["_this", "version", "options"]);
    assert_eq!(names(call.child("options").unwrap()), ["maxWaitSeconds"]);
    assert!(!filter.is_repeatable() && !wait.is_repeatable());
    assert!(WAIT_TIMEOUT > Duration::from_secs(MAX_WAIT_S.unsigned_abs().into()));
}
