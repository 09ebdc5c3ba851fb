//! `migratekit probe cloudstack`: what a cloud offers, and whether it is fit to take replicas.

use lab::cloudstack::{CloudstackConfig, CloudstackHandle, CloudstackSim, OmaVmConfig};
use serde_json::Value;
use tempfile::TempDir;

use super::program::{Said, migratekit, secret};

struct Cloud {
    _folder: TempDir,
    sim: CloudstackHandle,
    api_key: String,
    secret_key: String,
}

impl Cloud {
    async fn start(change: impl FnOnce(&mut CloudstackConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut config = CloudstackConfig::new(root.join("state"), root.join("by-id"), "admin-KEY", "admin-SECRET");
        change(&mut config);
        let sim = CloudstackSim::start(config).await.unwrap();
        let (api_key, secret_key) = (secret(root, "api", "admin-KEY"), secret(root, "secret", "admin-SECRET"));
        Self { sim, api_key, secret_key, _folder: folder }
    }

    async fn probe(&self, more: &[&str]) -> Said {
        let keys = ["--api-key-file", self.api_key.as_str(), "--secret-key-file", &self.secret_key];
        migratekit(&[&["probe", "cloudstack", "--url", &self.sim.url][..], &keys, more].concat()).await
    }

    async fn probe_json(&self, more: &[&str]) -> Said {
        self.probe(&[&["--output", "json"], more].concat()).await
    }
}

fn check<'a>(report: &'a Value, outcome: &str) -> Vec<&'a Value> {
    let checks = report["prerequisites"]["checks"].as_array().unwrap();
    checks.iter().filter(|check| check["outcome"] == outcome).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().filter_map(|entry| entry["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_has_everything() {
    let cloud = Cloud::start(|_| {}).await;
    // Any notation of the address will do.
    let mac = OmaVmConfig::default().mac.replace(':', "-").to_uppercase();
    let said = cloud.probe_json(&["--mac", "52:54:00:00:00:01", "--mac", &mac]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    let report = said.json();
    assert_eq!(check(&report, "failed"), Vec::<&Value>::new());
    assert_eq!(report["zones"][0]["id"], cloud.sim.zone_id().as_str());
    assert_eq!(report["account"]["name"], "admin");
    assert_eq!(report["own_vm"]["id"], cloud.sim.oma_vm_id().as_str());
    for list in ["zones", "service_offerings", "disk_offerings", "networks", "templates"] {
        assert!(!names(&report[list]).is_empty(), "{list}");
    }
    for limit in ["volumes", "primary_storage_gib", "virtual_machines", "volume_snapshots"] {
        assert!(report["limits"][limit].get("max").is_some(), "{limit}");
    }
    for found in report["prerequisites"]["checks"].as_array().unwrap() {
        assert!(found["evidence"].as_str().is_some_and(|seen| !seen.is_empty()), "{found}");
        assert_eq!(found["remedy"] == "", found["outcome"] == "passed", "{found}");
    }
    assert!(!said.stdout.contains("admin-SECRET"));

    let text = cloud.probe(&["--mac", &mac]).await;
    assert_eq!(text.code, 0);
    for seen in ["hub's own VM", "migratekit", "OUTCOME", "Custom"] {
        assert!(text.stdout.contains(seen), "{seen:?} is missing:\n{}", text.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_by_looking() {
    let cloud = Cloud::start(|_| {}).await;
    let before = cloud.sim.counts();
    cloud.probe_json(&[]).await;
    assert_eq!(cloud.sim.counts(), before);
    for command in ["createVolume", "attachVolume", "deployVirtualMachine", "createSnapshot"] {
        assert_eq!(cloud.sim.requests(command), 0, "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prerequisite_that_fails_is_exit_code_nine() {
    let cloud = Cloud::start(|_| {}).await;
    let said = cloud.probe_json(&["--zone", "atlantis"]).await;
    assert_eq!(said.code, 9, "{}", said.stderr);
    let report = said.json();
    let failed = check(&report, "failed");
    assert!(!failed.is_empty(), "{report}");
    for found in failed {
        assert!(found["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{found}");
    }
    let text = cloud.probe(&["--zone", "atlantis"]).await;
    assert_eq!(text.code, 9);
    assert!(text.stdout.contains("FAILED") && text.stdout.contains("remedy: "), "{}", text.stdout);

    let full = Cloud::start(|config| config.limits.volumes_per_account = Some(1)).await;
    let said = full.probe_json(&[]).await;
    assert_eq!(said.code, 9, "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_not_authenticated() {
    let mut cloud = Cloud::start(|_| {}).await;
    let right = cloud.secret_key.clone();
    cloud.secret_key = secret(cloud._folder.path(), "wrong", "Hunter2-wrong");
    let wrong_secret = cloud.probe_json(&[]).await;
    cloud.secret_key = right;
    cloud.api_key = secret(cloud._folder.path(), "unknown", "unknown-KEY");
    for said in [wrong_secret, cloud.probe_json(&[]).await] {
        assert_eq!(said.code, 6, "{}", said.stderr);
        let problem = said.problem();
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{problem}");
        assert!(!said.stderr.contains("Hunter2-wrong") && !said.stderr.contains("unknown-KEY"), "{}", said.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_cannot_be_reached_or_asked() {
    let cloud = Cloud::start(|_| {}).await;
    let keys = ["--api-key-file", cloud.api_key.as_str(), "--secret-key-file", &cloud.secret_key];
    for (url, code) in [("http://127.0.0.1:1/client/api", 7), ("not a url", 5)] {
        let said = migratekit(&[&["probe", "cloudstack", "--output", "json", "--url", url][..], &keys].concat()).await;
        assert_eq!(said.code, code, "{url}: {}", said.stderr);
        assert!(said.problem()["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{}", said.stderr);
    }
}
