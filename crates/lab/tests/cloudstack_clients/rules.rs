//! Rules of the real server that a failover meets: states in between, names and ids that stay taken, one snapshot per VM.

use lab::cloudstack::{FaultKind, JobTiming, NetworkConfig, NetworkKind};
use serde_json::{Value, json};

use super::cloud::{Cloud, text};
use super::signed_client::SignedClient;

const CHOSEN: &str = "7c1d87d4-1425-459c-8d81-c6f57dca2bd2";

/// Submits a job and collects the states a VM shows until it is over.
async fn states_during(admin: &SignedClient, vm: &str, command: &str, more: &[(&str, &str)]) -> Vec<Value> {
    let mut parameters = vec![("id", vm)];
    parameters.extend(more);
    let job = text(&admin.ok(command, &parameters).await["jobid"]);
    let mut states: Vec<Value> = Vec::new();
    loop {
        let over = admin.ok("queryAsyncJobResult", &[("jobid", &job)]).await["jobstatus"] != 0;
        let state = admin.ok("listVirtualMachines", &[("id", vm)]).await["virtualmachine"][0]["state"].clone();
        if states.last() != Some(&state) {
            states.push(state);
        }
        if over {
            return states;
        }
    }
}

#[tokio::test]
async fn a_vm_shows_the_states_between() {
    let cloud = Cloud::start().await;
    let vm = cloud.shell_vm("web").await;
    cloud.sim.set_job_timing(JobTiming { delay_ms: 60, work_ms: 120, ..JobTiming::default() });
    let admin = &cloud.admin;
    assert_eq!(states_during(admin, &vm, "startVirtualMachine", &[]).await, ["Stopped", "Starting", "Running"]);
    assert_eq!(states_during(admin, &vm, "stopVirtualMachine", &[]).await, ["Running", "Stopping", "Stopped"]);
    let expunged = states_during(admin, &vm, "destroyVirtualMachine", &[("expunge", "true")]).await;
    assert_eq!(expunged, [json!("Stopped"), json!("Expunging"), Value::Null]);
}

#[tokio::test]
async fn jobs_on_one_vm_wait_for_each_other() {
    let cloud = Cloud::start_with(|config| config.jobs.work_ms = 80).await;
    let admin = &cloud.admin;
    let vm = cloud.shell_vm("web").await;
    let start = text(&admin.ok("startVirtualMachine", &[("id", &vm)]).await["jobid"]);
    let stop = text(&admin.ok("stopVirtualMachine", &[("id", &vm)]).await["jobid"]);
    let again = text(&admin.ok("startVirtualMachine", &[("id", &vm)]).await["jobid"]);
    for job in [start, stop, again] {
        assert_eq!(admin.end_of(&job).await["jobstatus"], 1);
    }
    assert_eq!(cloud.sim.vm(&vm).map(|vm| vm.state.as_str()), Some("Running"));
}

#[tokio::test]
async fn a_destroyed_vm_keeps_its_name_and_a_used_id_is_never_free() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let first = cloud.shell_vm("web").await;
    admin.done("destroyVirtualMachine", &[("id", &first)]).await;
    assert_eq!(admin.ok("listVirtualMachines", &[("id", &first)]).await["virtualmachine"][0]["state"], "Destroyed");
    assert_eq!(admin.ok("listVirtualMachines", &[("id", &first), ("state", "Present")]).await, json!({}));
    let templates = admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
    let (zone, offering, template) =
        (cloud.sim.zone_id(), cloud.sim.service_offering_id(), text(&templates["template"][1]["id"]));
    let web = [
        ("name", "web"),
        ("zoneid", zone.as_str()),
        ("serviceofferingid", &offering),
        ("templateid", &template),
        ("startvm", "false"),
        ("customid", CHOSEN),
    ];
    let (status, refusal) = admin.refused("deployVirtualMachine", &web).await;
    assert!(status == 431 && refusal.contains("The vm with hostName web already exists"), "{refusal}");
    assert_eq!(admin.fails("startVirtualMachine", &[("id", &first)]).await.0, 530);
    admin.done("destroyVirtualMachine", &[("id", &first)]).await;
    admin.done("destroyVirtualMachine", &[("id", &first), ("expunge", "true")]).await;
    admin.done("deployVirtualMachine", &web).await;
    let root = text(&admin.ok("listVolumes", &[("virtualmachineid", CHOSEN)]).await["volume"][0]["id"]);
    admin.done("destroyVirtualMachine", &[("id", CHOSEN), ("expunge", "true")]).await;
    let (status, refusal) = admin.refused("deployVirtualMachine", &web).await;
    assert!(status == 431 && refusal.contains("already exists so can't create/update with custom id"), "{refusal}");
    assert!(cloud.sim.volume(&root).is_none());
    for name in ["1web", "-web", "web_1", "web-"] {
        let named: Vec<_> = web.iter().skip(1).filter(|(key, _)| *key != "customid").copied().collect();
        let named = [named, vec![("name", name)]].concat();
        let (status, refusal) = admin.refused("deployVirtualMachine", &named).await;
        assert!(status == 431 && refusal.starts_with("Invalid name."), "{name}: {refusal}");
    }
}

