//! The hub's key for certificates: Ed25519, made once, kept in a file beside the database, never shown.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use model::Secret;
use runtime::private_file;

use crate::error::ProofError;

/// Bytes of a private key's seed (RFC 8032 §5.1.5).
const SEED_BYTES: usize = 32;
/// Bytes of a public key.
const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;

/// A private key for certificates.
pub struct CertificateKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateKey").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

impl CertificateKey {
    /// The key of this file (64 hexadecimal digits: the seed), which is made (mode 0600) when it does not exist. Several
    /// processes may do so at once: whoever is first decides.
    ///
    /// # Errors
    /// The file cannot be used, is open to others or holds no key; the system gives no randomness.
    pub fn load_or_create(path: &Path) -> Result<Self, ProofError> {
        if !path.exists() {
            let mut seed = [0; SEED_BYTES];
            SystemRandom::new().fill(&mut seed).map_err(|_| ProofError::Crypto { doing: "making the key" })?;
            let text = Secret::new(format!("{}\n", hex::encode(seed)));
            private_file::create(path, text.expose().as_bytes()).map_err(ProofError::file("make the key", path))?;
        }
        let content = private_file::read(path).map_err(ProofError::file("read the key", path))?;
        let none = || ProofError::NoKey { path: path.to_owned() };
        let text = Secret::new(String::from_utf8(content).map_err(|_| none())?);
        let mut seed = [0; SEED_BYTES];
        hex::decode_to_slice(text.expose().trim_end(), &mut seed).map_err(|_| none())?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| none())?;
        Ok(Self { pair })
    }

    /// The public half, 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn public_key(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }

    /// The signature over `message`, 128 lower-case hexadecimal digits. The same message has the same signature.
    ///
    /// # Errors
    /// The library refuses.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, ProofError> {
        let signature = self.pair.try_sign(message).map_err(|_| ProofError::Crypto { doing: "signing" })?;
        Ok(hex::encode(signature.as_ref()))
    }
}

/// Whether `text` is a public key as it is written: 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_public_key(text: &str) -> bool {
    is_lower_hex(text, PUBLIC_KEY_BYTES)
}

/// Whether `text` is `bytes` bytes in lower-case hexadecimal digits, and nothing else.
pub(crate) fn is_lower_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `signature` is that of `public_key` over `message`; texts that are neither are not.
pub(crate) fn is_signed(message: &[u8], signature: &str, public_key: &str) -> bool {
    if !is_public_key(public_key) || !is_lower_hex(signature, SIGNATURE_BYTES) {
        return false;
    }
    let (Ok(key), Ok(signature)) = (hex::decode(public_key), hex::decode(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate.key");
        let key = CertificateKey::load_or_create(&path).unwrap();
        let again = CertificateKey::load_or_create(&path).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert!(is_public_key(&key.public_key()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let seed = std::fs::read_to_string(&path).unwrap();
        assert!(!format!("{key:?}").contains(seed.trim()));
        let signature = key.sign(b"what is signed").unwrap();
        assert!(is_signed(b"what is signed", &signature, &again.public_key()));
        assert!(!is_signed(b"what is singed", &signature, &again.public_key()));
        assert!(!is_signed(b"what is signed", &signature.to_uppercase(), &again.public_key()));
    }

    #[test]
    fn a_file_without_a_key_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate.key");
        private_file::write(&path, b"nonsense").unwrap();
        assert!(matches!(CertificateKey::load_or_create(&path).unwrap_err(), ProofError::NoKey { .. }));
        private_file::write(&path, "0".repeat(64).as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = CertificateKey::load_or_create(&path).unwrap_err();
        assert!(matches!(error, ProofError::File { .. }) && error.remedy().is_some(), "{error:?}");
    }
}
