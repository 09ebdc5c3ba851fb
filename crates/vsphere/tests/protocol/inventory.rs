//! Listing and finding VMs: pages, objects that are gone, a session that ends half-way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vsphere::{ChangesSince, MoRef, VsphereError};

use crate::server::{Call, Reply, Server, object, prop};

fn reference(name: &str, kind: &str, id: &str) -> String {
    format!("<propSet><name>{name}</name><val type=\"{kind}\">{id}</val></propSet>")
}

fn vm(id: &str, name: &str) -> String {
    let nic = "<VirtualDevice xsi:type=\"VirtualVmxnet3\"><key>4000</key><backing><port><portgroupKey>dvportgroup-404</portgroupKey>\
               </port></backing><macAddress>00:50:56:00:00:01</macAddress></VirtualDevice>";
    let props = [
        prop("name", name),
        prop("config.instanceUuid", &format!("uuid-{id}")),
        reference("parent", "Folder", "group-v3"),
        prop("config.hardware.device", nic),
    ];
    object("VirtualMachine", id, &props.concat())
}

fn surroundings(call: &Call) -> Option<Reply> {
    let named = |kind: &str, id: &str, name: &str, parent: Option<(&str, &str)>| {
        let parent = parent.map(|(kind, id)| reference("parent", kind, id)).unwrap_or_default();
        Some(Reply::Ok(format!(
            "<returnval>{}</returnval>",
            object(kind, id, &format!("{}{parent}", prop("name", name)))
        )))
    };
    if call.has("type=\"Folder\">group-v3<") {
        named("Folder", "group-v3", "vm", Some(("Datacenter", "datacenter-2")))
    } else if call.has(">datacenter-2<") {
        named("Datacenter", "datacenter-2", "DC0", Some(("Folder", "group-d1")))
    } else if call.has("type=\"Folder\">group-d1<") {
        named("Folder", "group-d1", "Datacenters", None)
    } else if call.has(">dvportgroup-404<") {
        Some(Reply::Fault("ManagedObjectNotFound"))
    } else {
        None
    }
}

#[tokio::test]
async fn every_page_is_read_and_every_vm_gets_its_path() {
    let server = Server::start(|call| match call.method.as_str() {
        "CreateContainerView" => Reply::Ok("<returnval type=\"ContainerView\">session[1]v</returnval>".to_owned()),
        "RetrievePropertiesEx" => surroundings(call).unwrap_or_else(|| {
            assert!(call.has("type=\"ContainerView\">session[1]v<"));
            Reply::Ok(format!("<returnval><token>1</token>{}{}</returnval>", vm("vm-1", "a"), vm("vm-2", "b")))
        }),
        "ContinueRetrievePropertiesEx" if call.has("<token>1</token>") => {
            Reply::Ok(format!("<returnval><token>2</token>{}</returnval>", vm("vm-3", "c")))
        }
        "ContinueRetrievePropertiesEx" => Reply::Ok(format!("<returnval>{}</returnval>", vm("vm-4", "d"))),
        _ => Reply::Ok(String::new()),
    })
    .await;
    let vms = server.session().await.virtual_machines().await.unwrap();
    let paths: Vec<_> = vms.iter().map(|vm| vm.inventory_path.as_str()).collect();
    assert_eq!(paths, ["/DC0/vm/a", "/DC0/vm/b", "/DC0/vm/c", "/DC0/vm/d"]);
    assert_eq!((vms[3].datacenter.as_str(), vms[3].instance_uuid.as_str()), ("DC0", "uuid-vm-4"));
    assert_eq!(vms[0].nics[0].network_name, "dvportgroup-404", "a port group that is gone keeps its key");
    assert_eq!(server.count("DestroyView"), 1);
}

