//! What one core of this machine does of the two things that no copy engine can do without: encrypting and digesting. The
//! goals are ratios to peers that encrypt, too; what a processor does not give, nobody gets.

use std::hint::black_box;
use std::time::{Duration, Instant};

use block::digest::leaf_digest;
use model::LEAF_SIZE_BYTES;
use model::size::GIB_BYTES;
use serde::{Deserialize, Serialize};
use tunnel::cipher::{Cipher, Engine, NONCE_BYTES, TAG_BYTES};

use crate::results::rounded;

/// Bytes of a full TLS record.
const RECORD_BYTES: usize = 1 << 14;
/// Bytes worked on: they stay in the processor's cache, as those of a copy do.
const WORK_BYTES: usize = 256 * 1024;
/// How long each is measured.
const MEASURED_FOR: Duration = Duration::from_millis(300);

/// Speeds of one core, in GiB/s.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Primitives {
    /// The library that seals records on this processor.
    pub aes_by: String,
    /// AES-256-GCM by it, which ours agrees on, record by record.
    pub aes_256_gcm_gib_per_s: f64,
    /// AES-128-GCM by it, which the peers agree on.
    pub aes_128_gcm_gib_per_s: f64,
    /// AES-256-GCM by aws-lc, whoever seals records.
    pub aes_256_gcm_aws_lc_gib_per_s: f64,
    /// BLAKE3, leaf by leaf.
    pub blake3_gib_per_s: f64,
}

impl Primitives {
    /// Of this machine.
    #[must_use]
    pub fn measured() -> Self {
        // Not zero: a leaf of zeroes is not digested.
        let work = vec![0x5a; WORK_BYTES];
        let leaf = usize::try_from(LEAF_SIZE_BYTES).unwrap_or(WORK_BYTES);
        let engine = Engine::fastest();
        Self {
            aes_by: engine.name().to_owned(),
            aes_256_gcm_gib_per_s: seal_speed(engine, &[7; 32], &work),
            aes_128_gcm_gib_per_s: seal_speed(engine, &[7; 16], &work),
            aes_256_gcm_aws_lc_gib_per_s: seal_speed(Engine::AwsLc, &[7; 32], &work),
            blake3_gib_per_s: speed(|| {
                for leaf in work.chunks(leaf) {
                    black_box(leaf_digest(leaf));
                }
            }),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { aes_by, aes_256_gcm_gib_per_s: long, aes_128_gcm_gib_per_s: short, .. } = self;
        let Self { aes_256_gcm_aws_lc_gib_per_s: aws_lc, blake3_gib_per_s: digest, .. } = self;
        format!(
            "One core does {long:.1} GiB/s of AES-256-GCM by {aes_by} (AES-128-GCM {short:.1}, AES-256-GCM by aws-lc \
             {aws_lc:.1}) and {digest:.1} GiB/s of BLAKE3: at both ends together, a GiB of data costs {:.2} CPU-s to encrypt \
             and {:.2} CPU-s to digest.",
            2.0 / long,
            2.0 / digest
        )
    }
}

fn seal_speed(engine: Engine, key: &[u8], work: &[u8]) -> f64 {
    let Ok(cipher) = Cipher::new(engine, key) else { return 0.0 };
    let (mut record, mut are_sealed) = (vec![0; RECORD_BYTES + 1 + TAG_BYTES], true);
    let found = speed(|| {
        for plaintext in work.chunks(RECORD_BYTES) {
            // What is sealed goes nowhere, so a nonce may come again.
            are_sealed &= cipher.seal([0; NONCE_BYTES], &[0; 5], plaintext, 23, &mut record).is_ok();
        }
        black_box(&record);
    });
    if are_sealed { found } else { 0.0 }
}

/// GiB/s of a function that works on [`WORK_BYTES`]: its fastest call, which nobody disturbed.
fn speed(mut work: impl FnMut()) -> f64 {
    let (begun, mut fastest) = (Instant::now(), f64::MAX);
    while begun.elapsed() < MEASURED_FOR {
        let call = Instant::now();
        work();
        fastest = fastest.min(call.elapsed().as_secs_f64());
    }
    #[allow(clippy::cast_precision_loss, reason = "both are small")]
    let gib = WORK_BYTES as f64 / GIB_BYTES as f64;
    rounded(gib / fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_measured_and_told() {
        let measured = Primitives::measured();
        let Primitives { aes_by, aes_256_gcm_gib_per_s, aes_128_gcm_gib_per_s, .. } = measured.clone();
        let all = [aes_256_gcm_gib_per_s, aes_128_gcm_gib_per_s, measured.aes_256_gcm_aws_lc_gib_per_s];
        assert!(all.iter().all(|&speed| speed > 0.0) && measured.blake3_gib_per_s > 0.0, "{measured:?}");
        assert!(measured.line().contains(&format!("AES-256-GCM by {aes_by} ")), "{}", measured.line());
        let two = Primitives { aes_256_gcm_gib_per_s: 4.0, blake3_gib_per_s: 2.0, ..measured };
        assert!(two.line().contains("0.50 CPU-s to encrypt and 1.00 CPU-s to digest"), "{}", two.line());
    }
}
