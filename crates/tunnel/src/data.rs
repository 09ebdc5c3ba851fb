//! A connection of the data plane as its users see it: NBD as it is, or in frames, whatever was agreed on.

use std::io;
use std::sync::Arc;

use model::CompressionMode;
use nbd::channel::{Channel, Hangup, Intake};

use crate::channel::TlsChannel;
use crate::framed::{Framed, Side};
use crate::handshake::Shaken;
use crate::meter::WireMeter;
use crate::pace::DiskPace;
use crate::route::ALPN_NBD_ZSTD;

/// What an agent wants of the connections of a disk.
#[derive(Debug, Clone, Default)]
pub struct DataLink {
    /// Whether what is sent is compressed; a hub that cannot takes it as it is.
    pub compression: CompressionMode,
    /// Where it is counted.
    pub meter: Arc<WireMeter>,
    /// What it is held back by.
    pub pace: Option<Arc<DiskPace>>,
}

/// A decrypted connection of the data plane, for a thread of its own.
#[derive(Debug)]
pub enum DataChannel {
    /// `nbd`: nothing stands between the records and NBD.
    Plain(Box<TlsChannel>),
    /// `nbd+zstd`.
    Framed(Box<Framed>),
}

impl DataChannel {
    /// The agent's end.
    pub(crate) fn dialled(shaken: Shaken, link: &DataLink) -> Self {
        let is_framed = shaken.protocol.as_deref() == Some(ALPN_NBD_ZSTD);
        let mut tls = shaken.channel;
        tls.send_within(Arc::clone(&link.meter), link.pace.clone());
        if !is_framed {
            return Self::Plain(Box::new(tls));
        }
        Self::Framed(Box::new(Framed::new(tls, Side::Asking, link.compression, Arc::clone(&link.meter))))
    }

    /// The hub's end: what it sends, such as a replica that is compared, is compressed where that pays.
    pub(crate) fn accepted(shaken: Shaken) -> Self {
        if shaken.protocol.as_deref() != Some(ALPN_NBD_ZSTD) {
            return Self::Plain(Box::new(shaken.channel));
        }
        let framed = Framed::new(shaken.channel, Side::Answering, CompressionMode::Auto, Arc::default());
        Self::Framed(Box::new(framed))
    }

    /// Whether it can be compressed.
    #[must_use]
    pub fn is_framed(&self) -> bool {
        matches!(self, Self::Framed(_))
    }

    /// The connection without its frames, before the first of them.
    pub(crate) fn into_tls(self) -> TlsChannel {
        match self {
            Self::Plain(tls) => *tls,
            Self::Framed(framed) => framed.into_tls(),
        }
    }
}

impl Channel for DataChannel {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        match self {
            Self::Plain(tls) => tls.send(parts),
            Self::Framed(framed) => framed.send(parts),
        }
    }

    fn receive(&mut self, intake: &mut Intake) -> io::Result<usize> {
        match self {
            Self::Plain(tls) => tls.receive(intake),
            Self::Framed(framed) => framed.receive(intake),
        }
    }

    fn has_arrived(&self) -> bool {
        match self {
            Self::Plain(tls) => tls.has_arrived(),
            Self::Framed(framed) => framed.has_arrived(),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Plain(tls) => tls.finish(),
            Self::Framed(framed) => framed.finish(),
        }
    }

    fn hangup(&self) -> io::Result<Hangup> {
        match self {
            Self::Plain(tls) => tls.hangup(),
            Self::Framed(framed) => framed.hangup(),
        }
    }
}
