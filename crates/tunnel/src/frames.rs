//! The frames of `nbd+zstd`: what stands around the bytes of NBD where they may be compressed. Pure: bytes in, bytes out.
//!
//! A frame begins with a big-endian u32. Its lower 31 bits are the length of what follows. With the highest bit clear that
//! is NBD as it is; with it set, a u32 with the length before compression and one or more zstd frames (RFC 8878). Every
//! frame stands for itself, so what is received in one depends on no other.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

/// Most bytes of NBD in one frame.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 4;
/// Bytes of the length before compression.
pub const PLAIN_LENGTH_BYTES: usize = 4;
/// In the head of a compressed frame.
const PACKED: u32 = 1 << 31;

/// Why frames are not taken; the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame of nothing would be no progress.
    #[error("the other side sent a frame without content")]
    Empty,
    /// Longer than any frame may be.
    #[error("the other side sent a frame of {length} bytes, {MAX_FRAME_BYTES} are allowed")]
    TooLong {
        /// What its head says.
        length: usize,
    },
    /// A compressed frame is not shorter than what it stands for.
    #[error("the other side sent a compressed frame that is not shorter than its content")]
    NotShorter,
    /// It cannot be decompressed, or not to the length it announces.
    #[error("the other side sent a compressed frame that does not hold what it announces")]
    Damaged,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameHead {
    /// So many bytes of NBD follow.
    Raw {
        /// How many.
        length: usize,
    },
    /// A length before compression and zstd follow: so many bytes together.
    Packed {
        /// How many.
        length: usize,
    },
}

impl FrameHead {
    /// Reads a head.
    ///
    /// # Errors
    /// No frame can begin like this.
    pub fn decode(bytes: [u8; HEAD_BYTES]) -> Result<Self, FrameError> {
        let word = u32::from_be_bytes(bytes);
        let length = usize::try_from(word & !PACKED).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong { length });
        }
        match (word & PACKED != 0, length) {
            (_, 0) | (true, ..=PLAIN_LENGTH_BYTES) => Err(FrameError::Empty),
            (true, length) => Ok(Self::Packed { length }),
            (false, length) => Ok(Self::Raw { length }),
        }
    }

    fn word(self) -> u32 {
        let word = |length| u32::try_from(length).unwrap_or(u32::MAX);
        match self {
            Self::Raw { length } => word(length),
            Self::Packed { length } => PACKED | word(length),
        }
    }

    /// Appends the head to `out`.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.word().to_be_bytes());
    }
}

/// Compresses, block by block.
pub struct Packer {
    zstd: Compressor<'static>,
    level: i32,
    packed: Vec<u8>,
}

impl Packer {
    /// At a level of zstd.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut zstd = Compressor::new(level)?;
        // The frame says how long the content is.
        zstd.set_parameter(CParameter::ContentSizeFlag(false))?;
        Ok(Self { zstd, level, packed: vec![0; MAX_FRAME_BYTES] })
    }

    /// Goes on at another level.
    ///
    /// # Errors
    /// zstd does not know it.
    pub fn set_level(&mut self, level: i32) -> io::Result<()> {
        if level != self.level {
            self.zstd.set_compression_level(level)?;
            self.level = level;
        }
        Ok(())
    }

    /// The block compressed, unless that saves less than a sixteenth of it.
    pub fn pack(&mut self, block: &[u8]) -> Option<&[u8]> {
        let room = block.len().checked_sub(block.len() / 16 + PLAIN_LENGTH_BYTES)?;
        // Too long for the room is the one error there is.
        let length = self.zstd.compress_to_buffer(block, self.packed.get_mut(..room)?).ok()?;
        self.packed.get(..length)
    }
}

/// Decompresses frames.
pub struct Unpacker {
    zstd: Decompressor<'static>,
}

