//! What an agent without a certificate may ask: to be enrolled with a pairing code, and to prove that it holds its key.

use std::collections::HashMap;
use std::net::IpAddr;

use api::oma::agents::{EnrollChallenge, EnrollRequest, EnrollVerify, EnrollmentState};
use model::status::{AuditEvent, EnrollmentStatus};
use parking_lot::Mutex;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use store::vma_connection_audit::{self as audit, NewAudit};
use store::vma_enrollments::{self as enrollments, Decision, Enrollment, NewEnrollment};
use store::{StoreError, vma_pairing_codes as codes};
use time::{Duration, OffsetDateTime};
use tunnel::csr::MAX_CSR_BYTES;
use tunnel::issue::MAX_VMA_NAME_CHARS;
use tunnel::{AgentPublicKey, Challenge, TunnelError};

use crate::error::OmaError;
use crate::state::OmaState;

/// From the request to the approval; who is not approved by then pairs again.
const ENROLLMENT_LIFE: Duration = Duration::hours(24);
/// Answers to a challenge.
const MAX_SIGNATURES: u32 = 3;
/// Enrolments whose wrong answers are remembered at once; each of them needed a pairing code.
const MAX_REMEMBERED: usize = 1024;
/// Longest version text, in characters.
const MAX_VERSION_CHARS: usize = 64;
/// Who rejects when nobody does.
const THE_HUB: &str = "hub";

/// Wrong answers per enrolment, until it is verified or rejected.
#[derive(Default)]
pub(crate) struct WrongSignatures(Mutex<HashMap<String, u32>>);

impl WrongSignatures {
    /// Counts one more and says how many attempts are left.
    fn count(&self, enrollment_id: &str) -> u32 {
        let mut counts = self.0.lock();
        if counts.len() >= MAX_REMEMBERED && !counts.contains_key(enrollment_id) {
            counts.clear();
        }
        let count = counts.entry(enrollment_id.to_owned()).or_default();
        *count += 1;
        MAX_SIGNATURES.saturating_sub(*count)
    }

    fn forget(&self, enrollment_id: &str) {
        self.0.lock().remove(enrollment_id);
    }
}

