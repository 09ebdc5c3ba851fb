//! How a server's certificate is trusted: system roots, a given CA, or a pinned thumbprint.
//!
//! Signatures of the handshake are checked in every case; there is no way to trust everything.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::VsphereError;

/// Most CA certificates taken from one PEM text.
const MAX_CA_CERTIFICATES: usize = 256;

/// What makes a server trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The CA certificates of the operating system.
    SystemRoots,
    /// Only these CA certificates, PEM. A server's own certificate among them is trusted as it is.
    CaPem(Vec<u8>),
    /// Only the certificate with this SHA-1 or SHA-256 thumbprint: hexadecimal, with or without colons. Neither its
    /// issuer nor its names nor its dates matter then.
    Thumbprint(String),
}

/// SHA-1 (20 bytes) or SHA-256 (32 bytes) of a certificate's DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Thumbprint {
    algorithm: &'static digest::Algorithm,
    bytes: Vec<u8>,
}

impl Thumbprint {
    /// SHA-256 of a certificate.
    #[must_use]
    pub fn sha256(certificate_der: &[u8]) -> Self {
        Self::by(&digest::SHA256, certificate_der)
    }

    /// SHA-1 of a certificate, which is what vSphere itself shows.
    #[must_use]
    pub fn sha1(certificate_der: &[u8]) -> Self {
        Self::by(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate_der)
    }

    fn by(algorithm: &'static digest::Algorithm, certificate_der: &[u8]) -> Self {
        Self { algorithm, bytes: digest::digest(algorithm, certificate_der).as_ref().to_vec() }
    }

    fn of_same_algorithm(&self, certificate_der: &[u8]) -> Self {
        Self::by(self.algorithm, certificate_der)
    }
}

impl FromStr for Thumbprint {
    type Err = VsphereError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.trim().chars().filter(|&c| c != ':' && c != ' ' && c != '-').collect();
        let bytes = hex::decode(&digits).unwrap_or_default();
        let algorithm = match bytes.len() {
            20 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            32 => &digest::SHA256,
            _ => {
                let shown: String = text.chars().take(100).collect();
                return Err(VsphereError::InvalidTrust { reason: format!("{shown:?} is not a thumbprint") });
            }
        };
        Ok(Self { algorithm, bytes })
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

/// The TLS configuration for `trust`: TLS 1.3 preferred, TLS 1.2 allowed because ESXi 6.5 and 6.7 have no other.
///
/// Reads the system's roots from files, so it belongs on a blocking thread.
pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, VsphereError> {
    let invalid = |reason: String| VsphereError::InvalidTrust { reason };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let policy = match trust {
        Trust::Thumbprint(text) => Policy::Pinned(text.parse()?),
        Trust::CaPem(pem) => {
            let given = certificates(pem)?;
            Policy::Chain { verifier: chain_verifier(&given, &provider)?, given }
        }
        Trust::SystemRoots => {
            let found = rustls_native_certs::load_native_certs().certs;
            if found.is_empty() {
                return Err(invalid("the system has no CA certificates (package ca-certificates)".to_owned()));
            }
            Policy::Chain { verifier: chain_verifier(&found, &provider)?, given: Vec::new() }
        }
    };
    let verifier = Arc::new(Verifier { policy, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| invalid(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, VsphereError> {
    let invalid = |reason: String| VsphereError::InvalidTrust { reason };
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .take(MAX_CA_CERTIFICATES)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("the CA certificates are not PEM: {error}")))?;
    if list.is_empty() {
        return Err(invalid("the CA file holds no certificate".to_owned()));
    }
    Ok(list)
}

fn chain_verifier(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, VsphereError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| VsphereError::InvalidTrust { reason: error.to_string() })
}

/// Travels through rustls and the HTTP client to [`refusal`].
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// Another certificate than the pinned one.
    Pin { expected: Thumbprint, found: Thumbprint },
    /// No trusted chain.
    Chain { found: Thumbprint, reason: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin { expected, found } => write!(f, "certificate thumbprint {found} is not {expected}"),
            Self::Chain { found, reason } => write!(f, "certificate {found} is not trusted: {reason}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// The refusal behind a failed request, if that is why it failed.
pub(crate) fn refusal(error: &reqwest::Error) -> Option<Refusal> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return refusal_of_tls(tls);
        }
        // An I/O error leaves out what it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn refusal_of_tls(error: &rustls::Error) -> Option<Refusal> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.downcast_ref::<Refusal>().cloned()
        }
        _ => None,
    }
}

#[derive(Debug)]
enum Policy {
    Pinned(Thumbprint),
    Chain { verifier: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>> },
}

#[derive(Debug)]
struct Verifier {
    policy: Policy,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refuse =
            |refusal| rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))));
        match &self.policy {
            Policy::Pinned(expected) => {
                let found = expected.of_same_algorithm(end_entity);
                if found == *expected {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(refuse(Refusal::Pin { expected: expected.clone(), found }))
                }
            }
            Policy::Chain { verifier, given } => {
                let verdict = if given.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
                    named(end_entity, server_name)
                } else {
                    verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                };
                verdict.map_err(|error| {
                    refuse(Refusal::Chain { found: Thumbprint::sha256(end_entity), reason: error.to_string() })
                })
            }
        }
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

fn named(end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<ServerCertVerified, rustls::Error> {
    rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
    Ok(ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_are_read_in_every_usual_form() {
        let sha1 = "AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD";
        for text in [sha1.to_owned(), sha1.to_lowercase(), sha1.replace(':', ""), sha1.replace(':', " ")] {
            assert_eq!(text.parse::<Thumbprint>().unwrap().to_string(), sha1, "{text}");
        }
        assert_eq!("ab".repeat(32).parse::<Thumbprint>().unwrap().bytes.len(), 32);
        for text in ["", "AA:BB", "zz", &"ab".repeat(33), &"a".repeat(41)] {
            assert!(text.parse::<Thumbprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn thumbprints_are_those_of_openssl() {
        // printf abc | openssl dgst -sha1 / -sha256
        assert_eq!(Thumbprint::sha1(b"abc").to_string().replace(':', ""), "A9993E364706816ABA3E25717850C26C9CD0D89D");
        assert!(Thumbprint::sha256(b"abc").to_string().starts_with("BA:78:16:BF:8F:01:CF:EA"));
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        for pem in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(client_config(&Trust::CaPem(pem.to_vec())), Err(VsphereError::InvalidTrust { .. })));
        }
    }
}
