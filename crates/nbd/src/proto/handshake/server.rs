//! The server's side of the handshake: options in, replies out, and questions to whoever knows the exports.

use super::super::wire::{
    BASE_ALLOCATION, Input, ProtocolError, export_flag, handshake_flag, info, option, option_reply,
};
use super::{
    EXPORT_NAME_PADDING_BYTES, ExportInfo, OptionReplyHeader, ReplyMode, encode_greeting, length_u32, put_string_u32,
};

/// Queries one request for metadata contexts may hold; no client has more than a few.
const MAX_META_QUERIES: u32 = 256;
/// Pieces of information one request may name; the protocol knows four.
const MAX_INFO_REQUESTS: u16 = 256;

/// What has to happen before the handshake can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The reply is complete: read the next option.
    Continue,
    /// Answer with [`ServerHandshake::answer_list`].
    List,
    /// Find the export, then [`ServerHandshake::answer_info`] or [`ServerHandshake::answer_refused`].
    Describe(InfoRequest),
    /// Find the export, then [`ServerHandshake::answer_export_name`], or close the connection.
    ExportName(String),
    /// See whether the export exists, then [`ServerHandshake::answer_meta`] or [`ServerHandshake::answer_refused`].
    Meta(MetaRequest),
    /// The reply is complete: send it and close the connection.
    Abort,
}

/// A request of `INFO` or `GO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoRequest {
    /// The export asked for.
    pub name: String,
    /// Whether transmission begins when it is found.
    pub go: bool,
    /// Whether its canonical name was asked for.
    pub wants_name: bool,
    /// Whether its description was asked for.
    pub wants_description: bool,
    /// Whether its block sizes were asked for.
    pub wants_block_sizes: bool,
}

impl InfoRequest {
    /// The number of its option.
    #[must_use]
    pub fn option(&self) -> u32 {
        if self.go { option::GO } else { option::INFO }
    }
}

/// A request to list or select metadata contexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaRequest {
    /// The export asked for.
    pub name: String,
    /// Whether contexts are selected, not only listed.
    pub select: bool,
    /// Whether a query matches `base:allocation`.
    pub base_allocation: bool,
}

impl MetaRequest {
    /// The number of its option.
    #[must_use]
    pub fn option(&self) -> u32 {
        if self.select { option::SET_META_CONTEXT } else { option::LIST_META_CONTEXT }
    }
}

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// How replies look.
    pub mode: ReplyMode,
    /// Whether `BLOCK_STATUS` may be used.
    pub base_allocation: bool,
}

/// The server's side of one handshake.
#[derive(Debug, Default)]
pub struct ServerHandshake {
    no_zeroes: bool,
    mode: ReplyMode,
    /// The export `base:allocation` was last selected for.
    selected_for: Option<String>,
}

impl ServerHandshake {
    /// The bytes to send first.
    #[must_use]
    pub fn greeting(&self) -> [u8; super::GREETING_BYTES] {
        encode_greeting()
    }

    /// Takes the client's flags.
    ///
    /// # Errors
    /// When there are any that were not offered: the connection has to be closed.
    pub fn on_client_flags(&mut self, flags: u32) -> Result<(), ProtocolError> {
        let offered = u32::from(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        if flags & !offered != 0 {
            return Err(ProtocolError::UnknownFlags { flags });
        }
        self.no_zeroes = flags & u32::from(handshake_flag::NO_ZEROES) != 0;
        Ok(())
    }

    /// Takes one option; the reply, as far as it can be known here, is appended to `out`.
    ///
    /// # Errors
    /// When the client cannot be answered (a malformed `EXPORT_NAME`): the connection has to be closed.
    pub fn on_option(&mut self, number: u32, data: &[u8], out: &mut Vec<u8>) -> Result<Action, ProtocolError> {
        match number {
            option::EXPORT_NAME => {
                let name = Input::new(data, "export name").string(data.len())?;
                Ok(Action::ExportName(name.to_owned()))
            }
            option::ABORT => {
                reply(out, number, option_reply::ACK, &[]);
                Ok(Action::Abort)
            }
            option::LIST if data.is_empty() => Ok(Action::List),
            option::STRUCTURED_REPLY | option::EXTENDED_HEADERS if data.is_empty() => {
                self.agree_on_mode(number, out);
                Ok(Action::Continue)
            }
            option::LIST | option::STRUCTURED_REPLY | option::EXTENDED_HEADERS => {
                refuse(out, number, option_reply::ERR_INVALID, "this option has no data");
                Ok(Action::Continue)
            }
            option::INFO | option::GO => {
                Ok(or_invalid(out, number, info_request(number == option::GO, data).map(Action::Describe)))
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => Ok(self.on_meta(number, data, out)),
            _ => {
                refuse(out, number, option_reply::ERR_UNSUP, "this option is not supported");
                Ok(Action::Continue)
            }
        }
    }

    fn agree_on_mode(&mut self, number: u32, out: &mut Vec<u8>) {
        let wanted = if number == option::EXTENDED_HEADERS { ReplyMode::Extended } else { ReplyMode::Structured };
        if self.mode == ReplyMode::Extended {
            refuse(out, number, option_reply::ERR_INVALID, "extended headers are agreed on already");
            return;
        }
        self.mode = wanted;
        reply(out, number, option_reply::ACK, &[]);
    }

    fn on_meta(&mut self, number: u32, data: &[u8], out: &mut Vec<u8>) -> Action {
        let select = number == option::SET_META_CONTEXT;
        if select {
            // Even a selection that fails replaces the one before.
            self.selected_for = None;
        }
        if self.mode == ReplyMode::Simple {
            refuse(out, number, option_reply::ERR_INVALID, "structured replies have to be agreed on first");
            return Action::Continue;
        }
        or_invalid(out, number, meta_request(select, data).map(Action::Meta))
    }

    /// Answers `LIST`.
    pub fn answer_list<'a>(&self, exports: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        for (name, description) in exports {
            data.clear();
            put_string_u32(&mut data, name);
            data.extend_from_slice(description.as_bytes());
            reply(out, option::LIST, option_reply::SERVER, &data);
        }
        reply(out, option::LIST, option_reply::ACK, &[]);
    }

