//! Jobs that misbehave, armed failures, the lab endpoint, restarts.

use std::time::Duration;

use lab::cloudstack::{CloudstackSim, FaultKind, JobTiming};
use serde_json::{Value, json};

use super::cloud::{Cloud, config_in, text};
use super::signed_client::SignedClient;

/// How long a test waits for the server to notice something.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn jobs_stay_pending_and_fail_in_all_their_ways() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let (zone, offering, worker) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id(), cloud.sim.oma_vm_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];

    cloud.sim.arm("createVolume", FaultKind::JobFailedNoResult, 1);
    let submitted = admin.ok("createVolume", &volume).await;
    let job = admin.end_of(&text(&submitted["jobid"])).await;
    assert_eq!((&job["jobstatus"], &job["jobresultcode"]), (&json!(2), &json!(530)));
    assert_eq!((job.get("jobresult"), job.get("jobresulttype")), (None, None));
    let id = text(&submitted["id"]);
    assert_eq!(admin.ok("listVolumes", &[("id", &id)]).await["count"], 1, "the entity survives its job");

    cloud.sim.arm("attachVolume", FaultKind::JobFailedButDone, 1);
    assert_eq!(admin.fails("attachVolume", &[("id", &id), ("virtualmachineid", &worker)]).await.0, 530);
    assert_eq!(cloud.sim.counts().attached_to_oma, 1, "and yet it was done");

    cloud.sim.arm("listVolumes", FaultKind::StaleList, 1);
    let stale = admin.ok("listVolumes", &[("id", &id)]).await;
    assert_eq!(stale["volume"][0].get("virtualmachineid"), None);
    assert_eq!(admin.ok("listVolumes", &[("id", &id)]).await["volume"][0]["virtualmachineid"], json!(worker));

    cloud.sim.set_job_timing(JobTiming { delay_ms: 0, pending_polls: 3, ..JobTiming::default() });
    let job = text(&admin.ok("detachVolume", &[("id", &id)]).await["jobid"]);
    let over = cloud.sim.wait_for(|counts| counts.pending_jobs == 0);
    tokio::time::timeout(DEADLINE, over).await.expect("the job is carried out");
    for poll in 0..3 {
        assert_eq!(admin.ok("queryAsyncJobResult", &[("jobid", &job)]).await["jobstatus"], 0, "poll {poll}");
    }
    assert_eq!(admin.ok("queryAsyncJobResult", &[("jobid", &job)]).await["jobstatus"], 1);
    assert_eq!(cloud.user.refused("queryAsyncJobResult", &[("jobid", &job)]).await.0, 531);
    let listed = admin.ok("listAsyncJobs", &[("resourceid", &id)]).await;
    assert_eq!(listed["count"], 3);
}

#[tokio::test]
async fn requests_are_struck_by_command_and_count() {
    let cloud = Cloud::start().await;
    for (kind, status) in [(FaultKind::RateLimited, 429), (FaultKind::ShuttingDown, 503)] {
        cloud.sim.arm("listZones", kind, 2);
        assert_eq!(cloud.admin.ok("listVolumes", &[]).await["count"], 1, "other commands pass");
        for _ in 0..2 {
            assert_eq!(cloud.admin.refused("listZones", &[]).await.0, status);
        }
        assert_eq!(cloud.admin.ok("listZones", &[]).await["count"], 2);
    }
    cloud.sim.arm("listZones", FaultKind::Http500, 1);
    let (status, body) = cloud.admin.post(&cloud.admin.form("listZones", &[])).await.expect("an answer");
    assert!(status == 500 && body.starts_with("<html>"), "{status} {body}");
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];
    for (kind, volumes) in [(FaultKind::Hang, 1), (FaultKind::HangAfterEffect, 2)] {
        cloud.sim.arm("createVolume", kind, 1);
        let (caller, form) = (cloud.admin.clone(), cloud.admin.form("createVolume", &volume));
        let request = tokio::spawn(async move { caller.post(&form).await });
        let struck = async {
            while !cloud.sim.faults().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cloud.sim.wait_for(|counts| counts.volumes == volumes).await
        };
        tokio::time::timeout(DEADLINE, struck).await.expect("the request arrives");
        assert!(!request.is_finished(), "{kind:?} answers");
        request.abort();
    }
    assert_eq!(cloud.sim.faults(), []);
}

