//! Network mappings and listings without a CloudStack: what is refused before one is asked, and what one that cannot be
//! reached leaves behind. What a CloudStack says is tested with the laboratory's.

use hyper::{Method, StatusCode};
use model::status::Firmware;
use serde_json::{Value, json};
use store::discovery::{self, DiscoveredVm};
use store::vm_replication_contexts::Assignment;

use crate::hub::Hub;

pub const MAC: &str = "00:50:56:00:00:01";

/// Adds a VM with one network card; gives its context id.
pub async fn add_vm(hub: &Hub, name: &str) -> String {
    let nic = json!({ "label": "Network adapter 1", "network_name": "VM Network", "mac_address": MAC,
        "adapter_type": "vmxnet3", "connected": true });
    let vm = DiscoveredVm {
        vm_name: name.to_owned(),
        vmware_vm_id: format!("uuid-{name}"),
        vmware_moref: "vm-1".to_owned(),
        vm_path: format!("/DC0/vm/{name}"),
        vcenter_host: "vc.example".to_owned(),
        datacenter: "DC0".to_owned(),
        cpu_count: 1,
        memory_mb: 512,
        os_type: String::new(),
        guest_id: String::new(),
        firmware: Firmware::Bios,
        secure_boot: false,
        power_state: "poweredOn".to_owned(),
        vm_tools_version: String::new(),
        networks: json!([nic]),
        disks: Vec::new(),
    };
    discovery::upsert(hub.state.store(), &vm, &Assignment::default()).await.unwrap().context_id
}

async fn add_target(hub: &Hub) {
    let target = json!({ "name": "cloud", "api_url": "http://127.0.0.1:1/client/api", "api_key": "key",
        "secret_key": "secret", "zone": "zone" });
    hub.ask(Method::POST, "/api/v1/ossea-configs", Some(target)).await.expect(StatusCode::OK);
}

fn mapping(change: Value) -> Value {
    let mut body = json!({ "vm": "web1", "source_mac": MAC, "destination_network": "net", "mapping_type": "live" });
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn has_no_mapping(hub: &Hub) {
    let list = hub.ask(Method::GET, "/api/v1/network-mappings?vm=web1", None).await.expect(StatusCode::OK);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_vm_s_cards_are_listed_without_a_target() {
    let hub = Hub::start().await;
    let id = add_vm(&hub, "web1").await;
    for vm in ["web1", &id] {
        let path = format!("/api/v1/network-mappings?vm={vm}");
        let list = hub.ask(Method::GET, &path, None).await.expect(StatusCode::OK);
        assert_eq!((&list["vm_name"], &list["nics"][0]["source_mac"]), (&json!("web1"), &json!(MAC)));
    }
    hub.ask(Method::GET, "/api/v1/network-mappings", None).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
    let unknown = hub.ask(Method::GET, "/api/v1/network-mappings?vm=nobody", None).await;
    assert!(unknown.problem(StatusCode::NOT_FOUND)["remedy"].as_str().unwrap().contains("migratekit vm list"));
    hub.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_before_a_target_is_asked() {
    let hub = Hub::start().await;
    add_vm(&hub, "web1").await;
    for (change, status) in [
        (json!({ "source_mac": "00:50" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "source_network_name": "VM Network" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "source_mac": null }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "destination_network": "" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "destination_network": "x".repeat(300) }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "mapping_type": "sometimes" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "colour": "blue" }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "vm": "nobody" }), StatusCode::NOT_FOUND),
    ] {
        let answer = hub.ask(Method::PUT, "/api/v1/network-mappings", Some(mapping(change.clone()))).await;
        let problem = answer.problem(status);
        assert!(problem["remedy"].is_string(), "{change}: {problem}");
    }
    has_no_mapping(&hub).await;
    let gone = hub.ask(Method::DELETE, "/api/v1/network-mappings/none", None).await.problem(StatusCode::NOT_FOUND);
    assert!(gone["remedy"].is_string(), "{gone}");
    hub.stop().await;
}

#[tokio::test]
async fn without_a_target_nothing_is_stored() {
    let hub = Hub::start().await;
    add_vm(&hub, "web1").await;
    let validate = json!({ "vm": "web1" });
    for target_exists in [false, true] {
        let status = if target_exists { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_FOUND };
        let requests = [
            (Method::PUT, "/api/v1/network-mappings", Some(mapping(json!({})))),
            (Method::PUT, "/api/v1/network-mappings?dry_run=true", Some(mapping(json!({})))),
            (Method::POST, "/api/v1/network-mappings/validate", Some(validate.clone())),
            (Method::GET, "/api/v1/target/zones", None),
            (Method::GET, "/api/v1/target/service-offerings", None),
        ];
        // All at once: each tries a target that cannot be reached several times.
        let asked = requests.map(|(method, path, body)| hub.ask(method, path, body));
        for answer in futures::future::join_all(asked).await {
            let problem = answer.problem(status);
            assert!(problem["remedy"].is_string(), "{problem}");
        }
        has_no_mapping(&hub).await;
        if !target_exists {
            add_target(&hub).await;
        }
    }
    hub.stop().await;
}