/// Takes a request with a pairing code, which is used up by it, and answers with a challenge.
///
/// # Errors
/// [`OmaError::PairingCode`] whatever is wrong with the code; [`OmaError::KeyInUse`]; a request that cannot be right.
pub async fn enroll(state: &OmaState, request: EnrollRequest, address: IpAddr) -> Result<EnrollChallenge, OmaError> {
    check_text("vma_name", &request.vma_name, MAX_VMA_NAME_CHARS)?;
    check_text("vma_version", &request.vma_version, MAX_VERSION_CHARS)?;
    let key = key_of(&request.csr_pem)?;
    let code_hash = tunnel::pairing::secret_hash(&request.pairing_code).map_err(TunnelError::PairingCode)?;
    let now = OffsetDateTime::now_utc();
    // The nonce is bound to the enrolment's id, which the row brings with it: the challenge is read back from the row.
    let nonce = Challenge::generate("")?.nonce_text();
    let asked = NewEnrollment {
        code_hash: code_hash.clone(),
        vma_name: request.vma_name,
        vma_version: request.vma_version,
        vma_fingerprint: key.fingerprint(),
        vma_public_key: key.text(),
        vma_ip_address: address.to_string(),
        challenge_nonce: nonce.clone(),
        expires_at: now + ENROLLMENT_LIFE,
    };
    match enrollments::enroll(state.store(), &asked, now).await {
        Ok(row) => {
            tracing::info!(enrollment_id = row.id, vma_name = row.vma_name, %address, "an agent asks to be enrolled");
            Ok(EnrollChallenge { enrollment_id: row.id, challenge_nonce: nonce, fingerprint: row.vma_fingerprint })
        }
        Err(error @ (StoreError::NotFound { .. } | StoreError::Conflict { .. } | StoreError::Duplicate { .. })) => {
            tracing::warn!(%error, %address, "an agent's request to be enrolled is refused");
            refused(state, &asked, error).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the code or the key stood against the enrolment.
async fn refused(state: &OmaState, asked: &NewEnrollment, error: StoreError) -> Result<EnrollChallenge, OmaError> {
    let is_unknown_code = matches!(error, StoreError::NotFound { .. });
    if !is_unknown_code
        && let Some(row) = enrollments::by_fingerprint(state.store(), &asked.vma_fingerprint).await?
        && matches!(*row.status, EnrollmentStatus::Approved | EnrollmentStatus::Revoked)
    {
        return Err(OmaError::KeyInUse { status: *row.status });
    }
    if !is_unknown_code {
        codes::note_failure(state.store(), &asked.code_hash).await?;
        let details = json!({ "outcome": "refused", "reason": error.to_string(), "vma_name": asked.vma_name });
        let address = &asked.vma_ip_address;
        record(state, None, &asked.vma_fingerprint, AuditEvent::Enrollment, address, details).await?;
    }
    Err(OmaError::PairingCode)
}

/// Takes the signature of the challenge; then an operator has to approve.
///
/// # Errors
/// [`OmaError::WrongSignature`], the third of which rejects the enrolment; [`OmaError::EnrollmentState`].
pub async fn verify(state: &OmaState, answer: &EnrollVerify, address: IpAddr) -> Result<EnrollmentState, OmaError> {
    let row = find(state, &answer.enrollment_id).await?;
    let now = OffsetDateTime::now_utc();
    if *row.status != EnrollmentStatus::PendingVerification || *row.expires_at <= now {
        let reason = "it does not wait for a signature";
        return Err(OmaError::EnrollmentState { enrollment_id: row.id, status: *row.status, reason });
    }
    let wrong = &state.enrolment_limits().wrong_signatures;
    let challenge = Challenge::from_text(&row.id, row.challenge_nonce.as_deref().unwrap_or_default())?;
    let key = AgentPublicKey::from_text(&row.vma_public_key)?;
    if challenge.verify(&key, &answer.signature).is_err() {
        let attempts_left = wrong.count(&row.id);
        return Err(note_wrong_signature(state, &row, attempts_left, address).await);
    }
    let to = EnrollmentStatus::AwaitingApproval;
    let decision = Decision { to, by: row.vma_name.clone(), source_ip: address.to_string() };
    let row = enrollments::decide(state.store(), &row.id, &decision, now).await?;
    wrong.forget(&row.id);
    tracing::info!(enrollment_id = row.id, vma_name = row.vma_name, "an agent proved its key and waits for approval");
    Ok(EnrollmentState { enrollment_id: row.id, status: *row.status, certificate_pem: None, ca_pem: None })
}

async fn note_wrong_signature(state: &OmaState, row: &Enrollment, attempts_left: u32, address: IpAddr) -> OmaError {
    tracing::warn!(enrollment_id = row.id, %address, attempts_left, "an agent's signature is wrong");
    let details = json!({ "outcome": "wrong signature", "attempts_left": attempts_left });
    let (id, print) = (Some(row.id.clone()), &row.vma_fingerprint);
    if let Err(error) = record(state, id, print, AuditEvent::Verification, &address.to_string(), details).await {
        return error;
    }
    if attempts_left == 0 {
        let to = EnrollmentStatus::Rejected;
        let decision = Decision { to, by: THE_HUB.to_owned(), source_ip: address.to_string() };
        let rejected = enrollments::decide(state.store(), &row.id, &decision, OffsetDateTime::now_utc()).await;
        if let Err(error) = rejected {
            return error.into();
        }
        state.enrolment_limits().wrong_signatures.forget(&row.id);
    }
    OmaError::WrongSignature { attempts_left }
}

/// An enrolment by its id.
///
/// # Errors
/// [`OmaError::NotFound`].
pub(crate) async fn find(state: &OmaState, enrollment_id: &str) -> Result<Enrollment, OmaError> {
    enrollments::by_id(state.store(), enrollment_id).await.map_err(|error| match error {
        StoreError::NotFound { .. } => OmaError::NotFound { what: "enrolment", id: enrollment_id.to_owned() },
        other => other.into(),
    })
}

/// The key of a signing request in PEM, proven by its own signature.
///
/// # Errors
/// [`TunnelError::InvalidCsr`].
pub(crate) fn key_of(csr_pem: &str) -> Result<AgentPublicKey, OmaError> {
    let invalid = |reason: &str| TunnelError::InvalidCsr { reason: reason.to_owned() };
    // Base64 is a third longer than what it encodes; the lines around it do not matter.
    if csr_pem.len() > 2 * MAX_CSR_BYTES {
        return Err(invalid("it is larger than 8 KiB").into());
    }
    let csr = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|_| invalid("it is not a PEM text with a CERTIFICATE REQUEST"))?;
    Ok(tunnel::csr::verified_key(&csr)?)
}

/// Adds a line to the agents' audit.
pub(crate) async fn record(
    state: &OmaState,
    enrollment_id: Option<String>,
    fingerprint: &str,
    event_type: AuditEvent,
    source_ip: &str,
    event_details: Value,
) -> Result<(), OmaError> {
    let line = NewAudit {
        enrollment_id,
        event_type,
        vma_fingerprint: Some(fingerprint.to_owned()),
        source_ip: source_ip.to_owned(),
        user_agent: None,
        approved_by: None,
        event_details,
    };
    Ok(audit::append(state.store(), &line).await?)
}

/// These texts are shown to operators and stand in certificates.
fn check_text(what: &'static str, text: &str, max_chars: usize) -> Result<(), OmaError> {
    let is_right = (1..=max_chars).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    let reason = || format!("must have 1 to {max_chars} characters and no control characters");
    if is_right { Ok(()) } else { Err(OmaError::Invalid { what, reason: reason() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_wrong_signatures_are_the_end() {
        let wrong = WrongSignatures::default();
        assert_eq!([wrong.count("a"), wrong.count("a"), wrong.count("b"), wrong.count("a")], [2, 1, 2, 0]);
        wrong.forget("a");
        assert_eq!(wrong.count("a"), 2);
    }

    #[test]
    fn names_are_short_and_printable() {
        assert!(check_text("vma_name", "vma-1", 64).is_ok());
        for wrong in ["", "a\nb", &"x".repeat(65)] {
            assert!(check_text("vma_name", wrong, 64).is_err());
        }
    }

    #[test]
    fn only_pem_with_a_signing_request_is_read() {
        let key = tunnel::AgentKey::generate().unwrap();
        let der = key.csr("vma").unwrap();
        let text = data_encoding::BASE64.encode(&der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
        assert_eq!(key_of(&pem).unwrap(), key.public_key());
        assert!(key_of("nonsense").is_err());
        assert!(key_of(&"x".repeat(3 * MAX_CSR_BYTES)).is_err());
    }
}