#[tokio::test]
async fn the_lab_endpoint_arms_and_counts() {
    let cloud = Cloud::start().await;
    let http = reqwest::Client::new();
    let at = |path: &str| format!("{}{path}", cloud.sim.admin_url);
    let post =
        async |path: &str, body: Value| http.post(at(path)).json(&body).send().await.expect("an answer").status();
    assert_eq!(post("/lab/faults", json!({"command": "listZones", "kind": "503", "count": 1})).await, 204);
    assert_eq!(post("/lab/faults", json!({"command": "listZones", "kind": "gremlins"})).await, 422);
    assert_eq!(cloud.admin.refused("listZones", &[]).await.0, 503);
    let folder = tempfile::tempdir().expect("a folder");
    let placement = json!({"volume": {"name_contains": "small"}, "directory": folder.path()});
    assert_eq!(post("/lab/placements", placement).await, 204);
    assert_eq!(post("/lab/device-sizes", json!({"volume": {"name_contains": "short"}, "size_bytes": 512})).await, 204);
    assert_eq!(post("/lab/job-timing", json!({"delay_ms": 1, "pending_polls": 1})).await, 204);
    let id = cloud.volume(&cloud.admin, "small-and-short", 1).await;
    cloud.attach_to_worker(&id).await;
    let get =
        async |path: &str| -> Value { http.get(at(path)).send().await.expect("an answer").json().await.expect("JSON") };
    let state = get("/lab/state").await;
    assert_eq!((&state["volumes"], &state["attached"], &state["vms"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(state["oma_vm_id"], json!(cloud.sim.oma_vm_id()));
    assert_eq!(state["requests"]["attachVolume"], 1);
    let volumes = get("/lab/volumes").await;
    assert_eq!(volumes[1]["file"], json!(folder.path().join(&id)));
    assert_eq!((&volumes[1]["type"], &volumes[1]["state"]), (&json!("DATADISK"), &json!("Ready")));
}

#[tokio::test]
async fn a_restart_keeps_volumes_and_loses_running_jobs() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = CloudstackSim::start(config_in(folder.path().to_owned())).await.expect("a start");
    let admin = SignedClient::new(&first.url, "admin-KEY", "admin-SECRET");
    let (zone, offering, worker) = (first.zone_id(), first.custom_disk_offering_id(), first.oma_vm_id());
    let volume = [("name", "v"), ("zoneid", zone.as_str()), ("diskofferingid", &offering), ("size", "1")];
    let id = text(&admin.done("createVolume", &volume).await["volume"]["id"]);
    admin.done("attachVolume", &[("id", &id), ("virtualmachineid", &worker)]).await;
    first.arm("detachVolume", FaultKind::JobStuck, 1);
    let job = text(&admin.ok("detachVolume", &[("id", &id)]).await["jobid"]);
    let before = first.volumes();
    first.shutdown().await;

    let second = CloudstackSim::start(config_in(folder.path().to_owned())).await.expect("a second start");
    assert_eq!(second.volumes(), before);
    assert!(before[1].link.is_some(), "the device outlives the server");
    let admin = SignedClient::new(&second.url, "admin-KEY", "admin-SECRET");
    let lost = admin.ok("queryAsyncJobResult", &[("jobid", &job)]).await;
    assert_eq!((&lost["jobstatus"], &lost["jobresultcode"], lost.get("jobresult")), (&json!(2), &json!(530), None));
    admin.done("detachVolume", &[("id", &id)]).await;
    second.release().await;
}
