//! The pairing code an operator carries from the hub to an agent: a secret, and the hub's CA in 80 bits.
//!
//! Pure: it is told what to hash and draws randomness only to make a code. Single use, age and attempts are counted by
//! the hub, which stores [`secret_hash`] and never the code.

use std::fmt;

use model::Secret;
use rustls_pki_types::CertificateDer;

use crate::certificate::sha256;
use crate::error::TunnelError;
use crate::identity::random_bytes;

/// Crockford's base 32: no I, L, O or U, so that what people misread still means the same.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of the secret part: 60 random bits.
pub const SECRET_CHARS: usize = 12;
/// Characters of the CA part: 80 bits.
pub const CA_CHARS: usize = 16;
/// Bytes of the CA part.
pub const CA_PREFIX_BYTES: usize = 10;
/// Characters printed between two hyphens.
const GROUP_CHARS: usize = 4;
/// Longest text looked at, in bytes: the code with a blank and a hyphen around every character.
const MAX_TYPED_BYTES: usize = 128;
/// Bits one character carries.
const CHAR_BITS: usize = 5;

/// Why a text is not a pairing code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairingCodeError {
    /// A character outside the alphabet.
    #[error("the pairing code cannot contain `{found}` (character {position})")]
    Character {
        /// What was typed.
        found: char,
        /// Where, counted from 1 without blanks and hyphens.
        position: usize,
    },
    /// Too few or too many characters.
    #[error("the pairing code has {found} characters instead of {expected}")]
    Length {
        /// Characters found, without blanks and hyphens.
        found: usize,
        /// Characters it must have.
        expected: usize,
    },
}

impl PairingCodeError {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        "Copy the code again from the hub (`migratekit agent pair`): seven groups of four characters."
    }
}

/// The first 80 bits of the SHA-256 of a hub CA's certificate (DER): what an agent trusts until it has the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPrefix([u8; CA_PREFIX_BYTES]);

impl CaPrefix {
    /// The prefix of this certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut prefix = [0; CA_PREFIX_BYTES];
        prefix.copy_from_slice(&sha256(certificate)[..CA_PREFIX_BYTES]);
        Self(prefix)
    }

    /// Whether this certificate is the one that was meant.
    #[must_use]
    pub fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        Self::of(certificate) == *self
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(CA_CHARS);
        for chunk in self.0.chunks(CHAR_BITS) {
            let bits = chunk.iter().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
            let symbol = |index: usize| ALPHABET[(bits >> (CHAR_BITS * (7 - index))) as usize & 0x1f] as char;
            text.extend((0..8).map(symbol));
        }
        text
    }

    fn from_values(values: &[u8]) -> Self {
        let mut prefix = [0; CA_PREFIX_BYTES];
        for (bytes, chunk) in prefix.chunks_mut(CHAR_BITS).zip(values.chunks(8)) {
            let bits = chunk.iter().fold(0u64, |bits, value| (bits << CHAR_BITS) | u64::from(*value));
            bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Self(prefix)
    }
}

impl fmt::Display for CaPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A pairing code. `Debug` shows only the part that is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingCode {
    secret: Secret,
    ca: CaPrefix,
}

impl PairingCode {
    /// A new code for the hub whose CA is given.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(ca: &CertificateDer<'_>) -> Result<Self, TunnelError> {
        let random: [u8; SECRET_CHARS] = random_bytes()?;
        let secret: String = random.iter().map(|byte| ALPHABET[usize::from(byte & 0x1f)] as char).collect();
        Ok(Self { secret: Secret::new(secret), ca: CaPrefix::of(ca) })
    }

    /// Reads what a person typed: blanks, hyphens and case do not matter, O counts as 0, I and L count as 1.
    ///
    /// # Errors
    /// Which character is wrong, or how many are missing.
    pub fn parse(typed: &str) -> Result<Self, PairingCodeError> {
        let values = symbols(typed, SECRET_CHARS + CA_CHARS)?;
        let (secret, ca) = values.split_at(SECRET_CHARS);
        Ok(Self { secret: Secret::new(spelled(secret)), ca: CaPrefix::from_values(ca) })
    }

    /// The whole code in groups of four, to be shown once.
    #[must_use]
    pub fn text(&self) -> Secret {
        let whole = format!("{}{}", self.secret.expose(), self.ca.text());
        let groups: Vec<&str> = (0..whole.len()).step_by(GROUP_CHARS).map(|at| &whole[at..at + GROUP_CHARS]).collect();
        Secret::new(groups.join("-"))
    }

    /// The secret part: what the agent sends to the hub, and all it sends of the code.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The part that names the hub's CA.
    #[must_use]
    pub fn ca_prefix(&self) -> CaPrefix {
        self.ca
    }

    /// What the hub stores of it (`vma_pairing_codes.code_hash`).
    #[must_use]
    pub fn secret_hash(&self) -> String {
        hex::encode(sha256(self.secret.expose().as_bytes()))
    }
}

