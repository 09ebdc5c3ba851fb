//! Which certificates are accepted, and how a refusal reads.

use model::FailureKind;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig, SupportedProtocolVersion};
use vsphere::{Thumbprint, Trust, VimSession, VsphereError};

use crate::server::{Reply, Server};

/// A self-signed certificate for 127.0.0.1.
pub struct Certificate {
    made: CertifiedKey<rcgen::KeyPair>,
}

impl Certificate {
    pub fn new() -> Self {
        Self { made: generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap() }
    }

    pub fn sha1(&self) -> String {
        Thumbprint::sha1(self.made.cert.der()).to_string()
    }

    fn sha256(&self) -> String {
        Thumbprint::sha256(self.made.cert.der()).to_string()
    }
}

pub fn tls(certificate: &Certificate) -> ServerConfig {
    with_versions(certificate, &[&rustls::version::TLS13, &rustls::version::TLS12])
}

fn with_versions(certificate: &Certificate, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.made.signing_key.serialize_der()));
    ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.made.cert.der().clone()], key)
        .unwrap()
}

async fn connect(server: &Server, trust: Trust) -> Result<VimSession, VsphereError> {
    VimSession::connect(server.trusting(trust)).await
}

#[tokio::test]
async fn the_pinned_certificate_is_accepted_over_both_versions_of_tls() {
    let certificate = Certificate::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::start_tls(with_versions(&certificate, &[version]), |_| Reply::Ok(String::new())).await;
        for thumbprint in
            [certificate.sha1(), certificate.sha256(), certificate.sha256().replace(':', "").to_lowercase()]
        {
            connect(&server, Trust::Thumbprint(thumbprint)).await.unwrap();
        }
        connect(&server, Trust::CaPem(certificate.made.cert.pem().into_bytes())).await.unwrap();
    }
}

#[tokio::test]
async fn another_certificate_is_refused_with_both_thumbprints() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let server = Server::start_tls(tls(&certificate), |_| Reply::Ok(String::new())).await;
    for (pinned, shown) in [(other.sha1(), certificate.sha1()), (other.sha256(), certificate.sha256())] {
        let error = connect(&server, Trust::Thumbprint(pinned.clone())).await.unwrap_err();
        let VsphereError::ThumbprintMismatch { expected, found, host } = &error else { panic!("{error:?}") };
        assert_eq!((expected.to_string(), found.to_string(), host.as_str()), (pinned, shown, "127.0.0.1"));
        assert!(error.remedy().is_some());
        assert_eq!(error.kind(), FailureKind::Forbidden);
    }
    assert_eq!(server.logins(), 0, "no password was sent");
}

#[tokio::test]
async fn an_unknown_issuer_is_refused_with_the_thumbprint_to_pin() {
    let (certificate, other) = (Certificate::new(), Certificate::new());
    let server = Server::start_tls(tls(&certificate), |_| Reply::Ok(String::new())).await;
    for trust in [Trust::SystemRoots, Trust::CaPem(other.made.cert.pem().into_bytes())] {
        let error = connect(&server, trust).await.unwrap_err();
        let VsphereError::UntrustedCertificate { found, .. } = &error else { panic!("{error:?}") };
        assert_eq!(found.to_string(), certificate.sha256());
        assert!(error.remedy().is_some());
    }
    assert!(matches!(
        connect(&server, Trust::Thumbprint("xyz".to_owned())).await,
        Err(VsphereError::InvalidTrust { .. })
    ));
}
