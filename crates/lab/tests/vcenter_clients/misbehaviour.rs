//! Faults on demand: each one does what it says, as often as it says, and no more.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use lab::vcenter::{Effect, FaultRule};
use reqwest::header::COOKIE;
use serde_json::{Value, json};

use super::site::{self, Site};
use super::soap_client::SoapClient;

const DATA_KEY: i32 = 2016;

fn rule(method: &str, what: Effect) -> FaultRule {
    FaultRule { method: method.to_owned(), what, count: 1, skip: 0 }
}

fn fault(name: &str) -> Effect {
    Effect::Fault { fault: name.to_owned(), message: "on request".to_owned() }
}

async fn post(site: &Site, route: &str, body: Value) -> (u16, Value) {
    let http = reqwest_plain();
    let answer = http.post(format!("{}/lab/{route}", site.sim.admin_url())).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn reqwest_plain() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

#[tokio::test]
async fn methods_fail_once_and_tasks_fail_at_their_end() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    site.sim.inject(rule("CurrentTime", fault("SystemError")));
    site.sim.inject(rule("CurrentTime", Effect::Status { status: 503 }));
    let clock = || client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "");
    clock().await.assert_fault("SystemError");
    assert_eq!((clock().await.status, clock().await.status), (503, 200));

    let (status, rules) = post(
        &site,
        "faults",
        json!({
            "method": "CreateSnapshot_Task", "what": {"effect": "task_fault", "fault": "ApplicationQuiesceFault"}
        }),
    )
    .await;
    assert_eq!((status, rules["rules"].as_array().map(Vec::len)), (200, Some(1)));
    let parameters = "<name>s</name><memory>false</memory><quiesce>true</quiesce>";
    let info = client.task("CreateSnapshot_Task", "VirtualMachine", &vm, parameters).await;
    assert!(info.body.contains("<fault xsi:type=\"ApplicationQuiesceFault\">"), "{}", info.body);
    assert!(site.sim.vm_snapshots("web01").unwrap().is_empty());
    client.take(&vm, "works again").await;
}

#[tokio::test]
async fn hanging_calls_wait_until_the_rules_are_cleared() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    site.sim.inject(rule("CurrentTime", Effect::Hang));
    let hanging = client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "");
    tokio::pin!(hanging);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut hanging).await.is_err());
    site.sim.clear_injections();
    assert_eq!(hanging.await.status, 503);
    assert_eq!(client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "").await.status, 200);
}

#[tokio::test]
async fn slow_tasks_report_progress_refuse_company_and_can_be_cancelled() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    site.sim.set_task_delay(Duration::from_secs(3600));
    let parameters = "<name>slow</name><memory>false</memory><quiesce>false</quiesce>";
    let slow = client.call("CreateSnapshot_Task", "VirtualMachine", &vm, parameters).await;
    let slow = slow.text("returnval").to_owned();
    let other = client.task("PowerOffVM_Task", "VirtualMachine", &vm, "").await;
    assert!(
        other.body.contains(&format!("<fault xsi:type=\"TaskInProgress\"><task type=\"Task\">{slow}</task>")),
        "{}",
        other.body
    );
    let info = client.call("Fetch", "Task", &slow, "<prop>info</prop>").await;
    assert_eq!((info.text("state"), info.text("progress")), ("running", "0"));
    client.call("CancelTask", "Task", &slow, "").await;
    site.sim.clear_injections();
    let filter = format!(
        "<spec><propSet><type>Task</type><pathSet>info.state</pathSet></propSet><objectSet><obj type=\"Task\">{slow}</obj>\
         </objectSet></spec><partialUpdates>false</partialUpdates>"
    );
    client.call("CreateFilter", "PropertyCollector", "propertyCollector", &filter).await;
    let mut version = String::new();
    while client.call("Fetch", "Task", &slow, "<prop>info.state</prop>").await.text("returnval") != "error" {
        let wait = format!("<version>{version}</version><options><maxWaitSeconds>30</maxWaitSeconds></options>");
        let update = client.call("WaitForUpdatesEx", "PropertyCollector", "propertyCollector", &wait).await;
        version = update.text("version").to_owned();
    }
    assert!(site.sim.vm_snapshots("web01").unwrap().is_empty());
}

#[tokio::test]
async fn file_reads_break_off_or_fail_on_request() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    client.take(&site.sim.moref("web01").unwrap(), "frozen").await;
    let url = format!("{}/folder/web01/web01-flat.vmdk?dcPath=DC0&dsName=datastore1", site.sim.url());
    let get = || client.http.get(&url).header(COOKIE, &client.cookie).send();
    site.sim.inject(rule("/folder", Effect::Status { status: 502 }));
    site.sim.inject(rule("/folder", Effect::CutAfter { bytes: 3 << 20 }));
    assert_eq!(get().await.unwrap().status(), 502);
    let cut = get().await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(cut.bytes().await.is_err(), "the transfer breaks off");
    assert_eq!(site.sim.folder_bytes(), 3 << 20);
    assert_eq!(get().await.unwrap().status(), 200);
}