    /// Answers an option with an error and words for people.
    pub fn answer_refused(&self, number: u32, error: u32, message: &str, out: &mut Vec<u8>) {
        refuse(out, number, error, message);
    }

    /// Answers `INFO` or `GO` for an export that was found.
    pub fn answer_info(&self, request: &InfoRequest, export: &ExportInfo, out: &mut Vec<u8>) {
        let number = request.option();
        let mut data = Vec::new();
        data.extend_from_slice(&info::EXPORT.to_be_bytes());
        data.extend_from_slice(&export.size_bytes.to_be_bytes());
        data.extend_from_slice(&self.flags_of(export).to_be_bytes());
        reply(out, number, option_reply::INFO, &data);
        let texts = [
            (request.wants_name, info::NAME, &export.name),
            (request.wants_description, info::DESCRIPTION, &export.description),
        ];
        for (wanted, kind, text) in texts {
            if let (true, Some(text)) = (wanted, text) {
                let data = [&kind.to_be_bytes(), text.as_bytes()].concat();
                reply(out, number, option_reply::INFO, &data);
            }
        }
        if request.wants_block_sizes {
            let sizes = export.block_sizes;
            let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
            for size in [sizes.minimum, sizes.preferred, sizes.maximum] {
                data.extend_from_slice(&size.to_be_bytes());
            }
            reply(out, number, option_reply::INFO, &data);
        }
        reply(out, number, option_reply::ACK, &[]);
    }

    /// Answers `EXPORT_NAME` for an export that was found; transmission begins.
    pub fn answer_export_name(&self, export: &ExportInfo, out: &mut Vec<u8>) {
        out.extend_from_slice(&export.size_bytes.to_be_bytes());
        out.extend_from_slice(&self.flags_of(export).to_be_bytes());
        if !self.no_zeroes {
            out.extend_from_slice(&[0; EXPORT_NAME_PADDING_BYTES]);
        }
    }

    /// Answers a request for metadata contexts of an export that exists.
    pub fn answer_meta(&mut self, request: &MetaRequest, out: &mut Vec<u8>) {
        if request.base_allocation {
            let id = if request.select { CONTEXT_ID } else { 0 };
            let data = [&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()].concat();
            reply(out, request.option(), option_reply::META_CONTEXT, &data);
        }
        if request.select {
            self.selected_for = request.base_allocation.then(|| request.name.clone());
        }
        reply(out, request.option(), option_reply::ACK, &[]);
    }

    /// What was agreed for the export that transmission begins with.
    #[must_use]
    pub fn agreed(&self, name: &str) -> Agreed {
        Agreed { mode: self.mode, base_allocation: self.selected_for.as_deref() == Some(name) }
    }

    /// `DF` means something only with structured replies.
    fn flags_of(&self, export: &ExportInfo) -> u16 {
        if self.mode == ReplyMode::Simple { export.flags & !export_flag::SEND_DF } else { export.flags }
    }
}

/// The number `base:allocation` gets when it is selected.
pub const CONTEXT_ID: u32 = 1;

fn info_request(go: bool, data: &[u8]) -> Result<InfoRequest, ProtocolError> {
    let mut input = Input::new(data, "information request");
    let name = input.string_u32()?.to_owned();
    let mut request = InfoRequest { name, go, wants_name: false, wants_description: false, wants_block_sizes: false };
    let count = input.u16()?;
    if count > MAX_INFO_REQUESTS {
        return Err(ProtocolError::Malformed { what: "information request" });
    }
    for _ in 0..count {
        match input.u16()? {
            info::NAME => request.wants_name = true,
            info::DESCRIPTION => request.wants_description = true,
            info::BLOCK_SIZE => request.wants_block_sizes = true,
            _ => {}
        }
    }
    input.end()?;
    Ok(request)
}

fn meta_request(select: bool, data: &[u8]) -> Result<MetaRequest, ProtocolError> {
    let mut input = Input::new(data, "metadata context request");
    let name = input.string_u32()?.to_owned();
    let count = input.u32()?;
    if count > MAX_META_QUERIES {
        return Err(ProtocolError::Malformed { what: "metadata context request" });
    }
    // Listing without a query lists everything; `base:` is a wildcard for listing only.
    let mut base_allocation = count == 0 && !select;
    for _ in 0..count {
        let query = input.string_u32()?;
        base_allocation |= query == BASE_ALLOCATION || (!select && query == "base:");
    }
    input.end()?;
    Ok(MetaRequest { name, select, base_allocation })
}

fn or_invalid(out: &mut Vec<u8>, number: u32, parsed: Result<Action, ProtocolError>) -> Action {
    parsed.unwrap_or_else(|error| {
        refuse(out, number, option_reply::ERR_INVALID, &error.to_string());
        Action::Continue
    })
}

fn refuse(out: &mut Vec<u8>, number: u32, error: u32, message: &str) {
    reply(out, number, error, message.as_bytes());
}

fn reply(out: &mut Vec<u8>, option: u32, kind: u32, data: &[u8]) {
    out.extend_from_slice(&OptionReplyHeader { option, kind, length: length_u32(data.len()) }.encode());
    out.extend_from_slice(data);
}
