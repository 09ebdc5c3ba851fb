//! VMs: shells and root swap, power, interfaces, snapshots and their locks, tags, details.

use serde_json::json;

use super::cloud::{Cloud, text};

const CHOSEN: &str = "5b1d87d4-1425-459c-8d81-c6f57dca2bd2";

#[tokio::test]
async fn a_replica_becomes_the_root_of_a_shell_vm() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let replica = cloud.volume(admin, "replica", 2).await;
    cloud.attach_to_worker(&replica).await;
    admin.done("detachVolume", &[("id", &replica)]).await;
    let vm = cloud.shell_vm("web").await;
    let roots = admin.ok("listVolumes", &[("virtualmachineid", &vm), ("type", "ROOT")]).await;
    let shell_root = text(&roots["volume"][0]["id"]);
    assert_eq!(roots["volume"][0]["state"], "Allocated");
    let to_root = [("id", replica.as_str()), ("virtualmachineid", vm.as_str()), ("deviceid", "0")];
    let (_, refusal) = admin.fails("attachVolume", &to_root).await;
    assert_eq!(refusal, "Vm already has root volume attached to it");
    let detached = admin.done("detachVolume", &[("id", &shell_root)]).await;
    assert_eq!(detached["volume"]["type"], "DATADISK");
    admin.ok("deleteVolume", &[("id", &shell_root)]).await;
    let (code, refusal) = admin.fails("startVirtualMachine", &[("id", &vm)]).await;
    assert!(code == 530 && refusal.contains("ROOT volume is missing"), "{refusal}");
    let attached = admin.done("attachVolume", &to_root).await;
    assert_eq!((&attached["volume"]["type"], &attached["volume"]["deviceid"]), (&json!("ROOT"), &json!(0)));
    let started = admin.done("startVirtualMachine", &[("id", &vm)]).await;
    assert_eq!(started["virtualmachine"]["state"], "Running");
    assert_eq!(admin.fails("startVirtualMachine", &[("id", &vm)]).await.0, 431);
    let (_, refusal) = admin.fails("detachVolume", &[("id", &replica)]).await;
    assert!(refusal.contains("Stopped"), "{refusal}");
    let data = cloud.volume(admin, "data", 1).await;
    admin.done("attachVolume", &[("id", &data), ("virtualmachineid", &vm)]).await;
    let destroyed = admin.done("destroyVirtualMachine", &[("id", &vm), ("expunge", "true")]).await;
    assert_eq!(destroyed["virtualmachine"]["state"], "Destroyed");
    assert!(cloud.sim.volume(&replica).is_none(), "what was ROOT is gone with the VM");
    assert_eq!(cloud.sim.volume(&data).map(|volume| volume.vm_id), Some(None), "data disks stay, detached");
}

#[tokio::test]
async fn custom_ids_are_unique_and_stopped_shells_show_little() {
    let cloud = Cloud::start().await;
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let parameters = [("customid", CHOSEN), ("zoneid", &zone), ("diskofferingid", &offering), ("size", "1")];
    let created = cloud.admin.ok("createVolume", &parameters).await;
    assert_eq!(created["id"], CHOSEN);
    cloud.admin.end_of(&text(&created["jobid"])).await;
    let (status, again) = cloud.admin.refused("createVolume", &parameters).await;
    assert_eq!(status, 431);
    assert_eq!(again, format!("UUID: {CHOSEN} already exists so can't create/update with custom id"));
    let vm = cloud.shell_vm("shell").await;
    let listed = cloud.admin.ok("listVirtualMachines", &[("id", &vm)]).await;
    let row = &listed["virtualmachine"][0];
    assert_eq!(
        (&row["state"], &row["boottype"], &row["bootmode"]),
        (&json!("Stopped"), &json!("Bios"), &json!("legacy"))
    );
    for absent in ["hostid", "hostname", "cpuused"] {
        assert_eq!(row.get(absent), None, "{absent}");
    }
    assert_eq!(row["nic"][0].get("broadcasturi"), None);
    assert_eq!(cloud.admin.refused("deployVirtualMachine", &[("zoneid", &zone)]).await.0, 431);
}

