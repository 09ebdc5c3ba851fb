//! The transmission phase: requests, replies and chunks as bytes, and what a server must refuse.

use block::{Region, RegionState};

use super::handshake::{ExportInfo, ReplyMode};
use super::wire::{
    Command, Errno, Input, MAGIC_REPLY_EXTENDED, MAGIC_REPLY_SIMPLE, MAGIC_REPLY_STRUCTURED, MAGIC_REQUEST,
    MAGIC_REQUEST_EXTENDED, MAX_NAME_BYTES, ProtocolError, STATE_HOLE, STATE_ZERO, chunk, command_flag, export_flag,
};

/// Bytes of a compact request.
pub const REQUEST_BYTES: usize = 28;
/// Bytes of an extended request.
pub const REQUEST_EXTENDED_BYTES: usize = 32;
/// Bytes of a simple reply.
pub const REPLY_SIMPLE_BYTES: usize = 16;
/// Bytes of the head of a structured chunk.
pub const REPLY_STRUCTURED_BYTES: usize = 20;
/// Bytes of the head of an extended chunk.
pub const REPLY_EXTENDED_BYTES: usize = 32;
/// Bytes before the data of an `OFFSET_DATA` chunk.
pub const OFFSET_BYTES: u64 = 8;
/// Bytes of an `OFFSET_HOLE` chunk.
pub const HOLE_BYTES: u64 = 12;

/// A request. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// [`command_flag`]s.
    pub flags: u16,
    /// What to do.
    pub command: Command,
    /// The client's number for it, repeated in the reply.
    pub cookie: u64,
    /// Where.
    pub offset: u64,
    /// How much.
    pub length: u64,
}

impl Request {
    /// Bytes of a request's head.
    #[must_use]
    pub fn header_bytes(mode: ReplyMode) -> usize {
        if mode == ReplyMode::Extended { REQUEST_EXTENDED_BYTES } else { REQUEST_BYTES }
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Appends its bytes. A compact request cannot hold a length above 32 bits: it is cut to the largest.
    pub fn encode(&self, mode: ReplyMode, out: &mut Vec<u8>) {
        let extended = mode == ReplyMode::Extended;
        out.extend_from_slice(&if extended { MAGIC_REQUEST_EXTENDED } else { MAGIC_REQUEST }.to_be_bytes());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&self.command.code().to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
        if extended {
            out.extend_from_slice(&self.length.to_be_bytes());
        } else {
            out.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }

    /// Reads one ([`header_bytes`](Self::header_bytes) long).
    ///
    /// # Errors
    /// When the magic number is wrong.
    pub fn decode(bytes: &[u8], mode: ReplyMode) -> Result<Self, ProtocolError> {
        let extended = mode == ReplyMode::Extended;
        let mut input = Input::new(bytes, "request");
        let found = input.u32()?;
        if found != if extended { MAGIC_REQUEST_EXTENDED } else { MAGIC_REQUEST } {
            return Err(ProtocolError::Magic { expected: "a request", found: found.into() });
        }
        Ok(Self {
            flags: input.u16()?,
            command: Command::from_code(input.u16()?),
            cookie: input.u64()?,
            offset: input.u64()?,
            length: if extended { input.u64()? } else { input.u32()?.into() },
        })
    }

    /// Bytes that follow its head.
    ///
    /// # Errors
    /// When they are more than `max_payload_bytes`: they cannot be read past, the connection has to be closed.
    pub fn payload_bytes(&self, mode: ReplyMode, max_payload_bytes: u32) -> Result<u32, ProtocolError> {
        // Some clients (QEMU 10) leave out the flag on writes; a write without payload would mean nothing else.
        let flagged = mode == ReplyMode::Extended && self.has(command_flag::PAYLOAD_LEN);
        let announced = flagged || self.command == Command::Write;
        if !announced {
            return Ok(0);
        }
        let limit = max_payload_bytes;
        u32::try_from(self.length).ok().filter(|&length| length <= limit).ok_or(ProtocolError::TooLong {
            what: "a payload",
            length: self.length,
            limit: limit.into(),
        })
    }
}

/// Why a server does not carry out a request; the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The error of the reply.
    pub errno: Errno,
    /// Words for people, in structured replies.
    pub message: &'static str,
}

/// Whether a server that offered `export` may carry out `request`. `Disconnect` is not asked about.
///
/// # Errors
/// What to answer instead.
pub fn admit(request: &Request, export: &ExportInfo, mode: ReplyMode, base_allocation: bool) -> Result<(), Refusal> {
    let refuse = |errno, message| Err(Refusal { errno, message });
    let allowed = match request.command {
        Command::Read => command_flag::DF,
        Command::Write if mode == ReplyMode::Extended => command_flag::PAYLOAD_LEN,
        Command::Write | Command::Flush | Command::Trim | Command::Disconnect => 0,
        Command::WriteZeroes => command_flag::NO_HOLE | command_flag::FAST_ZERO,
        Command::BlockStatus if base_allocation => command_flag::REQ_ONE,
        Command::BlockStatus => return refuse(Errno::Invalid, "no metadata context was selected"),
        Command::Cache | Command::Unknown(_) => return refuse(Errno::Invalid, "unknown command"),
    };
    // FUA may come with every command and means something only for those that change content.
    if request.flags & !(allowed | command_flag::FUA) != 0 {
        return refuse(Errno::Invalid, "a flag that does not belong to the command");
    }
    if request.has(command_flag::DF) && mode == ReplyMode::Simple {
        return refuse(Errno::Invalid, "DF needs structured replies");
    }
    if request.command.changes_content() && export.has(export_flag::READ_ONLY) {
        return refuse(Errno::NotPermitted, "the export is read-only");
    }
    if request.command == Command::Flush {
        return Ok(());
    }
    let inside = request.offset.checked_add(request.length).is_some_and(|end| end <= export.size_bytes);
    if !inside {
        let growing = matches!(request.command, Command::Write | Command::WriteZeroes);
        return refuse(if growing { Errno::NoSpace } else { Errno::Invalid }, "the range is not inside the export");
    }
    if request.command == Command::Read && request.length > export.block_sizes.maximum.into() {
        return refuse(Errno::Overflow, "longer than the largest payload");
    }
    Ok(())
}

/// The head of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyHeader {
    /// A simple reply; for a read without error the data follows.
    Simple {
        /// The request it answers.
        cookie: u64,
        /// What went wrong.
        errno: Option<Errno>,
    },
    /// A chunk of a structured or extended reply.
    Chunk(ChunkHeader),
}

