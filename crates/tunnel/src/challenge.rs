//! Proof that an enrolling agent holds its key: the hub draws a nonce, the agent signs it (Ed25519), the hub verifies.
//!
//! Pure but for drawing the nonce. The hub keeps the nonce (`vma_enrollments.challenge_nonce`) and takes it once.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::error::TunnelError;
use crate::identity::{AgentKey, AgentPublicKey, random_bytes};

/// Bytes of a nonce.
const NONCE_BYTES: usize = 32;
/// Keeps these signatures from meaning anything anywhere else.
const DOMAIN: &[u8] = b"migratekit enrolment challenge v1\0";

/// A nonce for one enrolment. Nonce and signature travel as lower-case hexadecimal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    enrollment_id: String,
    nonce: [u8; NONCE_BYTES],
}

impl Challenge {
    /// A fresh challenge.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(enrollment_id: &str) -> Result<Self, TunnelError> {
        Ok(Self { enrollment_id: enrollment_id.to_owned(), nonce: random_bytes()? })
    }

    /// The challenge whose nonce was sent or stored as text.
    ///
    /// # Errors
    /// [`TunnelError::InvalidRecord`] when the nonce is not 64 hexadecimal digits.
    pub fn from_text(enrollment_id: &str, nonce: &str) -> Result<Self, TunnelError> {
        let mut bytes = [0; NONCE_BYTES];
        hex::decode_to_slice(nonce, &mut bytes).map_err(|_| TunnelError::InvalidRecord {
            reason: "its challenge is not 64 hexadecimal digits".to_owned(),
        })?;
        Ok(Self { enrollment_id: enrollment_id.to_owned(), nonce: bytes })
    }

    /// The nonce as text.
    #[must_use]
    pub fn nonce_text(&self) -> String {
        hex::encode(self.nonce)
    }

    /// The agent's answer: its signature, as text.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, key: &AgentKey) -> Result<String, TunnelError> {
        Ok(hex::encode(key.sign(&self.message())?))
    }

    /// Checks the agent's answer.
    ///
    /// # Errors
    /// [`TunnelError::ChallengeFailed`] for anything but the signature of this challenge by this key.
    pub fn verify(&self, key: &AgentPublicKey, signature: &str) -> Result<(), TunnelError> {
        let signature = hex::decode(signature).map_err(|_| TunnelError::ChallengeFailed)?;
        UnparsedPublicKey::new(&ED25519, key.as_bytes())
            .verify(&self.message(), &signature)
            .map_err(|_| TunnelError::ChallengeFailed)
    }

    fn message(&self) -> Vec<u8> {
        [DOMAIN, &self.nonce, self.enrollment_id.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_on_the_right_challenge_passes() {
        let (key, other) = (AgentKey::generate().unwrap(), AgentKey::generate().unwrap());
        let challenge = Challenge::generate("one").unwrap();
        let received = Challenge::from_text("one", &challenge.nonce_text()).unwrap();
        let answer = received.sign(&key).unwrap();
        challenge.verify(&key.public_key(), &answer).unwrap();

        let fresh = Challenge::generate("one").unwrap();
        let moved = Challenge::from_text("two", &challenge.nonce_text()).unwrap();
        let mut bent = answer.clone().into_bytes();
        bent[7] = if bent[7] == b'0' { b'1' } else { b'0' };
        let bent = String::from_utf8(bent).unwrap();
        for (attempt, key, answer) in [
            (&challenge, &other, answer.as_str()),
            (&fresh, &key, answer.as_str()),
            (&moved, &key, answer.as_str()),
            (&challenge, &key, bent.as_str()),
            (&challenge, &key, ""),
            (&challenge, &key, "not hexadecimal"),
        ] {
            let error = attempt.verify(&key.public_key(), answer).unwrap_err();
            assert!(matches!(error, TunnelError::ChallengeFailed));
        }
        assert!(Challenge::from_text("one", "00").is_err());
    }
}
