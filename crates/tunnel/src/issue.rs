//! Issuing an agent's certificate, only from what the hub recorded and an operator approved.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use rcgen::{IsCa, SubjectPublicKeyInfo};
use time::{Duration, OffsetDateTime};

use crate::certificate::{AGENT_URI_PREFIX, PeerIdentity, is_enrollment_id};
use crate::error::TunnelError;
use crate::identity::{AgentPublicKey, CLOCK_SKEW, HubCa, random_serial};
use crate::pem;

/// Longest agent name in a certificate, in characters (RFC 5280 ub-organizational-unit-name).
pub const MAX_VMA_NAME_CHARS: usize = 64;

/// What the hub recorded when the agent paired; the certificate says this and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingRecord {
    /// The enrolment (`vma_enrollments.id`).
    pub enrollment_id: String,
    /// The name the operator knows the agent by.
    pub vma_name: String,
    /// The key whose possession was proven ([`crate::csr::verified_key`]).
    pub public_key: AgentPublicKey,
}

/// A certificate the hub issued.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// The certificate as PEM, to be sent to the agent together with [`HubCa::certificate_pem`].
    pub certificate_pem: String,
    /// What it says: serial and end of validity belong in the enrolment's row.
    pub facts: PeerIdentity,
}

/// Issues a client certificate: common name = enrolment id, organisational unit = the agent's name, one URI
/// `migratekit:agent:<enrolment id>`, client authentication only, valid from an hour before `now` for `validity`.
///
/// # Errors
/// [`TunnelError::InvalidRecord`] when the record cannot stand in a certificate; [`TunnelError::Crypto`] when signing
/// fails.
pub fn issue_agent_certificate(
    ca: &HubCa,
    record: &PairingRecord,
    validity: Duration,
    now: OffsetDateTime,
) -> Result<IssuedCertificate, TunnelError> {
    check(record, ca, validity, now)?;
    let failed =
        |source: rcgen::Error| TunnelError::Crypto { doing: "making the agent's certificate", source: source.into() };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationalUnitName, record.vma_name.as_str());
    params.distinguished_name.push(DnType::CommonName, record.enrollment_id.as_str());
    let uri = Ia5String::try_from(format!("{AGENT_URI_PREFIX}{}", record.enrollment_id)).map_err(failed)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = (now + validity).min(ca.expires_at());
    params.serial_number = Some(random_serial()?);
    let public_key = SubjectPublicKeyInfo::from_der(&record.public_key.spki_der()).map_err(failed)?;
    let certificate = ca.sign(&params, &public_key)?;
    let facts = PeerIdentity::from_certificate(&certificate)
        .map_err(|reason| TunnelError::Crypto { doing: "reading the issued certificate", source: reason.into() })?;
    Ok(IssuedCertificate { certificate_pem: pem::certificate_text(&certificate), facts })
}

fn check(record: &PairingRecord, ca: &HubCa, validity: Duration, now: OffsetDateTime) -> Result<(), TunnelError> {
    let name = &record.vma_name;
    let reason = if !is_enrollment_id(&record.enrollment_id) {
        "its id is not 1 to 64 letters, digits and hyphens"
    } else if name.is_empty() || name.chars().count() > MAX_VMA_NAME_CHARS {
        "its name does not have 1 to 64 characters"
    } else if name.chars().any(char::is_control) {
        "its name has control characters"
    } else if !validity.is_positive() || ca.expires_at() <= now {
        "its certificate would not be valid at any time"
    } else {
        return Ok(());
    };
    Err(TunnelError::InvalidRecord { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests;
