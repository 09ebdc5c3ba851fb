//! The certificates of the simulated vCenter: its own authority, a server certificate, and the thumbprints of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::VcenterError;

/// Server identity and what clients may pin.
#[derive(Debug)]
pub(crate) struct ServerIdentity {
    pub(crate) config: Arc<rustls::ServerConfig>,
    pub(crate) ca_pem: String,
    pub(crate) ca_path: PathBuf,
    /// `AA:BB:…`, 20 bytes, of the server certificate.
    pub(crate) sha1_thumbprint: String,
    /// `AA:BB:…`, 32 bytes, of the server certificate.
    pub(crate) sha256_thumbprint: String,
}

/// Makes an authority and a server certificate and writes the authority's to `state_dir/ca.pem`.
///
/// # Errors
/// When keys cannot be made or the file cannot be written.
pub(crate) fn make_identity(state_dir: &Path) -> Result<ServerIdentity, VcenterError> {
    let ca_key = KeyPair::generate().map_err(VcenterError::Certificate)?;
    let mut ca_params = CertificateParams::default();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca_params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    ca_params.distinguished_name.push(DnType::CommonName, "Laboratory vCenter CA");
    let ca = ca_params.self_signed(&ca_key).map_err(VcenterError::Certificate)?;
    let issuer = Issuer::new(ca_params, ca_key);

    let names = ["localhost", "vcenter.lab.example", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut params = CertificateParams::new(names).map_err(VcenterError::Certificate)?;
    params.distinguished_name.push(DnType::CommonName, "vcenter.lab.example");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(VcenterError::Certificate)?;
    let certificate = params.signed_by(&key, &issuer).map_err(VcenterError::Certificate)?;

    let ca_path = state_dir.join("ca.pem");
    std::fs::write(&ca_path, ca.pem()).map_err(VcenterError::file("write", &ca_path))?;
    let der: CertificateDer<'static> = certificate.der().clone();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
            .map_err(VcenterError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![der.clone(), ca.der().clone()], private)
            .map_err(VcenterError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(ServerIdentity {
        config: Arc::new(config),
        ca_pem: ca.pem(),
        ca_path,
        sha1_thumbprint: thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der),
        sha256_thumbprint: thumbprint(&digest::SHA256, &der),
    })
}

fn thumbprint(algorithm: &'static digest::Algorithm, der: &[u8]) -> String {
    let bytes = digest::digest(algorithm, der);
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