/// SHA-256, in lower hex, of the secret part an agent sent, after the same forgiving reading as [`PairingCode::parse`].
///
/// # Errors
/// When it cannot be a secret part.
pub fn secret_hash(sent: &Secret) -> Result<String, PairingCodeError> {
    let secret = Secret::new(spelled(&symbols(sent.expose(), SECRET_CHARS)?));
    Ok(hex::encode(sha256(secret.expose().as_bytes())))
}

fn spelled(values: &[u8]) -> String {
    values.iter().map(|value| ALPHABET[usize::from(*value)] as char).collect()
}

fn symbols(typed: &str, expected: usize) -> Result<Vec<u8>, PairingCodeError> {
    if typed.len() > MAX_TYPED_BYTES {
        return Err(PairingCodeError::Length { found: typed.chars().count(), expected });
    }
    let mut values = Vec::with_capacity(expected);
    let significant = typed.chars().filter(|c| !c.is_whitespace() && !is_dash(*c));
    for (index, found) in significant.enumerate() {
        let value = value_of(found).ok_or(PairingCodeError::Character { found, position: index + 1 })?;
        values.push(value);
    }
    if values.len() == expected { Ok(values) } else { Err(PairingCodeError::Length { found: values.len(), expected }) }
}

/// Hyphen, underscore, and the dashes that mail programs and word processors put in a hyphen's place.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn value_of(typed: char) -> Option<u8> {
    let symbol = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let position = ALPHABET.iter().position(|known| char::from(*known) == symbol)?;
    u8::try_from(position).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn ca() -> CertificateDer<'static> {
        CertificateDer::from(b"stands for a certificate".to_vec())
    }

    #[test]
    fn a_code_is_seven_groups_of_four_and_reads_back() {
        let code = PairingCode::generate(&ca()).unwrap();
        let text = code.text();
        let groups: Vec<&str> = text.expose().split('-').collect();
        assert_eq!(groups.len(), 7);
        assert!(groups.iter().all(|group| group.len() == 4));
        let read = PairingCode::parse(text.expose()).unwrap();
        assert_eq!(read, code);
        assert!(read.ca_prefix().matches(&ca()));
        assert!(!read.ca_prefix().matches(&CertificateDer::from(b"another".to_vec())));
        assert_eq!(read.secret_hash(), secret_hash(code.secret()).unwrap());
        assert!(!format!("{code:?}").contains(code.secret().expose()));
    }

    #[test]
    fn codes_do_not_repeat() {
        let codes: std::collections::BTreeSet<String> =
            (0..200).map(|_| PairingCode::generate(&ca()).unwrap().secret_hash()).collect();
        assert_eq!(codes.len(), 200);
    }

    #[test]
    fn what_people_type_is_understood() {
        let plain = PairingCode::parse("0123-4567-89AB-1100-CDEF-GHJK-MNPQ").unwrap();
        for typed in [
            "o123 4567 89ab liOO cdef ghjk mnpq",
            "O123456789ABilO0CDEFGHJKMNPQ",
            "\t0123\u{2013}4567\u{2013}89AB\u{2013}1100\u{2013}CDEF\u{2013}GHJK\u{2013}MNPQ\r\n",
        ] {
            assert_eq!(PairingCode::parse(typed).unwrap(), plain, "{typed}");
        }
        assert_eq!(plain.secret().expose(), "0123456789AB");
        assert_eq!(plain.ca_prefix().to_string(), "1100CDEFGHJKMNPQ");
    }

    #[test]
    fn what_cannot_be_a_code_is_said_precisely() {
        assert_eq!(PairingCode::parse("").unwrap_err(), PairingCodeError::Length { found: 0, expected: 28 });
        let wrong = PairingCodeError::Character { found: 'u', position: 6 };
        assert_eq!(PairingCode::parse("0123-4u67").unwrap_err(), wrong);
        assert_eq!(
            PairingCode::parse(&"0".repeat(29)).unwrap_err(),
            PairingCodeError::Length { found: 29, expected: 28 }
        );
        assert!(matches!(PairingCode::parse(&"0".repeat(1 << 20)), Err(PairingCodeError::Length { .. })));
        assert!(secret_hash(&Secret::new("0123")).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(typed in ".{0,200}") {
            let _ = PairingCode::parse(&typed);
            let _ = secret_hash(&Secret::new(typed));
        }

        #[test]
        fn every_prefix_reads_back(bytes in any::<[u8; CA_PREFIX_BYTES]>()) {
            let prefix = CaPrefix(bytes);
            let code = PairingCode { secret: Secret::new("0123456789AB"), ca: prefix };
            prop_assert_eq!(PairingCode::parse(code.text().expose()).unwrap().ca_prefix(), prefix);
        }
    }
}
