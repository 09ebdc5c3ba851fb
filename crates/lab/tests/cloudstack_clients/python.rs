//! The PyPI client `cs` against the simulated server: signing, jobs, lists and paging by code nobody here wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::cloud::Cloud;

const PACKAGE: &str = "cs==5.2.0";
const SCRIPT: &str = include_str!("../python/cloudstack_walk.py");

/// A virtual environment that holds the client; made once per target folder.
fn python_with_cs() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv-cs-5.2.0");
    let python = folder.join("bin/python");
    let works =
        |python: &Path| Command::new(python).args(["-c", "import cs"]).status().is_ok_and(|status| status.success());
    if works(&python) {
        return python;
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("the broken environment goes away");
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
    let made = made.expect("python3 not found: apt-get install python3 python3-venv");
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success(), "no virtual environment: apt-get install python3-venv\n{said}");
    let installed =
        Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]).output().expect("pip runs");
    let said = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "pip could not install {PACKAGE} from PyPI:\n{said}");
    python
}

async fn walk(method: &str) -> Value {
    let cloud = Cloud::start().await;
    let python = python_with_cs();
    let (url, worker, by_id) = (cloud.sim.url.clone(), cloud.sim.oma_vm_id(), cloud.by_id());
    let method = method.to_owned();
    let run = move || {
        let command = Command::new(python)
            .args(["-c", SCRIPT, &url, "admin-KEY", "admin-SECRET", &method, &worker])
            .arg(by_id)
            .output();
        command.expect("python runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the walk ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts = cloud.sim.counts();
    assert_eq!((counts.volumes, counts.vms), (1, 1), "only the worker and its root are left");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn check_volume(seen: &Value) {
    assert_eq!(seen["zones"], 2);
    let created = &seen["created"];
    assert_eq!(created["name"], "walk & 100% of *everything* / é");
    assert_eq!((&created["state"], &created["size"]), (&json!("Allocated"), &json!(3_u64 << 30)));
    assert_eq!(created.get("deviceid"), None);
    assert_eq!(created.get("path"), None);
    assert_eq!(created["jobstatus"], 0, "the entity carries the job that made it");
    let attached = &seen["attached"];
    assert_eq!((&attached["state"], &attached["deviceid"]), (&json!("Ready"), &json!(1)));
    assert_eq!((&attached["type"], &attached["vmname"]), (&json!("DATADISK"), &json!("migratekit")));
    assert_eq!(seen["link_size"], 3_u64 << 30);
    assert_eq!(seen["listed"]["count"], 1);
    assert_eq!(seen["listed"]["volume"][0].get("jobid"), None);
    assert_eq!(seen["delete_while_attached"]["status"], 431);
    assert_eq!(seen["delete_while_attached"]["error"]["cserrorcode"], 4350);
    assert_eq!(seen["link_after_detach"], false);
    assert_eq!(seen["deleted"], json!({"success": true}));
    assert_eq!(seen["delete_again"]["status"], 431);
    assert_eq!(seen["delete_again"]["error"]["cserrorcode"], 9999);
}

fn check_lists_and_vm(seen: &Value) {
    assert_eq!(seen["none_left"], json!({}));
    assert_eq!(seen["fetched"], json!(["page-0", "page-1", "page-2", "page-3", "page-4"]));
    assert_eq!(seen["second_page"]["count"], 5);
    assert_eq!(seen["second_page"]["volume"].as_array().map(Vec::len), Some(2));
    assert_eq!(seen["past_the_end"], json!({"count": 5}));
    assert_eq!(seen["pagesize_alone"]["status"], 431);
    assert_eq!((&seen["vm"]["state"], &seen["vm"]["boottype"]), (&json!("Stopped"), &json!("Uefi")));
    assert_eq!(seen["vm"]["details"]["rootDiskController"], "virtio");
    assert_eq!(seen["vm"]["nic"][0]["deviceid"], "0");
    assert_eq!(seen["wrong_key"]["status"], 401);
    assert_eq!(seen["wrong_key"]["error"].get("cserrorcode"), None);
}

/// One test for both methods, so that the environment is made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cs_client_walks_a_volume_by_get_and_by_post() {
    for method in ["get", "post"] {
        let seen = walk(method).await;
        check_volume(&seen);
        check_lists_and_vm(&seen);
    }
}
