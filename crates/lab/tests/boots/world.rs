//! A whole world whose cloud boots: what tests of failovers reach for beside the product's own doors.

use std::os::unix::fs::FileExt as _;

use lab::world::{Roles, World, WorldPlan};
use serde_json::json;

use super::cloud::text;
use super::signed_client::SignedClient;

const SYSTEM_BYTES: u64 = 160 << 20;
const DATA_BYTES: u64 = 96 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_boots_marks_counts_and_breaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let plan = WorldPlan::bootable("web1", Roles::Together, SYSTEM_BYTES, DATA_BYTES);
    let world = World::start(folder.path(), plan).await.expect("a world");

    world.write_marker("second version").await.expect("a marker");
    world.write_marker_on(&world.disks()[1], "of the data").await.expect("a marker");
    for (disk, expected) in world.disks().iter().zip(["second version\n", "of the data\n"]) {
        let copy = folder.path().join(format!("{}.raw", disk.disk_id));
        let wanted = json!({ "disk_key": disk.key, "vm_snapshot": null, "path": copy });
        world.vcenter_admin("/lab/vms/web1/materialise", &wanted).await.expect("a copy");
        let mut found = vec![0; expected.len()];
        let file = std::fs::File::open(&copy).expect("the copy");
        file.read_exact_at(&mut found, disk.layout.marker.start).expect("the marker");
        assert_eq!(String::from_utf8_lossy(&found), expected);
    }
    assert!(world.write_marker("two\nlines").await.is_err());

    let admin = SignedClient::new(&world.addresses().cloudstack_url, "lab-api-key", "lab-secret-key");
    let fault = world.arm_fault(&json!({ "command": "listZones", "kind": "503", "skip": 1 })).await.expect("a fault");
    assert_eq!((admin.call("listZones", &[]).await.0, world.fault_struck(fault).await.expect("a count")), (200, 0));
    assert_eq!((admin.call("listZones", &[]).await.0, world.fault_struck(fault).await.expect("a count")), (503, 1));
    world.clear_cloudstack_faults().await.expect("no faults");
    assert_eq!(world.fault_struck(fault).await.expect("a count"), 0);
    let refused = world.arm_fault(&json!({ "command": "*", "kind": "kill_before", "pid": 1 })).await;
    assert!(refused.expect_err("process 1").to_string().contains("never killed"));

    let templates = admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
    let offerings = admin.ok("listServiceOfferings", &[]).await;
    let (template, offering) = (text(&templates["template"][1]["id"]), text(&offerings["serviceoffering"][0]["id"]));
    let zone = world.addresses().zone_id.clone();
    let parameters = [("zoneid", zone.as_str()), ("templateid", &template), ("serviceofferingid", &offering)];
    let vm = text(&admin.done("deployVirtualMachine", &parameters).await["virtualmachine"]["id"]);
    let tagging =
        [("resourceids", vm.as_str()), ("resourcetype", "UserVm"), ("tags[0].key", "owner"), ("tags[0].value", "us")];
    admin.done("createTags", &tagging).await;
    let vms = world.vms().await.expect("VMs");
    let row = vms.iter().find(|row| row["id"] == json!(vm)).expect("the VM");
    assert_eq!((&row["state"], &row["boot"]["is_running"]), (&json!("Running"), &json!(true)));
    assert_eq!(world.tagged("owner").await.expect("a list")[0]["id"], json!(vm));
    assert_eq!(world.snapshots().await.expect("a list"), Vec::<serde_json::Value>::new());
    assert_eq!(world.console(&vm).await.expect("a console"), "", "an empty disk says nothing");
    let picture = world.screenshot(&vm).await.expect("a screenshot");
    assert!(std::fs::read(&picture).expect("the picture").starts_with(b"\x89PNG"));
    admin.done("destroyVirtualMachine", &[("id", &vm), ("expunge", "true")]).await;
    world.stop().await;
}
