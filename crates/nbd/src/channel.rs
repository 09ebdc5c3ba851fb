//! A byte channel that a thread has to itself: it blocks, and what it moves is copied as seldom as possible.
//!
//! Plain sockets are here; whoever encrypts implements [`Channel`] elsewhere.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use block::PageBuffer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::MIN_SPARE_BYTES;

/// Bytes that were received and not taken yet. Their room begins on a page: a payload at its front, or after its head, does
/// not begin in the last bytes of one, from where Zen 3 writes to a file at half its speed.
#[derive(Debug)]
pub struct Intake {
    bytes: PageBuffer,
    start: usize,
    end: usize,
}

impl Intake {
    /// Room for `capacity` bytes; never less than [`MIN_SPARE_BYTES`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mut bytes = PageBuffer::new();
        bytes.set_length(capacity.max(MIN_SPARE_BYTES));
        Self { bytes, start: 0, end: 0 }
    }

    /// What is there.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Where the next bytes go. Report how many came with [`advance`](Self::advance).
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// `length` bytes were put at the front of the spare room.
    pub fn advance(&mut self, length: usize) {
        self.end = self.bytes.len().min(self.end + length);
    }

    /// Takes `length` bytes (or what there is) from the front.
    pub fn take(&mut self, length: usize) -> &[u8] {
        let from = self.start;
        self.start = self.end.min(from + length);
        let taken = from..self.start;
        if self.start == self.end {
            // Empty: the next bytes get the whole room.
            (self.start, self.end) = (0, 0);
        }
        &self.bytes[taken]
    }

    /// Makes room so that `length` bytes can be there at once, and some more can be received, by moving what is there
    /// to the front if need be.
    pub fn make_room(&mut self, length: usize) {
        let wanted = length.saturating_sub(self.end - self.start).max(MIN_SPARE_BYTES);
        if self.bytes.len() - self.end < wanted && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// A stream of bytes in both directions, used by one thread.
pub trait Channel: Send {
    /// Sends every byte of the parts, in order.
    ///
    /// # Errors
    /// When the stream is broken.
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()>;

    /// Waits until bytes are there and appends what is there to `intake`, whose spare room is at least
    /// [`MIN_SPARE_BYTES`]. 0 is the end of the stream.
    ///
    /// # Errors
    /// When the stream is broken.
    fn receive(&mut self, intake: &mut Intake) -> io::Result<usize>;

    /// Whether the other side has sent more, or ended. What has arrived may be no more than the beginning of something that
    /// [`receive`](Self::receive) waits for the rest of.
    fn has_arrived(&self) -> bool;

    /// Tells the other side that nothing more will be sent.
    fn finish(&mut self);

    /// What other threads can stop this one by.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    fn hangup(&self) -> io::Result<Hangup>;
}

impl<C: Channel + ?Sized> Channel for Box<C> {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        (**self).send(parts)
    }

    fn receive(&mut self, intake: &mut Intake) -> io::Result<usize> {
        (**self).receive(intake)
    }

    fn has_arrived(&self) -> bool {
        (**self).has_arrived()
    }

    fn finish(&mut self) {
        (**self).finish();
    }

    fn hangup(&self) -> io::Result<Hangup> {
        (**self).hangup()
    }
}

/// Wakes a thread that waits on a channel, from any other thread.
#[derive(Debug)]
pub struct Hangup {
    socket: Option<OwnedFd>,
}

impl Hangup {
    /// For the socket under a channel.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        Ok(Self { socket: Some(socket.as_fd().try_clone_to_owned()?) })
    }

    /// For a channel that never waits.
    #[must_use]
    pub fn none() -> Self {
        Self { socket: None }
    }

    /// Nothing more is received once what has arrived is taken; what is sent still goes out.
    pub fn stop_receiving(&self) {
        self.shut_down(rustix::net::Shutdown::Read);
    }

    /// Both directions end at once.
    pub fn cut(&self) {
        self.shut_down(rustix::net::Shutdown::Both);
    }

    fn shut_down(&self, how: rustix::net::Shutdown) {
        if let Some(socket) = &self.socket {
            // A socket that is closed already needs no more.
            let _ = rustix::net::shutdown(socket, how);
        }
    }
}

