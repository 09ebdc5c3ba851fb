//! Secrets at rest: AES-256-GCM under a key that lies in a file of its own, bound to the row and column they belong to.
//!
//! A sealed text is `v1:` and the base64 of nonce (12 bytes) and ciphertext with tag.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Secret;

use crate::private_file;

/// Length of the key, in bytes.
const KEY_BYTES: usize = 32;
/// What every sealed text begins with.
const VERSION: &str = "v1:";

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be used.
    #[error("cannot use the key file {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file does not hold a key.
    #[error("{path} does not hold a key of {KEY_BYTES} bytes")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes, or the cipher failed.
    #[error("the cipher failed")]
    Cipher,
    /// The text was not sealed with this key for this place, or was changed.
    #[error("a stored secret cannot be opened: it was sealed with another key or for another place")]
    NotOurs,
}

/// The key.
pub struct SealingKey {
    key: RandomizedNonceKey,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

impl SealingKey {
    /// Reads the key from `path`, or makes one there; several processes may do so at once.
    ///
    /// # Errors
    /// When the file cannot be used or others can read it.
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::KeyFile { path: path.to_owned(), source };
        if !path.exists() {
            let mut fresh = [0; KEY_BYTES];
            aws_lc_rs::rand::fill(&mut fresh).map_err(|_| SealError::Cipher)?;
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            private_file::create(path, &fresh).map_err(failed)?;
        }
        let bytes = private_file::read(path).map_err(failed)?;
        if bytes.len() != KEY_BYTES {
            return Err(SealError::NoKey { path: path.to_owned() });
        }
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::Cipher)?;
        Ok(Self { key })
    }

    /// Seals a secret for one place (`table.column:row id`): it opens nowhere else.
    ///
    /// # Errors
    /// [`SealError::Cipher`].
    pub fn seal(&self, secret: &Secret, place: &str) -> Result<String, SealError> {
        let mut bytes = secret.expose().as_bytes().to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut bytes)
            .map_err(|_| SealError::Cipher)?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut bytes);
        Ok(format!("{VERSION}{}", STANDARD.encode(whole)))
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`SealError::NotOurs`].
    pub fn open(&self, sealed: &str, place: &str) -> Result<Secret, SealError> {
        let encoded = sealed.strip_prefix(VERSION).ok_or(SealError::NotOurs)?;
        let whole = STANDARD.decode(encoded).map_err(|_| SealError::NotOurs)?;
        let (nonce, ciphertext) = whole.split_at_checked(NONCE_LEN).ok_or(SealError::NotOurs)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotOurs)?;
        let mut bytes = ciphertext.to_vec();
        let plain =
            self.key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut bytes).map_err(|_| SealError::NotOurs)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::NotOurs)?;
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_with_its_key_in_its_place_and_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::load_or_create(&folder.path().join("a.key")).unwrap();
        let again = SealingKey::load_or_create(&folder.path().join("a.key")).unwrap();
        let other = SealingKey::load_or_create(&folder.path().join("b.key")).unwrap();
        let sealed = key.seal(&Secret::new("hunter2"), "t.c:1").unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, key.seal(&Secret::new("hunter2"), "t.c:1").unwrap(), "a nonce is never used twice");
        assert_eq!(again.open(&sealed, "t.c:1").unwrap().expose(), "hunter2");
        let mut changed = sealed.clone().into_bytes();
        changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        for (key, text, place) in [
            (&other, sealed.as_str(), "t.c:1"),
            (&key, &sealed, "t.c:2"),
            (&key, &changed, "t.c:1"),
            (&key, "v1:", "t.c:1"),
            (&key, "x", "t.c:1"),
        ] {
            assert!(matches!(key.open(text, place), Err(SealError::NotOurs)), "{text} {place}");
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.key");
        private_file::write(&path, b"short").unwrap();
        assert!(matches!(SealingKey::load_or_create(&path), Err(SealError::NoKey { .. })));
    }
}