#[tokio::test]
async fn vm_snapshots_lock_disks_and_interfaces() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let vm = cloud.shell_vm("locked").await;
    let data = cloud.volume(admin, "data", 1).await;
    let made = admin.done("createVMSnapshot", &[("virtualmachineid", &vm), ("name", "before")]).await;
    let snapshot = text(&made["vmsnapshot"]["id"]);
    assert_eq!((&made["vmsnapshot"]["type"], &made["vmsnapshot"]["current"]), (&json!("Disk"), &json!(true)));
    let networks = admin.ok("listNetworks", &[("type", "L2")]).await;
    let network = text(&networks["network"][0]["id"]);
    let root = text(&admin.ok("listVolumes", &[("virtualmachineid", &vm)]).await["volume"][0]["id"]);
    for (command, parameters) in [
        ("attachVolume", vec![("id", data.as_str()), ("virtualmachineid", vm.as_str())]),
        ("detachVolume", vec![("id", root.as_str())]),
        ("addNicToVirtualMachine", vec![("virtualmachineid", vm.as_str()), ("networkid", network.as_str())]),
    ] {
        let (_, refusal) = admin.fails(command, &parameters).await;
        assert!(refusal.to_lowercase().contains("vm snapshots"), "{command}: {refusal}");
    }
    assert_eq!(admin.ok("listVMSnapshot", &[("virtualmachineid", &vm)]).await["vmSnapshot"][0]["state"], "Ready");
    admin.done("revertToVMSnapshot", &[("vmsnapshotid", &snapshot)]).await;
    admin.done("startVirtualMachine", &[("id", &vm)]).await;
    assert_eq!(admin.fails("revertToVMSnapshot", &[("vmsnapshotid", &snapshot)]).await.0, 431);
    assert_eq!(admin.done("deleteVMSnapshot", &[("vmsnapshotid", &snapshot)]).await, json!({"success": true}));
    let parameters = [("virtualmachineid", vm.as_str()), ("networkid", &network), ("macaddress", "02:AA:bb:00:00:01")];
    let added = admin.done("addNicToVirtualMachine", &parameters).await;
    let row = &added["virtualmachine"];
    assert_eq!((row.get("templateid"), row.get("rootdeviceid")), (None, None), "the result is partial");
    assert_eq!(
        (&row["nic"][1]["macaddress"], &row["nic"][1]["isdefault"]),
        (&json!("02:aa:bb:00:00:01"), &json!(false))
    );
    assert_eq!(row["nic"][1].get("ipaddress"), None, "an L2 network gives none");
    let (_, refusal) = admin.fails("addNicToVirtualMachine", &parameters).await;
    assert!(refusal.contains("A NIC already exists"), "{refusal}");
}

#[tokio::test]
async fn details_are_replaced_and_tags_come_and_go() {
    let cloud = Cloud::start().await;
    let admin = &cloud.admin;
    let vm = cloud.shell_vm("web").await;
    admin
        .ok("updateVirtualMachine", &[("id", &vm), ("details[0].rootDiskController", "virtio"), ("details[0].a", "1")])
        .await;
    let updated =
        admin.ok("updateVirtualMachine", &[("id", &vm), ("details[0].UEFI", "LEGACY"), ("details[1].b", "2")]).await;
    let row = &updated["virtualmachine"];
    assert_eq!(row["details"], json!({"UEFI": "LEGACY"}), "the whole set is replaced, index 0 only");
    assert_eq!((&row["boottype"], &row["bootmode"]), (&json!("Uefi"), &json!("legacy")));
    let volume = cloud.volume(admin, "tagged", 1).await;
    let tagging =
        [("resourceids", volume.as_str()), ("resourcetype", "Volume"), ("tags[0].key", "job"), ("tags[0].value", "42")];
    admin.done("createTags", &tagging).await;
    let found = admin.ok("listVolumes", &[("tags[0].key", "job"), ("tags[0].value", "42")]).await;
    assert_eq!((&found["volume"][0]["id"], &found["volume"][0]["tags"][0]["value"]), (&json!(volume), &json!("42")));
    assert_eq!(admin.ok("listTags", &[("resourcetype", "Volume")]).await["count"], 1);
    admin.done("deleteTags", &tagging[..2]).await;
    assert_eq!(admin.ok("listTags", &[]).await, json!({}));
}
