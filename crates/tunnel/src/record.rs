//! Protection of TLS 1.3 records (RFC 8446 section 5.2) in one direction. Pure: bytes in, bytes out, no sockets.
//!
//! The handshake and the keys are rustls's. Records are sealed here because a disk's bytes then go from where they were
//! read into the record, and from the record to where they are written from, with nothing kept between.

use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroize;

use crate::cipher::{Cipher, Engine, NONCE_BYTES, TAG_BYTES};

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 5;
/// Most plaintext in one record, in bytes.
pub(crate) const MAX_PLAINTEXT_BYTES: usize = 1 << 14;
/// Bytes of a record around its plaintext: header, inner content type, tag.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + 1 + TAG_BYTES;
/// Longest record a peer may send, in bytes: padding and tag take at most 256.
pub(crate) const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_PLAINTEXT_BYTES + 256;
/// The version every record claims (RFC 8446 section 5.1).
const LEGACY_VERSION: [u8; 2] = [3, 3];

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    /// Bytes of the application.
    Data,
    /// An alert: level and description.
    Alert,
    /// A handshake message after the handshake.
    Handshake,
}

impl ContentType {
    fn code(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Alert, Self::Handshake, Self::Data].into_iter().find(|kind| kind.code() == code)
    }
}

/// Why a record is not taken; the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the other side sent something that is no TLS 1.3 record")]
    Malformed,
    #[error("a TLS record was changed on its way, or is not from the other side")]
    Forged,
    #[error("no more records may be sealed with one key")]
    KeyUsedUp,
    #[error("the agreed cipher is not AES-GCM")]
    OtherCipher,
}

/// A key and its place in the sequence of nonces.
pub(crate) struct RecordKey {
    cipher: Cipher,
    iv: [u8; NONCE_BYTES],
    sequence: u64,
}

impl RecordKey {
    /// The key of one direction, whose next record has the number `sequence`.
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, RecordError> {
        let (ConnectionTrafficSecrets::Aes256Gcm { key, iv } | ConnectionTrafficSecrets::Aes128Gcm { key, iv }) =
            secrets
        else {
            return Err(RecordError::OtherCipher);
        };
        let cipher = Cipher::new(Engine::fastest(), key.as_ref()).map_err(|_| RecordError::OtherCipher)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordError::OtherCipher)?;
        Ok(Self { cipher, iv, sequence })
    }

    /// How many records were protected with this key.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The nonce of the next record (RFC 8446 section 5.3); it is used once.
    fn next_nonce(&mut self) -> Result<[u8; NONCE_BYTES], RecordError> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_BYTES - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(RecordError::KeyUsedUp)?;
        Ok(nonce)
    }

    /// Seals up to [`MAX_PLAINTEXT_BYTES`] into `out`, which has exactly [`OVERHEAD_BYTES`] more.
    pub(crate) fn seal(&mut self, kind: ContentType, plaintext: &[u8], out: &mut [u8]) -> Result<(), RecordError> {
        if plaintext.len() > MAX_PLAINTEXT_BYTES || out.len() != plaintext.len() + OVERHEAD_BYTES {
            return Err(RecordError::Malformed);
        }
        let length = u16::try_from(out.len() - HEADER_BYTES).map_err(|_| RecordError::Malformed)?.to_be_bytes();
        let header = [ContentType::Data.code(), LEGACY_VERSION[0], LEGACY_VERSION[1], length[0], length[1]];
        let (head, body) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header);
        let nonce = self.next_nonce()?;
        self.cipher.seal(nonce, &header, plaintext, kind.code(), body).map_err(|_| RecordError::KeyUsedUp)
    }

    /// Opens a whole record into `out`, which has room for its plaintext and one byte more; tells what it carries and
    /// how long that is. After an error `out` holds nothing of meaning.
    pub(crate) fn open(&mut self, record: &[u8], out: &mut [u8]) -> Result<(ContentType, usize), RecordError> {
        let (header, body) = record.split_at_checked(HEADER_BYTES).ok_or(RecordError::Malformed)?;
        let inner_length = body.len().checked_sub(TAG_BYTES).filter(|&length| length > 0);
        let inner_length = inner_length.ok_or(RecordError::Malformed)?;
        let (ciphertext, tag) = body.split_at(inner_length);
        let inner = out.get_mut(..inner_length).ok_or(RecordError::Malformed)?;
        let nonce = self.next_nonce()?;
        if self.cipher.open(nonce, header, ciphertext, tag, inner).is_err() {
            // What was decrypted before the tag was found wrong must not be used by anybody.
            inner.zeroize();
            return Err(RecordError::Forged);
        }
        // The content type is the last byte that is not padding.
        let end = inner.iter().rposition(|&byte| byte != 0).ok_or(RecordError::Malformed)?;
        let kind = ContentType::of(inner[end]).ok_or(RecordError::Malformed)?;
        if end > MAX_PLAINTEXT_BYTES {
            return Err(RecordError::Malformed);
        }
        Ok((kind, end))
    }
}