impl Unpacker {
    /// Ready for the first.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: Decompressor::new()? })
    }

    /// Makes `plain` the content of a compressed frame, whose head is taken off: never longer than
    /// [`MAX_FRAME_BYTES`], whatever `body` holds.
    ///
    /// # Errors
    /// It does not hold what it announces, or announces what is not allowed.
    pub fn unpack(&mut self, body: &[u8], plain: &mut Vec<u8>) -> Result<(), FrameError> {
        let (announced, packed) = body.split_first_chunk::<PLAIN_LENGTH_BYTES>().ok_or(FrameError::Empty)?;
        let length = usize::try_from(u32::from_be_bytes(*announced)).unwrap_or(usize::MAX);
        if length > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong { length });
        }
        if packed.len() >= length {
            return Err(FrameError::NotShorter);
        }
        plain.resize(length, 0);
        match self.zstd.decompress_to_buffer(packed, plain.as_mut_slice()) {
            Ok(found) if found == length => Ok(()),
            Ok(_) | Err(_) => {
                plain.clear();
                Err(FrameError::Damaged)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(block: &[u8]) -> Vec<u8> {
        let mut body = u32::try_from(block.len()).unwrap().to_be_bytes().to_vec();
        body.extend_from_slice(Packer::new(1).unwrap().pack(block).unwrap());
        body
    }

    proptest! {
        #[test]
        fn heads_are_read_as_they_were_written(length in 5usize..=MAX_FRAME_BYTES) {
            for head in [FrameHead::Raw { length }, FrameHead::Packed { length }] {
                let mut bytes = Vec::new();
                head.encode(&mut bytes);
                prop_assert_eq!(FrameHead::decode(bytes.try_into().unwrap()), Ok(head));
            }
        }

        #[test]
        fn what_was_compressed_comes_back(seed in any::<[u8; 64]>(), length in 300usize..=MAX_FRAME_BYTES) {
            let block: Vec<u8> = seed.iter().copied().cycle().take(length).collect();
            let mut plain = Vec::new();
            Unpacker::new().unwrap().unpack(&packed(&block), &mut plain).unwrap();
            prop_assert!(plain == block);
        }

        #[test]
        fn damage_is_an_error_or_the_announced_length(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut body = packed(&[7; 5000]);
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            let mut plain = Vec::new();
            match Unpacker::new().unwrap().unpack(&body, &mut plain) {
                Ok(()) => prop_assert_eq!(plain.len(), u32::from_be_bytes(body[..4].try_into().unwrap()) as usize),
                Err(_) => prop_assert!(plain.is_empty()),
            }
        }

        #[test]
        fn random_bytes_never_grow_beyond_a_frame(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut plain = Vec::new();
            let _ = Unpacker::new().unwrap().unpack(&body, &mut plain);
            prop_assert!(plain.len() <= MAX_FRAME_BYTES);
        }
    }

    #[test]
    fn heads_of_no_frame_are_refused() {
        let decode = |word: u32| FrameHead::decode(word.to_be_bytes());
        assert_eq!(decode(0), Err(FrameError::Empty));
        for length in [0, 4] {
            assert_eq!(decode(PACKED | length), Err(FrameError::Empty));
        }
        assert_eq!(decode(0x4_0001), Err(FrameError::TooLong { length: 0x4_0001 }));
        assert_eq!(decode(0xffff_ffff), Err(FrameError::TooLong { length: 0x7fff_ffff }));
        // The beginning of a refusal is none of a frame.
        assert!(FrameHead::decode(*b"migr").is_err());
    }

    #[test]
    fn a_frame_that_promises_less_or_more_than_it_holds_is_refused() {
        let body = packed(&[7; 5000]);
        for (announced, expected) in [
            (4999, FrameError::Damaged),
            (5001, FrameError::Damaged),
            (3, FrameError::NotShorter),
            (0x4_0001, FrameError::TooLong { length: 0x4_0001 }),
        ] {
            let mut other = u32::to_be_bytes(announced).to_vec();
            other.extend_from_slice(&body[4..]);
            assert_eq!(Unpacker::new().unwrap().unpack(&other, &mut Vec::new()), Err(expected), "{announced}");
        }
    }

    #[test]
    fn what_does_not_become_shorter_is_not_compressed() {
        let noise = noise(16 * 1024);
        assert!(Packer::new(1).unwrap().pack(&noise).is_none());
        assert!(Packer::new(1).unwrap().pack(&[]).is_none());
        assert!(Packer::new(1).unwrap().pack(&[0; 4096]).unwrap().len() < 64);
    }

    /// Bytes no compressor finds anything in.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x0123_4567_89ab_cdef_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(length).collect()
    }
}
