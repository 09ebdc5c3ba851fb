//! Secrets at rest: AES-256-GCM under a key that lies in a file beside the database, never in it.
//!
//! A sealed text is bound to the place it is stored at (`table.column:row id`), so that one copied to another row does
//! not open there. Form: `v1:` and the base64 of nonce (12 bytes), ciphertext and tag (16 bytes).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{FailureKind, Secret};
use zeroize::Zeroize;

use crate::private_file;

/// Length of the key in bytes.
const KEY_BYTES: usize = 32;
/// First part of every sealed text.
const VERSION: &str = "v1:";

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be used: unreadable, not to be made, or open to others.
    #[error("cannot use the key file {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file holds no key.
    #[error("{path} does not hold a key of {KEY_BYTES} bytes")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes, or the cipher refused.
    #[error("the cipher failed")]
    Cipher,
    /// Another key, another place, a changed text, or none that was ever sealed.
    #[error("a stored secret cannot be opened: it was sealed with another key or for another place")]
    NotOurs,
}

impl SealError {
    /// The kind that decides on status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::KeyFile { .. } | Self::NoKey { .. } => FailureKind::Invalid,
            Self::Cipher | Self::NotOurs => FailureKind::Internal,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::KeyFile { .. } => {
                Some("let the user this process runs as, and nobody else, use the file (mode 600) and its folder")
            }
            Self::NoKey { .. } => {
                Some("put the key file back from its backup; without it every secret must be entered anew")
            }
            Self::NotOurs => Some("put the key file that belongs to this database back, or enter the secret anew"),
            Self::Cipher => None,
        }
    }
}

/// The key that seals and opens. Clones share it; it is never shown.
#[derive(Clone)]
pub struct SealingKey {
    key: Arc<RandomizedNonceKey>,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

impl SealingKey {
    /// The key of this file, which is made (mode 0600, its folder too) when it does not exist. Several processes may do
    /// so at once: whoever is first decides, and all use what is there then.
    ///
    /// # Errors
    /// [`SealError::KeyFile`], [`SealError::NoKey`].
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::KeyFile { path: path.to_owned(), source };
        if !path.try_exists().map_err(failed)? {
            let mut fresh = [0_u8; KEY_BYTES];
            aws_lc_rs::rand::fill(&mut fresh).map_err(|_| SealError::Cipher)?;
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            let created = private_file::create(path, &fresh).map_err(failed);
            fresh.zeroize();
            created?;
        }
        let mut bytes = private_file::read(path).map_err(failed)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes);
        bytes.zeroize();
        let key = key.map_err(|_| SealError::NoKey { path: path.to_owned() })?;
        Ok(Self { key: Arc::new(key) })
    }

    /// Seals a secret for a place (`table.column:row id`): it opens nowhere else.
    ///
    /// # Errors
    /// [`SealError::Cipher`].
    pub fn seal(&self, secret: &Secret, place: &str) -> Result<String, SealError> {
        let mut sealed = secret.expose().as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(place), &mut sealed).map_err(|_| SealError::Cipher)?;
        let whole = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(format!("{VERSION}{}", STANDARD.encode(whole)))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`SealError::NotOurs`].
    pub fn open(&self, sealed: &str, place: &str) -> Result<Secret, SealError> {
        let encoded = sealed.strip_prefix(VERSION).ok_or(SealError::NotOurs)?;
        let mut bytes = STANDARD.decode(encoded).map_err(|_| SealError::NotOurs)?;
        let (nonce, ciphertext) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SealError::NotOurs)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotOurs)?;
        let opened = self.key.open_in_place(nonce, Aad::from(place), ciphertext);
        let plain = opened.map_err(|_| SealError::NotOurs)?;
        let secret = std::str::from_utf8(plain).map(Secret::new).map_err(|_| SealError::NotOurs);
        plain.zeroize();
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const PLACE: &str = "vmware_credentials.password_encrypted:1";

    fn key_in(folder: &tempfile::TempDir) -> SealingKey {
        SealingKey::load_or_create(&folder.path().join("sealing.key")).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "pässwörd", &"x".repeat(10_000)] {
            let sealed = key_in(&folder).seal(&Secret::new(text), PLACE).unwrap();
            assert!(sealed.starts_with("v1:") && !sealed.contains("pässwörd"));
            assert_eq!(key_in(&folder).open(&sealed, PLACE).unwrap().expose(), text);
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (key, secret) = (key_in(&folder), Secret::new("x"));
        assert_ne!(key.seal(&secret, PLACE).unwrap(), key.seal(&secret, PLACE).unwrap());
    }

    #[test]
    fn another_place_key_or_text_does_not_open() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = key_in(&folder);
        let sealed = key.seal(&Secret::new("x"), PLACE).unwrap();
        let does_not_open = |result: Result<Secret, SealError>| matches!(result, Err(SealError::NotOurs));
        assert!(does_not_open(key.open(&sealed, "vmware_credentials.password_encrypted:2")));
        assert!(does_not_open(key_in(&other).open(&sealed, PLACE)));
        let mut bytes = STANDARD.decode(&sealed[3..]).unwrap();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert!(does_not_open(key.open(&format!("v1:{}", STANDARD.encode(&bytes)), PLACE)), "byte {index}");
            bytes[index] ^= 1;
        }
    }

    #[test]
    fn what_was_never_sealed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = key_in(&folder);
        for text in ["", "password", "v2:AAAA", "v1:!", "v1:AAAA"] {
            assert!(matches!(key.open(text, PLACE), Err(SealError::NotOurs)), "{text}");
        }
        assert!(matches!(key.open("v1:AAAAAAAAAAAAAAAA", PLACE), Err(SealError::NotOurs)), "a nonce alone");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        key_in(&folder);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = SealingKey::load_or_create(&path).unwrap_err();
            assert!(matches!(&error, SealError::KeyFile { source, .. } if source.to_string().contains("chmod 600")));
            assert!(error.remedy().unwrap().contains("nobody else"));
        }
    }

    #[test]
    fn a_file_without_a_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        for content in ["", "hello", &"x".repeat(KEY_BYTES + 1)] {
            private_file::write(&path, content.as_bytes()).unwrap();
            let error = SealingKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, SealError::NoKey { .. }), "{content}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(format!("{:?}", key_in(&folder)), "SealingKey(…)");
    }
}
