//! AES-GCM (RFC 5116 section 5) as the records of the data plane use it, by the library that is fastest on this processor.
//!
//! aws-lc-rs does what is encrypted and signed in the product, and this on most processors. Where there is VAES without
//! AVX-512 (AMD Zen 3, Intel's client processors since Alder Lake) it uses neither, and ring is half as fast again. Both give
//! the same bytes. Records are its only use in the product; whoever calls it answers for its nonces.

use aws_lc_rs::aead as lc;
use ring::aead as ring;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of the authentication tag.
pub const TAG_BYTES: usize = 16;

/// A library that does AES-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// aws-lc-rs: with AVX-512, and on every processor without VAES.
    AwsLc,
    /// ring: with VAES alone.
    Ring,
}

impl Engine {
    /// The faster one on this processor.
    #[must_use]
    pub fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let has_vaes = is_x86_feature_detected!("vaes")
                && is_x86_feature_detected!("vpclmulqdq")
                && is_x86_feature_detected!("avx2");
            // What aws-lc asks for before it uses VAES.
            let has_avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            if has_vaes && !has_avx512 {
                return Self::Ring;
            }
        }
        Self::AwsLc
    }

    /// As people know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc",
            Self::Ring => "ring",
        }
    }
}

/// A key that does not fit, a forged ciphertext, or too long a plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherError;

/// A key of AES-GCM, ready for use. Whoever uses it sees to it that no nonce comes twice.
pub struct Cipher(Key);

enum Key {
    AwsLc(lc::LessSafeKey),
    Ring(Box<ring::LessSafeKey>),
}

impl Cipher {
    /// A key of 16 or 32 bytes: AES-128 or AES-256.
    ///
    /// # Errors
    /// When it has another length.
    pub fn new(engine: Engine, key: &[u8]) -> Result<Self, CipherError> {
        let is_long = match key.len() {
            16 => false,
            32 => true,
            _ => return Err(CipherError),
        };
        Ok(Self(match engine {
            Engine::AwsLc => {
                let algorithm = if is_long { &lc::AES_256_GCM } else { &lc::AES_128_GCM };
                Key::AwsLc(lc::LessSafeKey::new(lc::UnboundKey::new(algorithm, key).map_err(|_| CipherError)?))
            }
            Engine::Ring => {
                let algorithm = if is_long { &ring::AES_256_GCM } else { &ring::AES_128_GCM };
                let key = ring::UnboundKey::new(algorithm, key).map_err(|_| CipherError)?;
                Key::Ring(Box::new(ring::LessSafeKey::new(key)))
            }
        }))
    }

    /// Seals `plaintext` and the byte `last` after it; `out` has room for both and the tag.
    ///
    /// # Errors
    /// When `out` has another length, or the plaintext is longer than the cipher allows.
    pub fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        header: &[u8],
        plaintext: &[u8],
        last: u8,
        out: &mut [u8],
    ) -> Result<(), CipherError> {
        if out.len() != plaintext.len() + 1 + TAG_BYTES {
            return Err(CipherError);
        }
        match &self.0 {
            Key::AwsLc(key) => {
                let (ciphertext, last_and_tag) = out.split_at_mut(plaintext.len());
                let nonce = lc::Nonce::assume_unique_for_key(nonce);
                let aad = lc::Aad::from(header);
                key.seal_out_of_place_scatter(nonce, aad, plaintext, ciphertext, &[last], last_and_tag)
                    .map_err(|_| CipherError)
            }
            Key::Ring(key) => {
                let (inner, tag_out) = out.split_at_mut(plaintext.len() + 1);
                copy(plaintext, &mut inner[..plaintext.len()]);
                inner[plaintext.len()] = last;
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, ring::Aad::from(header), inner);
                tag_out.copy_from_slice(tag.map_err(|_| CipherError)?.as_ref());
                Ok(())
            }
        }
    }

    /// Opens `ciphertext` into `out`, which is as long. After an error `out` holds nothing that may be used.
    ///
    /// # Errors
    /// When it was not sealed with this key, nonce and header, or `out` has another length.
    pub fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        header: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> Result<(), CipherError> {
        if out.len() != ciphertext.len() {
            return Err(CipherError);
        }
        match &self.0 {
            Key::AwsLc(key) => {
                let nonce = lc::Nonce::assume_unique_for_key(nonce);
                key.open_separate_gather(nonce, lc::Aad::from(header), ciphertext, tag, out).map_err(|_| CipherError)
            }
            Key::Ring(key) => {
                let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| CipherError)?;
                copy(ciphertext, out);
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                let opened = key.open_in_place_separate_tag(nonce, ring::Aad::from(header), tag.into(), out, 0..);
                opened.map(|_| ()).map_err(|_| CipherError)
            }
        }
    }
}

