//! Agents that may not: codes that are wrong, used or too old, agents nobody approved, agents that were rejected or
//! revoked, and an agent that asks for another one's export.

use std::path::PathBuf;
use std::process::Command;

use lab::world::CommandOutput;
use nbd::client::Wishes;
use nbd::{Lane, NbdError};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tunnel::{AgentIdentity, Dialer, HubAddress, Refusal, TunnelError};

use crate::refusal::{everything, refused, says};
use crate::replica;
use crate::site::{DEADLINE, Site, VM, two_disks};

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_may_not_are_refused() {
    let site = Site::start(two_disks()).await;
    let code = pairing_code(&site).await;
    codes_that_are_no_codes(&site, &code).await;
    an_agent_nobody_approved(&site, &code).await;
    a_code_that_is_too_old(&site).await;
    let other = enrolled(&site, "other").await;
    the_export_of_another_agent(&site, &other).await;
    a_revoked_agent(&site, &other).await;
    site.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_an_agent_ends_its_replication() {
    let site = Site::start(two_disks()).await;
    site.done(&["vm", "add", VM]).await;
    let (job_id, _) = site.held_sync().await;
    let agent = agent_named(&site, "lab-agent").await["enrollment_id"].as_str().unwrap().to_owned();
    site.done(&["agent", "revoke", &agent]).await;
    site.until("the end of its NBD connections", async || {
        site.gateway().connections().await.unwrap().is_empty().then_some(())
    })
    .await;
    site.world.release_reads().await.unwrap();
    let progress = site.until_ended(&job_id).await;
    let error = &progress["replication"]["error"];
    assert_eq!((&progress["replication"]["status"], &error["kind"]), (&json!("failed"), &json!("forbidden")));
    assert!(error["remedy"].is_string(), "{error:#}");
    for disk in site.disks(VM).await {
        assert_eq!((&disk["sync_status"], &disk["disk_change_id"]), (&json!("failed"), &json!(null)), "{disk:#}");
    }
    site.until("the removal of the vm_snapshot", async || {
        (site.world.source_vm().await.unwrap()["vm_snapshots"] == json!([])).then_some(())
    })
    .await;
    let problem = refused(&site.run(&["vm", "discover"]).await, "unavailable", 7);
    assert_eq!(agent_named(&site, "lab-agent").await["connected"], false, "{problem:#}");
    site.world.stop().await;
}

async fn pairing_code(site: &Site) -> String {
    site.done(&["agent", "pair"]).await["code"].as_str().unwrap().to_owned()
}

/// The configuration of a further agent with a state folder of its own.
fn further_agent(site: &Site, name: &str) -> String {
    let (hub, state_dir) = (site.world.hub_address(), state_dir(site, name));
    site.file(
        &format!("{name}.toml"),
        &format!("hub = \"{hub}\"\nstate_dir = \"{}\"\nlisten = \"127.0.0.1:0\"\n", state_dir.display()),
    )
}

fn state_dir(site: &Site, name: &str) -> PathBuf {
    site.dir().join(format!("agent-{name}"))
}

async fn enroll(site: &Site, name: &str, code: &str) -> CommandOutput {
    let config = further_agent(site, name);
    site.run(&["enroll", "--config", &config, "--code", code, "--name", name]).await
}

/// Asks to be enrolled and stays waiting for the operator.
async fn waiting_agent(site: &Site, name: &str, code: &str) -> (JoinHandle<CommandOutput>, String) {
    let (operator, config) = (site.world.operator(), further_agent(site, name));
    let (own_name, code) = (name.to_owned(), code.to_owned());
    let enrolment = tokio::spawn(async move {
        operator.run(&["enroll", "--config", &config, "--code", &code, "--name", &own_name]).await.unwrap()
    });
    let waits = async || {
        let agent = agent_named(site, name).await;
        (agent["status"] == "awaiting_approval").then(|| agent["enrollment_id"].as_str().unwrap().to_owned())
    };
    let id = site.until(&format!("the request of {name}"), waits).await;
    (enrolment, id)
}

async fn enrolled(site: &Site, name: &str) -> AgentIdentity {
    let (enrolment, id) = waiting_agent(site, name, &pairing_code(site).await).await;
    site.done(&["agent", "approve", &id]).await;
    enrolment.await.unwrap().json().unwrap();
    AgentIdentity::load(&state_dir(site, name)).unwrap().unwrap()
}

async fn agent_named(site: &Site, name: &str) -> Value {
    let agents = site.done(&["agent", "list"]).await;
    let items = agents["items"].as_array().unwrap();
    items.iter().find(|agent| agent["vma_name"] == name).cloned().unwrap_or(Value::Null)
}

/// None of these uses up the code that was made.
async fn codes_that_are_no_codes(site: &Site, code: &str) {
    let before = everything(&site.world).await;
    let turned: String = code.chars().rev().collect();
    let another_secret = format!("{}{}", if code.starts_with('A') { 'B' } else { 'A' }, &code[1..]);
    let last = if code.ends_with('A') { 'B' } else { 'A' };
    let another_hub = format!("{}{last}", &code[..code.len() - 1]);
    for (wrong, kind, exit_code) in [
        ("ABCD", "invalid", 5),
        ("", "invalid", 5),
        (&turned, "unauthenticated", 6),
        (&another_secret, "forbidden", 6),
        (&another_hub, "unauthenticated", 6),
    ] {
        let problem = refused(&enroll(site, "guesser", wrong).await, kind, exit_code);
        assert!(wrong.is_empty() || !problem.to_string().contains(code), "the code is shown: {problem:#}");
    }
    assert_eq!(everything(&site.world).await, before);
}

/// It waits without a certificate; its code is used up; when the operator says no it ends with that.
async fn an_agent_nobody_approved(site: &Site, code: &str) {
    let (enrolment, id) = waiting_agent(site, "unapproved", code).await;
    let before = everything(&site.world).await;
    assert!(AgentIdentity::load(&state_dir(site, "unapproved")).unwrap().is_none());
    let config = further_agent(site, "unapproved");
    refused(&site.run(&["vma", "--config", &config]).await, "conflict", 4);
    refused(&enroll(site, "second", code).await, "forbidden", 6);
    assert!(!enrolment.is_finished(), "it waits for the operator");
    assert_eq!(everything(&site.world).await, before);
    site.done(&["agent", "reject", &id]).await;
    says(&refused(&enrolment.await.unwrap(), "forbidden", 6), &["rejected"]);
    refused(&site.run(&["agent", "approve", &id]).await, "conflict", 4);
    assert!(AgentIdentity::load(&state_dir(site, "unapproved")).unwrap().is_none());
}

/// Its ten minutes are over: its row says so.
async fn a_code_that_is_too_old(site: &Site) {
    let code = pairing_code(site).await;
    let database = site.dir().join("hub/hub.sqlite");
    let age = "import sqlite3, sys\n\
               with sqlite3.connect(sys.argv[1], timeout=30) as db:\n\
               \x20   aged = db.execute('UPDATE vma_pairing_codes SET expires_at = created_at WHERE used_at IS NULL')\n\
               \x20   assert aged.rowcount == 1, aged.rowcount\n";
    let output = Command::new("python3").args(["-c", age]).arg(database).output();
    let output = output.unwrap_or_else(|error| panic!("python3 not found: apt-get install python3 ({error})"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = everything(&site.world).await;
    let problem = refused(&enroll(site, "late", &code).await, "forbidden", 6);
    says(&problem, &["too old"]);
    assert_eq!(everything(&site.world).await, before);
}

/// It does not even learn that there is one; the owner's connections are not touched and its replication completes.
async fn the_export_of_another_agent(site: &Site, other: &AgentIdentity) {
    site.done(&["vm", "add", VM]).await;
    let (job_id, export) = site.held_sync().await;
    // Both disks' connections: what is counted before must be what is counted after.
    let count = 2 * site.world.disks().len();
    let owned = async || {
        let connections = site.gateway().connections().await.unwrap();
        (connections.len() == count && connections.iter().all(|open| open.export_name.is_some())).then_some(connections)
    };
    let before = site.until("the connections of both disks", owned).await;
    let dialer = Dialer::new(HubAddress::parse(&site.world.hub_address()).unwrap(), other).unwrap();
    for name in [export.as_str(), "no-such-export"] {
        let channel = Box::new(dialer.dial_nbd().await.unwrap());
        match Lane::open(channel, name, Wishes::default()).await {
            Err(NbdError::Refused { code, message, .. }) => {
                assert_eq!((code, message.contains(name)), (0x8000_0006, message.contains(name)), "{message}");
            }
            Err(other) => panic!("{name}: {other:?}"),
            Ok(_) => panic!("{name} was opened by another agent"),
        }
    }
    let after = site.until("the connections of both disks", owned).await;
    assert_eq!(after, before);
    site.world.release_reads().await.unwrap();
    let progress = site.until_ended(&job_id).await;
    replica::assert_equal(site, &progress).await;
}

/// Its open NBD connection ends, and it gets no other one.
async fn a_revoked_agent(site: &Site, other: &AgentIdentity) {
    let dialer = Dialer::new(HubAddress::parse(&site.world.hub_address()).unwrap(), other).unwrap();
    let mut open = dialer.dial_nbd_stream().await.unwrap();
    let id = other.facts().enrollment_id.clone();
    site.done(&["agent", "revoke", &id]).await;
    let mut said = Vec::new();
    // An end without a farewell is an error of TLS and an end all the same.
    let _ = tokio::time::timeout(DEADLINE, open.read_to_end(&mut said)).await.expect("the connection is cut");
    for dialled in [dialer.dial_nbd().await.map(drop), dialer.dial_control().await.map(drop)] {
        match dialled {
            Err(error @ TunnelError::Refused { reason: Refusal::Revoked, .. }) => assert!(error.remedy().is_some()),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("a revoked agent is let in"),
        }
    }
    assert_eq!(agent_named(site, "lab-agent").await["connected"], true, "the other agent stays");
    refused(&site.run(&["agent", "approve", &id]).await, "conflict", 4);
}
