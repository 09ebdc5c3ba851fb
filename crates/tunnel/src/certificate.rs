//! What is read from certificates: fingerprints, validity, and the enrolment an agent's certificate names.
//!
//! Nothing here decides on trust; only certificates that TLS or [`crate::identity`] verified are given to it.

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// What the subject alternative name URI of an agent's certificate begins with.
pub const AGENT_URI_PREFIX: &str = "migratekit:agent:";
/// Longest enrolment id, in characters.
pub const MAX_ENROLLMENT_ID_CHARS: usize = 64;

/// SHA-256 of some DER, as 64 lower-case hexadecimal digits.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(sha256(der))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Whether a text can be an enrolment id: 1 to 64 ASCII letters, digits and hyphens.
#[must_use]
pub fn is_enrollment_id(text: &str) -> bool {
    (1..=MAX_ENROLLMENT_ID_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a text can be a fingerprint: 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_fingerprint(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Who an agent is, as its verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The enrolment the certificate was issued for (`vma_enrollments.id`).
    pub enrollment_id: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo DER), lower hex. It is `vma_enrollments.vma_fingerprint`: known
    /// before the first certificate and the same after every renewal.
    pub fingerprint: String,
    /// SHA-256 of this certificate's DER, lower hex.
    pub certificate_fingerprint: String,
    /// Serial number, lower hex.
    pub certificate_serial: String,
    /// End of the certificate's validity.
    pub expires_at: OffsetDateTime,
}

impl PeerIdentity {
    /// Reads the identity from a verified agent certificate.
    ///
    /// # Errors
    /// In words, when the certificate does not name exactly one enrolment the way this hub writes it.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = parse(certificate)?;
        let enrollment_id = enrollment_id(&parsed)?;
        Ok(Self {
            enrollment_id,
            fingerprint: fingerprint(parsed.public_key().raw),
            certificate_fingerprint: fingerprint(certificate),
            certificate_serial: hex::encode(parsed.serial.to_bytes_be()),
            expires_at: parsed.validity().not_after.to_datetime(),
        })
    }
}

fn enrollment_id(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let names = alternative_names(certificate)?;
    let [GeneralName::URI(uri)] = names.as_slice() else {
        return Err("it does not have exactly one alternative name, a URI".to_owned());
    };
    match uri.strip_prefix(AGENT_URI_PREFIX) {
        Some(id) if is_enrollment_id(id) => Ok(id.to_owned()),
        _ => Err(format!("its alternative name is not of the form {AGENT_URI_PREFIX}<enrolment id>")),
    }
}

/// All subject alternative names; none when there is no such extension.
pub(crate) fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<GeneralName<'a>>, String> {
    let extension = certificate.subject_alternative_name().map_err(|error| format!("it is malformed: {error}"))?;
    Ok(extension.map(|found| found.value.general_names.clone()).unwrap_or_default())
}

/// Parses one certificate, refusing bytes after it.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err("it has bytes after its end".to_owned()),
        Err(error) => Err(format!("it is not a certificate: {error}")),
    }
}

/// Whether `now` lies in the validity of the certificate.
pub(crate) fn is_valid_at(certificate: &X509Certificate<'_>, now: OffsetDateTime) -> bool {
    let validity = certificate.validity();
    validity.not_before.to_datetime() <= now && now <= validity.not_after.to_datetime()
}

/// Whether `issuer` is a CA that signed `certificate`.
pub(crate) fn is_issued_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    issuer.is_ca()
        && certificate.issuer() == issuer.subject()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_fingerprints_have_one_form() {
        assert!(is_enrollment_id("0198c0de-7a11-7abc-8def-001122334455"));
        for wrong in ["", "a b", "a\n", "ä", "../x", &"a".repeat(65)] {
            assert!(!is_enrollment_id(wrong), "{wrong}");
        }
        assert!(is_fingerprint(&fingerprint(b"x")));
        assert!(!is_fingerprint(&fingerprint(b"x").to_uppercase()));
        assert_eq!(fingerprint(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn garbage_is_not_a_certificate() {
        assert!(PeerIdentity::from_certificate(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).is_err());
    }
}
