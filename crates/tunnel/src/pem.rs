//! PEM text of keys and certificates (RFC 7468). Nothing is interpreted here.

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Characters per line (RFC 7468 §2).
const LINE_CHARS: usize = 64;

/// One certificate as PEM.
pub(crate) fn certificate_text(certificate: &CertificateDer<'_>) -> String {
    let encoded = data_encoding::BASE64.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// All certificates of a PEM text, in their order.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("it is not PEM: {error}"))
}

/// The private key of a PEM text that may hold certificates too.
pub(crate) fn key_pair(text: &str) -> Result<KeyPair, String> {
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| format!("it holds no private key: {error}"))?;
    KeyPair::try_from(&key).map_err(|error| format!("its private key is not understood: {error}"))
}
