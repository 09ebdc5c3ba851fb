//! Machines end when their VM, their guest or the laboratory does. Their disks are empty here: firmware is all that runs.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::cloud::text;
use super::signed_client::SignedClient;
use super::stage::{api_state, boot_text, booting_cloud, is_alive, pid_of, shell_vm, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_ends_by_itself_is_a_stopped_vm() {
    let cloud = booting_cloud(|config| {
        config.hypervisor.stop_wait_ms = 200;
        // Longer than the path of a Unix socket may be.
        config.state_dir = config.state_dir.join("a".repeat(100));
    })
    .await;
    let vm = shell_vm(&cloud, "empty", &[]).await;
    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    let killed = Command::new("kill").args(["-9", &pid_of(&cloud, &vm).to_string()]).status();
    assert!(killed.expect("kill of util-linux or procps").success());
    until("the VM is stopped", || cloud.sim.vm(&vm).is_some_and(|vm| vm.state.as_str() == "Stopped")).await;
    assert!(boot_text(&cloud, &vm).starts_with("ended by itself"), "{}", boot_text(&cloud, &vm));
    cloud.admin.done("stopVirtualMachine", &[("id", &vm)]).await;

    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    cloud.admin.done("stopVirtualMachine", &[("id", &vm)]).await;
    let deaf = "stopped: power was cut, for the guest did not shut down in time";
    assert_eq!((boot_text(&cloud, &vm).as_str(), api_state(&cloud, &vm).await), (deaf, json!("Stopped")));

    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    let pid = pid_of(&cloud, &vm);
    cloud.admin.done("destroyVirtualMachine", &[("id", &vm), ("expunge", "true")]).await;
    assert!(!is_alive(pid));
    assert!(cloud.sim.vm(&vm).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_end_with_a_dropped_laboratory_and_their_vms_are_off_in_the_next() {
    let cloud = booting_cloud(|_| {}).await;
    let vm = shell_vm(&cloud, "empty", &[]).await;
    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    let pid = pid_of(&cloud, &vm);
    let super::cloud::Cloud { folder, sim, .. } = cloud;
    drop(sim);
    assert!(!is_alive(pid));
    let mut config = super::cloud::config_in(folder.path().to_owned());
    config.boots = true;
    let next = lab::cloudstack::CloudstackSim::start(config).await.expect("a second start");
    assert_eq!(next.vm(&vm).map(|vm| vm.state.as_str()), Some("Stopped"));
}

/// The laboratory as a process of its own; ended when dropped.
struct Laboratory(Child);

impl Drop for Laboratory {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start_laboratory(folder: &Path) -> (Laboratory, Value) {
    let config = json!({
        "vcenter": { "state_dir": folder.join("vcenter"), "username": "u", "password": "p" },
        "cloudstack": {
            "state_dir": folder.join("cloud"),
            "by_id_dir": folder.join("by-id"),
            "api_key": "k",
            "secret_key": "s",
            "boots": true,
        },
    });
    let (path, ready) = (folder.join("lab.json"), folder.join("ready.json"));
    std::fs::write(&path, config.to_string()).expect("the configuration");
    let child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("serve")
        .arg("--config")
        .arg(&path)
        .arg("--ready")
        .arg(&ready)
        .stdout(Stdio::null())
        .spawn()
        .expect("the laboratory starts");
    let laboratory = Laboratory(child);
    until("the laboratory is up", || ready.exists()).await;
    let addresses = std::fs::read(&ready).expect("the addresses");
    (laboratory, serde_json::from_slice(&addresses).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_laboratory_leaves_no_machine_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut laboratory, addresses) = start_laboratory(folder.path()).await;
    let admin = SignedClient::new(&text(&addresses["cloudstack_url"]), "k", "s");
    let zone = text(&addresses["zone_id"]);
    let templates = admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
    let offerings = admin.ok("listServiceOfferings", &[]).await;
    let (template, offering) = (text(&templates["template"][1]["id"]), text(&offerings["serviceoffering"][0]["id"]));
    let parameters = [("zoneid", zone.as_str()), ("templateid", &template), ("serviceofferingid", &offering)];
    let vm = text(&admin.done("deployVirtualMachine", &parameters).await["virtualmachine"]["id"]);
    let vms = reqwest::get(format!("{}/lab/vms", text(&addresses["cloudstack_admin"]))).await.expect("an answer");
    let vms: Vec<Value> = vms.json().await.expect("JSON");
    let deployed = vms.iter().find(|row| row["id"] == json!(vm)).expect("the VM");
    let pid = u32::try_from(deployed["boot"]["pid"].as_u64().expect("a machine")).expect("a process id");
    assert!(is_alive(pid));
    // SIGKILL: the laboratory can do nothing more itself.
    laboratory.0.kill().expect("a kill");
    laboratory.0.wait().expect("its end");
    until("the machine is gone", || !is_alive(pid)).await;
}
