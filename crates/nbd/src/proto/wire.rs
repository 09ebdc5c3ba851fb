//! Numbers of the protocol and the bounded reading of fields. Everything on the wire is big-endian.

/// First eight bytes a server sends ("NBDMAGIC").
pub const MAGIC_GREETING: u64 = 0x4e42_444d_4147_4943;
/// Follows the greeting of a newstyle server and begins each option request ("IHAVEOPT").
pub const MAGIC_OPTION: u64 = 0x4948_4156_454f_5054;
/// Follows the greeting of an oldstyle server, which is not spoken here.
pub const MAGIC_OLDSTYLE: u64 = 0x0000_4202_8186_1253;
/// Begins each reply to an option.
pub const MAGIC_OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Begins a compact request.
pub const MAGIC_REQUEST: u32 = 0x2560_9513;
/// Begins an extended request.
pub const MAGIC_REQUEST_EXTENDED: u32 = 0x21e4_1c71;
/// Begins a simple reply.
pub const MAGIC_REPLY_SIMPLE: u32 = 0x6744_6698;
/// Begins a chunk of a structured reply.
pub const MAGIC_REPLY_STRUCTURED: u32 = 0x668e_33ef;
/// Begins a chunk of an extended reply.
pub const MAGIC_REPLY_EXTENDED: u32 = 0x6e8a_278c;

/// Handshake flags; the client's flags have the same bits.
pub mod handshake_flag {
    /// Fixed newstyle: options may be refused without ending the session.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// The 124 zero bytes after `EXPORT_NAME` are left out.
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Transmission flags: what an export can do.
pub mod export_flag {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1;
    /// Changes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// `FLUSH` is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `FUA` is understood.
    pub const SEND_FUA: u16 = 1 << 3;
    /// `TRIM` is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// `DF` is understood.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// `CACHE` is understood.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// `FAST_ZERO` is understood.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Options of the handshake.
pub mod option {
    /// Ends the handshake; the old way.
    pub const EXPORT_NAME: u32 = 1;
    /// Ends the session.
    pub const ABORT: u32 = 2;
    /// Lists the exports.
    pub const LIST: u32 = 3;
    /// Upgrades to TLS; refused here, since our streams are encrypted before NBD begins.
    pub const STARTTLS: u32 = 5;
    /// Describes an export.
    pub const INFO: u32 = 6;
    /// Ends the handshake.
    pub const GO: u32 = 7;
    /// Asks for structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Lists metadata contexts.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Selects metadata contexts.
    pub const SET_META_CONTEXT: u32 = 10;
    /// Asks for extended headers.
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Types of replies to options.
pub mod option_reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of the list.
    pub const SERVER: u32 = 2;
    /// One piece of information.
    pub const INFO: u32 = 3;
    /// One metadata context.
    pub const META_CONTEXT: u32 = 4;
    /// Set in every error.
    pub const ERROR: u32 = 1 << 31;
    /// Not understood.
    pub const ERR_UNSUP: u32 = ERROR | 1;
    /// Forbidden.
    pub const ERR_POLICY: u32 = ERROR | 2;
    /// Malformed, or wrong at this point.
    pub const ERR_INVALID: u32 = ERROR | 3;
    /// TLS first.
    pub const ERR_TLS_REQD: u32 = ERROR | 5;
    /// No such export.
    pub const ERR_UNKNOWN: u32 = ERROR | 6;
    /// The server is shutting down.
    pub const ERR_SHUTDOWN: u32 = ERROR | 7;
    /// The client has to ask for the block sizes.
    pub const ERR_BLOCK_SIZE_REQD: u32 = ERROR | 8;
    /// Longer than the server accepts.
    pub const ERR_TOO_BIG: u32 = ERROR | 9;
    /// Extended headers first.
    pub const ERR_EXT_HEADER_REQD: u32 = ERROR | 10;
}

/// Kinds of information about an export.
pub mod info {
    /// Size and flags.
    pub const EXPORT: u16 = 0;
    /// Canonical name.
    pub const NAME: u16 = 1;
    /// Description.
    pub const DESCRIPTION: u16 = 2;
    /// Block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Flags of commands.
pub mod command_flag {
    /// Durable before the reply.
    pub const FUA: u16 = 1;
    /// Zeroes must take up room.
    pub const NO_HOLE: u16 = 1 << 1;
    /// The reply must not be fragmented.
    pub const DF: u16 = 1 << 2;
    /// One extent is enough.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Zero only if that is faster than writing.
    pub const FAST_ZERO: u16 = 1 << 4;
    /// Extended headers: the length is that of a payload.
    pub const PAYLOAD_LEN: u16 = 1 << 5;
}

/// Types of chunks of structured and extended replies.
pub mod chunk {
    /// Flag: the last chunk of its reply.
    pub const FLAG_DONE: u16 = 1;
    /// Nothing.
    pub const NONE: u16 = 0;
    /// Bytes read.
    pub const OFFSET_DATA: u16 = 1;
    /// A range that reads as zeroes.
    pub const OFFSET_HOLE: u16 = 2;
    /// Extents of a metadata context, 32 bit.
    pub const BLOCK_STATUS: u16 = 5;
    /// Extents of a metadata context, 64 bit.
    pub const BLOCK_STATUS_EXT: u16 = 6;
    /// Set in every error chunk.
    pub const ERROR_BIT: u16 = 1 << 15;
    /// An error.
    pub const ERROR: u16 = ERROR_BIT | 1;
    /// An error at an offset.
    pub const ERROR_OFFSET: u16 = ERROR_BIT | 2;
}

/// The one metadata context spoken here.
pub const BASE_ALLOCATION: &str = "base:allocation";
/// `base:allocation`: takes up no room.
pub const STATE_HOLE: u32 = 1;
/// `base:allocation`: reads as zeroes.
pub const STATE_ZERO: u32 = 1 << 1;

/// Longest name of an export or context, in bytes (the protocol's own bound).
pub const MAX_NAME_BYTES: usize = 4096;
/// Largest payload of a request or reply, in bytes: what every implementation accepts.
pub const MAX_PAYLOAD_BYTES: u32 = 32 << 20;

/// Commands of the transmission phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Reads bytes.
    Read,
    /// Writes bytes.
    Write,
    /// Ends the session.
    Disconnect,
    /// Makes writes durable.
    Flush,
    /// Gives up the content of a range.
    Trim,
    /// Reads ahead.
    Cache,
    /// Makes a range zero.
    WriteZeroes,
    /// Asks which ranges are allocated or zero.
    BlockStatus,
    /// Any other number.
    Unknown(u16),
}

impl Command {
    /// The command of a number.
    #[must_use]
    pub fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            7 => Self::BlockStatus,
            other => Self::Unknown(other),
        }
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Disconnect => 2,
            Self::Flush => 3,
            Self::Trim => 4,
            Self::Cache => 5,
            Self::WriteZeroes => 6,
            Self::BlockStatus => 7,
            Self::Unknown(code) => code,
        }
    }

    /// Whether it changes the content of the export.
    #[must_use]
    pub fn changes_content(self) -> bool {
        matches!(self, Self::Write | Self::Trim | Self::WriteZeroes)
    }

    /// Its name in logs and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
            Self::Flush => "flush",
            Self::Trim => "trim",
            Self::Cache => "cache",
            Self::WriteZeroes => "write_zeroes",
            Self::BlockStatus => "block_status",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Errors of the transmission phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Errno {
    /// `NBD_EPERM`.
    #[error("not permitted")]
    NotPermitted,
    /// `NBD_EIO`.
    #[error("input/output error")]
    Io,
    /// `NBD_ENOMEM`.
    #[error("out of memory")]
    OutOfMemory,
    /// `NBD_EINVAL`; what any unknown number is read as.
    #[error("invalid request")]
    Invalid,
    /// `NBD_ENOSPC`.
    #[error("no room left")]
    NoSpace,
    /// `NBD_EOVERFLOW`.
    #[error("too large for one reply")]
    Overflow,
    /// `NBD_ENOTSUP`.
    #[error("not supported")]
    NotSupported,
    /// `NBD_ESHUTDOWN`.
    #[error("the server is shutting down")]
    Shutdown,
}

