//! Where a VM's network cards go, and what a target offers: typed by an operator, judged against CloudStack.
//!
//! One world for all of it: nothing here is copied, so the VMs only have to be known.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "networks/refusals.rs"]
mod refusals;
#[path = "networks/site.rs"]
mod site;

use serde_json::{Value, json};

use site::{DB, Site, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn network_cards_find_their_places() {
    let site = Site::start().await;
    a_target_is_listed(&site).await;
    an_unmapped_vm_is_not_ready(&site).await;
    refusals::bad_input_changes_nothing(&site).await;
    cards_are_mapped_one_by_one_and_by_network(&site).await;
    a_test_beside_live_vms_is_told(&site).await;
    what_is_validated_is_what_is_made(&site).await;
    one_side_of_a_pair_is_changed_alone(&site).await;
    refusals::a_target_that_fails_is_told(&site).await;
    a_mapping_that_can_no_longer_be_used_is_found(&site).await;
    groups_hold_their_order(&site).await;
    site.world.stop().await;
}

/// A field of every item.
fn column<'a>(items: &'a Value, field: &str) -> Vec<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

fn item<'a>(items: &'a Value, name: &str) -> &'a Value {
    items.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}: {items:#}"))
}

async fn a_target_is_listed(site: &Site) {
    let networks = site.done(&["target", "networks"]).await;
    assert_eq!(networks["target"], "lab-cloud");
    let isolated = item(&networks["items"], "lab-isolated");
    assert_eq!((&isolated["cidr"], &isolated["network_type"]), (&json!("10.1.1.0/24"), &json!("Isolated")));
    for (name, usable, near) in [("lab-isolated", true, true), ("lab-closed", false, true), ("lab-far", true, false)] {
        let network = item(&networks["items"], name);
        let seen = (&network["usable_for_deploy"], &network["in_targets_zone"]);
        assert_eq!(seen, (&json!(usable), &json!(near)), "{name}");
    }
    assert_eq!(site.done(&["target", "networks", "lab-cloud"]).await, networks);
    let zones = site.done(&["target", "zones"]).await;
    assert_eq!(
        (&item(&zones["items"], "lab-zone")["is_targets"], &item(&zones["items"], "lab-zone-2")["is_targets"]),
        (&json!(true), &json!(false))
    );
    let offerings = site.done(&["target", "offerings"]).await;
    let small = item(&offerings["service_offerings"]["items"], "Small Instance");
    assert_eq!(
        (&small["cpu_count"], &small["memory_mib"], &small["customised"]),
        (&json!(1), &json!(512), &json!(false))
    );
    let custom = item(&offerings["service_offerings"]["items"], "Custom Instance");
    assert_eq!((&custom["cpu_count"], &custom["customised"]), (&Value::Null, &json!(true)));
    assert_eq!(item(&offerings["disk_offerings"]["items"], "Custom")["takes_any_size"], true);
    let templates = site.done(&["target", "templates"]).await;
    assert_eq!(item(&templates["items"], "shell")["ready"], true);
    let unknown = site.refused(&["target", "networks", "nowhere"], "not_found", 3).await;
    assert!(unknown["remedy"].as_str().unwrap().contains("migratekit target list"), "{unknown:#}");
    let table = site.table(&["target", "networks"]).await;
    assert!(table.lines().any(|line| line.starts_with("lab-l2 ") && line.contains("L2")), "{table}");
}