#[tokio::test]
async fn tracking_lies_on_request_and_says_so_when_it_was_reset() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let (vm, guest) = (site.sim.moref("web01").unwrap(), site.sim.guest("web01").unwrap());
    client.track(&vm).await;
    let first = client.take(&vm, "one").await;
    let change_id = site.sim.vm_snapshots("web01").unwrap()[0].change_ids[&DATA_KEY].clone();
    client.remove(&first).await;
    for place in [0, 10, 20] {
        guest.write(DATA_KEY, place << 16, b"changed").unwrap();
    }
    let second = client.take(&vm, "two").await;
    let starts = async || -> Vec<u64> {
        client.areas(&vm, &second, DATA_KEY, &change_id).await.iter().map(|area| area.0 >> 16).collect()
    };
    assert_eq!(starts().await, [0, 10, 20]);
    site.sim.omit_changed_grain("web01", DATA_KEY, Some(1)).unwrap();
    assert_eq!(starts().await, [0, 20]);
    site.sim.omit_changed_grain("web01", DATA_KEY, None).unwrap();
    assert_eq!(starts().await, [0, 10, 20]);
    assert_eq!(site.sim.reset_change_tracking("web01", None).unwrap(), 2);
    client.query(&vm, &second, DATA_KEY, &change_id).await.assert_fault("FileFault");
    client.remove(&second).await;
    client.take(&vm, "three").await;
    let new_id = site.sim.vm_snapshots("web01").unwrap()[0].change_ids[&DATA_KEY].clone();
    assert_ne!(new_id.split('/').next(), change_id.split('/').next());
}

#[tokio::test]
async fn a_revert_makes_later_change_ids_unusable() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let (vm, guest) = (site.sim.moref("web01").unwrap(), site.sim.guest("web01").unwrap());
    client.track(&vm).await;
    let kept = client.take(&vm, "kept").await;
    guest.write(DATA_KEY, 0, b"lost").unwrap();
    let lost = client.take(&vm, "lost").await;
    let change_id = site.sim.vm_snapshots("web01").unwrap()[1].change_ids[&DATA_KEY].clone();
    client.remove(&lost).await;
    let info = client.task("RevertToSnapshot_Task", "VirtualMachineSnapshot", &kept, "").await;
    assert_eq!(info.text("state"), "success", "{}", info.body);
    let mut bytes = [1; 4];
    guest.read(DATA_KEY, 0, &mut bytes, None).unwrap();
    assert_eq!(bytes, [0; 4]);
    client.query(&vm, &kept, DATA_KEY, &change_id).await.assert_fault("InvalidArgument");
}

#[tokio::test]
async fn the_laboratory_endpoint_drives_guests_and_explains_refusals() {
    let site = site::start().await;
    let http = reqwest_plain();
    let get = async |route: &str| -> Value {
        http.get(format!("{}/lab/{route}", site.sim.admin_url())).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(get("info").await["sha256_thumbprint"], site.sim.sha256_thumbprint());
    let vm = get("vms/web01").await;
    assert_eq!((&vm["powered_on"], &vm["disks"][1]["key"]), (&json!(true), &json!(DATA_KEY)));
    let write = json!({"disk_key": DATA_KEY, "offset_bytes": 4096, "data_base64": "aGVsbG8="});
    assert_eq!(post(&site, "vms/web01/writes", write).await, (200, json!({"bytes_written": 5})));
    let zero = json!({"disk_key": DATA_KEY, "offset_bytes": 4097, "length_bytes": 1});
    assert_eq!(post(&site, "vms/web01/zeroes", zero).await.0, 200);
    let mut bytes = [0; 5];
    site.sim.guest("web01").unwrap().read(DATA_KEY, 4096, &mut bytes, None).unwrap();
    assert_eq!(&bytes, b"h\0llo");
    let copy = site.folder.path().join("copy.raw");
    let materialise = json!({"disk_key": DATA_KEY, "vm_snapshot": null, "path": copy});
    assert_eq!(post(&site, "vms/web01/materialise", materialise).await.0, 200);
    std::fs::File::open(&copy).unwrap().read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"h\0llo");

    let outside = json!({"disk_key": DATA_KEY, "offset_bytes": u64::MAX, "fill": 1, "length_bytes": 9});
    assert_eq!(post(&site, "vms/web01/writes", outside).await.0, 422);
    let nowhere = json!({"disk_key": 1, "offset_bytes": 0, "length_bytes": 1});
    let (status, answer) = post(&site, "vms/web01/zeroes", nowhere).await;
    assert_eq!((status, &answer["kind"]), (404, &json!("not_found")));
    let off = json!({"disk_key": 2000, "offset_bytes": 0, "length_bytes": 1});
    assert_eq!(post(&site, "vms/idle%2F1/zeroes", off).await.0, 409);
    assert_eq!(post(&site, "vms/web01/power", json!({"on": false})).await.1["powered_on"], false);
    let stats = get("stats").await;
    assert_eq!((&stats["sessions"], &stats["folder_bytes"]), (&json!(0), &json!(0)));
}
