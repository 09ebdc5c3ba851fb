//! What is said where nothing can boot: no emulator, no firmware, a bus that holds no more disks.

use lab::cloudstack::CloudstackSimError;
use serde_json::{Value, json};

use super::cloud::text;
use super::stage::{api_state, boot_text, booting_cloud, deployment, shell_vm};

#[tokio::test]
async fn without_an_emulator_a_vm_runs_unbooted_and_the_report_says_why() {
    let cloud = booting_cloud(|config| config.hypervisor.program = "/nowhere/qemu-system-x86_64".into()).await;
    let vm = shell_vm(&cloud, "web", &[]).await;
    assert_eq!(cloud.sim.vm(&vm).expect("the VM").boot, None, "never started");
    cloud.admin.done("startVirtualMachine", &[("id", &vm)]).await;
    assert_eq!(api_state(&cloud, &vm).await, "Running");
    let expected = "not booted: qemu-system-x86_64 not found: apt-get install qemu-system-x86";
    assert_eq!(boot_text(&cloud, &vm), expected);
    let get = async |path: &str| -> Value {
        let answer = reqwest::get(format!("{}{path}", cloud.sim.admin_url)).await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    let state = get("/lab/state").await;
    assert_eq!(state["hypervisor"]["running"], 0);
    assert_eq!(state["hypervisor"]["problem"], "qemu-system-x86_64 not found: apt-get install qemu-system-x86");
    assert_eq!(get("/lab/vms").await[1]["boot"]["text"], expected);
    let refused = cloud.sim.screenshot(&vm).await.expect_err("no machine");
    assert!(matches!(&refused, CloudstackSimError::Machine(text) if text.contains("nothing is booted")), "{refused}");
    cloud.admin.done("stopVirtualMachine", &[("id", &vm)]).await;
    assert_eq!(api_state(&cloud, &vm).await, "Stopped");
}

#[tokio::test]
async fn a_start_no_machine_can_make_fails_with_the_reason() {
    let nowhere = tempfile::tempdir().expect("a folder");
    let cloud = booting_cloud(|config| config.hypervisor.firmware_dir = nowhere.path().to_owned()).await;
    let uefi = [("boottype", "UEFI"), ("bootmode", "LEGACY")];
    let vm = shell_vm(&cloud, "modern", &uefi).await;
    let (code, refusal) = cloud.admin.fails("startVirtualMachine", &[("id", &vm)]).await;
    assert_eq!(code, 530);
    assert!(refusal.contains("Unable to create a deployment") && refusal.contains("apt-get install ovmf"), "{refusal}");
    assert_eq!(api_state(&cloud, &vm).await, "Stopped");
    assert!(boot_text(&cloud, &vm).contains("apt-get install ovmf"));

    let started = [("boottype", "UEFI"), ("bootmode", "LEGACY"), ("startvm", "true")];
    let submitted = cloud.admin.ok("deployVirtualMachine", &deployment(&cloud, "at-once", &started).await).await;
    assert_eq!(cloud.admin.end_of(&text(&submitted["jobid"])).await["jobstatus"], 2);
    let id = text(&submitted["id"]);
    assert_eq!(api_state(&cloud, &id).await, "Error", "a deployment that fails leaves the VM behind");
    assert_eq!(cloud.admin.fails("startVirtualMachine", &[("id", &id)]).await.0, 530);
    cloud.admin.done("destroyVirtualMachine", &[("id", &id), ("expunge", "true")]).await;

    let ide = [("details[0].rootDiskController", "ide"), ("details[0].dataDiskController", "ide")];
    let vm = shell_vm(&cloud, "many-disks", &ide).await;
    for name in ["a", "b", "c", "d"] {
        let disk = cloud.volume(&cloud.admin, name, 1).await;
        cloud.admin.done("attachVolume", &[("id", &disk), ("virtualmachineid", &vm)]).await;
    }
    let (_, refusal) = cloud.admin.fails("startVirtualMachine", &[("id", &vm)]).await;
    assert!(refusal.contains("the IDE controller holds 4 disks"), "{refusal}");
    assert_eq!(cloud.sim.counts().pending_jobs, 0);
    let answer = reqwest::get(format!("{}/lab/vms/{vm}/console", cloud.sim.admin_url)).await.expect("an answer");
    assert!(answer.text().await.expect("text").contains("=== start 1 of many-disks ==="));
    let plain = super::cloud::Cloud::start().await;
    let answer = reqwest::get(format!("{}/lab/vms/x/console", plain.sim.admin_url)).await.expect("an answer");
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.json::<Value>().await.expect("JSON").get("error").map(Value::is_string), Some(true));
    assert_eq!(json!(plain.sim.vms().iter().all(|vm| vm.boot.is_none())), json!(true));
}