async fn an_unmapped_vm_is_not_ready(site: &Site) {
    let list = site.done(&["network", "list", WEB]).await;
    assert_eq!(column(&list["nics"], "source_network"), ["VM Network", "dv-production"]);
    assert_eq!(list["items"], json!([]));
    let report = site.check(&["network", "validate", WEB], 9).await;
    let macs = column(&list["nics"], "source_mac");
    for half in ["live", "test"] {
        assert_eq!((&report[half]["ready"], &report[half]["nics"]), (&json!(false), &json!([])), "{half}");
        let problems = report[half]["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 2, "{report:#}");
        for (problem, mac) in problems.iter().zip(&macs) {
            assert!(problem["detail"].as_str().unwrap().contains(mac), "{problem:#}");
            assert!(problem["remedy"].as_str().unwrap().contains(&format!("--mac {mac} --for {half}")), "{problem:#}");
        }
    }
}

async fn cards_are_mapped_one_by_one_and_by_network(site: &Site) {
    let [first, second] = site.macs(WEB).await;
    let planned = site.done(&["network", "map", WEB, "--mac", &first, "--to", "lab-isolated", "--dry-run"]).await;
    assert_eq!((&planned["stored"], &planned["mappings"][0]["id"]), (&json!(false), &Value::Null));
    assert_eq!(site.done(&["network", "list", WEB]).await["items"], json!([]));

    let loud = first.to_uppercase().replace(':', "-");
    let made = site.done(&["network", "map", WEB, "--mac", &loud, "--to", "lab-isolated"]).await;
    let row = &made["mappings"][0];
    assert_eq!(
        (&made["stored"], &row["source_mac"], &row["strategy"]),
        (&json!(true), &json!(first), &json!("keep_mac"))
    );
    assert_eq!((&row["validation_status"], &row["mapping_type"]), (&json!("valid"), &json!("live")));
    assert_eq!(row["source_network_name"], "VM Network");
    let ip = ["--strategy", "keep-ip", "--ip", "10.20.30.40"];
    let mut by_network = vec!["network", "map", WEB, "--source-network", "dv-production", "--to", "lab-shared"];
    by_network.extend(ip);
    let made = site.done(&by_network).await;
    assert_eq!(
        (&made["mappings"][0]["source_mac"], &made["mappings"][0]["ip_address"]),
        (&json!(second), &json!("10.20.30.40"))
    );
    let bubble = ["network", "map", WEB, "--mac", &first, "--to", "lab-bubble-1", "--for", "test"];
    let made = site.done(&bubble).await;
    assert_eq!((&made["warnings"], &made["mappings"][0]["strategy"]), (&json!([]), &json!("new_mac")));
    assert_eq!(site.done(&["network", "list", WEB]).await["items"].as_array().unwrap().len(), 3);
}

async fn a_test_beside_live_vms_is_told(site: &Site) {
    let [first, _] = site.macs(DB).await;
    let made = site.done(&["network", "map", DB, "--mac", &first, "--to", "lab-isolated", "--for", "test"]).await;
    assert_eq!(column(&made["warnings"], "code"), ["test_network_is_live"]);
    assert!(made["warnings"][0]["message"].as_str().unwrap().contains(WEB), "{made:#}");
    let [_, second] = site.macs(WEB).await;
    let made = site.done(&["network", "map", WEB, "--mac", &second, "--to", "lab-shared", "--for", "test"]).await;
    assert_eq!(column(&made["warnings"], "code"), ["test_network_is_live", "test_network_is_shared"]);
    let table = site.table(&["network", "map", WEB, "--mac", &second, "--to", "lab-bubble-2", "--for", "test"]).await;
    assert!(table.starts_with(&format!("mapped {second} to lab-bubble-2 (new_mac) for test failovers")), "{table}");
    assert!(!table.contains("warning"), "{table}");
}

async fn what_is_validated_is_what_is_made(site: &Site) {
    let [first, second] = site.macs(WEB).await;
    let report = site.done(&["network", "validate", WEB]).await;
    assert!(report["items"].as_array().unwrap().iter().all(|row| row["validation_status"] == "valid"), "{report:#}");
    let nic = |half: &str, index: usize| report[half]["nics"][index].clone();
    let expected = [
        ("live", 0, &first, "lab-isolated", json!(first), Value::Null),
        ("live", 1, &second, "lab-shared", json!(second), json!("10.20.30.40")),
        ("test", 0, &first, "lab-bubble-1", Value::Null, Value::Null),
        ("test", 1, &second, "lab-bubble-2", Value::Null, Value::Null),
    ];
    for (half, index, source, network, mac, ip) in expected {
        let nic = nic(half, index);
        assert_eq!((&nic["source_mac"], &nic["network_name"]), (&json!(source), &json!(network)), "{nic:#}");
        assert_eq!((&nic["mac"], &nic["ip"], &nic["is_default"]), (&mac, &ip, &json!(index == 0)), "{nic:#}");
    }
    let table = site.table(&["network", "list", WEB]).await;
    assert!(table.contains("lab-shared (keep_ip 10.20.30.40)  lab-bubble-2 (new_mac)"), "{table}");
}

async fn one_side_of_a_pair_is_changed_alone(site: &Site) {
    let [_, second] = site.macs(DB).await;
    let both = ["network", "map", DB, "--mac", &second, "--to", "lab-l2", "--for", "both"];
    let made = site.done(&both).await;
    let sides: Vec<_> = made["mappings"].as_array().unwrap().iter().map(|row| row["is_test_network"].clone()).collect();
    assert_eq!(sides, [json!(false), json!(true)]);
    assert_eq!(column(&made["mappings"], "strategy"), ["keep_mac", "new_mac"]);
    assert_eq!(column(&made["warnings"], "code"), ["test_network_is_live"], "its own live side counts, too");
    site.done(&["network", "map", DB, "--mac", &second, "--to", "lab-shared", "--for", "live"]).await;
    let told = async || {
        let list = site.done(&["network", "list", DB]).await;
        let rows = list["items"].as_array().unwrap().iter().filter(|row| row["source_mac"] == second.as_str());
        let told = |row: &Value| (row["destination_network_name"].clone(), row["mapping_type"].clone());
        rows.map(told).collect::<Vec<_>>()
    };
    assert_eq!(told().await, [(json!("lab-shared"), json!("live")), (json!("lab-l2"), json!("test"))]);
    site.done(&["network", "unmap", DB, "--mac", &second, "--for", "live"]).await;
    assert_eq!(told().await, [(json!("lab-l2"), json!("test"))]);
    let removed = site.done(&["network", "unmap", DB, "--mac", &second]).await;
    assert_eq!(removed["removed"].as_array().unwrap().len(), 1);
    site.refused(&["network", "unmap", DB, "--mac", &second], "not_found", 3).await;
}

/// The VM goes to another zone: what was valid is not any more, and is found before anything is begun.
async fn a_mapping_that_can_no_longer_be_used_is_found(site: &Site) {
    site.add_target("lab-far-cloud", "lab-zone-2", "lab-secret-key").await;
    site.done(&["vm", "add", WEB, "--target", "lab-far-cloud"]).await;
    let report = site.check(&["network", "validate", WEB], 9).await;
    for row in report["items"].as_array().unwrap() {
        assert_eq!(row["validation_status"], "invalid", "{row:#}");
        assert!(row["validation_message"].as_str().unwrap().contains("is in another zone"), "{row:#}");
    }
    let [first, second] = site.macs(WEB).await;
    let said: Vec<String> = report["live"]["problems"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert!(said[0].contains(&first) && said[1].contains(&second), "{said:#?}");
    site.done(&["vm", "add", WEB, "--target", "lab-cloud"]).await;
    let report = site.done(&["network", "validate", WEB]).await;
    assert!(report["items"].as_array().unwrap().iter().all(|row| row["validation_message"].is_null()), "{report:#}");
}

async fn groups_hold_their_order(site: &Site) {
    let made = site.done(&["group", "create", "shop", "--description", "a shop"]).await;
    assert_eq!(
        (&made["name"], &made["max_concurrent_vms"], &made["created_by"]),
        (&json!("shop"), &json!(4), &json!("admin"))
    );
    site.done(&["group", "add", "shop", WEB, "--boot-order", "2", "--boot-delay", "30"]).await;
    site.done(&["group", "add", "shop", DB, "--boot-order", "1"]).await;
    let shown = site.done(&["group", "show", "shop"]).await;
    assert_eq!(column(&shown["members"], "vm_name"), [DB, WEB]);
    assert_eq!(shown["members"][1]["boot_delay_seconds"], 30);
    site.done(&["group", "add", "shop", DB, "--boot-order", "3", "--disabled"]).await;
    let shown = site.done(&["group", "show", "shop"]).await;
    assert_eq!((column(&shown["members"], "vm_name"), &shown["members"][1]["enabled"]), (vec![WEB, DB], &json!(false)));
    for (arguments, kind, code) in [
        (["group", "create", "shop"].as_slice(), "conflict", 4),
        (&["group", "add", "nothing", WEB], "not_found", 3),
        (&["group", "add", "shop", "nobody"], "not_found", 3),
        (&["group", "add", "shop", WEB, "--boot-order", "100000"], "invalid", 5),
        (&["group", "create", "other", "--max-concurrent", "0"], "invalid", 5),
        (&["group", "show", "nothing"], "not_found", 3),
    ] {
        site.refused(arguments, kind, code).await;
    }
    assert_eq!(site.done(&["group", "show", "shop"]).await, shown, "a refusal changed the group");
    site.done(&["group", "remove", "shop", DB]).await;
    site.refused(&["group", "remove", "shop", DB], "not_found", 3).await;
    let list = site.done(&["group", "list"]).await;
    assert_eq!((&list["items"][0]["name"], &list["items"][0]["member_count"]), (&json!("shop"), &json!(1)));
    site.done(&["group", "delete", "shop"]).await;
    assert_eq!(site.done(&["group", "list"]).await["items"], json!([]));
}
