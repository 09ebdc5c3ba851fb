//! The data plane's end of a TLS connection: a channel that one thread has to itself, records sealed and opened between
//! the buffers that the bytes are read into and written from.
//!
//! rustls made the connection and derives every key; what is here is the record layer and its few messages: alerts and
//! key updates (RFC 8446 sections 4.6.3 and 6).

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use nbd::channel::{Channel, Hangup, Intake, is_readable, receive_some, send_all};
use nbd::limits::MIN_SPARE_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, ExtractedSecrets};

use crate::meter::WireMeter;
use crate::pace::DiskPace;
use crate::record::{
    ContentType, MAX_PLAINTEXT_BYTES, MAX_RECORD_BYTES, OVERHEAD_BYTES, RecordError, RecordKey, record_length,
};
use crate::stall::Pulse;

/// Sealed bytes collected before they are sent, in bytes: 16 full records and a head.
const OUTGOING_BYTES: usize = 17 * (MAX_PLAINTEXT_BYTES + OVERHEAD_BYTES);
/// Room for records as they come, in bytes: 16 full ones.
const INCOMING_BYTES: usize = 16 * MAX_RECORD_BYTES;
/// Records sealed with one key before it is replaced. AES-GCM may seal 2^24.5 full records (RFC 8446 section 5.5).
const RECORDS_PER_KEY: u64 = 1 << 23;
/// Records without content taken in a row: no peer has a reason for them.
const MAX_EMPTY_RECORDS: u32 = 32;

/// Handshake message: the sender's key changes (RFC 8446 section 4.6.3).
const KEY_UPDATE: u8 = 24;
/// Handshake message: a ticket to resume by; not wanted here.
const NEW_SESSION_TICKET: u8 = 4;
/// The sender is done (RFC 8446 section 6.1).
const CLOSE_NOTIFY: u8 = 0;
/// A record could not be opened (RFC 8446 section 6.2).
const BAD_RECORD_MAC: u8 = 20;
const LEVEL_WARNING: u8 = 1;
const LEVEL_FATAL: u8 = 2;

/// Derives the key after the present one.
pub(crate) trait KeySchedule: Send {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
}

macro_rules! key_schedule {
    ($side:ty) => {
        impl KeySchedule for KernelConnection<$side> {
            fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
                self.update_tx_secret()
            }

            fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
                self.update_rx_secret()
            }
        }
    };
}

key_schedule!(ClientConnectionData);
key_schedule!(ServerConnectionData);

/// A decrypted connection of the data plane.
pub struct TlsChannel {
    tcp: TcpStream,
    sealing: RecordKey,
    opening: RecordKey,
    keys: Box<dyn KeySchedule>,
    records_per_key: u64,
    /// Sealed, not sent.
    outgoing: Box<[u8]>,
    outgoing_end: usize,
    /// Received, not opened.
    incoming: Box<[u8]>,
    incoming_start: usize,
    incoming_end: usize,
    /// Opened before anybody asked; handed out first.
    early: Vec<u8>,
    /// The peer asked for a new key of ours.
    owes_key_update: bool,
    is_over: bool,
    /// Ends waits for a peer from whom nothing comes any more; none where silence is no trouble.
    pulse: Option<Arc<Pulse>>,
    meter: Option<Arc<WireMeter>>,
    pace: Option<Arc<DiskPace>>,
}

