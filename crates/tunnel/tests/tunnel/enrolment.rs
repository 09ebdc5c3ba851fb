//! The whole way from a code on a screen to an agent that is let in, over HTTP on the one port.

use std::sync::{Arc, Mutex};

use api::Client;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use model::Secret;
use nbd::channel::Channel;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tunnel::identity::AGENT_VALIDITY;
use tunnel::{
    AgentIdentity, AgentKey, Challenge, Dialer, HubCa, HubTrust, PairingCode, PairingRecord, Route, TunnelError, csr,
    dial_http, issue_agent_certificate, pairing,
};

use crate::support::{Hub, soon};

#[derive(Serialize, Deserialize)]
struct Enroll {
    secret: Secret,
    csr: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Challenged {
    enrollment_id: String,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct Issued {
    certificate_pem: String,
    ca_pem: String,
}

struct Desk {
    ca: HubCa,
    code_hash: String,
    pending: Mutex<Option<(Challenge, PairingRecord)>>,
}

async fn enroll(State(desk): State<Arc<Desk>>, Json(request): Json<Enroll>) -> Json<Challenged> {
    assert_eq!(pairing::secret_hash(&request.secret).unwrap(), desk.code_hash);
    let enrollment_id = "0198c0de-7a11".to_owned();
    let challenge = Challenge::generate(&enrollment_id).unwrap();
    let nonce = challenge.nonce_text();
    let public_key = csr::verified_key(&request.csr).unwrap();
    let record = PairingRecord { enrollment_id: enrollment_id.clone(), vma_name: "vma".to_owned(), public_key };
    *desk.pending.lock().unwrap() = Some((challenge, record));
    Json(Challenged { enrollment_id, nonce })
}

async fn verify(State(desk): State<Arc<Desk>>, Json(answer): Json<Answer>) -> Json<Issued> {
    let (challenge, record) = desk.pending.lock().unwrap().take().unwrap();
    challenge.verify(&record.public_key, &answer.signature).unwrap();
    let issued = issue_agent_certificate(&desk.ca, &record, AGENT_VALIDITY, OffsetDateTime::now_utc()).unwrap();
    Json(Issued { certificate_pem: issued.certificate_pem, ca_pem: desk.ca.certificate_pem() })
}

#[tokio::test]
async fn an_agent_enrols_with_a_typed_code_and_gets_in() {
    let mut hub = Hub::start().await;
    let code = PairingCode::generate(&hub.ca()).unwrap();
    let desk = Desk {
        ca: HubCa::load_or_create(hub.folder.path(), OffsetDateTime::now_utc()).unwrap(),
        code_hash: code.secret_hash(),
        pending: Mutex::default(),
    };
    let app =
        Router::new().route("/enroll", post(enroll)).route("/enroll/verify", post(verify)).with_state(Arc::new(desk));

    let typed = code.text().expose().to_lowercase().replace('-', " ");
    let read = PairingCode::parse(&typed).unwrap();
    let http = dial_http(&hub.hub_address(), HubTrust::Prefix(read.ca_prefix())).await.unwrap();
    let accepted = hub.next().await;
    assert_eq!(accepted.route, Route::Http);
    tokio::spawn(async move {
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(accepted.stream), TowerToHyperService::new(app)).await;
    });

    let folder = tempfile::tempdir().unwrap();
    let key = AgentKey::load_or_create_pending(folder.path()).unwrap();
    let resumed = AgentKey::load_or_create_pending(folder.path()).unwrap();
    assert_eq!(key.public_key(), resumed.public_key());
    assert!(AgentIdentity::load(folder.path()).unwrap().is_none());
    let hub_ca = http.hub_ca().clone();
    let client = Client::new(Arc::new(http));
    let request = Enroll { secret: read.secret().clone(), csr: key.csr("vma").unwrap() };
    let challenged: Challenged = soon("enrol", client.post("/enroll", &request)).await.unwrap();
    let challenge = Challenge::from_text(&challenged.enrollment_id, &challenged.nonce).unwrap();
    let answer = Answer { signature: challenge.sign(&key).unwrap() };
    let issued: Issued = soon("verify", client.post("/enroll/verify", &answer)).await.unwrap();

    let pin = read.ca_prefix();
    AgentIdentity::install(folder.path(), key, &issued.certificate_pem, &issued.ca_pem, Some(&pin)).unwrap();
    let identity = AgentIdentity::load(folder.path()).unwrap().unwrap();
    assert_eq!(*identity.hub_ca(), hub_ca);
    assert_eq!(identity.facts().enrollment_id, challenged.enrollment_id);
    assert!(!folder.path().join("enrolment.key").exists());

    let dialer = Dialer::new(hub.hub_address(), &identity).unwrap();
    let serve = async {
        let mut accepted = hub.next_nbd().await;
        accepted.channel.send(&[b"NBDMAGIC"]).unwrap();
        accepted
    };
    let (dialled, accepted) = soon("the dial", async { tokio::join!(dialer.dial_nbd(), serve) }).await;
    dialled.unwrap();
    assert_eq!(accepted.peer, *identity.facts());
}

#[tokio::test]
async fn an_identity_is_installed_only_when_all_of_it_belongs_together() {
    let (hub, other) = (Hub::start().await, Hub::start().await);
    let agent = hub.enrol("e-1");
    let stored = std::fs::read_to_string(agent.file()).unwrap();
    let certificate = stored.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let certificate = &certificate[certificate.find("-----BEGIN CERTIFICATE").unwrap()..];
    let (ca, other_ca) = (hub.identity.ca().certificate_pem(), other.identity.ca().certificate_pem());
    let pin = |of: &Hub| tunnel::CaPrefix::of(&of.ca());
    let folder = tempfile::tempdir().unwrap();
    let own = || agent.identity.clone_key().unwrap();
    for (key, certificate, ca, pin, said) in [
        (AgentKey::generate().unwrap(), certificate, &ca, pin(&hub), "not for this agent's key"),
        (own(), certificate, &other_ca, pin(&other), "not issued by the hub's CA"),
        (own(), certificate, &ca, pin(&other), "not the one of the pairing code"),
        (own(), "rubbish", &ca, pin(&hub), "exactly one certificate"),
        (own(), ca.as_str(), &ca, pin(&hub), "alternative name"),
    ] {
        let error = AgentIdentity::install(folder.path(), key, certificate, ca, Some(&pin)).unwrap_err();
        assert!(matches!(error, TunnelError::IdentityRejected { .. }));
        assert!(error.to_string().contains(said), "{error}");
        assert!(AgentIdentity::load(folder.path()).unwrap().is_none());
    }
    AgentIdentity::install(folder.path(), own(), certificate, &ca, None).unwrap();
    std::fs::write(folder.path().join("agent.pem"), "rubbish").unwrap();
    assert!(AgentIdentity::load(folder.path()).is_err());
}
