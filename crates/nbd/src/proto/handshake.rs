//! The fixed newstyle handshake: what both sides share. The state machines of the sides are in the files below it.

pub mod client;
pub mod server;

use super::wire::{
    Input, MAGIC_GREETING, MAGIC_OLDSTYLE, MAGIC_OPTION, MAGIC_OPTION_REPLY, MAX_PAYLOAD_BYTES, ProtocolError,
    handshake_flag, info,
};

/// Bytes of the server's greeting.
pub const GREETING_BYTES: usize = 18;
/// Bytes before the data of an option.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes before the data of a reply to an option.
pub const OPTION_REPLY_HEADER_BYTES: usize = 20;
/// Zero bytes after the answer to `EXPORT_NAME` where the client did not decline them.
pub const EXPORT_NAME_PADDING_BYTES: usize = 124;
/// Bytes of the answer to `EXPORT_NAME` without the padding.
pub const EXPORT_NAME_ANSWER_BYTES: usize = 10;
/// Minimum block size of an export that names none, in bytes.
pub const DEFAULT_MINIMUM_BLOCK_BYTES: u32 = 1;
/// Preferred block size of an export that names none, in bytes.
pub const DEFAULT_PREFERRED_BLOCK_BYTES: u32 = 4096;
/// Largest minimum block size the protocol allows, in bytes.
const LARGEST_MINIMUM_BLOCK_BYTES: u32 = 64 * 1024;

/// How replies look in the transmission phase, and with extended headers the requests as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyMode {
    /// Simple replies only.
    #[default]
    Simple,
    /// Structured replies where they are needed.
    Structured,
    /// 64 bit lengths, extended replies only.
    Extended,
}

/// Sizes requests have to keep to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSizes {
    /// Offsets and lengths are multiples of this.
    pub minimum: u32,
    /// Multiples of this are efficient.
    pub preferred: u32,
    /// Longest payload.
    pub maximum: u32,
}

impl Default for BlockSizes {
    fn default() -> Self {
        Self {
            minimum: DEFAULT_MINIMUM_BLOCK_BYTES,
            preferred: DEFAULT_PREFERRED_BLOCK_BYTES,
            maximum: MAX_PAYLOAD_BYTES,
        }
    }
}

impl BlockSizes {
    /// What a client may rely on; impossible numbers are refused.
    ///
    /// # Errors
    /// When they are not powers of two in order.
    pub fn checked(self) -> Result<Self, ProtocolError> {
        let possible = self.minimum.is_power_of_two()
            && self.minimum <= LARGEST_MINIMUM_BLOCK_BYTES
            && self.preferred >= self.minimum
            && self.maximum >= self.minimum;
        if possible { Ok(self) } else { Err(ProtocolError::Malformed { what: "block sizes" }) }
    }
}

/// What the handshake tells about an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportInfo {
    /// The canonical name, if the server said one.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// [`export_flag`](super::wire::export_flag)s.
    pub flags: u16,
    /// Sizes requests have to keep to.
    pub block_sizes: BlockSizes,
}

impl ExportInfo {
    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// The head of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionHeader {
    /// Which option.
    pub option: u32,
    /// Bytes of data after it.
    pub length: u32,
}

impl OptionHeader {
    /// The bytes of it.
    #[must_use]
    pub fn encode(self) -> [u8; OPTION_HEADER_BYTES] {
        let mut bytes = [0; OPTION_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC_OPTION.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.option.to_be_bytes());
        bytes[12..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let mut input = Input::new(bytes, "option");
        expect_magic(input.u64()?, MAGIC_OPTION, "an option")?;
        Ok(Self { option: input.u32()?, length: input.u32()? })
    }
}

/// The head of a reply to an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// The option it answers.
    pub option: u32,
    /// [`option_reply`](super::wire::option_reply).
    pub kind: u32,
    /// Bytes of data after it.
    pub length: u32,
}

impl OptionReplyHeader {
    /// The bytes of it.
    #[must_use]
    pub fn encode(self) -> [u8; OPTION_REPLY_HEADER_BYTES] {
        let mut bytes = [0; OPTION_REPLY_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC_OPTION_REPLY.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.option.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.kind.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8; OPTION_REPLY_HEADER_BYTES]) -> Result<Self, ProtocolError> {
        let mut input = Input::new(bytes, "option reply");
        expect_magic(input.u64()?, MAGIC_OPTION_REPLY, "an option reply")?;
        Ok(Self { option: input.u32()?, kind: input.u32()?, length: input.u32()? })
    }
}

/// The server's first bytes.
#[must_use]
pub fn encode_greeting() -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..8].copy_from_slice(&MAGIC_GREETING.to_be_bytes());
    bytes[8..16].copy_from_slice(&MAGIC_OPTION.to_be_bytes());
    bytes[16..].copy_from_slice(&(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES).to_be_bytes());
    bytes
}

/// Reads the server's handshake flags from its first bytes.
///
/// # Errors
/// When it is no NBD server or an oldstyle one.
pub fn decode_greeting(bytes: &[u8; GREETING_BYTES]) -> Result<u16, ProtocolError> {
    let mut input = Input::new(bytes, "greeting");
    expect_magic(input.u64()?, MAGIC_GREETING, "an NBD server's greeting")?;
    let style = input.u64()?;
    if style == MAGIC_OLDSTYLE {
        return Err(ProtocolError::Oldstyle);
    }
    expect_magic(style, MAGIC_OPTION, "the newstyle handshake")?;
    input.u16()
}

fn expect_magic(found: u64, magic: u64, expected: &'static str) -> Result<(), ProtocolError> {
    if found == magic { Ok(()) } else { Err(ProtocolError::Magic { expected, found }) }
}

/// Takes one piece of information (the data of a reply of type `INFO`) into what is known; unknown ones are ignored.
///
/// # Errors
/// When a known one is malformed.
pub fn decode_info(data: &[u8], known: &mut ExportInfo) -> Result<(), ProtocolError> {
    let mut input = Input::new(data, "export information");
    match input.u16()? {
        info::EXPORT => {
            known.size_bytes = input.u64()?;
            known.flags = input.u16()?;
            input.end()
        }
        info::NAME => {
            known.name = Some(input.string(data.len() - 2)?.to_owned());
            Ok(())
        }
        info::DESCRIPTION => {
            known.description = Some(input.string(data.len() - 2)?.to_owned());
            Ok(())
        }
        info::BLOCK_SIZE => {
            let sizes = BlockSizes { minimum: input.u32()?, preferred: input.u32()?, maximum: input.u32()? };
            input.end()?;
            known.block_sizes = sizes.checked()?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The data of a request for metadata contexts: a name and queries.
#[must_use]
pub fn encode_meta_request(export: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    put_string_u32(&mut data, export);
    data.extend_from_slice(&length_u32(queries.len()).to_be_bytes());
    for query in queries {
        put_string_u32(&mut data, query);
    }
    data
}

fn put_string_u32(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&length_u32(text.len()).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
