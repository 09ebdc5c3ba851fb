//! Power of the source VM as a failover uses it, and the marker its guest writes before the last sync.

use std::process::Command;
use std::time::Duration;

use lab::vcenter::{Effect, FaultRule, Tools};
use serde_json::{Value, json};

use super::site::{self, Site};
use super::soap_client::SoapClient;

const SYSTEM_KEY: i32 = 2000;
/// How long a change of power is waited for.
const SOON: Duration = Duration::from_secs(20);

async fn power(client: &SoapClient, vm: &str) -> String {
    let fetched = client.call("Fetch", "VirtualMachine", vm, "<prop>runtime</prop>").await;
    fetched.text("powerState").to_owned()
}

async fn until_off(client: &SoapClient, vm: &str) {
    let off = async {
        while power(client, vm).await != "poweredOff" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, off).await.expect("the guest shuts down");
}

async fn post(site: &Site, route: &str, body: Value) -> (u16, Value) {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let url = format!("{}/lab/{route}", site.sim.admin_url());
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_guest_shuts_down_a_while_after_it_was_asked() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    let asked = client.call("ShutdownGuest", "VirtualMachine", &vm, "").await;
    assert_eq!((asked.status, power(&client, &vm).await.as_str()), (200, "poweredOn"), "not at once");
    until_off(&client, &vm).await;
    client.call("ShutdownGuest", "VirtualMachine", &vm, "").await.assert_fault("InvalidPowerState");
    let off = client.task("PowerOffVM_Task", "VirtualMachine", &vm, "").await;
    assert!(off.body.contains("InvalidPowerState"), "{}", off.body);
    let on = client.task("PowerOnVM_Task", "VirtualMachine", &vm, "").await;
    assert_eq!((on.text("state"), power(&client, &vm).await.as_str()), ("success", "poweredOn"));
}

#[tokio::test]
async fn a_guest_may_ignore_the_wish_and_power_can_be_cut() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    let rule = json!({"method": "ShutdownGuest", "what": {"effect": "ignored_by_guest"}});
    assert_eq!(post(&site, "faults", rule).await.0, 200);
    assert_eq!(client.call("ShutdownGuest", "VirtualMachine", &vm, "").await.status, 200, "it is accepted");
    // Longer than a guest that obeys needs.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(power(&client, &vm).await, "poweredOn");
    let off = client.task("PowerOffVM_Task", "VirtualMachine", &vm, "").await;
    assert_eq!((off.text("state"), power(&client, &vm).await.as_str()), ("success", "poweredOff"));
    client.task("PowerOnVM_Task", "VirtualMachine", &vm, "").await;
    assert_eq!(client.call("ShutdownGuest", "VirtualMachine", &vm, "").await.status, 200);
    until_off(&client, &vm).await;

    site.sim.inject(FaultRule {
        method: "PowerOnVM_Task".to_owned(),
        what: Effect::TaskFault { fault: "InsufficientResourcesFault".to_owned(), message: String::new() },
        count: 1,
        skip: 0,
    });
    let on = client.task("PowerOnVM_Task", "VirtualMachine", &vm, "").await;
    assert_eq!((on.text("state"), power(&client, &vm).await.as_str()), ("error", "poweredOff"));
}

#[tokio::test]
async fn without_tools_nobody_can_ask_the_guest() {
    let site = site::start_with(|config| config.vms[0].tools = Tools::Absent).await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    client.call("ShutdownGuest", "VirtualMachine", &vm, "").await.assert_fault("ToolsUnavailable");
    assert_eq!(power(&client, &vm).await, "poweredOn");
}

#[tokio::test]
async fn a_new_marker_is_a_tracked_write_into_a_sound_file_system() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    client.track(&vm).await;
    let first = client.take(&vm, "first").await;
    let change_id = site.sim.vm_snapshots("web01").unwrap()[0].change_ids[&SYSTEM_KEY].clone();
    let written = post(&site, "vms/web01/marker", json!({"text": "written before the last sync"})).await;
    assert_eq!(written, (200, json!({"marker": "written before the last sync"})));
    let second = client.take(&vm, "second").await;
    let areas = client.areas(&vm, &second, SYSTEM_KEY, &change_id).await;
    let marker = site.layout.marker.start;
    assert!(areas.iter().any(|(start, length)| (*start..start + length).contains(&marker)), "{areas:?} {marker}");

    let copy = site.folder.path().join("copy.raw");
    site.sim.guest("web01").unwrap().materialise(SYSTEM_KEY, None, &copy).unwrap();
    let place = format!("{}?offset={}", copy.display(), site.layout.filesystem.start);
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(format!("/usr/sbin/{program}")).args(arguments).arg(&place).output();
        let output = output.expect("e2fsprogs not found: apt-get install e2fsprogs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (_, text) = run("debugfs", &["-R", "cat /etc/marker"]);
    assert_eq!(text.lines().next(), Some("written before the last sync"));
    assert!(text.lines().skip(1).all(str::is_empty), "the old text is gone");
    assert!(run("e2fsck", &["-f", "-n"]).0, "the file system is sound");

    let long = "x".repeat(4096);
    assert_eq!(post(&site, "vms/web01/marker", json!({ "text": long })).await.0, 422);
    assert_eq!(post(&site, "vms/web01/marker", json!({"text": "x", "disk_key": 2016})).await.0, 404);
    client.remove(&second).await;
    client.remove(&first).await;
    site.sim.set_power("web01", false).unwrap();
    assert_eq!(
        post(&site, "vms/web01/marker", json!({"text": "x"})).await.0,
        409,
        "a guest that is off writes nothing"
    );
}
