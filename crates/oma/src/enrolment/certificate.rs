//! Issuing and renewing the certificate of an approved agent, from what the hub recorded and nothing else.

use std::net::IpAddr;

use api::oma::agents::{EnrollmentState, RenewedCertificate};
use model::status::{AuditEvent, EnrollmentStatus};
use serde_json::json;
use store::vma_enrollments::{self as enrollments, Enrollment};
use time::OffsetDateTime;
use tunnel::issue::IssuedCertificate;
use tunnel::{AgentPublicKey, PairingRecord, issue_agent_certificate};

use crate::enrolment::request::{find, key_of, record};
use crate::error::OmaError;
use crate::state::OmaState;

/// How far an enrolment is; once it is approved, with a certificate. An agent that lost the answer asks again and gets
/// another one for the same key; without the key it is worth nothing.
///
/// # Errors
/// [`OmaError::NotFound`], or the certificate cannot be issued.
pub async fn collect(state: &OmaState, enrollment_id: &str) -> Result<EnrollmentState, OmaError> {
    let row = find(state, enrollment_id).await?;
    let status = *row.status;
    let (certificate_pem, ca_pem) = if status == EnrollmentStatus::Approved {
        let issued = issue(state, &row).await?;
        (Some(issued.certificate_pem), Some(state.identity().ca().certificate_pem()))
    } else {
        (None, None)
    };
    Ok(EnrollmentState { enrollment_id: row.id, status, certificate_pem, ca_pem })
}

/// A fresh certificate for the key that is enrolled, which the signing request proves to hold.
///
/// # Errors
/// [`OmaError::EnrollmentState`] unless the enrolment is approved; [`OmaError::OtherKey`]; a request that is not one.
pub async fn renew(
    state: &OmaState,
    enrollment_id: &str,
    csr_pem: &str,
    address: IpAddr,
) -> Result<RenewedCertificate, OmaError> {
    let key = key_of(csr_pem)?;
    let row = find(state, enrollment_id).await?;
    if *row.status != EnrollmentStatus::Approved {
        let reason = "it gets no certificate";
        return Err(OmaError::EnrollmentState { enrollment_id: row.id, status: *row.status, reason });
    }
    if row.vma_fingerprint != key.fingerprint() {
        return Err(OmaError::OtherKey { enrollment_id: row.id });
    }
    let issued = issue(state, &row).await?;
    let details = json!({ "certificate_serial": issued.facts.certificate_serial });
    let (id, print) = (Some(row.id.clone()), &row.vma_fingerprint);
    record(state, id, print, AuditEvent::Renewal, &address.to_string(), details).await?;
    tracing::info!(enrollment_id = row.id, expires_at = %issued.facts.expires_at, "renewed an agent's certificate");
    Ok(RenewedCertificate { certificate_pem: issued.certificate_pem, expires_at: issued.facts.expires_at })
}

/// Issues and records; the record refuses an enrolment that is not approved any more.
async fn issue(state: &OmaState, row: &Enrollment) -> Result<IssuedCertificate, OmaError> {
    let recorded = PairingRecord {
        enrollment_id: row.id.clone(),
        vma_name: row.vma_name.clone(),
        public_key: AgentPublicKey::from_text(&row.vma_public_key)?,
    };
    let now = OffsetDateTime::now_utc();
    let issued = issue_agent_certificate(state.identity().ca(), &recorded, tunnel::identity::AGENT_VALIDITY, now)?;
    let facts = &issued.facts;
    enrollments::set_certificate(state.store(), &row.id, &facts.certificate_serial, facts.expires_at).await?;
    Ok(issued)
}
