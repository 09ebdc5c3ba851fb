//! Groups of VMs over the API.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::hub::Hub;
use crate::networks::add_vm;

const GROUPS: &str = "/api/v1/machine-groups";

async fn create(hub: &Hub, body: Value) -> Value {
    hub.ask(Method::POST, GROUPS, Some(body)).await.expect(StatusCode::CREATED)
}

#[tokio::test]
async fn a_group_lives_and_ends() {
    let hub = Hub::start().await;
    let answer = hub.ask(Method::POST, GROUPS, Some(json!({ "name": " web shop ", "description": "all of it" }))).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.expect(StatusCode::CREATED);
    assert_eq!(
        (&made["name"], &made["max_concurrent_vms"], &made["created_by"]),
        (&json!("web shop"), &json!(4), &json!("admin"))
    );
    assert_eq!(location, format!("{GROUPS}/{}", made["id"].as_str().unwrap()));
    let change = json!({ "name": "shop", "max_concurrent_vms": 2, "priority": -5 });
    let changed = hub.ask(Method::PUT, &format!("{GROUPS}/web%20shop"), Some(change)).await.expect(StatusCode::OK);
    assert_eq!((&changed["id"], &changed["name"], &changed["priority"]), (&made["id"], &json!("shop"), &json!(-5)));
    assert_eq!(changed["description"], "");
    let shown = hub.ask(Method::GET, &location, None).await.expect(StatusCode::OK);
    assert_eq!((&shown["group"], &shown["members"]), (&changed, &json!([])));
    let list = hub.ask(Method::GET, GROUPS, None).await.expect(StatusCode::OK);
    assert_eq!(list["items"], json!([changed]));
    hub.ask(Method::DELETE, &location, None).await.expect(StatusCode::OK);
    let gone = hub.ask(Method::DELETE, &location, None).await.problem(StatusCode::NOT_FOUND);
    assert!(gone["remedy"].as_str().unwrap().contains("migratekit group list"), "{gone}");
    hub.stop().await;
}

#[tokio::test]
async fn members_come_in_the_order_in_which_they_are_started() {
    let hub = Hub::start().await;
    create(&hub, json!({ "name": "shop" })).await;
    let (web, db) = (add_vm(&hub, "web1").await, add_vm(&hub, "db1").await);
    let put =
        async |vm: &str, body: Value| hub.ask(Method::PUT, &format!("{GROUPS}/shop/members/{vm}"), Some(body)).await;
    let made = put("web1", json!({ "boot_order": 2, "boot_delay_seconds": 30 })).await.expect(StatusCode::OK);
    assert_eq!(
        (&made["vm_context_id"], &made["enabled"], &made["added_by"]),
        (&json!(web), &json!(true), &json!("admin"))
    );
    put(&db, json!({ "boot_order": 1 })).await.expect(StatusCode::OK);
    let members = async || {
        let page = hub.ask(Method::GET, &format!("{GROUPS}/shop/members"), None).await.expect(StatusCode::OK);
        page["items"].as_array().unwrap().iter().map(|member| member["vm_name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(members().await, ["db1", "web1"]);
    put("db1", json!({ "boot_order": 3, "enabled": false })).await.expect(StatusCode::OK);
    assert_eq!(members().await, ["web1", "db1"]);

    for body in [
        json!({ "boot_order": 1001 }),
        json!({ "boot_order": -1 }),
        json!({ "boot_delay_seconds": 86_401 }),
        json!({ "priority": 1001 }),
        json!({ "order": 1 }),
    ] {
        let problem = put("web1", body.clone()).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["remedy"].is_string(), "{body}: {problem}");
    }
    put("nobody", json!({})).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(members().await, ["web1", "db1"]);
    let path = format!("{GROUPS}/shop/members/db1");
    hub.ask(Method::DELETE, &path, None).await.expect(StatusCode::OK);
    let gone = hub.ask(Method::DELETE, &path, None).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(gone["detail"], "db1 is not in the group shop");
    assert_eq!(members().await, ["web1"]);
    hub.stop().await;
}

#[tokio::test]
async fn what_no_group_can_be_is_refused() {
    let hub = Hub::start().await;
    create(&hub, json!({ "name": "shop" })).await;
    let taken = hub.ask(Method::POST, GROUPS, Some(json!({ "name": "shop" }))).await.problem(StatusCode::CONFLICT);
    assert!(taken["remedy"].as_str().unwrap().contains("another name"), "{taken}");
    for body in [
        json!({ "name": " " }),
        json!({ "name": "x".repeat(256) }),
        json!({ "name": "a\nb" }),
        json!({ "name": "x", "description": "y".repeat(2001) }),
        json!({ "name": "x", "max_concurrent_vms": 0 }),
        json!({ "name": "x", "max_concurrent_vms": 65 }),
        json!({ "name": "x", "priority": -1001 }),
        json!({ "name": "x", "colour": "blue" }),
        json!({}),
    ] {
        let answer = hub.ask(Method::POST, GROUPS, Some(body.clone())).await;
        let problem = answer.problem(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["remedy"].is_string(), "{body}: {problem}");
    }
    let list = hub.ask(Method::GET, GROUPS, None).await.expect(StatusCode::OK);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    hub.stop().await;
}
