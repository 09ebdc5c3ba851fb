//! The probe of a target against a scripted server.

use crate::scripted::{Scripted, ok, refusal};
use cloudstack::{CheckOutcome, ProbeOptions, ProbeReport, probe};
use model::FailureKind;

fn script_a_good_cloud(server: &Scripted) {
    let list = |command: &str, object: &str, row: &str| {
        let key = command.to_lowercase();
        server.always(command, ok(format!(r#"{{"{key}response":{{"count":1,"{object}":[{row}]}}}}"#)));
    };
    server.always(
        "listCapabilities",
        ok(r#"{"listcapabilitiesresponse":{"capability":{"cloudstackversion":"4.19.1.0","supportELB":"false",
            "customdiskofferingminsize":1,"customdiskofferingmaxsize":1024,"kvmsnapshotenabled":true}}}"#),
    );
    list("listZones", "zone", r#"{"id":"z","name":"Zone-1","networktype":"Advanced","allocationstate":"Enabled"}"#);
    list(
        "listAccounts",
        "account",
        r#"{"id":"a","name":"admin","accounttype":1,"roletype":"Admin","rolename":"Root Admin","state":"enabled",
            "volumelimit":"Unlimited","volumetotal":3,"volumeavailable":"Unlimited","primarystoragelimit":"200",
            "primarystoragetotal":40,"primarystorageavailable":"160","user":[{"id":"u","username":"admin",
            "apikey":"KEY-abc_123"}]}"#,
    );
    list("listResourceLimits", "resourcelimit", r#"{"account":"admin","resourcetype":"0","max":20}"#);
    list("listServiceOfferings", "serviceoffering", r#"{"id":"s","name":"Custom","iscustomized":true}"#);
    list("listDiskOfferings", "diskoffering", r#"{"id":"d","name":"Any","iscustomized":true,"disksize":0}"#);
    list("listNetworks", "network", r#"{"id":"n","name":"net","canusefordeploy":true}"#);
    list("listTemplates", "template", r#"{"id":"t","name":"tiny","isready":true,"zoneid":"z"}"#);
    list(
        "listVirtualMachines",
        "virtualmachine",
        r#"{"id":"vm","name":"hub","state":"Running","zoneid":"z","nic":[{"id":"i","macaddress":"02:00:34:fb:00:01"}]}"#,
    );
    server.always("listVMSnapshot", ok(r#"{"listvmsnapshotresponse":{}}"#));
}

async fn look(server: &Scripted) -> ProbeReport {
    let options = ProbeOptions {
        zone: Some("Zone-1".into()),
        disk_offering_id: None,
        local_macs: vec!["02:00:34:FB:00:01".into()],
        own_vm_id: None,
        wanted_sizes_bytes: vec![100 << 30],
    };
    probe(&server.client(), &options).await
}

#[tokio::test]
async fn a_good_cloud_is_usable_and_written_out_without_keys() {
    let server = Scripted::start().await;
    script_a_good_cloud(&server);
    let report = look(&server).await;
    assert!(report.prerequisites.is_usable(), "{:?}", report.prerequisites);
    let unsure: Vec<_> =
        report.prerequisites.checks.iter().filter(|check| check.outcome != CheckOutcome::Passed).collect();
    assert_eq!(unsure.len(), 1, "only the missing encryption: {unsure:?}");
    let written = serde_json::to_value(&report).unwrap();
    assert_eq!(written["version"], "4.19.1.0");
    assert_eq!(written["own_vm"]["id"], "vm");
    assert_eq!(written["limits"]["volumes"]["max"], "unlimited");
    assert_eq!(written["limits"]["primary_storage_gib"]["available"], 160);
    assert_eq!(written["limits"]["virtual_machines"]["max"], 20);
    assert!(!written.to_string().contains("KEY-abc_123"));
    assert_eq!(server.asked("listDiskOfferings")[0].params["zoneid"], "z");
}

#[tokio::test]
async fn wrong_keys_give_one_failed_check() {
    let server = Scripted::start().await;
    let text = "unable to verify user credentials and/or request signature";
    server.always("listCapabilities", refusal(401, None, text));
    let report = look(&server).await;
    let failure = report.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    assert!(failure.message.contains(text) && failure.remedy.is_some());
    assert_eq!(report.prerequisites.checks.len(), 1);
    assert!(!report.prerequisites.is_usable());
}

#[tokio::test]
async fn a_list_that_is_refused_is_a_warning() {
    let server = Scripted::start().await;
    script_a_good_cloud(&server);
    let text = "The given command 'listTemplates' either does not exist, is not available for user.";
    server.always("listTemplates", refusal(401, None, text));
    let report = look(&server).await;
    assert!(report.prerequisites.is_usable());
    let check = report.prerequisites.checks.iter().find(|check| check.code == "templates").unwrap();
    assert_eq!(check.outcome, CheckOutcome::Warning);
    assert!(check.evidence.contains("listTemplates"), "{check:?}");
}