impl Errno {
    /// The error of a number (not 0).
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        match code {
            1 => Self::NotPermitted,
            5 => Self::Io,
            12 => Self::OutOfMemory,
            28 => Self::NoSpace,
            75 => Self::Overflow,
            95 => Self::NotSupported,
            108 => Self::Shutdown,
            _ => Self::Invalid,
        }
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::Io => 5,
            Self::OutOfMemory => 12,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::Shutdown => 108,
        }
    }
}

/// What the other side sent is not the protocol; the session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A magic number is wrong.
    #[error("wrong magic number {found:#x} where {expected} begins")]
    Magic {
        /// What should have begun there.
        expected: &'static str,
        /// What was there.
        found: u64,
    },
    /// The server speaks the oldstyle handshake.
    #[error("the server speaks the oldstyle handshake, which has no export names")]
    Oldstyle,
    /// Flags that were never offered.
    #[error("unknown flags {flags:#x} in the handshake")]
    UnknownFlags {
        /// The client's flags.
        flags: u32,
    },
    /// A length is above its bound.
    #[error("{what} of {length} bytes is longer than {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its announced length.
        length: u64,
        /// The bound.
        limit: u64,
    },
    /// Fields end before they should, or go on.
    #[error("malformed {what}")]
    Malformed {
        /// What cannot be read.
        what: &'static str,
    },
    /// More options than any client needs.
    #[error("more than {limit} options in one handshake")]
    TooManyOptions {
        /// The bound.
        limit: u32,
    },
    /// A reply that answers nothing.
    #[error("a reply to the unknown request {cookie}")]
    UnknownCookie {
        /// The cookie of the reply.
        cookie: u64,
    },
    /// A reply that does not fit what was asked.
    #[error("unexpected {what}")]
    Unexpected {
        /// What it was.
        what: &'static str,
    },
}

/// Reads fields from the front of bytes; never past their end.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    /// Reads from `bytes`; `what` names them in errors.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    fn malformed(&self) -> ProtocolError {
        ProtocolError::Malformed { what: self.what }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], ProtocolError> {
        let (now, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (now, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*now)
    }

    /// The next 16 bits.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32 bits.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64 bits.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string of `length` bytes: UTF-8, at most [`MAX_NAME_BYTES`], without NUL.
    ///
    /// # Errors
    /// When it is not.
    pub fn string(&mut self, length: usize) -> Result<&'a str, ProtocolError> {
        if length > MAX_NAME_BYTES {
            return Err(self.malformed());
        }
        let bytes = self.bytes(length)?;
        let text = std::str::from_utf8(bytes).map_err(|_not_utf8| self.malformed())?;
        if text.contains('\0') { Err(self.malformed()) } else { Ok(text) }
    }

    /// A string after its own length in 32 bits.
    ///
    /// # Errors
    /// As for [`string`](Self::string).
    pub fn string_u32(&mut self) -> Result<&'a str, ProtocolError> {
        let length = self.u32()?;
        self.string(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Everything that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}
