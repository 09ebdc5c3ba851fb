//! Faults that kill a process at a chosen instant of its request: before, during and after.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::cloudstack::{CloudstackSimError, Fault, FaultKind};
use serde_json::{Value, json};

use super::cloud::{Cloud, text};
use super::signed_client::SignedClient;

/// How long a test waits for the server to notice something.
const DEADLINE: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;

/// A program of another project that sends a request; killed when dropped.
struct Curl(Child);

impl Curl {
    /// Waits for a line on its input before it sends, so that its process can be named first.
    fn waiting(client: &SignedClient, url: &str, command: &str, parameters: &[(&str, &str)]) -> Self {
        let mut line = Command::new("sh");
        line.args(["-c", "read -r _; exec curl --silent --show-error --max-time 60 \"$@\"", "curl", url]);
        for (name, value) in client.form(command, parameters) {
            line.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        let child = line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Self(child.expect("curl not found: apt-get install curl"))
    }

    fn go(&mut self) {
        drop(self.0.stdin.take());
    }

    /// Its signal and what it printed.
    async fn end(mut self) -> (Option<i32>, String) {
        let ended = async {
            loop {
                if let Some(status) = self.0.try_wait().expect("a child") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let status = tokio::time::timeout(DEADLINE, ended).await.expect("it ends");
        let mut printed = String::new();
        if let Some(mut output) = self.0.stdout.take() {
            std::io::Read::read_to_string(&mut output, &mut printed).expect("its output");
        }
        (status.signal(), printed)
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killing(kind: FaultKind, pid: u32) -> Fault {
    Fault { pid: Some(pid), ..Fault::once("createVolume", kind) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_dies_before_during_and_after_its_request() {
    let cloud = Cloud::start().await;
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];
    let mut volumes = cloud.sim.counts().volumes;
    for (kind, effect) in [(FaultKind::KillBefore, 0), (FaultKind::KillDuring, 1), (FaultKind::KillAfter, 1)] {
        let mut curl = Curl::waiting(&cloud.admin, &cloud.sim.url, "createVolume", &volume);
        let id = cloud.sim.arm_fault(killing(kind, curl.0.id())).expect("a process to kill");
        curl.go();
        let (signal, printed) = curl.end().await;
        assert_eq!((signal, printed.as_str()), (Some(SIGKILL), ""), "{kind:?}: it never saw an answer");
        let struck = cloud.sim.fault_views().into_iter().find(|view| view.id == id).map(|view| view.struck);
        assert_eq!(struck, Some(1), "{kind:?}");
        volumes += effect;
        let over = cloud.sim.wait_for(|counts| counts.pending_jobs == 0 && counts.volumes == volumes);
        tokio::time::timeout(DEADLINE, over).await.unwrap_or_else(|_| panic!("{kind:?}: {:?}", cloud.sim.counts()));
    }
    assert_eq!(cloud.admin.ok("listVolumes", &[("listall", "true"), ("name", "v")]).await["count"], 2);
    assert_eq!(cloud.sim.faults(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_has_arrived_when_another_process_is_killed_after_it() {
    let cloud = Cloud::start().await;
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];
    let bystander = || Command::new("sleep").arg("1000").spawn().expect("sleep");
    let mut sleeper = bystander();
    cloud.sim.arm_fault(killing(FaultKind::KillAfter, sleeper.id())).expect("a process to kill");
    let answer = cloud.admin.ok("createVolume", &volume).await;
    let status = tokio::task::spawn_blocking(move || sleeper.wait()).await.expect("no panic").expect("its end");
    assert_eq!(status.signal(), Some(SIGKILL));
    assert_eq!(cloud.admin.end_of(&text(&answer["jobid"])).await["jobstatus"], 1);

    for kind in [FaultKind::KillBefore, FaultKind::KillDuring] {
        let mut sleeper = bystander();
        cloud.sim.arm_fault(killing(kind, sleeper.id())).expect("a process to kill");
        let (caller, form) = (cloud.admin.clone(), cloud.admin.form("createVolume", &volume));
        let sent = tokio::time::timeout(DEADLINE, caller.post(&form)).await.expect("the connection ends");
        assert!(sent.is_err(), "{kind:?}: whoever asks sees a dropped connection");
        let status = tokio::task::spawn_blocking(move || sleeper.wait()).await.expect("no panic").expect("its end");
        assert_eq!(status.signal(), Some(SIGKILL));
    }
    let over = cloud.sim.wait_for(|counts| counts.pending_jobs == 0);
    tokio::time::timeout(DEADLINE, over).await.expect("the jobs end");
    assert_eq!(cloud.admin.ok("listVolumes", &[("name", "v")]).await["count"], 2, "after and during");
}

#[tokio::test]
async fn the_lab_endpoint_counts_what_is_let_through_and_what_is_struck() {
    let cloud = Cloud::start().await;
    let http = reqwest::Client::new();
    let url = format!("{}/lab/faults", cloud.sim.admin_url);
    let arm = async |fault: Value| -> (u16, Value) {
        let answer = http.post(&url).json(&fault).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    };
    let first = arm(json!({"command": "listZones", "kind": "503", "skip": 2, "count": 2})).await;
    let second = arm(json!({"command": "createVolume", "kind": "job_failed_no_result", "skip": 1})).await;
    assert_eq!((first, second), ((200, json!({"id": 1})), (200, json!({"id": 2}))));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(cloud.admin.call("listZones", &[]).await.0);
    }
    assert_eq!(statuses, [200, 200, 503, 503, 200]);
    cloud.volume(&cloud.admin, "let-through", 1).await;
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];
    assert_eq!(cloud.admin.job("createVolume", &volume).await["jobstatus"], 2);
    let views: Vec<Value> = http.get(&url).send().await.expect("an answer").json().await.expect("JSON");
    let told: Vec<_> = views.iter().map(|view| (&view["id"], &view["struck"], &view["count"], &view["skip"])).collect();
    assert_eq!(told, [(&json!(1), &json!(2), &json!(0), &json!(0)), (&json!(2), &json!(1), &json!(0), &json!(0))]);

    for refused in [
        json!({"command": "*", "kind": "kill_before"}),
        json!({"command": "*", "kind": "kill_during", "pid": 1}),
        json!({"command": "*", "kind": "kill_during", "pid": 0}),
        json!({"command": "*", "kind": "kill_after", "pid": std::process::id()}),
        json!({"command": "*", "kind": "hang", "pid": 2}),
    ] {
        let (status, answer) = arm(refused.clone()).await;
        assert!(status == 422 && answer["error"].is_string(), "{refused}: {status} {answer}");
    }
    let negative = http.post(&url).json(&json!({"command": "*", "kind": "kill_before", "pid": -1})).send().await;
    assert_eq!(negative.expect("an answer").status(), 422);
    let refused = cloud.sim.arm_fault(killing(FaultKind::KillBefore, 1)).expect_err("process 1");
    assert!(matches!(refused, CloudstackSimError::Fault(_)), "{refused}");
    http.delete(&url).send().await.expect("an answer");
    assert!(cloud.sim.fault_views().is_empty());
}
