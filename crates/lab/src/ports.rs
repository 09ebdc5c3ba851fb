//! Ports for processes that are started and started again: reserved for as long as their world lives.
//!
//! A port the kernel hands out (port 0) may be given to any connection the moment it is closed again, and then the
//! process it was meant for cannot listen. These are below the range of outgoing connections (`ip_local_port_range`,
//! 32768 and up on Linux), and a lock file keeps other test processes away from them.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::Rng as _;
use rustix::fs::{FlockOperation, flock};

/// Where ports are taken from.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried before giving up.
const ATTEMPTS: u32 = 1000;
/// Folder of the lock files, in the folder for temporary files.
const LOCK_FOLDER: &str = "migratekit-lab-ports";

/// A port on 127.0.0.1 that is this holder's until it is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    port: u16,
    /// Locked; the lock ends with the file handle.
    _lock: File,
}

impl ReservedPort {
    /// Reserves a port nobody listens on.
    ///
    /// # Errors
    /// The lock files cannot be made, or every port that was tried is taken.
    pub fn take() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(LOCK_FOLDER);
        fs::create_dir_all(&folder)?;
        for _ in 0..ATTEMPTS {
            let port = rand::rng().random_range(PORTS);
            let lock = File::options().create(true).truncate(false).write(true).open(folder.join(port.to_string()))?;
            let is_mine = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_mine && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(Self { port, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{ATTEMPTS} ports of {PORTS:?} were tried, all taken")))
    }

    /// The port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.port
    }

    /// Its address on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_to_two() {
        let taken: Vec<ReservedPort> = (0..200).map(|_| ReservedPort::take().unwrap()).collect();
        let numbers: BTreeSet<u16> = taken.iter().map(ReservedPort::number).collect();
        assert_eq!(numbers.len(), taken.len());
        assert!(numbers.iter().all(|number| PORTS.contains(number)));
    }
}
