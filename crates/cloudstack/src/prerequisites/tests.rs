//! Tables: one good cloud, and what each change of it does to the report.

use serde_json::{Value, json};

use super::*;

const GIB: u64 = model::size::GIB_BYTES;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn good() -> ProbeFacts {
    ProbeFacts {
        api_url: "https://cs:8443/client/api".into(),
        capabilities: from(
            json!({"cloudstackversion": "4.19.1.0", "customdiskofferingmaxsize": 1024, "kvmsnapshotenabled": true}),
        ),
        account: Ok(Some(from(
            json!({"id": "a", "name": "admin", "accounttype": 1, "roletype": "Admin", "state": "enabled",
            "volumeavailable": "Unlimited", "primarystorageavailable": "500"}),
        ))),
        limits: Ok(vec![]),
        zones: Ok(vec![
            from(json!({"id": "z1", "name": "Zone-1", "allocationstate": "Enabled"})),
            from(json!({"id": "z2", "name": "Zone-2", "allocationstate": "Disabled"})),
        ]),
        zone_wanted: Some("zone-1".into()),
        service_offerings: Ok(vec![from(json!({"id": "s", "name": "Custom", "iscustomized": true}))]),
        disk_offerings: Ok(vec![
            from(json!({"id": "d1", "name": "Small", "iscustomized": false, "disksize": 5})),
            from(json!({"id": "d2", "name": "Any", "iscustomized": true, "disksize": 0})),
        ]),
        disk_offering_wanted: None,
        networks: Ok(vec![from(json!({"id": "n", "name": "net", "canusefordeploy": true}))]),
        templates: Ok(vec![from(json!({"id": "t", "name": "tiny", "isready": true}))]),
        local_macs: vec!["02:00:00:00:00:01".into()],
        own_vm_wanted: None,
        own_vm: Ok(Some(from(json!({"id": "vm", "name": "hub", "state": "Running", "zoneid": "z1"})))),
        own_vm_snapshots: Ok(vec![]),
        sizes: SizeRequest { disk_sizes_bytes: vec![40 * GIB, 100 * GIB + 1] },
    }
}

/// The outcome of one check after a change of the good cloud, and what its evidence must say.
fn check(code: &str, change: impl FnOnce(&mut ProbeFacts), expected: CheckOutcome, evidence: &str) {
    let mut facts = good();
    change(&mut facts);
    let report = evaluate(&facts);
    let found = report.checks.iter().find(|check| check.code == code).unwrap();
    assert_eq!(found.outcome, expected, "{found:?}");
    assert!(found.evidence.contains(evidence), "{found:?}");
    assert_eq!(found.remedy.is_empty(), expected == CheckOutcome::Passed, "{found:?}");
    assert_eq!(report.is_usable(), expected != CheckOutcome::Failed, "only this check was to change");
}

#[test]
fn a_good_cloud_passes_everything() {
    let report = evaluate(&good());
    for check in &report.checks {
        assert_eq!(check.outcome, CheckOutcome::Passed, "{check:?}");
    }
    let mut codes: Vec<&str> = report.checks.iter().map(|check| check.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 14, "every code once");
}

#[test]
fn failures() {
    use CheckOutcome::Failed;
    check("api_version", |f| f.capabilities.cloudstack_version = Some("4.17.2.0".into()), Failed, "4.17");
    check("zone", |f| f.zone_wanted = Some("Zone-9".into()), Failed, "Zone-9");
    check("disk_offering", |f| f.disk_offering_wanted = Some("d1".into()), Failed, "fixed size");
    check("disk_offering", |f| f.disk_offering_wanted = Some("d9".into()), Failed, "does not exist");
    check("disk_offering", |f| f.disk_offerings = Ok(vec![]), Failed, "none among 0");
    check("volume_size", |f| f.capabilities.custom_volume_max_gib = Some(100), Failed, "needs 101 GiB");
    check("own_vm", |f| f.own_vm = Ok(None), Failed, "02:00:00:00:00:01");
    check("own_vm", |f| (f.own_vm, f.own_vm_wanted) = (Ok(None), Some("vm-9".into())), Failed, "vm-9");
    check("own_vm", |f| f.own_vm_snapshots = Ok(vec![from(json!({"id": "x"}))]), Failed, "1 VM snapshots");
    check(
        "own_vm",
        |f| f.own_vm = Ok(Some(from(json!({"id": "vm", "name": "hub", "zoneid": "z2"})))),
        Failed,
        "another zone",
    );
    check(
        "account_role",
        |f| f.account.as_mut().unwrap().as_mut().unwrap().state = Some("locked".into()),
        Failed,
        "not enabled",
    );
    check(
        "volume_limit",
        |f| f.account.as_mut().unwrap().as_mut().unwrap().volume_available = Some(Limit::Max(1)),
        Failed,
        "2 volumes wanted, left: 1",
    );
    check(
        "primary_storage_limit",
        |f| f.account.as_mut().unwrap().as_mut().unwrap().primary_storage_available_gib = Some(Limit::Max(140)),
        Failed,
        "141 GiB",
    );
}

#[test]
fn a_disabled_zone_fails() {
    let mut facts = good();
    facts.zone_wanted = Some("z2".into());
    let report = evaluate(&facts);
    let zone = report.checks.iter().find(|check| check.code == "zone").unwrap();
    assert_eq!((zone.outcome, zone.evidence.as_str()), (CheckOutcome::Failed, "Zone-2 is disabled"));
}

#[test]
fn warnings() {
    use CheckOutcome::Warning;
    check("transport_encryption", |f| f.api_url = "http://cs/client/api".into(), Warning, "http");
    check("api_version", |f| f.capabilities.cloudstack_version = None, Warning, "not told");
    check(
        "account_role",
        |f| {
            f.account = Ok(Some(from(json!({"id": "a", "accounttype": 0, "volumeavailable": 9,
        "primarystorageavailable": 500}))))
        },
        Warning,
        "no root administrator",
    );
    check("service_offering", |f| f.service_offerings = Ok(vec![]), Warning, "none among 0");
    check("networks", |f| f.networks = Err("refused".into()), Warning, "refused");
    check("templates", |f| f.templates = Ok(vec![from(json!({"id": "t", "isready": false}))]), Warning, "none among 1");
    check("own_vm", |f| f.local_macs.clear(), Warning, "no network card");
    check("volume_snapshots", |f| f.capabilities.kvm_snapshot_enabled = false, Warning, "false");
    check("volume_limit", |f| f.account = Ok(None), Warning, "not told");
    check(
        "volume_size",
        |f| {
            f.capabilities.custom_volume_max_gib = Some(4096);
            f.sizes.disk_sizes_bytes = vec![3000 * GIB];
            f.account.as_mut().unwrap().as_mut().unwrap().primary_storage_available_gib = Some(Limit::Unlimited);
        },
        Warning,
        "storage.max.volume.size",
    );
}

#[test]
fn a_limit_stands_in_for_what_is_left() {
    check(
        "volume_limit",
        |f| {
            f.account.as_mut().unwrap().as_mut().unwrap().volume_available = None;
            f.limits = Ok(vec![from(json!({"resourcetype": "2", "max": 20}))]);
        },
        CheckOutcome::Passed,
        "limit: 20",
    );
}

#[test]
fn long_lists_are_shortened() {
    assert_eq!(names(["a", "b", "c", "d", "e", "f", "g"].into_iter()), "a, b, c, d, e and 2 more");
    assert_eq!(names(["a"].into_iter()), "a");
}