impl std::fmt::Debug for TlsChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsChannel").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl TlsChannel {
    /// A connection whose handshake is done; `received` are bytes of records that came with it.
    pub(crate) fn new(
        tcp: TcpStream,
        secrets: &ExtractedSecrets,
        keys: Box<dyn KeySchedule>,
        received: &[u8],
    ) -> io::Result<Self> {
        let key = |(sequence, secrets): &(u64, ConnectionTrafficSecrets)| {
            RecordKey::new(*sequence, secrets).map_err(io::Error::other)
        };
        let mut incoming = vec![0; INCOMING_BYTES.max(received.len())].into_boxed_slice();
        incoming[..received.len()].copy_from_slice(received);
        Ok(Self {
            tcp,
            sealing: key(&secrets.tx)?,
            opening: key(&secrets.rx)?,
            keys,
            records_per_key: RECORDS_PER_KEY,
            outgoing: vec![0; OUTGOING_BYTES].into_boxed_slice(),
            outgoing_end: 0,
            incoming,
            incoming_start: 0,
            incoming_end: received.len(),
            early: Vec::new(),
            owes_key_update: false,
            is_over: false,
            pulse: None,
            meter: None,
            pace: None,
        })
    }

    /// The same, giving up when nothing moves although somebody waits.
    pub(crate) fn watched(mut self, pulse: Arc<Pulse>) -> io::Result<Self> {
        pulse.watch(&self.tcp)?;
        self.pulse = Some(pulse);
        Ok(self)
    }

    /// From now on, what is sent is counted here and waits for its turn there.
    pub(crate) fn send_within(&mut self, meter: Arc<WireMeter>, pace: Option<Arc<DiskPace>>) {
        (self.meter, self.pace) = (Some(meter), pace);
    }

    /// Replaces keys after so many records.
    #[cfg(test)]
    pub(crate) fn set_records_per_key(&mut self, records: u64) {
        self.records_per_key = records;
    }

    /// Waits for the peer's first bytes and keeps them to be received: what they are is for the caller to see.
    pub(crate) fn first_bytes(&mut self) -> io::Result<&[u8]> {
        if self.early.is_empty() {
            self.more_early()?;
        }
        Ok(&self.early)
    }

    /// Waits for more of the peer's first bytes; `false` at their end.
    pub(crate) fn more_early(&mut self) -> io::Result<bool> {
        let mut intake = Intake::new(MIN_SPARE_BYTES);
        let early = std::mem::take(&mut self.early);
        let received = self.receive(&mut intake);
        self.early = early;
        self.early.extend_from_slice(intake.filled());
        received.map(|length| length > 0)
    }

    fn seal(&mut self, kind: ContentType, plaintext: &[u8]) -> io::Result<()> {
        let length = plaintext.len() + OVERHEAD_BYTES;
        if self.outgoing.len() - self.outgoing_end < length {
            self.send_sealed()?;
        }
        let out = &mut self.outgoing[self.outgoing_end..self.outgoing_end + length];
        self.sealing.seal(kind, plaintext, out).map_err(io::Error::other)?;
        self.outgoing_end += length;
        Ok(())
    }

    fn send_sealed(&mut self) -> io::Result<()> {
        let length = std::mem::take(&mut self.outgoing_end);
        if let Some(pace) = &self.pace {
            pace.wait_for(length, || is_cut(&self.tcp))?;
        }
        if let Some(meter) = &self.meter {
            meter.add_wire(length);
        }
        let sealed = &self.outgoing[..length];
        match &self.pulse {
            Some(pulse) => pulse.send_all(&mut self.tcp, sealed),
            None => send_all(&mut self.tcp, &[sealed]),
        }
    }

    /// Announces a new key and seals with it from the next record on.
    fn replace_sending_key(&mut self) -> io::Result<()> {
        self.owes_key_update = false;
        self.seal(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
        let (sequence, secrets) = self.keys.next_sending().map_err(io::Error::other)?;
        self.sealing = RecordKey::new(sequence, &secrets).map_err(io::Error::other)?;
        Ok(())
    }

    /// As [`Channel::receive`], but no more than `most` bytes, which are at least [`MAX_PLAINTEXT_BYTES`].
    pub(crate) fn receive_up_to(&mut self, most: usize, intake: &mut Intake) -> io::Result<usize> {
        if !self.early.is_empty() {
            let now = self.early.len().min(intake.spare().len()).min(most);
            intake.spare()[..now].copy_from_slice(&self.early[..now]);
            intake.advance(now);
            self.early.drain(..now);
            return Ok(now);
        }
        let (mut opened, mut empty) = (0, 0);
        loop {
            while !self.is_over && intake.spare().len() >= MIN_SPARE_BYTES && most - opened >= MAX_PLAINTEXT_BYTES {
                match self.open_next(intake)? {
                    None => break,
                    Some(0) => empty += 1,
                    Some(length) => opened += length,
                }
                if empty > MAX_EMPTY_RECORDS {
                    return Err(broken(RecordError::Malformed));
                }
            }
            if opened > 0 || self.is_over {
                return Ok(opened);
            }
            self.receive_sealed()?;
        }
    }

    /// Opens the first record that is wholly there into `intake`. `None`: it is not there yet.
    fn open_next(&mut self, intake: &mut Intake) -> io::Result<Option<usize>> {
        let received = &self.incoming[self.incoming_start..self.incoming_end];
        let Some(length) = record_length(received).map_err(broken)?.filter(|&length| length <= received.len()) else {
            return Ok(None);
        };
        let (kind, content) = match self.opening.open(&received[..length], intake.spare()) {
            Ok(opened) => opened,
            Err(error) => {
                // The peer may be gone; it is told why if it is not.
                let _ = self.seal(ContentType::Alert, &[LEVEL_FATAL, BAD_RECORD_MAC]).and_then(|()| self.send_sealed());
                return Err(broken(error));
            }
        };
        self.incoming_start += length;
        match kind {
            ContentType::Data => {
                intake.advance(content);
                return Ok(Some(content));
            }
            ContentType::Alert => self.on_alert(intake.spare().get(..content).unwrap_or_default())?,
            ContentType::Handshake => {
                let message = intake.spare().get(..content).unwrap_or_default().to_vec();
                self.on_handshake(&message)?;
            }
        }
        Ok(Some(0))
    }

    fn on_alert(&mut self, alert: &[u8]) -> io::Result<()> {
        let &[_level, description] = alert else { return Err(broken(RecordError::Malformed)) };
        if description != CLOSE_NOTIFY {
            let received = rustls::Error::AlertReceived(AlertDescription::from(description));
            return Err(io::Error::new(io::ErrorKind::InvalidData, received));
        }
        self.is_over = true;
        Ok(())
    }

    /// Messages after the handshake come whole in a record: a key update has to, and tickets are not offered to us.
    fn on_handshake(&mut self, message: &[u8]) -> io::Result<()> {
        match message {
            &[KEY_UPDATE, 0, 0, 1, wanted @ (0 | 1)] => {
                let (sequence, secrets) = self.keys.next_receiving().map_err(io::Error::other)?;
                self.opening = RecordKey::new(sequence, &secrets).map_err(io::Error::other)?;
                self.owes_key_update |= wanted == 1;
                Ok(())
            }
            [NEW_SESSION_TICKET, ..] => Ok(()),
            _ => Err(broken(RecordError::Malformed)),
        }
    }

    /// Waits for more bytes of records.
    fn receive_sealed(&mut self) -> io::Result<()> {
        if self.incoming_start == self.incoming_end {
            (self.incoming_start, self.incoming_end) = (0, 0);
        } else if self.incoming.len() - self.incoming_end < MAX_RECORD_BYTES {
            self.incoming.copy_within(self.incoming_start..self.incoming_end, 0);
            self.incoming_end -= self.incoming_start;
            self.incoming_start = 0;
        }
        let spare = &mut self.incoming[self.incoming_end..];
        let received = match &self.pulse {
            Some(pulse) => pulse.receive(&mut self.tcp, spare)?,
            None => receive_some(&mut self.tcp, spare)?,
        };
        if received == 0 {
            // An end without a goodbye may have been made by anybody on the way.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.incoming_end += received;
        Ok(())
    }
}

impl Channel for TlsChannel {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        if self.owes_key_update || self.sealing.sequence() >= self.records_per_key {
            self.replace_sending_key()?;
        }
        for plaintext in parts.iter().flat_map(|part| part.chunks(MAX_PLAINTEXT_BYTES)) {
            self.seal(ContentType::Data, plaintext)?;
        }
        self.send_sealed()
    }

    fn receive(&mut self, intake: &mut Intake) -> io::Result<usize> {
        self.receive_up_to(usize::MAX, intake)
    }

    fn has_arrived(&self) -> bool {
        let received = &self.incoming[self.incoming_start..self.incoming_end];
        // What is malformed is at hand: receiving tells.
        let is_missing =
            record_length(received).is_ok_and(|length| length.is_none_or(|length| length > received.len()));
        self.is_over || !self.early.is_empty() || !is_missing || is_readable(&self.tcp)
    }

    fn finish(&mut self) {
        // The other side may have gone first.
        let _ = self.seal(ContentType::Alert, &[LEVEL_WARNING, CLOSE_NOTIFY]).and_then(|()| self.send_sealed());
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    fn hangup(&self) -> io::Result<Hangup> {
        Hangup::of(&self.tcp)
    }
}

/// Whether either side has given the connection up.
fn is_cut(tcp: &TcpStream) -> bool {
    let mut looked = [PollFd::new(tcp, PollFlags::empty())];
    // Hang-ups and errors are told without being asked for.
    poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|found| found > 0)
}

fn broken(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
pub(crate) mod tests;
