//! Notices a data connection on which nothing moves any more although somebody waits: a black hole on the way, or a hub
//! that hangs. A link that is only slow never trips it.
//!
//! The system's own deadlines do not do this alone: something between the two machines may go on acknowledging.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nbd::channel::receive_some;
use rustix::net::sockopt;

/// How long nothing may move in either direction, on any data connection of an agent, while one of them waits.
///
/// The longest the hub is silent for a reason is one barrier: 32 MiB to be made durable, which takes this long on storage
/// that writes a MiB per second. A hub that is even slower is dialled again and goes on where it was.
pub(crate) const STALL_DEADLINE: Duration = Duration::from_secs(30);
/// How many times within the deadline it is looked whether another connection moves.
const LOOKS: u32 = 6;
/// How long sent bytes may stay unacknowledged on a watched socket (`TCP_USER_TIMEOUT`), in milliseconds. It also ends a
/// connection whose window stays closed, as that of a hub in a long barrier does, so it is longer than the deadline here.
const UNACKNOWLEDGED_MS: u32 = 120_000;

/// When a byte moved last, on any of the connections that share it.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    last_ms: AtomicU64,
    deadline: Duration,
}

impl Pulse {
    pub(crate) fn new(deadline: Duration) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), last_ms: AtomicU64::new(0), deadline })
    }

    fn beat(&self) {
        self.last_ms.fetch_max(milliseconds(self.began.elapsed()), Relaxed);
    }

    /// Whether nothing has moved for the deadline and somebody has waited all the time.
    fn is_stalled(&self, waiting_since: Instant) -> bool {
        let last = self.began + Duration::from_millis(self.last_ms.load(Relaxed));
        last.max(waiting_since).elapsed() >= self.deadline
    }

    /// Makes waits on a socket end from time to time, so that it can be looked.
    pub(crate) fn watch(&self, socket: &TcpStream) -> io::Result<()> {
        let look = Some(self.deadline / LOOKS);
        socket.set_read_timeout(look)?;
        socket.set_write_timeout(look)?;
        sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_MS)?;
        Ok(())
    }

    /// Waits for bytes of a watched socket.
    pub(crate) fn receive(&self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let since = Instant::now();
        loop {
            match receive_some(socket, buffer) {
                Err(error) if is_look(&error) => self.look(since)?,
                outcome => {
                    self.beat();
                    return outcome;
                }
            }
        }
    }

    /// Sends all bytes over a watched socket.
    pub(crate) fn send_all(&self, socket: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        let mut since = Instant::now();
        while !bytes.is_empty() {
            match io::Write::write(socket, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.beat();
                    since = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_look(&error) => self.look(since)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn look(&self, since: Instant) -> io::Result<()> {
        if !self.is_stalled(since) {
            return Ok(());
        }
        let text = format!("nothing moved on the link to the hub for {} s", self.deadline.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

fn is_look(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(300);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn a_peer_that_says_nothing_is_given_up() {
        let (mut ours, _theirs) = pair();
        let pulse = Pulse::new(DEADLINE);
        pulse.watch(&ours).unwrap();
        let began = Instant::now();
        let error = pulse.receive(&mut ours, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= DEADLINE);
    }

    #[test]
    fn a_peer_that_takes_nothing_is_given_up() {
        let (mut ours, _theirs) = pair();
        let pulse = Pulse::new(DEADLINE);
        pulse.watch(&ours).unwrap();
        let error = pulse.send_all(&mut ours, &vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn one_connection_may_wait_while_another_moves() {
        let (mut waits, mut answers_late) = pair();
        let (mut moves, mut other) = pair();
        let pulse = Pulse::new(DEADLINE);
        pulse.watch(&waits).unwrap();
        pulse.watch(&moves).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pulse.receive(&mut waits, &mut [0; 8]));
            let began = Instant::now();
            while began.elapsed() < 3 * DEADLINE {
                other.write_all(b"x").unwrap();
                pulse.receive(&mut moves, &mut [0; 8]).unwrap();
                pulse.send_all(&mut moves, b"y").unwrap();
                other.read_exact(&mut [0]).unwrap();
            }
            answers_late.write_all(b"late").unwrap();
            assert_eq!(waiting.join().unwrap().unwrap(), 4);
        });
    }
}