/// The head of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Whether it is the last of its reply.
    pub done: bool,
    /// [`chunk`] type.
    pub kind: u16,
    /// The request it answers.
    pub cookie: u64,
    /// The request's offset; only extended replies carry it.
    pub offset: u64,
    /// Bytes after the head.
    pub length: u64,
}

impl ReplyHeader {
    /// Bytes of the head that begins with these four.
    ///
    /// # Errors
    /// When they begin no reply of this mode.
    pub fn header_bytes(magic: [u8; 4], mode: ReplyMode) -> Result<usize, ProtocolError> {
        match (u32::from_be_bytes(magic), mode) {
            (MAGIC_REPLY_SIMPLE, ReplyMode::Simple | ReplyMode::Structured) => Ok(REPLY_SIMPLE_BYTES),
            (MAGIC_REPLY_STRUCTURED, ReplyMode::Structured) => Ok(REPLY_STRUCTURED_BYTES),
            (MAGIC_REPLY_EXTENDED, ReplyMode::Extended) => Ok(REPLY_EXTENDED_BYTES),
            (found, _) => Err(ProtocolError::Magic { expected: "a reply", found: found.into() }),
        }
    }

    /// Reads one ([`header_bytes`](Self::header_bytes) long).
    ///
    /// # Errors
    /// When it is too short or begins with another magic number.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let mut input = Input::new(bytes, "reply");
        let magic = input.u32()?;
        if magic == MAGIC_REPLY_SIMPLE {
            let code = input.u32()?;
            let errno = (code != 0).then(|| Errno::from_code(code));
            return Ok(Self::Simple { cookie: input.u64()?, errno });
        }
        let extended = magic == MAGIC_REPLY_EXTENDED;
        let flags = input.u16()?;
        let kind = input.u16()?;
        let cookie = input.u64()?;
        let (offset, length) = if extended { (input.u64()?, input.u64()?) } else { (0, input.u32()?.into()) };
        Ok(Self::Chunk(ChunkHeader { done: flags & chunk::FLAG_DONE != 0, kind, cookie, offset, length }))
    }
}

/// Appends a simple reply.
pub fn encode_simple(cookie: u64, errno: Option<Errno>, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC_REPLY_SIMPLE.to_be_bytes());
    out.extend_from_slice(&errno.map_or(0, Errno::code).to_be_bytes());
    out.extend_from_slice(&cookie.to_be_bytes());
}

