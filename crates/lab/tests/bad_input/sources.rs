//! A source that cannot be used: wrong password, another certificate, VMs that do not exist, a VM that is busy.

use serde_json::{Value, json};

use crate::refusal::{everything, refused, says};
use crate::replica;
use crate::site::{Site, VM, two_disks};

/// Long enough for a second command while the first replication waits for its vm_snapshot.
const SLOW_TASK_MS: u64 = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_cannot_be_used_are_refused() {
    let site = Site::start(two_disks()).await;
    a_wrong_password(&site).await;
    another_certificate(&site).await;
    unknown_vms(&site).await;
    two_syncs_at_once(&site).await;
    site.world.stop().await;
}

/// Adds a vCenter and looks at it.
async fn discover_with(site: &Site, name: &str, password: &str, thumbprint: &str) -> lab::world::CommandOutput {
    let password = site.file(&format!("{name}.password"), password);
    let url = site.world.addresses().vcenter_url.clone();
    let user = "administrator@vsphere.local";
    site.done(&[
        "vcenter",
        "add",
        name,
        "--url",
        &url,
        "--username",
        user,
        "--password-file",
        &password,
        "--thumbprint",
        thumbprint,
    ])
    .await;
    site.run(&["vm", "discover", "--vcenter", name]).await
}

async fn a_wrong_password(site: &Site) {
    let before = everything(&site.world).await;
    let thumbprint = site.world.addresses().vcenter_thumbprint.clone();
    let output = discover_with(site, "wrong-password", "not-the-password", &thumbprint).await;
    let problem = refused(&output, "unauthenticated", 6);
    assert!(!output.stderr.contains("not-the-password"), "the password is shown: {problem:#}");
    assert_eq!(everything(&site.world).await, before);
}

async fn another_certificate(site: &Site) {
    let before = everything(&site.world).await;
    let found = site.world.addresses().vcenter_thumbprint.clone();
    let expected = ["AB"; 32].join(":");
    let problem = refused(&discover_with(site, "other-certificate", "VMware1!", &expected).await, "forbidden", 6);
    says(&problem, &[&expected, &found]);
    assert_eq!(everything(&site.world).await, before);
}

async fn unknown_vms(site: &Site) {
    let before = everything(&site.world).await;
    let output = site.run(&["vm", "add", "no-such-vm"]).await;
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    let problem = &result["refused"][0]["problem"];
    assert_eq!((output.code, problem["kind"].as_str()), (9, Some("not_found")), "{output:?}");
    assert!(problem["remedy"].is_string() && result["added"] == json!([]), "{result:#}");
    for arguments in [&["replicate", "no-such-vm"][..], &["vm", "show", "no-such-vm"]] {
        says(&refused(&site.run(arguments).await, "not_found", 3), &["no-such-vm"]);
    }
    assert_eq!(everything(&site.world).await, before);
}

async fn two_syncs_at_once(site: &Site) {
    site.done(&["vm", "add", VM]).await;
    site.world.vcenter_admin("/lab/tasks/delay", &json!({ "delay_ms": SLOW_TASK_MS })).await.unwrap();
    let job_id = site.start_sync(VM).await;
    let problem = refused(&site.run(&["replicate", VM]).await, "conflict", 4);
    says(&problem, &[&job_id]);
    assert_eq!(problem["job_id"], json!(job_id), "{problem:#}");
    site.world.release_reads().await.unwrap();
    let progress = site.until_ended(&job_id).await;
    replica::assert_equal(site, &progress).await;
    let vm = site.done(&["vm", "show", VM]).await;
    assert_eq!((&vm["context"]["total_jobs_run"], &vm["context"]["failed_jobs"]), (&json!(1), &json!(0)), "{vm:#}");
    let volumes = site.volume_files(VM).await.len();
    assert_eq!(volumes, 2, "one volume for each disk");
}
