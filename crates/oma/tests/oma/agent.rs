//! An agent for tests: a key, what it sends to be enrolled, and its end of the control connection.

use api::extract::Json;
use api::vma::AgentHealth;
use axum::Router;
use axum::routing::get;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnel::front::FrontKind;
use tunnel::{AgentKey, Challenge, FrontPreface, PairingCode, Refusal, TunnelError};

use crate::hub::{Answer, Hub, REMOTE};

/// Where agents seem to call from.
pub const AGENT_REMOTE: &str = "198.51.100.7:50000";

/// An agent that has a key.
pub struct Agent {
    pub key: AgentKey,
    pub folder: tempfile::TempDir,
}

impl Agent {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = AgentKey::load_or_create_pending(folder.path()).unwrap();
        Self { key, folder }
    }

    pub fn fingerprint(&self) -> String {
        self.key.public_key().fingerprint()
    }

    pub fn csr_pem(&self) -> String {
        let text = data_encoding::BASE64.encode(&self.key.csr("whatever").unwrap());
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    /// What it sends with the secret part of a code.
    pub fn request(&self, secret: &str) -> Value {
        json!({ "pairing_code": secret, "vma_name": "vma-1", "vma_version": "0.1.0", "csr_pem": self.csr_pem() })
    }

    /// Asks to be enrolled.
    pub async fn enroll(&self, hub: &Hub, code: &PairingCode) -> Answer {
        let body = self.request(code.secret().expose());
        hub.ask_anonymously(Method::POST, "/api/v1/enroll", Some(body), AGENT_REMOTE).await
    }

    /// Signs a challenge with its key and sends it.
    pub async fn verify(&self, hub: &Hub, challenge: &Value) -> Answer {
        let id = challenge["enrollment_id"].as_str().unwrap();
        let nonce = challenge["challenge_nonce"].as_str().unwrap();
        let signature = Challenge::from_text(id, nonce).unwrap().sign(&self.key).unwrap();
        send_signature(hub, id, &signature).await
    }

    /// Enrolls and proves its key: then it waits for approval. Answers with the enrolment.
    pub async fn apply(&self, hub: &Hub) -> String {
        let code = pairing_code(hub).await;
        let challenge = self.enroll(hub, &code).await.expect(StatusCode::CREATED);
        assert_eq!(challenge["fingerprint"], self.fingerprint());
        let state = self.verify(hub, &challenge).await.expect(StatusCode::OK);
        assert_eq!(state["status"], "awaiting_approval");
        challenge["enrollment_id"].as_str().unwrap().to_owned()
    }

    /// The line the gateway writes for its connections.
    pub fn preface(&self, enrollment_id: &str) -> FrontPreface {
        FrontPreface {
            kind: FrontKind::Agent,
            remote: AGENT_REMOTE.parse().unwrap(),
            enrollment_id: Some(enrollment_id.to_owned()),
            fingerprint: Some(self.fingerprint()),
        }
    }

    /// Connects and serves its API to the hub; ends when the connection does.
    pub async fn connect(&self, hub: &Hub, enrollment_id: &str) -> JoinHandle<Result<(), TunnelError>> {
        let stream = hub.hand_over(&self.preface(enrollment_id)).await;
        tokio::spawn(tunnel::serve_control(stream, api(), CancellationToken::new()))
    }

    /// Connects and reads why it is refused.
    pub async fn refusal(&self, hub: &Hub, enrollment_id: &str) -> Option<Refusal> {
        let mut stream = hub.hand_over(&self.preface(enrollment_id)).await;
        let mut line = Vec::new();
        stream.read_to_end(&mut line).await.unwrap();
        Refusal::parse(&line)
    }
}

/// Has an operator make a pairing code.
pub async fn pairing_code(hub: &Hub) -> PairingCode {
    let made = hub.ask(Method::POST, "/api/v1/agents/pairing-codes", None).await.expect(StatusCode::CREATED);
    let code = PairingCode::parse(made["code"].as_str().unwrap()).unwrap();
    assert!(code.ca_prefix().matches(hub.state.identity().ca().certificate()));
    code
}

pub async fn send_signature(hub: &Hub, enrollment_id: &str, signature: &str) -> Answer {
    let body = json!({ "enrollment_id": enrollment_id, "signature": signature });
    hub.ask_anonymously(Method::POST, "/api/v1/enroll/verify", Some(body), AGENT_REMOTE).await
}

/// Has an operator decide about an agent.
pub async fn decide(hub: &Hub, enrollment_id: &str, verb: &str) -> Answer {
    hub.ask(Method::POST, &format!("/api/v1/agents/{enrollment_id}/{verb}"), None).await
}

/// What the agent sees of its enrolment.
pub async fn enrolment(hub: &Hub, enrollment_id: &str) -> Value {
    let path = format!("/api/v1/enroll/{enrollment_id}");
    hub.ask_anonymously(Method::GET, &path, None, REMOTE).await.expect(StatusCode::OK)
}

fn api() -> Router {
    let health = || async {
        Json(AgentHealth {
            status: "ok".to_owned(),
            version: "0.1.0".to_owned(),
            protocol_version: "1".to_owned(),
            nbd_commands: Vec::new(),
            active_runs: 0,
        })
    };
    Router::new().route("/health", get(health))
}
