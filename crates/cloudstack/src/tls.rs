//! Whom to trust on the way to the API: the system's roots, a given CA, or one certificate by its thumbprint.
//!
//! Builds a rustls configuration with its own crypto provider, so nothing depends on what the process installed.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::CloudstackError;

/// Length of a SHA-256 in bytes.
const THUMBPRINT_BYTES: usize = 32;

/// Whose certificate the server may show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Anybody the operating system's roots vouch for.
    #[default]
    System,
    /// Anybody these CA certificates (PEM) vouch for; the system's roots do not count.
    CaPem(String),
    /// Exactly the certificate with this SHA-256, in hexadecimal with or without colons. Names and dates are not
    /// looked at: the operator has compared the certificate.
    Thumbprint(String),
}

impl Trust {
    /// The rustls configuration for this trust.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, CloudstackError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| CloudstackError::Settings(error.to_string()))?;
        let config = match self {
            Self::System => builder.with_root_certificates(system_roots()?),
            Self::CaPem(pem) => builder.with_root_certificates(roots_of(pem)?),
            Self::Thumbprint(text) => {
                let pin = Pin { expected: parse_thumbprint(text)?, provider };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(pin))
            }
        };
        Ok(config.with_no_client_auth())
    }
}

fn system_roots() -> Result<RootCertStore, CloudstackError> {
    let mut roots = RootCertStore::empty();
    let (added, _unusable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(CloudstackError::Settings(
            "the system has no root certificates (Debian package ca-certificates); give a CA or a thumbprint".into(),
        ));
    }
    Ok(roots)
}

fn roots_of(pem: &str) -> Result<RootCertStore, CloudstackError> {
    let wrong = |reason: String| CloudstackError::Settings(format!("the CA certificate cannot be used: {reason}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate in PEM form".into())) } else { Ok(roots) }
}

fn parse_thumbprint(text: &str) -> Result<[u8; THUMBPRINT_BYTES], CloudstackError> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let bytes = hex::decode(&digits).ok().and_then(|bytes| <[u8; THUMBPRINT_BYTES]>::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        CloudstackError::Settings("a thumbprint is a SHA-256 of 64 hexadecimal digits, with or without colons".into())
    })
}

/// Accepts one certificate only.
#[derive(Debug)]
struct Pin {
    expected: [u8; THUMBPRINT_BYTES],
    provider: Arc<CryptoProvider>,
}

/// The server showed another certificate than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate has SHA-256 {seen}, not the pinned {expected}")]
pub(crate) struct ThumbprintMismatch {
    pub(crate) expected: String,
    pub(crate) seen: String,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, end_entity);
        if seen.as_ref() == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = ThumbprintMismatch { expected: hex::encode(self.expected), seen: hex::encode(seen) };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate error somewhere below `error`, if that is why it failed.
pub(crate) fn certificate_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(found)) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an io::Error is the source of what it wraps, so look at what it wraps first.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The thumbprint that was seen, when a pinned one did not match.
pub(crate) fn mismatched_thumbprint(error: &CertificateError) -> Option<String> {
    let CertificateError::Other(other) = error else { return None };
    other.0.downcast_ref::<ThumbprintMismatch>().map(|mismatch| mismatch.seen.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_are_sha256_with_or_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(parse_thumbprint(&plain).unwrap(), parse_thumbprint(&colons).unwrap());
        for wrong in ["", "ab", &"ab".repeat(20), &"zz".repeat(32)] {
            assert!(matches!(parse_thumbprint(wrong), Err(CloudstackError::Settings(_))), "{wrong}");
        }
    }

    #[test]
    fn a_ca_without_a_certificate_is_refused() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Trust::CaPem(pem.into()).client_config().is_err(), "{pem}");
        }
    }
}