#[tokio::test]
async fn one_snapshot_at_a_time_on_a_vm_and_none_under_a_volume_that_goes() {
    let cloud = Cloud::start_with(|config| config.jobs.work_ms = 50).await;
    let admin = &cloud.admin;
    let mut volumes = Vec::new();
    for name in ["a", "b"] {
        let id = cloud.volume(admin, name, 1).await;
        cloud.attach_to_worker(&id).await;
        volumes.push(id);
    }
    let tags = [("tags[0].key", "job"), ("tags[0].value", "42")];
    let first = [&[("volumeid", volumes[0].as_str())], tags.as_slice()].concat();
    let first = admin.ok("createSnapshot", &first).await;
    let second = admin.ok("createSnapshot", &[("volumeid", &volumes[1])]).await;
    let done = admin.end_of(&text(&first["jobid"])).await;
    assert_eq!(done["jobresult"]["snapshot"]["state"], "BackedUp");
    let failed = admin.end_of(&text(&second["jobid"])).await;
    assert_eq!((&failed["jobstatus"], &failed["jobresultcode"]), (&json!(2), &json!(431)));
    let text_of = text(&failed["jobresult"]["errortext"]);
    assert!(text_of.starts_with("There is other active snapshot tasks on the instance"), "{text_of}");
    let left = admin.ok("listSnapshots", &[("id", &text(&second["id"]))]).await;
    assert_eq!(left["snapshot"][0]["state"], "Error", "the row survives its job");
    admin.done("createSnapshot", &[("volumeid", &volumes[1])]).await;
    let found = admin.ok("listSnapshots", &tags).await;
    assert_eq!((&found["count"], &found["snapshot"][0]["id"]), (&json!(1), &first["id"]), "lists filter by tag");

    for id in &volumes {
        admin.done("detachVolume", &[("id", id)]).await;
    }
    let both = [
        admin.ok("createSnapshot", &[("volumeid", &volumes[0])]).await,
        admin.ok("createSnapshot", &[("volumeid", &volumes[1])]).await,
    ];
    let (status, refusal) = admin.refused("deleteVolume", &[("id", &volumes[0])]).await;
    assert!(status == 431 && refusal.contains("snapshot operations in progress"), "{refusal}");
    for submitted in both {
        assert_eq!(
            admin.end_of(&text(&submitted["jobid"])).await["jobstatus"],
            1,
            "detached volumes have no VM in common"
        );
    }
    cloud.sim.arm("createSnapshot", FaultKind::JobFailedNoResult, 1);
    let lost = admin.job("createSnapshot", &[("volumeid", &volumes[0])]).await;
    assert_eq!((&lost["jobstatus"], lost.get("jobresult")), (&json!(2), None));
    admin.ok("deleteVolume", &[("id", &volumes[0])]).await;
}

#[tokio::test]
async fn lists_find_by_part_of_a_name_and_by_tag_and_orphans_can_be_counted() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let (web, other) = (cloud.shell_vm("web-test").await, cloud.shell_vm("mail").await);
    let tagging =
        [("resourceids", web.as_str()), ("resourcetype", "UserVm"), ("tags[0].key", "owner"), ("tags[0].value", "us")];
    admin.done("createTags", &tagging).await;
    let named = admin.ok("listVirtualMachines", &[("name", "web")]).await;
    assert_eq!((&named["count"], &named["virtualmachine"][0]["id"]), (&json!(1), &json!(web)));
    let tagged = admin.ok("listVirtualMachines", &[("tags[0].key", "owner"), ("tags[0].value", "us")]).await;
    assert_eq!((&tagged["count"], &tagged["virtualmachine"][0]["id"]), (&json!(1), &json!(web)));
    assert_eq!(admin.ok("listVirtualMachines", &[("tags[0].key", "owner"), ("tags[0].value", "x")]).await, json!({}));

    let made = admin.done("createVMSnapshot", &[("virtualmachineid", &other), ("name", "before")]).await;
    let snapshot = text(&made["vmsnapshot"]["id"]);
    let tagging = [
        ("resourceids", snapshot.as_str()),
        ("resourcetype", "VMSnapshot"),
        ("tags[0].key", "owner"),
        ("tags[0].value", "us"),
    ];
    admin.done("createTags", &tagging).await;
    assert_eq!(admin.ok("listVMSnapshot", &[("tags[0].key", "owner")]).await["count"], 1);
    let get = async |path: &str| -> Value {
        let answer = reqwest::get(format!("{}{path}", cloud.sim.admin_url)).await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    let orphans = get("/lab/tagged?key=owner&value=us").await;
    let kinds: Vec<_> = orphans.as_array().expect("a list").iter().map(|row| (&row["kind"], &row["id"])).collect();
    assert_eq!(kinds, [(&json!("vm"), &json!(web)), (&json!("vm_snapshot"), &json!(snapshot))]);
    assert_eq!(cloud.sim.tagged("owner", Some("them")), []);
    let snapshots = get("/lab/snapshots").await;
    assert_eq!((&snapshots["snapshots"], &snapshots["vm_snapshots"][0]["state"]), (&json!([]), &json!("Ready")));
    let vms = get("/lab/vms").await;
    assert_eq!((&vms[1]["tags"], &vms[1]["boot"]), (&json!({"owner": "us"}), &Value::Null));
    assert_eq!(vms[1]["nics"][0]["mac"], vms[1]["macs"][0]);
}

