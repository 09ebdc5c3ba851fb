//! Authentication, envelopes, errors and scope.

use lab::cloudstack::signature_of;
use serde_json::json;

use super::cloud::{Cloud, text};

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn only_well_signed_requests_pass() {
    let cloud = Cloud::start().await;
    let refusal = r#"{"listzonesresponse":{"uuidList":[],"errorcode":401,"errortext":"unable to verify user credentials and/or request signature"}}"#;
    let plain = |pairs: &[(&str, &str)], secret: &str| {
        let mut form: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        form.push(("signature".to_owned(), signature_of(&form, secret)));
        form
    };
    let base = [("command", "listZones"), ("apiKey", "admin-KEY"), ("response", "json")];
    let with = |extra: &[(&'static str, &'static str)]| [base.as_slice(), extra].concat();
    let v3 = ("signatureVersion", "3");
    let cases = [
        ("no version", plain(&base, "admin-SECRET"), true),
        ("no version ignores expiry", plain(&with(&[("expires", "2001-01-01T00:00:00Z")]), "admin-SECRET"), true),
        ("version 3", plain(&with(&[v3, ("expires", "2099-01-01T00:00:00+0000")]), "admin-SECRET"), true),
        ("version 3 with Z", plain(&with(&[v3, ("expires", "2099-01-01T00:00:00Z")]), "admin-SECRET"), true),
        ("expired", plain(&with(&[v3, ("expires", "2001-01-01T00:00:00+0000")]), "admin-SECRET"), false),
        ("no expiry", plain(&with(&[v3]), "admin-SECRET"), false),
        ("wrong secret", plain(&base, "other"), false),
        ("another's secret", plain(&base, "user-SECRET"), false),
        (
            "other case of names",
            plain(&[("Command", "listZones"), ("APIKEY", "admin-KEY"), ("Response", "JSON")], "admin-SECRET"),
            true,
        ),
        ("unsigned", base.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(), false),
        ("unknown key", plain(&[("command", "listZones"), ("apiKey", "nobody"), ("response", "json")], "x"), false),
    ];
    for (name, form, passes) in cases {
        let (status, body) = cloud.admin.post(&form).await.expect("an answer");
        assert_eq!(status == 200, passes, "{name}: {body}");
        if !passes {
            assert_eq!((status, body.as_str()), (401, refusal), "{name}");
        }
    }
}