/// The length of the record that begins `bytes`, as soon as its header is there.
pub(crate) fn record_length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[kind, major, minor, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    // After the handshake everything is protected, and protected records all look like data.
    if kind != ContentType::Data.code() || [major, minor] != LEGACY_VERSION || length > MAX_RECORD_BYTES {
        return Err(RecordError::Malformed);
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(sequence: u64) -> RecordKey {
        let cipher = Cipher::new(Engine::fastest(), &[7; 32]).unwrap();
        RecordKey { cipher, iv: [9; NONCE_BYTES], sequence }
    }

    fn sealed(kind: ContentType, plaintext: &[u8], sequence: u64) -> Vec<u8> {
        let mut record = vec![0; plaintext.len() + OVERHEAD_BYTES];
        key(sequence).seal(kind, plaintext, &mut record).unwrap();
        record
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(length in 0usize..=MAX_PLAINTEXT_BYTES, fill in any::<u8>(), sequence in 0u64..1 << 40) {
            let plaintext = vec![fill; length];
            let record = sealed(ContentType::Data, &plaintext, sequence);
            prop_assert_eq!(record_length(&record).unwrap(), Some(record.len()));
            let mut out = vec![0; length + 1];
            prop_assert_eq!(key(sequence).open(&record, &mut out).unwrap(), (ContentType::Data, length));
            prop_assert_eq!(&out[..length], &plaintext[..]);
        }

        #[test]
        fn one_bit_anywhere_is_noticed(length in 0usize..300, at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut record = sealed(ContentType::Data, &vec![5; length], 3);
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            let mut out = vec![0; length + 1];
            // A changed length no longer fits the bytes that are there; everything else fails the tag.
            prop_assert!(key(3).open(&record, &mut out).is_err());
        }

        #[test]
        fn random_bytes_are_no_record(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut out = vec![0; 200];
            prop_assert!(key(0).open(&bytes, &mut out).is_err());
            let _ = record_length(&bytes);
        }
    }

    #[test]
    fn a_record_out_of_order_or_repeated_is_refused() {
        let record = sealed(ContentType::Data, b"first", 0);
        let mut out = [0; 6];
        let mut opener = key(0);
        opener.open(&record, &mut out).unwrap();
        assert_eq!(opener.open(&record, &mut out), Err(RecordError::Forged));
        assert_eq!(out, [0; 6], "nothing of a refused record is left");
        assert_eq!(key(1).open(&record, &mut out), Err(RecordError::Forged));
    }

    #[test]
    fn lengths_that_no_peer_may_send_are_refused() {
        assert_eq!(record_length(&[23, 3, 3, 0x41, 0]).unwrap(), Some(MAX_RECORD_BYTES));
        for header in [[23, 3, 3, 0x41, 1], [22, 3, 3, 0, 40], [23, 3, 1, 0, 40], [20, 3, 3, 0, 1]] {
            assert_eq!(record_length(&header), Err(RecordError::Malformed), "{header:?}");
        }
        assert_eq!(record_length(&[23, 3, 3, 0]).unwrap(), None);
        let mut out = [0; 10];
        assert_eq!(key(0).open(&[23, 3, 3, 0, 16].map(|b| b), &mut out), Err(RecordError::Malformed));
    }

    #[test]
    fn padding_is_taken_off_and_a_record_of_nothing_but_padding_refused() {
        let mut padded = vec![0; 8 + OVERHEAD_BYTES - 1];
        let inner: [u8; 8] = [1, 2, 3, ContentType::Alert.code(), 0, 0, 0, 0];
        let length = u16::try_from(padded.len() - HEADER_BYTES).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        for (content, expected) in [(inner, Ok((ContentType::Alert, 3))), ([0; 8], Err(RecordError::Malformed))] {
            let mut sealing = key(5);
            let nonce = sealing.next_nonce().unwrap();
            padded[..HEADER_BYTES].copy_from_slice(&header);
            let (content, last) = (&content[..7], content[7]);
            sealing.cipher.seal(nonce, &header, content, last, &mut padded[HEADER_BYTES..]).unwrap();
            assert_eq!(key(5).open(&padded, &mut [0; 8]), expected);
        }
    }
}