#[tokio::test]
async fn users_do_not_touch_disk_controllers() {
    let cloud = Cloud::start().await;
    let templates = cloud.user.ok("listTemplates", &[("templatefilter", "executable")]).await;
    let (zone, offering, template) =
        (cloud.sim.zone_id(), cloud.sim.service_offering_id(), text(&templates["template"][1]["id"]));
    let parameters = [
        ("zoneid", zone.as_str()),
        ("serviceofferingid", &offering),
        ("templateid", &template),
        ("startvm", "false"),
        ("details[0].rootDiskController", "scsi"),
    ];
    let vm = text(&cloud.user.done("deployVirtualMachine", &parameters).await["virtualmachine"]["id"]);
    let change = |bus| [("id", vm.clone()), ("details[0].rootDiskController", bus)];
    let refused = change("ide".to_owned());
    let refused: Vec<_> = refused.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let (_, refusal) = cloud.user.refused("updateVirtualMachine", &refused).await;
    assert_eq!(refusal, "You're not allowed to add or edit the read-only setting: rootDiskController");
    cloud.user.ok("updateVirtualMachine", &[("id", &vm), ("details[0].rootDiskController", "scsi")]).await;
    cloud.admin.ok("updateVirtualMachine", &refused).await;
}

#[tokio::test]
async fn networks_elsewhere_and_unusable_ones_take_no_vm() {
    let network = |name: &str, other_zone, can_use_for_deploy| NetworkConfig {
        name: name.to_owned(),
        kind: NetworkKind::Shared,
        other_zone,
        can_use_for_deploy,
    };
    let more = vec![network("far", true, true), network("full", false, false), network("near", false, true)];
    let cloud = Cloud::start_with(|config| config.more_networks = more).await;
    let admin = &cloud.admin;
    let zones = admin.ok("listZones", &[]).await;
    assert_eq!((&zones["count"], &zones["zone"][1]["name"]), (&json!(2), &json!("lab-zone-2")));
    let (zone, other) = (cloud.sim.zone_id(), text(&zones["zone"][1]["id"]));
    let far = admin.ok("listNetworks", &[("zoneid", &other)]).await;
    assert_eq!((&far["count"], &far["network"][0]["name"]), (&json!(1), &json!("far")));
    assert_eq!(admin.ok("listNetworks", &[("zoneid", &zone)]).await["count"], 5);
    assert_eq!(admin.ok("listNetworks", &[("canusefordeploy", "false")]).await["network"][0]["name"], "full");
    assert_eq!(admin.refused("listNetworks", &[("zoneid", CHOSEN)]).await.0, 431);

    let templates = admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
    let (offering, template) = (cloud.sim.service_offering_id(), text(&templates["template"][1]["id"]));
    let deployment = async |network: &str| {
        let found = admin.ok("listNetworks", &[("name", network)]).await;
        let id = text(&found["network"][0]["id"]);
        let parameters = [
            ("zoneid", zone.as_str()),
            ("serviceofferingid", &offering),
            ("templateid", &template),
            ("startvm", "false"),
            ("networkids", &id),
        ];
        admin.call("deployVirtualMachine", &parameters).await
    };
    let (status, refusal) = deployment("far").await;
    assert!(status == 431 && text(&refusal["errortext"]).contains("doesn't belong to zone"), "{refusal}");
    assert_eq!(deployment("full").await.0, 530);
    assert_eq!(deployment("near").await.0, 200);
    assert_eq!(cloud.sim.counts().vms, 2, "a refused deployment leaves nothing");
}
