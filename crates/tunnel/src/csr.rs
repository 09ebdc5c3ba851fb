//! Certificate signing requests (PKCS#10): made by the agent, checked by the hub, and believed in nothing but the key.

use rcgen::{CertificateParams, DistinguishedName, DnType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;

use crate::error::TunnelError;
use crate::identity::{AgentKey, AgentPublicKey};

/// Largest request looked at, in bytes; one with an Ed25519 key and a name is below 300.
pub const MAX_CSR_BYTES: usize = 4096;

impl AgentKey {
    /// A signing request for this key (DER). The name in it is a courtesy to people who look; the hub ignores it.
    ///
    /// # Errors
    /// When signing fails.
    pub fn csr(&self, vma_name: &str) -> Result<Vec<u8>, TunnelError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, vma_name);
        let request = params
            .serialize_request(self.pair())
            .map_err(|source| TunnelError::Crypto { doing: "making the certificate request", source: source.into() })?;
        Ok(request.der().to_vec())
    }
}

/// The key of a signing request, after its self-signature proved that whoever made it holds that key. Names and
/// extensions it asks for are not even read.
///
/// # Errors
/// [`TunnelError::InvalidCsr`] when it is too large, malformed, not for an Ed25519 key, or not signed by that key.
pub fn verified_key(csr: &[u8]) -> Result<AgentPublicKey, TunnelError> {
    let invalid = |reason: &str| TunnelError::InvalidCsr { reason: reason.to_owned() };
    if csr.len() > MAX_CSR_BYTES {
        return Err(invalid("it is larger than 4 KiB"));
    }
    let (rest, request) =
        X509CertificationRequest::from_der(csr).map_err(|_| invalid("it is not a PKCS#10 request"))?;
    if !rest.is_empty() {
        return Err(invalid("it has bytes after its end"));
    }
    let spki = &request.certification_request_info.subject_pki;
    if spki.algorithm.algorithm != OID_SIG_ED25519 || request.signature_algorithm.algorithm != OID_SIG_ED25519 {
        return Err(invalid("its key is not Ed25519"));
    }
    let raw = <[u8; 32]>::try_from(spki.subject_public_key.data.as_ref())
        .map_err(|_| invalid("its key does not have 32 bytes"))?;
    request.verify_signature().map_err(|_| invalid("it is not signed by its own key"))?;
    Ok(AgentPublicKey::from_bytes(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

    fn reason(csr: &[u8]) -> String {
        verified_key(csr).unwrap_err().to_string()
    }

    #[test]
    fn the_key_of_a_good_request_is_found() {
        let key = AgentKey::generate().unwrap();
        assert_eq!(verified_key(&key.csr("vma-berlin").unwrap()).unwrap(), key.public_key());
    }

    #[test]
    fn bad_requests_are_refused_with_their_reason() {
        let key = AgentKey::generate().unwrap();
        let good = key.csr("vma").unwrap();
        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(reason(&forged).contains("not signed by its own key"));
        assert!(reason(&[good.as_slice(), b"x"].concat()).contains("bytes after its end"));
        assert!(reason(b"hello").contains("not a PKCS#10"));
        assert!(reason(&vec![0x30; MAX_CSR_BYTES + 1]).contains("4 KiB"));
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let ecdsa = CertificateParams::default().serialize_request(&pair).unwrap();
        assert!(reason(ecdsa.der()).contains("not Ed25519"));
    }

    proptest! {
        #[test]
        fn a_bent_request_never_panics_and_never_proves_another_key(at in any::<proptest::sample::Index>(), flip in 1u8..=255) {
            let key = AgentKey::generate().unwrap();
            let mut csr = key.csr("vma").unwrap();
            let at = at.index(csr.len());
            csr[at] ^= flip;
            // The outer envelope is not signed and is read leniently; what was signed is not.
            if let Ok(proven) = verified_key(&csr) {
                assert_eq!(proven, key.public_key());
            }
        }
    }
}
