//! The web probe: one GET whose status alone counts. Redirects are not followed, bodies are not read, certificates are
//! not verified: they are a guest's, mostly its own or made out to a name that is not yet its.

use std::num::NonZeroU16;
use std::sync::Arc;

use api::oma::probes::{HttpScheme, ProbeHost};
use reqwest::redirect::Policy;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Failure, causes};

/// What guests' logs show of us.
const USER_AGENT: &str = concat!("migratekit-probe/", env!("CARGO_PKG_VERSION"));

/// A client that trusts anybody, because it tells nobody anything.
pub(super) struct Web {
    client: reqwest::Client,
}

impl Web {
    /// # Errors
    /// Why there can be no client, in words.
    pub(super) fn new() -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| causes(&error))?.dangerous();
        let tls = tls.with_custom_certificate_verifier(Arc::new(Anybody { provider })).with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            // A connection that is kept would answer for a server that takes no more.
            .pool_max_idle_per_host(0)
            .user_agent(USER_AGENT)
            .build();
        client.map(|client| Self { client }).map_err(|error| causes(&error))
    }

    /// # Errors
    /// No answer, or a status outside 200 to 399.
    pub(super) async fn get(
        &self,
        scheme: HttpScheme,
        host: &ProbeHost,
        port: NonZeroU16,
        path: &str,
    ) -> Result<String, Failure> {
        let url = format!("{}://{host}:{port}{path}", scheme.as_str());
        let answer =
            self.client.get(url).send().await.map_err(|error| Failure::passing(causes(&error.without_url())))?;
        let status = answer.status();
        let note = match scheme {
            HttpScheme::Http => "",
            HttpScheme::Https => " (the certificate was not verified)",
        };
        let message = format!("HTTP status {}{note}", status.as_u16());
        if status.is_success() || status.is_redirection() { Ok(message) } else { Err(Failure::passing(message)) }
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