/// Sends parts over a socket in as few system calls as possible.
///
/// # Errors
/// When the stream is broken.
pub fn send_all(stream: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a read of a socket would not wait; in doubt it would.
#[must_use]
pub fn is_readable(socket: impl AsFd) -> bool {
    let mut looked = [PollFd::new(&socket, PollFlags::IN)];
    poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|found| found > 0)
}

/// One read of what is there, repeated only when a signal came between.
///
/// # Errors
/// When the stream is broken.
pub fn receive_some(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

macro_rules! plain_channel {
    ($socket:ty) => {
        impl Channel for $socket {
            fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
                send_all(self, parts)
            }

            fn receive(&mut self, intake: &mut Intake) -> io::Result<usize> {
                let received = receive_some(self, intake.spare())?;
                intake.advance(received);
                Ok(received)
            }

            fn has_arrived(&self) -> bool {
                is_readable(self)
            }

            fn finish(&mut self) {
                // The other side may have gone first.
                let _ = self.shutdown(Shutdown::Write);
            }

            fn hangup(&self) -> io::Result<Hangup> {
                Hangup::of(&*self)
            }
        }
    };
}

plain_channel!(TcpStream);
plain_channel!(UnixStream);

/// An accepted or connected TCP socket as a channel: requests and replies go out at once.
///
/// # Errors
/// When the system does not let it be changed.
pub fn tcp(stream: tokio::net::TcpStream) -> io::Result<TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An accepted or connected Unix socket as a channel.
///
/// # Errors
/// When the system does not let it be changed.
pub fn unix(stream: tokio::net::UnixStream) -> io::Result<UnixStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A channel and what came over it: whole frames instead of bytes.
pub(crate) struct Conversation<C> {
    pub(crate) channel: C,
    intake: Intake,
}

impl<C: Channel> Conversation<C> {
    /// Keeps up to `capacity` bytes that were received.
    pub(crate) fn new(channel: C, capacity: usize) -> Self {
        Self { channel, intake: Intake::new(capacity) }
    }

    /// What has been received and not taken.
    pub(crate) fn arrived(&self) -> &[u8] {
        self.intake.filled()
    }

    /// Waits until `length` bytes are there; `false` when the stream ended before the first.
    pub(crate) fn wait_for(&mut self, length: usize) -> io::Result<bool> {
        while self.intake.filled().len() < length {
            if !self.wait_for_some(length)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits once, for some of the bytes that are missing to `length`; `false` when the stream ended before the first.
    pub(crate) fn wait_for_some(&mut self, length: usize) -> io::Result<bool> {
        self.intake.make_room(length);
        match self.channel.receive(&mut self.intake)? {
            0 if self.intake.filled().is_empty() => Ok(false),
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(true),
        }
    }

    /// Takes bytes that are there.
    pub(crate) fn take(&mut self, length: usize) -> &[u8] {
        self.intake.take(length)
    }

    /// Fills `out`.
    pub(crate) fn read_exact(&mut self, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            if !self.wait_for(1)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = out.len().min(self.intake.filled().len());
            let (front, rest) = out.split_at_mut(now);
            front.copy_from_slice(self.take(now));
            out = rest;
        }
        Ok(())
    }

    /// Takes a fixed number of bytes; `None` when the stream ended before the first.
    pub(crate) fn array<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        if !self.wait_for(N)? {
            return Ok(None);
        }
        Ok(self.take(N).first_chunk().copied())
    }

    /// Reads past bytes.
    pub(crate) fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            if !self.wait_for(1)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let now = usize::try_from(length).unwrap_or(usize::MAX);
            length -= self.take(now).len() as u64;
        }
        Ok(())
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.channel.send(parts)
    }
}