#[tokio::test]
async fn a_get_with_percent_and_plus_encoding_is_read_alike() {
    let cloud = Cloud::start().await;
    let form = cloud.admin.form("listVolumes", &[("name", "a b~*'()+/é")]);
    let query: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    for query in [query.join("&"), query.join("&").replace("%20", "+")] {
        let response = reqwest::get(format!("{}?{query}", cloud.sim.url)).await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/json; charset=UTF-8");
        assert_eq!(response.text().await.expect("a body"), r#"{"listvolumesresponse":{}}"#);
    }
}

fn percent(value: &str) -> String {
    value
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[tokio::test]
async fn refusals_have_the_servers_codes_and_texts() {
    let cloud = Cloud::start().await;
    let (zone, offering) = (cloud.sim.zone_id(), cloud.sim.custom_disk_offering_id());
    let sized = |size: &'static str| {
        vec![("zoneid", zone.clone()), ("diskofferingid", offering.clone()), ("size", size.to_owned())]
    };
    let one = |name: &'static str, value: &str| vec![(name, value.to_owned())];
    let cases = [
        ("makeCoffee", vec![], 432, "Unknown API command: makeCoffee"),
        ("listzones", vec![], 432, "Unknown API command: listzones"),
        ("deleteVolume", vec![], 431, "Unable to execute API command deletevolume due to missing parameter id"),
        ("deleteVolume", one("id", UNKNOWN), 431, "entity does not exist"),
        ("queryAsyncJobResult", one("jobid", UNKNOWN), 431, "Invalid parameter jobid value=00000000"),
        ("listVolumes", one("zoneid", UNKNOWN), 431, "Invalid parameter zoneid"),
        ("listVolumes", one("page", "1"), 431, "\"pagesize\" parameter is required"),
        ("listTemplates", vec![], 431, "missing parameter templatefilter"),
        ("createVolume", sized("1025"), 431, "Volume size: 1025 GB is out of allowed range. Min: 1. Max: 1024"),
        ("createVolume", sized("0"), 431, "Disk size must be larger than 0"),
        ("createVolume", sized("ten"), 431, "invalid value ten for parameter size"),
        ("createVolume", one("zoneid", &zone), 431, "At least one of disk Offering ID or snapshot ID"),
        ("createVolume", one("name", "bell\u{7}"), 431, "illegal ASCII non-printable characters for parameter name"),
    ];
    for (command, parameters, status, expected) in cases {
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (found, text) = cloud.admin.refused(command, &parameters).await;
        assert_eq!(found, status, "{command}: {text}");
        assert!(text.contains(expected), "{command}: {text}");
    }
    let (_, body) = cloud.admin.post(&cloud.admin.form("makeCoffee", &[])).await.expect("an answer");
    assert!(body.starts_with(r#"{"errorresponse":{"#), "{body}");
    assert_eq!(cloud.sim.counts().volumes, 1, "nothing was made");
}

#[tokio::test]
async fn accounts_see_and_touch_only_their_own() {
    let cloud = Cloud::start().await;
    let mine = cloud.volume(&cloud.user, "of-the-tenant", 1).await;
    let theirs = cloud.volume(&cloud.admin, "of-the-admin", 1).await;
    let names = |answer: &serde_json::Value| -> Vec<String> {
        answer["volume"].as_array().map(|rows| rows.iter().map(|row| text(&row["name"])).collect()).unwrap_or_default()
    };
    let data = ("type", "DATADISK");
    assert_eq!(names(&cloud.user.ok("listVolumes", &[data, ("listall", "true")]).await), ["of-the-tenant"]);
    assert_eq!(names(&cloud.admin.ok("listVolumes", &[data]).await), ["of-the-admin"]);
    assert_eq!(
        names(&cloud.admin.ok("listVolumes", &[data, ("listall", "true")]).await),
        ["of-the-tenant", "of-the-admin"]
    );
    assert_eq!(cloud.user.ok("listVolumes", &[("id", &theirs)]).await, json!({}));
    let own = cloud.user.ok("listVolumes", &[("id", &mine)]).await;
    for hidden in ["storage", "storagetype", "hypervisor", "path"] {
        assert_eq!(own["volume"][0].get(hidden), None, "{hidden} is for administrators");
    }
    let worker = cloud.sim.oma_vm_id();
    for (command, parameters) in [
        ("deleteVolume", vec![("id", theirs.as_str())]),
        ("attachVolume", vec![("id", theirs.as_str()), ("virtualmachineid", worker.as_str())]),
        ("attachVolume", vec![("id", mine.as_str()), ("virtualmachineid", worker.as_str())]),
        (
            "createVolume",
            vec![
                ("customid", UNKNOWN),
                ("zoneid", &cloud.sim.zone_id()),
                ("diskofferingid", &cloud.sim.custom_disk_offering_id()),
                ("size", "1"),
            ],
        ),
    ] {
        assert_eq!(cloud.user.refused(command, &parameters).await.0, 531, "{command}");
    }
    assert_eq!(cloud.user.refused("listHosts", &[]).await.0, 401);
}

#[tokio::test]
async fn writes_must_be_posted_where_that_is_enforced() {
    let cloud = Cloud::start_with(|config| config.enforce_post = true).await;
    assert_eq!(cloud.admin.refused("listZones", &[]).await.0, 401, "the expiry lies more than 15 minutes ahead");
    let soon = time::OffsetDateTime::now_utc() + time::Duration::minutes(5);
    let expires = soon.format(&time::format_description::well_known::Rfc3339).expect("a time");
    let form = |command: &str| {
        let pairs = [
            ("command", command),
            ("apiKey", "admin-KEY"),
            ("response", "json"),
            ("signatureVersion", "3"),
            ("expires", expires.as_str()),
        ];
        let mut form: Vec<(String, String)> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        form.push(("signature".to_owned(), signature_of(&form, "admin-SECRET")));
        form
    };
    for (command, by_get, by_post) in [("listZones", 200, 200), ("createVolume", 400, 431)] {
        let query: Vec<String> =
            form(command).iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let got = reqwest::get(format!("{}?{}", cloud.sim.url, query.join("&"))).await.expect("an answer");
        assert_eq!(got.status(), by_get, "GET {command}");
        assert_eq!(cloud.admin.post(&form(command)).await.expect("an answer").0, by_post, "POST {command}");
    }
}

#[tokio::test]
async fn catalogue_lists_answer_with_their_own_keys() {
    let cloud = Cloud::start().await;
    for (command, key, count) in [
        ("listZones", "zone", 2),
        ("listDomains", "domain", 1),
        ("listAccounts", "account", 1),
        ("listUsers", "user", 1),
        ("listResourceLimits", "resourcelimit", 12),
        ("listServiceOfferings", "serviceoffering", 3),
        ("listDiskOfferings", "diskoffering", 3),
        ("listNetworks", "network", 7),
        ("listNetworkOfferings", "networkoffering", 3),
        ("listHosts", "host", 1),
        ("listStoragePools", "storagepool", 1),
        ("listVirtualMachines", "virtualmachine", 1),
        ("listVirtualMachinesMetrics", "virtualmachine", 1),
        ("listVolumesMetrics", "volume", 1),
        ("listOsTypes", "ostype", 8),
    ] {
        let answer = cloud.admin.ok(command, &[]).await;
        assert_eq!((&answer["count"], answer[key].as_array().map(Vec::len)), (&json!(count), Some(count)), "{command}");
    }
    let capability = cloud.admin.ok("listCapabilities", &[]).await;
    assert_eq!((capability.get("count"), &capability["capability"]["supportELB"]), (None, &json!("false")));
    assert_eq!(cloud.admin.ok("listAccounts", &[("listall", "true")]).await["count"], 2);
    let domain = cloud.admin.ok("listDomains", &[]).await;
    assert_eq!(domain["domain"][0]["secondarystorageavailable"], "-1.0");
    let worker = cloud.admin.ok("listVirtualMachinesMetrics", &[]).await;
    assert_eq!(worker["virtualmachine"][0]["memorytotal"], "0.50 GiB");
    let root = cloud.admin.ok("listVolumes", &[("type", "ROOT")]).await;
    assert_eq!((&root["volume"][0]["serviceofferingid"], root["volume"][0].get("diskofferingid")), (&json!("1"), None));
}
