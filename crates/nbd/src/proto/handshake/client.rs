//! The client's side of the handshake: replies in, options out, until an export is open or refused.
//!
//! Order: extended headers, else structured replies; `base:allocation`; `GO`, else `EXPORT_NAME`. Whatever the
//! server does not know is done without.

use super::super::wire::{
    BASE_ALLOCATION, Input, MAX_NAME_BYTES, ProtocolError, export_flag, handshake_flag, info, option, option_reply,
};
use super::{
    EXPORT_NAME_ANSWER_BYTES, EXPORT_NAME_PADDING_BYTES, ExportInfo, GREETING_BYTES, OptionHeader, OptionReplyHeader,
    ReplyMode, decode_greeting, decode_info, encode_meta_request, length_u32,
};

/// Longest data of a reply to an option, in bytes: a name, a description and room for either to be longest.
pub const MAX_OPTION_REPLY_BYTES: u32 = 16 * 1024;
/// Replies to one option: an export has few pieces of information. Listing is bounded by its own limit.
const MAX_REPLIES_TO_ONE_OPTION: u32 = 1024;
/// Exports a listing may name.
const MAX_LISTED_EXPORTS: usize = 10_000;

/// What a client asks for beyond the basics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Ask for extended headers.
    pub extended_headers: bool,
    /// Ask for structured replies.
    pub structured_replies: bool,
    /// Ask for `base:allocation`.
    pub base_allocation: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { extended_headers: true, structured_replies: true, base_allocation: true }
    }
}

/// An export that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the server told about it.
    pub export: ExportInfo,
    /// How replies look.
    pub mode: ReplyMode,
    /// The number of the `base:allocation` context, if it is there.
    pub base_allocation: Option<u32>,
}

/// An export of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedExport {
    /// Its name.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

/// How the handshake goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Read the next reply.
    Wait,
    /// Send these bytes, then read the next reply.
    Send(Vec<u8>),
    /// Send these bytes, then read this many bytes for [`ClientHandshake::on_export_name_answer`].
    SendExportName(Vec<u8>, usize),
    /// The export is open: transmission begins.
    Opened(Opened),
    /// The listing is complete.
    Listed(Vec<ListedExport>),
    /// The server refused, with its error and its words.
    Refused(u32, String),
}

/// What the client does after the greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Open(String),
    List,
}

/// The client's side of one handshake.
#[derive(Debug)]
pub struct ClientHandshake {
    goal: Goal,
    wishes: Wishes,
    no_zeroes: bool,
    asked: u32,
    replies: u32,
    mode: ReplyMode,
    base_allocation: Option<u32>,
    export: ExportInfo,
    has_size: bool,
    listed: Vec<ListedExport>,
}

impl ClientHandshake {
    /// Will open `export`.
    ///
    /// # Errors
    /// When the name is longer than the protocol allows.
    pub fn open(export: &str, wishes: Wishes) -> Result<Self, ProtocolError> {
        if export.len() > MAX_NAME_BYTES {
            let (length, limit) = (export.len() as u64, MAX_NAME_BYTES as u64);
            return Err(ProtocolError::TooLong { what: "an export name", length, limit });
        }
        Ok(Self::new(Goal::Open(export.to_owned()), wishes))
    }

    /// Will list the exports.
    #[must_use]
    pub fn list() -> Self {
        Self::new(Goal::List, Wishes::default())
    }

    fn new(goal: Goal, wishes: Wishes) -> Self {
        Self {
            goal,
            wishes,
            no_zeroes: false,
            asked: 0,
            replies: 0,
            mode: ReplyMode::Simple,
            base_allocation: None,
            export: ExportInfo::default(),
            has_size: false,
            listed: Vec::new(),
        }
    }

    /// Takes the server's greeting.
    ///
    /// # Errors
    /// When the other side is no server this can talk to.
    pub fn on_greeting(&mut self, greeting: &[u8; GREETING_BYTES]) -> Result<Progress, ProtocolError> {
        let flags = decode_greeting(greeting)?;
        let fixed = flags & handshake_flag::FIXED_NEWSTYLE;
        self.no_zeroes = flags & handshake_flag::NO_ZEROES != 0;
        let answer = u32::from(flags & (handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES));
        let mut out = answer.to_be_bytes().to_vec();
        let next = match &self.goal {
            Goal::List if fixed == 0 => return Err(ProtocolError::Unexpected { what: "server without listing" }),
            Goal::List => self.ask(option::LIST, &[]),
            // Without the fixed handshake nothing may be tried: the server would hang up.
            Goal::Open(_) if fixed == 0 => self.ask_export_name(),
            Goal::Open(_) => self.next_wish(),
        };
        Ok(match next {
            Progress::Send(bytes) => Progress::Send(join(&mut out, &bytes)),
            Progress::SendExportName(bytes, answer) => Progress::SendExportName(join(&mut out, &bytes), answer),
            other => other,
        })
    }

