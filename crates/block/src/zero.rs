//! The exact zero test: every byte is looked at, because a sampled test loses data.

/// Bytes compared at a time: the zeroes compared against stay in the first-level cache.
const BLOCK_BYTES: usize = 4096;
static ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
/// A look at the first bytes settles most buffers that hold data.
const FIRST_LOOK_BYTES: usize = 16;

/// Whether every byte is zero. An empty slice is.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    if bytes.iter().take(FIRST_LOOK_BYTES).any(|&byte| byte != 0) {
        return false;
    }
    // Comparing slices of bytes is the platform's memcmp: wide loads, also in unoptimised builds.
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    blocks.iter().all(|block| block == &ZEROES) && rest == &ZEROES[..rest.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_bit_anywhere_is_found() {
        let mut bytes = vec![0u8; 3 * BLOCK_BYTES + 5];
        assert!(is_zero(&bytes));
        assert!(is_zero(&[]));
        for at in 0..bytes.len() {
            bytes[at] = 0x80;
            assert!(!is_zero(&bytes), "a bit at {at} was missed");
            bytes[at] = 0;
        }
    }

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(
            length in 0usize..20_000, start in 0usize..64, ones in proptest::collection::vec((0usize..20_000, 0u8..2), 0..3)
        ) {
            let mut bytes = vec![0u8; start + length];
            for (at, value) in ones {
                if at < bytes.len() {
                    bytes[at] = value;
                }
            }
            // A shifted start covers every alignment.
            prop_assert_eq!(is_zero(&bytes[start..]), bytes[start..].iter().all(|&byte| byte == 0));
        }
    }
}
