//! From the pairing code to the revocation, and everything that is refused on the way.

use std::time::Duration;

use hyper::{Method, StatusCode};
use model::Secret;
use model::status::EnrollmentStatus;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::timeout;
use tunnel::{AgentIdentity, AgentKey, Challenge, PairingCode, Refusal};

use crate::agent::{AGENT_REMOTE, Agent, decide, enrolment, pairing_code, send_signature};
use crate::hub::Hub;

/// For things that happen at once.
const SOON: Duration = Duration::from_secs(10);

async fn connected(hub: &Hub, id: &str) -> api::vma::VmaClient {
    hub.state.agents().wait_connected(id, SOON).await.unwrap()
}

async fn agents(hub: &Hub) -> Vec<Value> {
    let page = hub.ask(Method::GET, "/api/v1/agents", None).await.expect(StatusCode::OK);
    page["items"].as_array().unwrap().clone()
}

async fn audit(hub: &Hub) -> Vec<String> {
    let page = hub.ask(Method::GET, "/api/v1/agents/audit", None).await.expect(StatusCode::OK);
    let events = page["items"].as_array().unwrap().iter().rev();
    events.map(|line| line["event_type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_agent_is_paired_approved_connected_and_renewed() {
    let hub = Hub::start().await;
    let agent = Agent::new();
    let code = pairing_code(&hub).await;
    let challenge = agent.enroll(&hub, &code).await.expect(StatusCode::CREATED);
    let id = challenge["enrollment_id"].as_str().unwrap().to_owned();
    assert_eq!(agent.refusal(&hub, &id).await, Some(Refusal::NotApproved));
    agent.verify(&hub, &challenge).await.expect(StatusCode::OK);
    let waiting = enrolment(&hub, &id).await;
    assert_eq!((&waiting["status"], &waiting["certificate_pem"]), (&json!("awaiting_approval"), &Value::Null));
    assert_eq!(agent.refusal(&hub, &id).await, Some(Refusal::NotApproved));

    let view = decide(&hub, &id, "approve").await.expect(StatusCode::OK);
    assert_eq!((&view["status"], &view["approved_by"]), (&json!("approved"), &json!("admin")));
    let state = enrolment(&hub, &id).await;
    let (certificate, ca) = (state["certificate_pem"].as_str().unwrap(), state["ca_pem"].as_str().unwrap());
    let key = AgentKey::load_or_create_pending(agent.folder.path()).unwrap();
    AgentIdentity::install(agent.folder.path(), key, certificate, ca, Some(&code.ca_prefix())).unwrap();

    let _serving = agent.connect(&hub, &id).await;
    let client = connected(&hub, &id).await;
    assert_eq!(client.health().await.unwrap().protocol_version, "1");
    assert_eq!(hub.state.agents().only_connected().unwrap().0, id);
    let view = agents(&hub).await.remove(0);
    assert_eq!((&view["connected"], &view["remote_address"]), (&json!(true), &json!(AGENT_REMOTE)));
    assert!(view["last_seen_at"].is_string() && view["certificate_expires_at"].is_string());

    let path = format!("/api/v1/enroll/{id}/renew");
    let body = json!({ "csr_pem": agent.csr_pem() });
    let renewed = hub.ask_anonymously(Method::POST, &path, Some(body), AGENT_REMOTE).await.expect(StatusCode::OK);
    assert_ne!(renewed["certificate_pem"], json!(certificate));
    let key = agent.key.csr("x").map(|_| AgentIdentity::load(agent.folder.path()).unwrap().unwrap()).unwrap();
    let renewed_pem = renewed["certificate_pem"].as_str().unwrap();
    AgentIdentity::install(agent.folder.path(), key.clone_key().unwrap(), renewed_pem, ca, None).unwrap();
    let body = json!({ "csr_pem": Agent::new().csr_pem() });
    hub.ask_anonymously(Method::POST, &path, Some(body), AGENT_REMOTE).await.problem(StatusCode::FORBIDDEN);

    assert_eq!(audit(&hub).await, ["enrollment", "verification", "approval", "connection", "renewal"]);
    hub.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_code_the_answer_is_the_same() {
    let hub = Hub::start().await;
    let used = pairing_code(&hub).await;
    Agent::new().enroll(&hub, &used).await.expect(StatusCode::CREATED);
    let ca = hub.state.identity().ca().certificate();
    let (unknown, expired) = (PairingCode::generate(ca).unwrap(), PairingCode::generate(ca).unwrap());
    let past = OffsetDateTime::now_utc() - time::Duration::seconds(1);
    let hash = expired.secret_hash();
    store::vma_pairing_codes::create(hub.state.store(), &hash, "admin", past).await.unwrap();

    let mut answers = Vec::new();
    for code in [&used, &unknown, &expired] {
        answers.push(Agent::new().enroll(&hub, code).await.problem(StatusCode::FORBIDDEN));
    }
    assert!(answers[0]["remedy"].as_str().unwrap().contains("pairing code"));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(agents(&hub).await.len(), 1);
    hub.stop().await;
}

#[tokio::test]
async fn of_two_agents_with_one_code_one_is_enrolled() {
    let hub = Hub::start().await;
    let code = pairing_code(&hub).await;
    let (one, other) = (Agent::new(), Agent::new());
    let (one, other) = tokio::join!(one.enroll(&hub, &code), other.enroll(&hub, &code));
    let mut statuses = [one.status, other.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::CREATED, StatusCode::FORBIDDEN]);
    hub.stop().await;
}

#[tokio::test]
async fn three_wrong_signatures_reject_the_enrolment() {
    let hub = Hub::start().await;
    let (agent, stranger) = (Agent::new(), AgentKey::generate().unwrap());
    let code = pairing_code(&hub).await;
    let challenge = agent.enroll(&hub, &code).await.expect(StatusCode::CREATED);
    let id = challenge["enrollment_id"].as_str().unwrap();
    let nonce = challenge["challenge_nonce"].as_str().unwrap();
    let forged = Challenge::from_text(id, nonce).unwrap().sign(&stranger).unwrap();
    for attempts_left in [2, 1, 0] {
        let problem = send_signature(&hub, id, &forged).await.problem(StatusCode::FORBIDDEN);
        assert!(problem["detail"].as_str().unwrap().contains(&format!("{attempts_left} attempts left")), "{problem}");
    }
    assert_eq!(enrolment(&hub, id).await["status"], "rejected");
    agent.verify(&hub, &challenge).await.problem(StatusCode::CONFLICT);
    decide(&hub, id, "approve").await.problem(StatusCode::CONFLICT);
    assert_eq!(agent.refusal(&hub, id).await, Some(Refusal::Unknown));
    assert_eq!(audit(&hub).await, ["enrollment", "verification", "verification", "verification", "rejection"]);
    hub.stop().await;
}

#[tokio::test]
async fn an_enrolment_that_took_too_long_is_neither_verified_nor_approved() {
    let hub = Hub::start().await;
    let agent = Agent::new();
    let code = pairing_code(&hub).await;
    let now = OffsetDateTime::now_utc();
    let challenge = Challenge::generate("").unwrap();
    let asked = store::vma_enrollments::NewEnrollment {
        code_hash: tunnel::pairing::secret_hash(&Secret::new(code.secret().expose())).unwrap(),
        vma_name: "late".into(),
        vma_version: "0".into(),
        vma_fingerprint: agent.fingerprint(),
        vma_public_key: agent.key.public_key().text(),
        vma_ip_address: "192.0.2.1".into(),
        challenge_nonce: challenge.nonce_text(),
        expires_at: now,
    };
    let row = store::vma_enrollments::enroll(hub.state.store(), &asked, now).await.unwrap();
    let challenge = json!({ "enrollment_id": row.id, "challenge_nonce": asked.challenge_nonce });
    agent.verify(&hub, &challenge).await.problem(StatusCode::CONFLICT);
    assert_eq!(store::vma_enrollments::expire_abandoned(hub.state.store(), now).await.unwrap(), 1);
    assert_eq!(enrolment(&hub, &row.id).await["status"], "expired");
    // The same key may try again with a fresh code.
    agent.apply(&hub).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_revoked_agent_is_cut_off_everywhere_and_stays_out() {
    let hub = Hub::start().await;
    let agent = Agent::new();
    let id = agent.apply(&hub).await;
    decide(&hub, &id, "revoke").await.problem(StatusCode::CONFLICT);
    decide(&hub, &id, "approve").await.expect(StatusCode::OK);
    let serving = agent.connect(&hub, &id).await;
    connected(&hub, &id).await;

    let view = decide(&hub, &id, "revoke").await.expect(StatusCode::OK);
    assert_eq!((&view["status"], &view["connected"]), (&json!("revoked"), &json!(false)));
    // How it ends (closed or reset) does not matter, that it does is the point.
    let _ended = timeout(SOON, serving).await.unwrap().unwrap();
    assert_eq!(*hub.gateway.cut.lock(), std::slice::from_ref(&id));
    assert_eq!(agent.refusal(&hub, &id).await, Some(Refusal::Revoked));
    assert_eq!(enrolment(&hub, &id).await["certificate_pem"], Value::Null);
    let path = format!("/api/v1/enroll/{id}/renew");
    let body = json!({ "csr_pem": agent.csr_pem() });
    hub.ask_anonymously(Method::POST, &path, Some(body), AGENT_REMOTE).await.problem(StatusCode::CONFLICT);
    let problem = agent.enroll(&hub, &pairing_code(&hub).await).await.problem(StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("revoked"), "{problem}");
    hub.stop().await;
}

#[tokio::test]
async fn only_the_enrolled_key_connects_and_a_newer_connection_replaces_the_older() {
    let hub = Hub::start().await;
    let (agent, stranger) = (Agent::new(), Agent::new());
    let id = agent.apply(&hub).await;
    decide(&hub, &id, "approve").await.expect(StatusCode::OK);
    assert_eq!(stranger.refusal(&hub, &id).await, Some(Refusal::Unknown));
    assert_eq!(agent.refusal(&hub, "no-such-enrolment").await, Some(Refusal::Unknown));

    let first = agent.connect(&hub, &id).await;
    connected(&hub, &id).await;
    let second = agent.connect(&hub, &id).await;
    let _ended = timeout(SOON, first).await.unwrap().unwrap();
    assert!(connected(&hub, &id).await.health().await.is_ok());
    assert!(!second.is_finished());
    let row = store::vma_enrollments::by_id(hub.state.store(), &id).await.unwrap();
    assert_eq!(*row.status, EnrollmentStatus::Approved);
    hub.stop().await;
}

#[tokio::test]
async fn an_address_may_not_ask_too_often() {
    let hub = Hub::start().await;
    let agent = Agent::new();
    let body = || Some(agent.request("000000000000"));
    for _ in 0..10 {
        let answer = hub.ask_anonymously(Method::POST, "/api/v1/enroll", body(), AGENT_REMOTE).await;
        answer.problem(StatusCode::FORBIDDEN);
    }
    let answer = hub.ask_anonymously(Method::POST, "/api/v1/enroll", body(), AGENT_REMOTE).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.problem(StatusCode::TOO_MANY_REQUESTS);
    let elsewhere = hub.ask_anonymously(Method::POST, "/api/v1/enroll", body(), "203.0.113.1:1").await;
    elsewhere.problem(StatusCode::FORBIDDEN);
    hub.stop().await;
}

#[tokio::test]
async fn what_an_agent_may_send_is_kept_as_it_was_said() {
    let hub = Hub::start().await;
    let agent = Agent::new();
    let code = pairing_code(&hub).await;
    let challenge = agent.enroll(&hub, &code).await.expect(StatusCode::CREATED);
    let path = format!("/api/v1/agents/{}/limits", challenge["enrollment_id"].as_str().unwrap());
    let none = json!({ "limits": [] });
    assert_eq!(hub.ask(Method::GET, &path, None).await.expect(StatusCode::OK), none);
    let said = json!({ "limits": [
        { "mib_per_s": 20, "from": "08:00", "to": "18:00", "days": ["mon", "fri"] },
        { "mib_per_s": 50 },
    ] });
    assert_eq!(hub.ask(Method::PUT, &path, Some(said.clone())).await.expect(StatusCode::OK), said);
    assert_eq!(hub.ask(Method::GET, &path, None).await.expect(StatusCode::OK), said);
    for wrong in [
        json!({ "limits": [{ "mib_per_s": 0 }] }),
        json!({ "limits": [{ "mib_per_s": 1, "from": "08:00" }] }),
        json!({ "limits": [{ "mib_per_s": 1, "from": "08:00", "to": "08:00" }] }),
        json!({ "limits": [{ "mib_per_s": 1, "until": "08:00" }] }),
        json!({ "limits": vec![json!({ "mib_per_s": 1 }); 33] }),
    ] {
        assert!(hub.ask(Method::PUT, &path, Some(wrong.clone())).await.status.is_client_error(), "{wrong}");
    }
    assert_eq!(hub.ask(Method::GET, &path, None).await.expect(StatusCode::OK), said);
    let nobody = "/api/v1/agents/00000000-0000-0000-0000-000000000000/limits";
    hub.ask(Method::PUT, nobody, Some(none.clone())).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(hub.ask(Method::PUT, &path, Some(none.clone())).await.expect(StatusCode::OK), none);
    hub.stop().await;
}