/// Copies to the same length, a little at a time. From 2112 bytes on, the GNU C library lets a processor with FSRM copy by
/// itself (`rep movsb`), which Zen 3 does at a fraction of its speed when the target begins a little later on its page than
/// the source.
fn copy(from: &[u8], to: &mut [u8]) {
    // Stays below those 2112.
    const PIECE_BYTES: usize = 2048;
    for (from, to) in from.chunks(PIECE_BYTES).zip(to.chunks_mut(PIECE_BYTES)) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENGINES: [Engine; 2] = [Engine::AwsLc, Engine::Ring];

    /// Around every border of what is copied at a time, and a whole record.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..600, prop::sample::select(vec![2046, 2047, 2048, 2049, 4096, 6143, 1 << 14])]
    }

    proptest! {
        #[test]
        fn both_engines_seal_the_same_bytes_and_open_each_others(
            plaintext in lengths().prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length)),
            key in any::<[u8; 32]>(),
            long in any::<bool>(),
            nonce in any::<[u8; 12]>(),
            header in any::<[u8; 5]>(),
        ) {
            let key = if long { &key[..] } else { &key[..16] };
            let ciphers = ENGINES.map(|engine| Cipher::new(engine, key).unwrap());
            let sealed = ciphers.each_ref().map(|cipher| {
                let mut out = vec![0; plaintext.len() + 1 + TAG_BYTES];
                cipher.seal(nonce, &header, &plaintext, 23, &mut out).unwrap();
                out
            });
            prop_assert_eq!(&sealed[0], &sealed[1]);
            let (ciphertext, tag) = sealed[0].split_at(plaintext.len() + 1);
            for cipher in &ciphers {
                let mut out = vec![0; ciphertext.len()];
                cipher.open(nonce, &header, ciphertext, tag, &mut out).unwrap();
                prop_assert_eq!((&out[..plaintext.len()], out[plaintext.len()]), (&plaintext[..], 23));
            }
        }

        #[test]
        fn neither_engine_opens_what_was_changed(length in 0usize..100, at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            for engine in ENGINES {
                let cipher = Cipher::new(engine, &[7; 32]).unwrap();
                let mut sealed = vec![0; length + 1 + TAG_BYTES];
                cipher.seal([1; 12], b"head", &vec![5; length], 23, &mut sealed).unwrap();
                sealed[at.index(length + 1 + TAG_BYTES)] ^= 1 << bit;
                let (ciphertext, tag) = sealed.split_at(length + 1);
                let mut out = vec![0; length + 1];
                prop_assert_eq!(cipher.open([1; 12], b"head", ciphertext, tag, &mut out), Err(CipherError));
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for engine in ENGINES {
            assert!(Cipher::new(engine, &[0; 24]).is_err());
            let cipher = Cipher::new(engine, &[0; 16]).unwrap();
            assert_eq!(cipher.seal([0; 12], b"", b"abc", 0, &mut [0; 19]), Err(CipherError));
            assert_eq!(cipher.open([0; 12], b"", b"abc", &[0; 16], &mut [0; 2]), Err(CipherError));
            assert_eq!(cipher.open([0; 12], b"", b"abc", &[0; 15], &mut [0; 3]), Err(CipherError));
        }
    }
}
