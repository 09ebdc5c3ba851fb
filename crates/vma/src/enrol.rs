//! Pairing this agent with its hub: the code an operator typed, a proof of the key, an operator's approval.
//!
//! The hub is trusted by the part of the code that names its CA; only the other, secret part is sent. Waiting survives
//! lost links, and a restart: the pending key and the enrolment's id are kept until it is decided.

mod pending;

use std::path::Path;
use std::time::Duration;

use api::oma::agents::{EnrollChallenge, EnrollRequest, EnrollVerify, EnrollmentState};
use model::FailureKind;
use model::status::EnrollmentStatus;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tunnel::{AgentIdentity, AgentKey, Challenge, HubAddress, HubTrust, PairingCode, TunnelError};

use crate::config::VmaConfig;
use crate::error::VmaError;
use crate::hub::{Hub, csr_pem};

/// How often the hub is asked whether the operator has decided.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Longest name of an agent, in characters: it stands in its certificate.
const MAX_NAME_CHARS: usize = 64;
/// Where the kernel tells this machine's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";
/// The name of a machine that has none.
const NAMELESS: &str = "vma";

/// What an operator gives.
#[derive(Debug, Clone)]
pub struct EnrolRequest {
    /// The pairing code as typed.
    pub code: String,
    /// What the hub's operator sees; this machine's name when absent.
    pub name: Option<String>,
}

/// A finished enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enrolled {
    /// The enrolment.
    pub enrollment_id: String,
    /// Fingerprint of this agent's key.
    pub fingerprint: String,
}

/// Enrols this agent; `told` is called once with the key's fingerprint when the operator's decision is waited for.
///
/// # Errors
/// The code cannot be right or is refused, what answers is not the hub of the code, the operator says no, or
/// `Cancelled` by the shutdown: then the same call goes on where it stopped.
pub async fn enrol(
    config: &VmaConfig,
    request: &EnrolRequest,
    told: impl Fn(&str) + Send,
    shutdown: CancellationToken,
) -> Result<Enrolled, VmaError> {
    let code = PairingCode::parse(&request.code).map_err(VmaError::PairingCode)?;
    let hub = Hub::new(HubAddress::parse(&config.hub)?, HubTrust::Prefix(code.ca_prefix()));
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(VmaError::Cancelled),
        enrolled = pair(&hub, &config.state_dir, &code, request, told) => enrolled,
    }
}

async fn pair(
    hub: &Hub,
    folder: &Path,
    code: &PairingCode,
    request: &EnrolRequest,
    told: impl Fn(&str) + Send,
) -> Result<Enrolled, VmaError> {
    let make = tokio::fs::create_dir_all(folder).await;
    make.map_err(|source| VmaError::StateFile { path: folder.to_owned(), source })?;
    let enrollment_id = match pending::resumed(hub, folder).await? {
        Some(enrollment_id) => enrollment_id,
        None => begin(hub, folder, code, request).await?,
    };
    let key = AgentKey::load_or_create_pending(folder)?;
    let fingerprint = key.public_key().fingerprint();
    told(&fingerprint);
    let state = decided(hub, &enrollment_id).await?;
    if state.status != EnrollmentStatus::Approved {
        pending::forget(folder)?;
        return Err(VmaError::NotApproved { status: state.status });
    }
    let missing = || TunnelError::IdentityRejected { reason: "a certificate is missing".to_owned() };
    let (certificate, ca) = state.certificate_pem.zip(state.ca_pem).ok_or_else(missing)?;
    AgentIdentity::install(folder, key, &certificate, &ca, Some(&code.ca_prefix()))?;
    pending::forget(folder)?;
    tracing::info!(enrollment_id, "enrolled");
    Ok(Enrolled { enrollment_id, fingerprint })
}

/// Uses the code and proves the key.
async fn begin(hub: &Hub, folder: &Path, code: &PairingCode, request: &EnrolRequest) -> Result<String, VmaError> {
    let key = AgentKey::load_or_create_pending(folder)?;
    let name = request.name.clone().unwrap_or_else(host_name);
    let asked = EnrollRequest {
        pairing_code: code.secret().clone(),
        csr_pem: csr_pem(&key, &name)?,
        vma_name: name,
        vma_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let challenge = hub.enroll(&asked).await?;
    if challenge.fingerprint != key.public_key().fingerprint() {
        let reason = "the hub names another key than this agent's".to_owned();
        return Err(TunnelError::IdentityRejected { reason }.into());
    }
    pending::note(folder, &challenge.enrollment_id)?;
    prove(hub, &key, &challenge).await?;
    Ok(challenge.enrollment_id)
}

/// Signs the challenge. A lost answer is no failure: whether the hub got it is asked before it is sent again.
async fn prove(hub: &Hub, key: &AgentKey, challenge: &EnrollChallenge) -> Result<(), VmaError> {
    let enrollment_id = challenge.enrollment_id.clone();
    let signature = Challenge::from_text(&enrollment_id, &challenge.challenge_nonce)?.sign(key)?;
    let answer = EnrollVerify { enrollment_id, signature };
    loop {
        match hub.verify(&answer).await {
            Ok(_) => return Ok(()),
            Err(error) if is_transient(&error) => tracing::warn!(%error, "the hub did not take the proof yet"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        match hub.enrollment(&answer.enrollment_id).await {
            Ok(state) if state.status != EnrollmentStatus::PendingVerification => return Ok(()),
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks until the operator has decided, whatever happens to the link meanwhile.
async fn decided(hub: &Hub, enrollment_id: &str) -> Result<EnrollmentState, VmaError> {
    let mut is_link_up = true;
    loop {
        match hub.enrollment(enrollment_id).await {
            Ok(state) if !is_waiting(state.status) => return Ok(state),
            Ok(_) => is_link_up = true,
            Err(error) if is_transient(&error) => {
                if is_link_up {
                    tracing::warn!(%error, "the hub cannot be asked at the moment");
                }
                is_link_up = false;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn is_waiting(status: EnrollmentStatus) -> bool {
    matches!(status, EnrollmentStatus::PendingVerification | EnrollmentStatus::AwaitingApproval)
}

fn is_transient(error: &VmaError) -> bool {
    error.kind() == FailureKind::Unavailable
}

fn host_name() -> String {
    let text = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
    let name: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}
