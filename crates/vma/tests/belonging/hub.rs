//! A hub's one port with the few routes of enrolment, decided by the test instead of an operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::Problem;
use api::extract::{Json, Path as UrlPath};
use api::oma::agents::{
    EnrollChallenge, EnrollRequest, EnrollVerify, EnrollmentState, RenewCertificate, RenewedCertificate,
};
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use data_encoding::BASE64;
use model::FailureKind;
use model::status::EnrollmentStatus;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tunnel::identity::AGENT_VALIDITY;
use tunnel::{
    AcceptLimits, Acceptor, AgentIdentity, AgentKey, AgentPublicKey, Challenge, HubIdentity, Incoming, PairingCode,
    PairingRecord, Route, ServerTls, csr, issue_agent_certificate,
};
use vma::VmaConfig;
use vma::config::{FolderConfig, HotAddConfig};

/// Longest anything may take here.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// What the hub knows of the one enrolment it takes.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) asked: Vec<EnrollRequest>,
    pub(crate) polls: u32,
    /// Answers to the proof that get lost although the hub took it.
    pub(crate) lost_answers: u32,
    key: Option<AgentPublicKey>,
    challenge: Option<Challenge>,
    status: Option<EnrollmentStatus>,
}

pub(crate) struct Shared {
    identity: HubIdentity,
    pub(crate) code: PairingCode,
    pub(crate) known: Mutex<Known>,
    /// Counts what the hub was asked.
    asked: watch::Sender<u64>,
    /// Certificate serials of agents that connected.
    connected: mpsc::Sender<String>,
}

pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: tempfile::TempDir,
    address: SocketAddr,
    connected: mpsc::Receiver<String>,
    shutdown: CancellationToken,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let identity = HubIdentity::open(&folder.path().join("hub"), &[], now).unwrap();
        let tls = Arc::new(ServerTls::new(identity.ca(), &identity.server_leaf(now).unwrap()).unwrap());
        let code = PairingCode::generate(identity.ca().certificate()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connected) = mpsc::channel(8);
        let asked = watch::Sender::new(0);
        let shared = Arc::new(Shared { identity, code, known: Mutex::default(), asked, connected: sender });
        let shutdown = CancellationToken::new();
        let router = routes(Arc::clone(&shared));
        let (known, stop) = (Arc::clone(&shared), shutdown.clone());
        let handle = move |incoming| serve(incoming, router.clone(), Arc::clone(&known), stop.clone());
        tokio::spawn(Arc::new(Acceptor::new(tls, AcceptLimits::default())).serve(listener, handle, shutdown.clone()));
        Self { shared, folder, address, connected, shutdown }
    }

    /// A configuration of an agent of this hub.
    pub(crate) fn config(&self) -> VmaConfig {
        VmaConfig {
            hub: self.address.to_string(),
            state_dir: self.folder.path().join("agent"),
            listen: ([127, 0, 0, 1], 0).into(),
            file_roots: Vec::new(),
            folder: FolderConfig::default(),
            hotadd: HotAddConfig::default(),
            nbd_commands: BTreeMap::new(),
            resume_patience_minutes: vma::config::DEFAULT_RESUME_PATIENCE_MINUTES,
            wan: vma::config::WanConfig::default(),
        }
    }

    pub(crate) fn ca_fingerprint(&self) -> String {
        self.shared.identity.ca().fingerprint()
    }

    /// The operator decides.
    pub(crate) fn decide(&self, status: EnrollmentStatus) {
        self.shared.known.lock().status = Some(status);
    }

    /// Waits until the hub was asked for the state of the enrolment that often.
    pub(crate) async fn polled(&self, polls: u32) {
        let mut asked = self.shared.asked.subscribe();
        let seen = asked.wait_for(|_| self.shared.known.lock().polls >= polls);
        soon("the agent to ask", seen).await.unwrap();
    }

    /// Serial of the certificate the agent connected with.
    pub(crate) async fn connected(&mut self) -> String {
        soon("the control connection", self.connected.recv()).await.unwrap()
    }

    /// Gives an agent an identity that began `age` ago.
    pub(crate) fn enrol(&self, folder: &Path, age: time::Duration) -> AgentIdentity {
        std::fs::create_dir_all(folder).unwrap();
        let key = AgentKey::load_or_create_pending(folder).unwrap();
        let public = key.public_key();
        self.shared.known.lock().key = Some(public);
        self.decide(EnrollmentStatus::Approved);
        let certificate = self.shared.issue(public, OffsetDateTime::now_utc() - age);
        AgentIdentity::install(folder, key, &certificate, &self.shared.identity.ca().certificate_pem(), None).unwrap()
    }
}

