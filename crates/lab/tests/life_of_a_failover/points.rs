//! A failover may begin at an earlier commit: a test puts everything back, a live one gives the other points up.

use serde_json::Value;

use super::stage::{Stage, VM, plan};

/// A replicated VM and three commits of which two are kept beside the volumes; the guests of failovers write nothing.
async fn with_points() -> (Stage, Vec<Value>) {
    let mut quiet = plan();
    quiet.guests_scribble = false;
    let stage = Stage::bare(quiet).await;
    stage.map(VM).await;
    let mut commits = Vec::new();
    for seed in 1..=3 {
        for disk in stage.world.disks() {
            stage.world.guest_writes(disk, 6, seed).await.unwrap();
        }
        commits.push(stage.command(&["replicate", VM, "--keep-points", "2", "--watch"]).await);
    }
    (stage, commits)
}

fn id(commit: &Value) -> &str {
    commit["replication"]["id"].as_str().unwrap()
}

async fn points(stage: &Stage) -> Vec<Value> {
    let list = stage.command(&["point", "list", VM]).await;
    list["points"].as_array().unwrap().iter().map(|point| point["id"].clone()).collect()
}

/// Begins a failover and waits until it stands.
async fn standing(stage: &Stage, arguments: &[&str]) -> String {
    let begun = stage.command(arguments).await;
    let job = begun["job_id"].as_str().unwrap().to_owned();
    stage.until(&format!("/api/v1/failovers/{job}"), "it stands", |view| view["status"] == "completed").await;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_begins_at_the_point_asked_for_and_puts_all_of_them_back() {
    let (stage, commits) = with_points().await;
    let before = points(&stage).await;
    assert_eq!(before, [id(&commits[2]), id(&commits[1]), id(&commits[0])]);
    for begun_at in [1, 2, 0] {
        let job = standing(&stage, &["failover", "test", VM, "--point", id(&commits[begun_at])]).await;
        assert!(stage.is_equal_to(&commits[begun_at]).await, "the VM has point {begun_at}");
        stage.command(&["failover", "cleanup", &job, "--watch"]).await;
        assert_eq!(points(&stage).await, before, "every point is still there");
        assert!(stage.is_equal_to(&commits[0]).await, "the volumes are what they were");
    }
    let newest = standing(&stage, &["failover", "test", VM]).await;
    assert!(stage.is_equal_to(&commits[2]).await, "without a point it is the newest commit");
    stage.command(&["failover", "cleanup", &newest, "--watch"]).await;

    stage.world.guest_writes(&stage.world.disks()[0], 3, 9).await.unwrap();
    let next = stage.command(&["replicate", VM, "--keep-points", "0", "--watch"]).await;
    let disks = next["run"]["disks"].as_array().unwrap();
    assert!(disks.iter().all(|disk| disk["sync_mode"] == "incremental"), "{next:#}");
    assert!(stage.is_equal_to(&next).await, "all points are merged in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_failover_at_a_point_gives_the_others_up() {
    let (stage, commits) = with_points().await;
    stage.refused(&["failover", "live", VM, "--point", "job-19990101-000000.000-aaaaaa"], 3).await;
    let job = standing(&stage, &["failover", "live", VM, "--power-off-source", "--point", id(&commits[1])]).await;
    assert!(stage.is_equal_to(&commits[1]).await);
    stage.command(&["failover", "rollback", &job, "--power-on-source", "--watch"]).await;
    assert_eq!(points(&stage).await, Vec::<Value>::new(), "what lay over the volumes lies over nothing any more");
    let next = stage.command(&["replicate", VM, "--watch"]).await;
    let disks = next["run"]["disks"].as_array().unwrap();
    assert!(disks.iter().all(|disk| disk["sync_mode"] == "compare"), "{next:#}");
    assert!(stage.is_equal_to(&next).await);
}
