//! The handshake of a server: its bytes moved between the channel, the state machine and the source of exports.

use std::io;

use tokio::runtime::Handle;

use super::{ExportSource, OpenExport, OpenRefused};
use crate::channel::{Channel, Conversation};
use crate::error::NbdError;
use crate::limits::{Limits, MAX_OPTION_BYTES, MAX_OPTIONS, MAX_SKIPPED_OPTION_BYTES};
use crate::proto::handshake::server::{Action, Agreed, ServerHandshake};
use crate::proto::handshake::{BlockSizes, ExportInfo, OPTION_HEADER_BYTES, OptionHeader};
use crate::proto::wire::{MAX_PAYLOAD_BYTES, ProtocolError, export_flag, option, option_reply};

/// An export that transmission begins with.
pub(super) struct Negotiated {
    pub(super) name: String,
    pub(super) export: OpenExport,
    pub(super) info: ExportInfo,
    pub(super) agreed: Agreed,
}

/// Whose exports they are, asked from a thread that may wait.
pub(super) struct Exports<'a> {
    pub(super) source: &'a dyn ExportSource,
    pub(super) runtime: &'a Handle,
}

/// Goes through the handshake; `None` when the client left.
pub(super) fn negotiate<C: Channel>(
    conversation: &mut Conversation<C>,
    exports: Exports<'_>,
    limits: &Limits,
) -> Result<Option<Negotiated>, NbdError> {
    let mut driver = Driver { machine: ServerHandshake::default(), exports, limits, found: None, out: Vec::new() };
    conversation.send(&[&driver.machine.greeting()]).map_err(failed)?;
    let Some(flags) = conversation.array().map_err(failed)? else { return Ok(None) };
    driver.machine.on_client_flags(u32::from_be_bytes(flags))?;
    for _ in 0..MAX_OPTIONS {
        let Some(header) = conversation.array::<OPTION_HEADER_BYTES>().map_err(failed)? else { return Ok(None) };
        let header = OptionHeader::decode(&header)?;
        driver.out.clear();
        let next = match read_option_data(conversation, header)? {
            Some(data) => driver.on_option(header.option, &data)?,
            None => {
                let message = "this option is too long";
                driver.machine.answer_refused(header.option, option_reply::ERR_TOO_BIG, message, &mut driver.out);
                Next::Option
            }
        };
        let sent = conversation.send(&[&driver.out]);
        match next {
            // A client that says goodbye need not wait for the answer.
            Next::Leave => return Ok(None),
            Next::Option => sent.map_err(failed)?,
            Next::Transmission(negotiated) => return sent.map_err(failed).map(|()| Some(negotiated)),
        }
    }
    Err(ProtocolError::TooManyOptions { limit: MAX_OPTIONS }.into())
}

/// The data of an option; `None` when it is too long, read past.
fn read_option_data<C: Channel>(
    conversation: &mut Conversation<C>,
    header: OptionHeader,
) -> Result<Option<Vec<u8>>, NbdError> {
    if header.length > MAX_SKIPPED_OPTION_BYTES || (header.length > MAX_OPTION_BYTES && !has_reply(header.option)) {
        let (length, limit) = (header.length.into(), MAX_OPTION_BYTES.into());
        return Err(ProtocolError::TooLong { what: "an option", length, limit }.into());
    }
    if header.length > MAX_OPTION_BYTES {
        conversation.skip(header.length.into()).map_err(failed)?;
        return Ok(None);
    }
    let mut data = vec![0; usize::try_from(header.length).unwrap_or(0)];
    conversation.read_exact(&mut data).map_err(failed)?;
    Ok(Some(data))
}

/// Whether an option can be answered with an error.
fn has_reply(number: u32) -> bool {
    number != option::EXPORT_NAME
}

fn failed(source: io::Error) -> NbdError {
    NbdError::Handshake { source }
}