    /// Takes one reply.
    ///
    /// # Errors
    /// When it does not answer what was asked, or is malformed.
    pub fn on_reply(&mut self, header: OptionReplyHeader, data: &[u8]) -> Result<Progress, ProtocolError> {
        if header.option != self.asked {
            return Err(ProtocolError::Unexpected { what: "reply to another option" });
        }
        self.replies += 1;
        if self.replies > MAX_REPLIES_TO_ONE_OPTION && self.asked != option::LIST {
            return Err(ProtocolError::Unexpected { what: "flood of replies to one option" });
        }
        if header.kind & option_reply::ERROR != 0 {
            return Ok(self.on_error(header.kind, data));
        }
        match (self.asked, header.kind) {
            (option::EXTENDED_HEADERS, option_reply::ACK) => {
                self.mode = ReplyMode::Extended;
                Ok(self.ask_meta_or_go())
            }
            (option::STRUCTURED_REPLY, option_reply::ACK) => {
                self.mode = ReplyMode::Structured;
                Ok(self.ask_meta_or_go())
            }
            (option::SET_META_CONTEXT, option_reply::META_CONTEXT) => self.on_meta_context(data),
            (option::SET_META_CONTEXT, option_reply::ACK) => Ok(self.ask_go()),
            (option::GO, option_reply::INFO) => self.on_info(data),
            (option::GO, option_reply::ACK) if self.has_size => Ok(Progress::Opened(self.opened())),
            (option::LIST, option_reply::SERVER) => self.on_listed(data),
            (option::LIST, option_reply::ACK) => Ok(Progress::Listed(std::mem::take(&mut self.listed))),
            _ => Err(ProtocolError::Unexpected { what: "kind of option reply" }),
        }
    }

    /// Takes the answer to `EXPORT_NAME`.
    ///
    /// # Errors
    /// When it is too short.
    pub fn on_export_name_answer(&mut self, answer: &[u8]) -> Result<Opened, ProtocolError> {
        let mut input = Input::new(answer, "answer to the export name");
        self.export.size_bytes = input.u64()?;
        self.export.flags = input.u16()?;
        Ok(self.opened())
    }

    fn on_error(&mut self, error: u32, data: &[u8]) -> Progress {
        match self.asked {
            option::EXTENDED_HEADERS => self.ask_structured_or_go(),
            option::STRUCTURED_REPLY => self.ask_go(),
            option::SET_META_CONTEXT => {
                self.base_allocation = None;
                self.ask_go()
            }
            option::GO if error == option_reply::ERR_UNSUP => self.ask_export_name(),
            _ => Progress::Refused(error, String::from_utf8_lossy(data).into_owned()),
        }
    }

    fn on_meta_context(&mut self, data: &[u8]) -> Result<Progress, ProtocolError> {
        let mut input = Input::new(data, "metadata context");
        let id = input.u32()?;
        if input.rest() == BASE_ALLOCATION.as_bytes() {
            self.base_allocation = Some(id);
        }
        Ok(Progress::Wait)
    }

    fn on_info(&mut self, data: &[u8]) -> Result<Progress, ProtocolError> {
        decode_info(data, &mut self.export)?;
        self.has_size |= data.starts_with(&info::EXPORT.to_be_bytes());
        Ok(Progress::Wait)
    }

    fn on_listed(&mut self, data: &[u8]) -> Result<Progress, ProtocolError> {
        if self.listed.len() >= MAX_LISTED_EXPORTS {
            return Err(ProtocolError::Unexpected { what: "flood of exports" });
        }
        let mut input = Input::new(data, "listed export");
        let name = input.string_u32()?.to_owned();
        let description = String::from_utf8_lossy(input.rest()).into_owned();
        self.listed.push(ListedExport { name, description });
        Ok(Progress::Wait)
    }

    fn opened(&self) -> Opened {
        let mut export = self.export.clone();
        if export.flags & export_flag::HAS_FLAGS == 0 {
            export.flags = 0;
        }
        Opened { export, mode: self.mode, base_allocation: self.base_allocation }
    }

    fn next_wish(&mut self) -> Progress {
        if self.wishes.extended_headers { self.ask(option::EXTENDED_HEADERS, &[]) } else { self.ask_structured_or_go() }
    }

    fn ask_structured_or_go(&mut self) -> Progress {
        if self.wishes.structured_replies { self.ask(option::STRUCTURED_REPLY, &[]) } else { self.ask_go() }
    }

    fn ask_meta_or_go(&mut self) -> Progress {
        if !self.wishes.base_allocation {
            return self.ask_go();
        }
        let data = encode_meta_request(self.export_name(), &[BASE_ALLOCATION]);
        self.ask(option::SET_META_CONTEXT, &data)
    }

    fn ask_go(&mut self) -> Progress {
        let wanted = [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE];
        let name = self.export_name().as_bytes();
        let mut data = length_u32(name.len()).to_be_bytes().to_vec();
        data.extend_from_slice(name);
        data.extend_from_slice(&(wanted.len() as u16).to_be_bytes());
        for kind in wanted {
            data.extend_from_slice(&kind.to_be_bytes());
        }
        self.ask(option::GO, &data)
    }

    fn ask_export_name(&mut self) -> Progress {
        let name = self.export_name().as_bytes().to_vec();
        let padding = if self.no_zeroes { 0 } else { EXPORT_NAME_PADDING_BYTES };
        match self.ask(option::EXPORT_NAME, &name) {
            Progress::Send(bytes) => Progress::SendExportName(bytes, EXPORT_NAME_ANSWER_BYTES + padding),
            other => other,
        }
    }

    fn export_name(&self) -> &str {
        match &self.goal {
            Goal::Open(name) => name,
            Goal::List => "",
        }
    }

    fn ask(&mut self, number: u32, data: &[u8]) -> Progress {
        self.asked = number;
        self.replies = 0;
        let mut out = OptionHeader { option: number, length: length_u32(data.len()) }.encode().to_vec();
        out.extend_from_slice(data);
        Progress::Send(out)
    }
}

/// The bytes that end a session politely before transmission.
#[must_use]
pub fn encode_abort() -> [u8; super::OPTION_HEADER_BYTES] {
    OptionHeader { option: option::ABORT, length: 0 }.encode()
}

fn join(front: &mut Vec<u8>, back: &[u8]) -> Vec<u8> {
    front.extend_from_slice(back);
    std::mem::take(front)
}
