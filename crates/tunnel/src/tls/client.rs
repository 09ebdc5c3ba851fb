//! The agent's client configurations, and how it decides that a server is its hub.
//!
//! A hub is known by its CA, which signs no other server: that the name dialled stands in the certificate would add
//! nothing and would lock out every hub behind an address translation. A CA from a pairing code is known by 80 bits of
//! its fingerprint and must be in the chain the server sends; afterwards the whole certificate is known. An agent's own
//! certificate cannot pose as a hub: it is not valid for server authentication.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use super::{VERSIONS, agent_provider, failed, web_provider};
use crate::certificate::{is_valid_at, parse};
use crate::error::TunnelError;
use crate::identity::AgentIdentity;
use crate::pairing::CaPrefix;
use crate::route::{ALPN_AGENT, ALPN_HTTP1, ALPN_HTTP2};

/// How a client knows the hub's CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubTrust {
    /// By the 80 bits of a pairing code.
    Prefix(CaPrefix),
    /// By the certificate itself.
    Ca(CertificateDer<'static>),
}

impl HubTrust {
    /// The CA's certificate among those a server sent, or the known one.
    pub(crate) fn anchor<'a>(&'a self, sent: &'a [CertificateDer<'a>]) -> Option<&'a CertificateDer<'a>> {
        match self {
            Self::Prefix(prefix) => sent.iter().find(|certificate| prefix.matches(certificate)),
            Self::Ca(certificate) => Some(certificate),
        }
    }
}

/// No certificate of the chain is the CA that was promised.
#[derive(Debug, thiserror::Error)]
#[error("the server sent no CA certificate whose fingerprint begins as the pairing code says")]
pub(crate) struct AnchorMissing;

/// A configuration for plain HTTPS to the hub (`h2`, then `http/1.1`), without a client certificate: enrolment,
/// renewal, command line.
///
/// # Errors
/// When rustls refuses the parameters.
pub fn http_config(trust: HubTrust) -> Result<ClientConfig, TunnelError> {
    let provider = web_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(VERSIONS)
        .map_err(|e| failed("preparing TLS to the hub")(e.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier { trust, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// A configuration for the agent's own protocols, the dearest first, with its certificate.
pub(crate) fn agent_config(identity: &AgentIdentity, alpn: &[&[u8]]) -> Result<ClientConfig, TunnelError> {
    const DOING: &str = "preparing the agent's TLS to the hub";
    let provider = agent_provider();
    let trust = HubTrust::Ca(identity.hub_ca().clone());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(VERSIONS)
        .map_err(|e| failed(DOING)(e.into()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier { trust, provider }))
        .with_client_auth_cert(vec![identity.certificate().clone()], identity.key_der().into())
        .map_err(|e| failed(DOING)(e.into()))?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // The data plane seals its own records; see `channel`.
    config.enable_secret_extraction = !alpn.contains(&ALPN_AGENT);
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct HubVerifier {
    trust: HubTrust,
    provider: Arc<CryptoProvider>,
}

impl HubVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let missing = || CertificateError::Other(OtherError(Arc::new(AnchorMissing)));
        let anchor = self.trust.anchor(intermediates).ok_or_else(missing)?;
        // Path building does not look at the validity of a trust anchor.
        let parsed = parse(anchor).map_err(|_| CertificateError::BadEncoding)?;
        let instant = i64::try_from(now.as_secs()).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        if !parsed.is_ca() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        if !instant.is_some_and(|instant| is_valid_at(&parsed, instant)) {
            return Err(CertificateError::Expired.into());
        }
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let end_entity = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&end_entity, &roots, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
