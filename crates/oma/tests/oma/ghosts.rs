//! Ghosts over HTTP where nothing can be looked at, or nothing is there.

use hyper::{Method, StatusCode};
use model::status::Firmware;
use serde_json::json;
use store::discovery::DiscoveredVm;
use store::vm_replication_contexts::Assignment;

use crate::hub::{Hub, REMOTE};

/// A VM without an agent; its context id.
async fn vm(hub: &Hub) -> String {
    let text = str::to_owned;
    let vm = DiscoveredVm {
        vm_name: text("web1"),
        vmware_vm_id: text("5030a1b2-c3d4-e5f6-0718-293a4b5c6d7e"),
        vmware_moref: text("vm-42"),
        vm_path: text("/DC/vm/web1"),
        vcenter_host: text("vcenter.example"),
        datacenter: text("DC"),
        cpu_count: 1,
        memory_mb: 1024,
        os_type: text("linux"),
        guest_id: text("debian12_64Guest"),
        firmware: Firmware::Bios,
        secure_boot: false,
        power_state: text("poweredOn"),
        vm_tools_version: String::new(),
        networks: json!([]),
        disks: Vec::new(),
    };
    store::discovery::upsert(hub.state.store(), &vm, &Assignment::default()).await.unwrap().context_id
}

#[tokio::test]
async fn an_empty_site_has_no_ghosts() {
    let hub = Hub::start().await;
    vm(&hub).await;
    let first = hub.ask(Method::GET, "/api/v1/ghosts", None).await.expect(StatusCode::OK);
    assert_eq!((&first["items"], &first["notes"]), (&json!([]), &json!([])));
    let told = hub.ask(Method::GET, "/api/v1/ghosts", None).await.expect(StatusCode::OK);
    assert_eq!(told["looked_at"], first["looked_at"], "told from memory");
    let again = hub.ask(Method::GET, "/api/v1/ghosts?refresh=true", None).await.expect(StatusCode::OK);
    assert_ne!(again["looked_at"], first["looked_at"], "looked again");
    hub.ask_anonymously(Method::GET, "/api/v1/ghosts", None, REMOTE).await.problem(StatusCode::UNAUTHORIZED);
    hub.stop().await;
}

#[tokio::test]
async fn what_is_no_ghost_or_cannot_be_looked_at_is_not_removed() {
    let hub = Hub::start().await;
    let context_id = vm(&hub).await;
    let removal = |id: &str| format!("/api/v1/ghosts/{id}/remove");
    for id in ["vm-1", "volume-1", "snapshot-1", "vmsnapshot-1", "nonsense"] {
        let problem = hub.ask(Method::POST, &removal(id), None).await.problem(StatusCode::NOT_FOUND);
        assert!(problem["remedy"].as_str().unwrap().contains("ghost list"), "{problem}");
    }
    let away = removal(&format!("vmsnapshot-{context_id}"));
    let problem = hub.ask(Method::POST, &away, None).await.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem["evidence"].as_str().unwrap().contains("web1 has no agent"), "{problem}");
    hub.ask_anonymously(Method::POST, &removal("vm-1"), None, REMOTE).await.problem(StatusCode::UNAUTHORIZED);
    let jobs = hub.ask(Method::GET, "/api/v1/jobs?type=ghost_removal", None).await.expect(StatusCode::OK);
    assert_eq!(jobs["items"], json!([]), "nothing was begun");
    hub.stop().await;
}