impl Shared {
    fn issue(&self, public_key: AgentPublicKey, now: OffsetDateTime) -> String {
        let record = PairingRecord { enrollment_id: "e-1".to_owned(), vma_name: "vma-1".to_owned(), public_key };
        issue_agent_certificate(self.identity.ca(), &record, AGENT_VALIDITY, now).unwrap().certificate_pem
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/enroll", post(enroll))
        .route("/api/v1/enroll/verify", post(verify))
        .route("/api/v1/enroll/{id}", get(state))
        .route("/api/v1/enroll/{id}/renew", post(renew))
        .with_state(shared)
}

async fn serve(incoming: Incoming, router: Router, shared: Arc<Shared>, shutdown: CancellationToken) {
    let Incoming::Stream(accepted) = incoming else { return };
    match accepted.route {
        Route::Http => runtime::http::serve_stream(accepted.stream, router, shutdown).await,
        Route::AgentControl(peer) => {
            let control = tunnel::ControlConnection::from_stream(accepted.stream, peer.enrollment_id).await;
            let _ = shared.connected.send(peer.certificate_serial).await;
            if let Ok(control) = control {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = control.closed() => {}
                }
            }
        }
        Route::Nbd(_) => {}
    }
}

fn key_of(csr_pem: &str) -> AgentPublicKey {
    let base64: String = csr_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    csr::verified_key(&BASE64.decode(base64.as_bytes()).unwrap()).unwrap()
}

async fn enroll(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<EnrollRequest>,
) -> Result<Json<EnrollChallenge>, Problem> {
    if request.pairing_code != *shared.code.secret() {
        return Err(Problem::new(FailureKind::Forbidden, "the pairing code is not known"));
    }
    let key = key_of(&request.csr_pem);
    let challenge = Challenge::generate("e-1").unwrap();
    let answer = EnrollChallenge {
        enrollment_id: "e-1".to_owned(),
        challenge_nonce: challenge.nonce_text(),
        fingerprint: key.fingerprint(),
    };
    let mut known = shared.known.lock();
    known.asked.push(request);
    known.key = Some(key);
    known.challenge = Some(challenge);
    known.status = Some(EnrollmentStatus::PendingVerification);
    Ok(Json(answer))
}

async fn verify(
    State(shared): State<Arc<Shared>>,
    Json(answer): Json<EnrollVerify>,
) -> Result<Json<EnrollmentState>, Problem> {
    let mut known = shared.known.lock();
    let (key, challenge) = (known.key.unwrap(), known.challenge.clone().unwrap());
    if challenge.verify(&key, &answer.signature).is_err() {
        return Err(Problem::new(FailureKind::Unauthenticated, "the signature is wrong"));
    }
    known.status = Some(EnrollmentStatus::AwaitingApproval);
    if known.lost_answers > 0 {
        known.lost_answers -= 1;
        return Err(Problem::new(FailureKind::Unavailable, "the hub is restarting"));
    }
    Ok(Json(state_of(&shared, &known)))
}

async fn state(
    State(shared): State<Arc<Shared>>,
    UrlPath(_id): UrlPath<String>,
) -> Result<Json<EnrollmentState>, Problem> {
    let answer = {
        let mut known = shared.known.lock();
        known.polls += 1;
        match known.polls {
            // Every third answer is lost: the agent has to bear that.
            polls if polls.is_multiple_of(3) => Err(Problem::new(FailureKind::Unavailable, "the hub is restarting")),
            _ => Ok(Json(state_of(&shared, &known))),
        }
    };
    shared.asked.send_modify(|asked| *asked += 1);
    answer
}

fn state_of(shared: &Shared, known: &Known) -> EnrollmentState {
    let status = known.status.unwrap_or(EnrollmentStatus::Expired);
    let approved = status == EnrollmentStatus::Approved;
    EnrollmentState {
        enrollment_id: "e-1".to_owned(),
        status,
        certificate_pem: approved.then(|| shared.issue(known.key.unwrap(), OffsetDateTime::now_utc())),
        ca_pem: approved.then(|| shared.identity.ca().certificate_pem()),
    }
}

async fn renew(
    State(shared): State<Arc<Shared>>,
    UrlPath(_id): UrlPath<String>,
    Json(request): Json<RenewCertificate>,
) -> Result<Json<RenewedCertificate>, Problem> {
    let key = key_of(&request.csr_pem);
    if shared.known.lock().key != Some(key) {
        return Err(Problem::new(FailureKind::Forbidden, "another key is enrolled"));
    }
    let now = OffsetDateTime::now_utc();
    let certificate_pem = shared.issue(key, now);
    shared.asked.send_modify(|asked| *asked += 1);
    Ok(Json(RenewedCertificate { certificate_pem, expires_at: now + AGENT_VALIDITY }))
}