#[tokio::test]
async fn a_session_that_ends_between_two_pages_starts_the_list_over() {
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&has_ended);
    let server = Server::start(move |call| match call.method.as_str() {
        "CreateContainerView" => Reply::Ok("<returnval type=\"ContainerView\">v</returnval>".to_owned()),
        "RetrievePropertiesEx" => surroundings(call)
            .unwrap_or_else(|| Reply::Ok(format!("<returnval><token>1</token>{}</returnval>", vm("vm-1", "a")))),
        "ContinueRetrievePropertiesEx" if !ended.swap(true, Ordering::SeqCst) => Reply::Fault("NotAuthenticated"),
        "ContinueRetrievePropertiesEx" => Reply::Ok(format!("<returnval>{}</returnval>", vm("vm-2", "b"))),
        _ => Reply::Ok(String::new()),
    })
    .await;
    let vms = server.session().await.virtual_machines().await.unwrap();
    assert_eq!(vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((server.logins(), server.count("CreateContainerView")), (2, 2));
    assert!(has_ended.load(Ordering::SeqCst));
}

#[tokio::test]
async fn one_vm_is_found_by_reference_path_and_uuid() {
    let server = Server::start(|call| match call.method.as_str() {
        "FindByInventoryPath" if call.has("<inventoryPath>DC0/vm/a</inventoryPath>") => {
            Reply::Ok("<returnval type=\"VirtualMachine\">vm-1</returnval>".to_owned())
        }
        "FindByInventoryPath" if call.has("DC0/host") => {
            Reply::Ok("<returnval type=\"Folder\">group-h</returnval>".to_owned())
        }
        "FindByUuid" if call.has("<uuid>uuid-1</uuid><vmSearch>true</vmSearch><instanceUuid>true</instanceUuid>") => {
            Reply::Ok("<returnval type=\"VirtualMachine\">vm-1</returnval>".to_owned())
        }
        "RetrievePropertiesEx" if call.has(">vm-9<") => Reply::Fault("ManagedObjectNotFound"),
        "RetrievePropertiesEx" => {
            surroundings(call).unwrap_or_else(|| Reply::Ok(format!("<returnval>{}</returnval>", vm("vm-1", "a"))))
        }
        _ => Reply::Ok(String::new()),
    })
    .await;
    let session = server.session().await;
    assert_eq!(session.virtual_machine(&MoRef::vm("vm-1")).await.unwrap().name, "a");
    assert_eq!(session.virtual_machine_by_path("/DC0/vm/a").await.unwrap().moref, MoRef::vm("vm-1"));
    assert_eq!(session.virtual_machine_by_instance_uuid("uuid-1").await.unwrap().inventory_path, "/DC0/vm/a");
    for missing in [
        session.virtual_machine(&MoRef::vm("vm-9")).await,
        session.virtual_machine_by_path("/DC0/vm/z").await,
        session.virtual_machine_by_path("/DC0/host").await,
        session.virtual_machine_by_instance_uuid("uuid-9").await,
    ] {
        assert!(matches!(missing, Err(VsphereError::VmNotFound { .. })), "{missing:?}");
    }
}

#[tokio::test]
async fn changed_areas_are_asked_for_until_the_end_of_the_disk() {
    const PAGE: u64 = 1 << 20;
    let server = Server::start(|call| {
        let start: u64 = call.body.split("<startOffset>").nth(1).unwrap().split('<').next().unwrap().parse().unwrap();
        assert!(start < 3 * PAGE, "asked at or beyond the end");
        assert!(call.has("<deviceKey>2000</deviceKey>") && call.has("<changeId>52 aa/4</changeId>"));
        let area = format!("<changedArea><start>{}</start><length>512</length></changedArea>", start + 512);
        Reply::Ok(format!("<returnval><startOffset>{start}</startOffset><length>{PAGE}</length>{area}</returnval>"))
    })
    .await;
    let session = server.session().await;
    let since = ChangesSince::Change("52 aa/4".parse().unwrap());
    let (vm, vm_snapshot) = (MoRef::vm("vm-1"), MoRef::vm_snapshot("snapshot-1"));
    let areas = session.changed_areas(&vm, &vm_snapshot, 2000, 3 * PAGE, &since).await.unwrap();
    assert_eq!(areas.iter().map(|area| area.offset).collect::<Vec<_>>(), [512, PAGE + 512, 2 * PAGE + 512]);
    assert_eq!(server.count("QueryChangedDiskAreas"), 3);
}
