//! What an operator can get wrong: every refusal says what and what to do, and nothing is stored.

use serde_json::{Value, json};

use crate::site::{DB, Site, TWIN, WEB};

pub async fn bad_input_changes_nothing(site: &Site) {
    let [first, _] = site.macs(WEB).await;
    let map = |more: &[&'static str]| {
        let card = ["network", "map", WEB, "--mac", first.as_str()].map(str::to_owned);
        card.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect::<Vec<String>>()
    };
    let before = everything(site).await;
    let cases = [
        (map(&["--to", "lab-far"]), "invalid", 5, "is in another zone"),
        (map(&["--to", "lab-closed"]), "invalid", 5, "takes no VMs"),
        (map(&["--to", "nowhere"]), "not_found", 3, "there is no network \"nowhere\""),
        (map(&["--to", ""]), "invalid", 5, "destination_network must have"),
        (map(&["--to", "lab-isolated", "--strategy", "keep-ip"]), "invalid", 5, "none is named"),
        (map(&["--to", "lab-isolated", "--ip", "10.1.1.9"]), "invalid", 5, "leaves that to the network"),
        (map(&["--to", "lab-isolated", "--strategy", "keep-ip", "--ip", "10.2.2.9"]), "invalid", 5, "10.2.2.9"),
        (map(&["--to", "lab-isolated", "--strategy", "keep-ip", "--ip", "10.1.1.1"]), "invalid", 5, "10.1.1.1"),
        (map(&["--to", "lab-isolated", "--strategy", "keep-ip", "--ip", "ten"]), "invalid", 5, "ten"),
        (map(&["--to", "lab-l2", "--strategy", "keep-ip", "--ip", "10.1.1.9"]), "invalid", 5, "lab-l2"),
    ];
    for (arguments, kind, code, said) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let problem = site.refused(&arguments, kind, code).await;
        assert!(problem["detail"].as_str().unwrap().contains(said), "{said}: {problem:#}");
    }
    let others: [(&[&str], &str, i32, &str); 7] = [
        (
            &["network", "map", WEB, "--mac", "00:50:56:ff:ff:ff", "--to", "lab-isolated"],
            "not_found",
            3,
            "no network card",
        ),
        (&["network", "map", WEB, "--source-network", "Lost", "--to", "lab-isolated"], "not_found", 3, "\"Lost\""),
        (
            &["network", "map", WEB, "--mac", "00:50:56:ff:ff", "--to", "lab-isolated"],
            "invalid",
            5,
            "not a MAC address",
        ),
        (&["network", "map", "nobody", "--mac", "00:50:56:ff:ff:ff", "--to", "lab-isolated"], "not_found", 3, "nobody"),
        (
            &["network", "map", TWIN, "--source-network", "VM Network", "--to", "lab-isolated"],
            "invalid",
            5,
            "as Network adapter",
        ),
        (&["network", "validate", "nobody"], "not_found", 3, "nobody"),
        (&["network", "unmap", WEB, "--mac", "nonsense"], "invalid", 5, "not a MAC address"),
    ];
    for (arguments, kind, code, said) in others {
        let problem = site.refused(arguments, kind, code).await;
        assert!(problem["detail"].as_str().unwrap().contains(said), "{said}: {problem:#}");
    }
    for arguments in [["network", "map", WEB, "--to", "lab-isolated"].as_slice(), &["network", "list"]] {
        assert_eq!(site.run(arguments).await.code, 2, "{arguments:?}");
    }
    assert_eq!(everything(site).await, before, "a refusal changed something");
}

/// What a refused request must leave alone.
async fn everything(site: &Site) -> Value {
    let mut lists = Vec::new();
    for vm in [WEB, DB, TWIN] {
        lists.push(site.done(&["network", "list", vm]).await);
    }
    let cloud = site.world.cloudstack_state().await.unwrap();
    json!({ "lists": lists, "volumes": cloud["volumes"], "vms": cloud["vms"], "jobs": cloud["pending_jobs"] })
}

/// A target that does not answer, and one that does not let the hub in: told as what they are, and nothing is stored.
pub async fn a_target_that_fails_is_told(site: &Site) {
    let [first, _] = site.macs(WEB).await;
    let map = ["network", "map", WEB, "--mac", &first, "--to", "lab-bubble-2"];
    let before = everything(site).await;
    for arguments in [map.as_slice(), &["network", "validate", WEB], &["target", "networks"]] {
        let fault = json!({ "command": "listNetworks", "kind": "503", "count": 4 });
        site.world.cloudstack_admin("/lab/faults", &fault).await.unwrap();
        site.refused(arguments, "unavailable", 7).await;
    }
    assert_eq!(everything(site).await, before);
    site.add_target("wrong-key", "lab-zone", "another-secret").await;
    site.done(&["vm", "add", DB, "--target", "wrong-key"]).await;
    for arguments in [["network", "validate", DB].as_slice(), &["target", "networks", "wrong-key"]] {
        // Not "unauthenticated": the operator's own token is as good as it was.
        let problem = site.refused(arguments, "forbidden", 6).await;
        assert!(problem["remedy"].as_str().unwrap().contains("API key"), "{problem:#}");
    }
    site.done(&["vm", "add", DB, "--target", "lab-cloud"]).await;
}