impl ChunkHeader {
    /// Appends its bytes; `extended` says in which form.
    pub fn encode(&self, extended: bool, out: &mut Vec<u8>) {
        let flags = if self.done { chunk::FLAG_DONE } else { 0 };
        out.extend_from_slice(&if extended { MAGIC_REPLY_EXTENDED } else { MAGIC_REPLY_STRUCTURED }.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.cookie.to_be_bytes());
        if extended {
            out.extend_from_slice(&self.offset.to_be_bytes());
            out.extend_from_slice(&self.length.to_be_bytes());
        } else {
            out.extend_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// The payload of an `ERROR` chunk.
#[must_use]
pub fn encode_error(errno: Errno, message: &str) -> Vec<u8> {
    let text = &message.as_bytes()[..message.floor_char_boundary(MAX_NAME_BYTES)];
    let mut payload = errno.code().to_be_bytes().to_vec();
    payload.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    payload.extend_from_slice(text);
    payload
}

/// Reads the payload of an error chunk of any kind: the error and its words.
///
/// # Errors
/// When it is too short, or says that nothing went wrong.
pub fn decode_error(payload: &[u8]) -> Result<(Errno, String), ProtocolError> {
    let mut input = Input::new(payload, "error chunk");
    let code = input.u32()?;
    if code == 0 {
        return Err(ProtocolError::Malformed { what: "error chunk" });
    }
    let length = input.u16()?;
    let message = String::from_utf8_lossy(input.bytes(length.into())?).into_owned();
    Ok((Errno::from_code(code), message))
}

/// The payload of a chunk with the status of regions.
#[must_use]
pub fn encode_status(context: u32, regions: &[Region], extended: bool) -> Vec<u8> {
    let mut payload = context.to_be_bytes().to_vec();
    if extended {
        payload.extend_from_slice(&u32::try_from(regions.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    for region in regions {
        let flags = match region.state {
            RegionState::Data => 0,
            RegionState::Zero => STATE_ZERO,
            RegionState::Hole => STATE_ZERO | STATE_HOLE,
        };
        if extended {
            payload.extend_from_slice(&region.extent.length.to_be_bytes());
            payload.extend_from_slice(&u64::from(flags).to_be_bytes());
        } else {
            let length = u32::try_from(region.extent.length).unwrap_or(u32::MAX);
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(&flags.to_be_bytes());
        }
    }
    payload
}

/// Reads the payload of a chunk with the status of regions that begin at `offset`: the context and the regions.
///
/// # Errors
/// When it is malformed, holds no region or an empty one, or reaches past all offsets.
pub fn decode_status(payload: &[u8], offset: u64, extended: bool) -> Result<(u32, Vec<Region>), ProtocolError> {
    let malformed = ProtocolError::Malformed { what: "block status chunk" };
    let mut input = Input::new(payload, "block status chunk");
    let context = input.u32()?;
    let announced = if extended { Some(input.u32()?) } else { None };
    let descriptor_bytes = if extended { 16 } else { 8 };
    let descriptors = input.rest();
    if descriptors.is_empty() || !descriptors.len().is_multiple_of(descriptor_bytes) {
        return Err(malformed);
    }
    let count = descriptors.len() / descriptor_bytes;
    if announced.is_some_and(|announced| announced as usize != count) {
        return Err(malformed);
    }
    let mut regions = Vec::with_capacity(count);
    let mut at = offset;
    for descriptor in descriptors.chunks_exact(descriptor_bytes) {
        let mut input = Input::new(descriptor, "block status chunk");
        let (length, flags) =
            if extended { (input.u64()?, input.u64()?) } else { (input.u32()?.into(), input.u32()?.into()) };
        let end = at.checked_add(length).filter(|&end| end > at).ok_or_else(|| malformed.clone())?;
        let (zero, hole) = (flags & u64::from(STATE_ZERO) != 0, flags & u64::from(STATE_HOLE) != 0);
        // A hole whose content is not known to be zero has to be read.
        let state = match (zero, hole) {
            (true, true) => RegionState::Hole,
            (true, false) => RegionState::Zero,
            (false, _) => RegionState::Data,
        };
        regions.push(Region::new(at, length, state));
        at = end;
    }
    Ok((context, regions))
}

#[cfg(test)]
mod tests;
