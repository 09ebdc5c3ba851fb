//! Groups: members by boot order, one job with a child for each, one verdict, put back together.

use serde_json::{Value, json};

use super::stage::{Stage, VM, plan};

const SECOND: &str = "db01";

async fn shop() -> Stage {
    let mut plan = plan();
    let nics = json!([{ "network": "VM Network" }, { "network": "dv-production" }]);
    let disks = json!([{ "capacity_bytes": 32 << 20 }]);
    let second = json!({ "name": SECOND, "folder": "prod", "disks": disks, "nics": nics });
    plan.more_vms = vec![serde_json::from_value(second).unwrap()];
    let stage = Stage::bare(plan).await;
    stage.command(&["vm", "add", SECOND]).await;
    for vm in [VM, SECOND] {
        stage.map(vm).await;
        stage.command(&["replicate", vm, "--watch"]).await;
    }
    stage.command(&["group", "create", "shop"]).await;
    stage.command(&["group", "add", "shop", SECOND, "--boot-order", "1"]).await;
    stage.command(&["group", "add", "shop", VM, "--boot-order", "2", "--boot-delay", "1"]).await;
    stage
}

fn verdicts(verdict: &Value) -> Vec<(&str, bool)> {
    let members = verdict["members"].as_array().unwrap().iter();
    members.map(|member| (member["vm_name"].as_str().unwrap(), member["passed"].as_bool().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_tested_in_order_and_put_back_together() {
    let stage = shop().await;
    let verdict = stage.command(&["failover", "test", "--group", "shop", "--watch"]).await;
    assert_eq!((verdict["passed"].as_bool(), verdicts(&verdict)), (Some(true), vec![(SECOND, true), (VM, true)]));
    assert_eq!(stage.vms_made().await.len(), 2);
    let jobs = stage.world.api("/api/v1/jobs").await.unwrap()["items"].as_array().unwrap().clone();
    let parent = jobs.iter().find(|job| job["job_type"] == "failover_group").unwrap();
    let children = jobs.iter().filter(|job| job["parent_job_id"] == parent["id"]);
    assert_eq!(children.filter(|job| job["job_type"] == "failover_test").count(), 2);
    let group = parent["external_job_id"].as_str().unwrap();
    stage.command(&["failover", "cleanup", group, "--watch"]).await;
    assert_eq!((stage.vms_made().await, stage.status().await.as_str()), (Vec::<Value>::new(), "ready_for_failover"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_member_that_fails_later_orders_wait_or_go_on_as_asked() {
    let stage = shop().await;
    for (arguments, begun) in [(vec![], false), (vec!["--go-on"], true)] {
        // The first member runs, but does not answer: nobody listens there.
        let probe = ["--probe", "tcp:127.0.0.1:9", "--probe-time", "1s"];
        let mut command = vec!["failover", "test", "--group", "shop", "--watch"];
        command.extend(probe);
        command.extend(arguments);
        let output = stage.world.operator().run(&command).await.unwrap();
        assert_eq!(output.code, 9, "{}{}", output.stdout, output.stderr);
        let verdict: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(verdict["passed"], false);
        let second = &verdict["members"][1];
        assert_eq!((second["vm_name"].as_str(), second["job_id"].is_string()), (Some(VM), begun), "{verdict:#}");
        let page = stage.world.api("/api/v1/jobs").await.unwrap();
        let jobs = page["items"].as_array().unwrap().clone();
        let parent = jobs.iter().find(|job| job["job_type"] == "failover_group").unwrap();
        let group = parent["external_job_id"].as_str().unwrap().to_owned();
        stage.command(&["failover", "cleanup", &group, "--watch"]).await;
        assert_eq!(stage.vms_made().await, Vec::<Value>::new());
    }
}