enum Next {
    Option,
    Leave,
    Transmission(Negotiated),
}

struct Driver<'a> {
    machine: ServerHandshake,
    exports: Exports<'a>,
    limits: &'a Limits,
    /// The export opened last: `SET_META_CONTEXT`, `INFO` and `GO` usually name the same one.
    found: Option<(String, OpenExport)>,
    out: Vec<u8>,
}

impl Driver<'_> {
    fn on_option(&mut self, number: u32, data: &[u8]) -> Result<Next, NbdError> {
        match self.machine.on_option(number, data, &mut self.out)? {
            Action::Continue => Ok(Next::Option),
            Action::Abort => Ok(Next::Leave),
            Action::List => {
                let exports = self.exports.runtime.block_on(self.exports.source.list());
                let listed = exports.iter().map(|export| (export.name.as_str(), export.description.as_str()));
                self.machine.answer_list(listed, &mut self.out);
                Ok(Next::Option)
            }
            Action::Describe(request) => {
                if let Err(refused) = self.find(&request.name) {
                    self.refuse(request.option(), &refused);
                    return Ok(Next::Option);
                }
                let info = self.info();
                self.machine.answer_info(&request, &info, &mut self.out);
                Ok(if request.go { self.enter(info) } else { Next::Option })
            }
            Action::Meta(request) => {
                match self.find(&request.name) {
                    Ok(()) => self.machine.answer_meta(&request, &mut self.out),
                    Err(refused) => self.refuse(request.option(), &refused),
                }
                Ok(Next::Option)
            }
            Action::ExportName(name) => {
                if self.find(&name).is_err() {
                    // This option has no way to say why.
                    return Ok(Next::Leave);
                }
                let info = self.info();
                self.machine.answer_export_name(&info, &mut self.out);
                Ok(self.enter(info))
            }
        }
    }

    fn find(&mut self, name: &str) -> Result<(), OpenRefused> {
        if self.found.as_ref().is_none_or(|(found, _)| found != name) {
            self.found = None;
            self.found = Some((name.to_owned(), self.exports.runtime.block_on(self.exports.source.open(name))?));
        }
        Ok(())
    }

    fn enter(&mut self, info: ExportInfo) -> Next {
        let Some((name, export)) = self.found.take() else { return Next::Leave };
        let agreed = self.machine.agreed(&name);
        Next::Transmission(Negotiated { name, export, info, agreed })
    }

    fn refuse(&mut self, number: u32, refused: &OpenRefused) {
        let (error, message) = match refused {
            OpenRefused::Unknown => (option_reply::ERR_UNKNOWN, "no such export"),
            OpenRefused::Forbidden { reason } | OpenRefused::Busy { reason } => {
                (option_reply::ERR_POLICY, reason.as_str())
            }
        };
        self.machine.answer_refused(number, error, message, &mut self.out);
    }

    fn info(&self) -> ExportInfo {
        let Some((name, export)) = &self.found else { return ExportInfo::default() };
        let maximum = self.limits.max_payload_bytes.min(MAX_PAYLOAD_BYTES);
        ExportInfo {
            name: Some(name.clone()),
            description: export.description.clone(),
            size_bytes: export.device.size_bytes(),
            flags: flags_of(export),
            block_sizes: BlockSizes { maximum, ..BlockSizes::default() },
        }
    }
}

fn flags_of(export: &OpenExport) -> u16 {
    let mut flags = export_flag::HAS_FLAGS | export_flag::SEND_FLUSH | export_flag::SEND_FUA | export_flag::SEND_DF;
    if export.read_only || export.device.is_read_only() {
        flags |= export_flag::READ_ONLY;
    } else {
        flags |= export_flag::SEND_TRIM | export_flag::SEND_WRITE_ZEROES | export_flag::SEND_FAST_ZERO;
    }
    if export.multi_conn {
        flags |= export_flag::CAN_MULTI_CONN;
    }
    flags
}
