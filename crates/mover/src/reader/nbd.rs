//! Reads a disk from an NBD server: one that runs already, or a command of the agent's configuration that serves
//! the frozen disk on a private socket (nbdkit with VDDK, for those who own it).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nbd::client::Client;
use nbd::uri::NbdUri;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::Reader;
use crate::error::MoverError;

/// Connections to a server that allows several.
const CONNECTIONS: usize = 4;
/// Reads under way on each.
const READS_PER_CONNECTION: usize = 4;
/// How long a command may take until its socket answers.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How often the socket is tried meanwhile.
const START_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A disk behind an NBD server.
pub struct NbdReader {
    connections: Vec<Client>,
    next: AtomicUsize,
    _server: Option<ServedDisk>,
}

impl NbdReader {
    /// Connects to a server that runs already.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn connect(uri: &NbdUri) -> Result<Self, MoverError> {
        Self::over(uri, None).await
    }

    /// Connects to the server a command started; it is stopped with the reader.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn served(server: ServedDisk) -> Result<Self, MoverError> {
        let uri = NbdUri::unix(server.socket(), "");
        Self::over(&uri, Some(server)).await
    }

    async fn over(uri: &NbdUri, server: Option<ServedDisk>) -> Result<Self, MoverError> {
        let connect = || async { Client::connect(uri).await.map_err(|source| MoverError::SourceNbd { source }) };
        let first = connect().await?;
        let wanted = if first.can_multi_conn() { CONNECTIONS } else { 1 };
        let mut connections = vec![first];
        while connections.len() < wanted {
            connections.push(connect().await?);
        }
        Ok(Self { connections, next: AtomicUsize::new(0), _server: server })
    }
}

#[async_trait]
impl Reader for NbdReader {
    fn capacity_bytes(&self) -> u64 {
        self.connections.first().map_or(0, Client::size_bytes)
    }

    fn parallelism(&self) -> usize {
        self.connections.len() * READS_PER_CONNECTION
    }

    async fn read_into(&self, offset: u64, buffer: Vec<u8>) -> Result<Vec<u8>, MoverError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = &self.connections[turn % self.connections.len()];
        connection.read_into(offset, buffer).await.map_err(|source| MoverError::SourceNbd { source })
    }
}

/// A running command that serves one disk; killed when dropped.
pub struct ServedDisk {
    child: Child,
    socket: PathBuf,
}

impl ServedDisk {
    /// Starts `program` with `arguments` (already filled in) and waits until `socket` answers.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not open its socket in time.
    pub async fn start(program: &str, arguments: &[String], socket: &Path) -> Result<Self, MoverError> {
        let failed = |what: String| MoverError::ServeCommand { what };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| failed(format!("cannot be started: {source}")))?;
        let mut served = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + START_DEADLINE;
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            if let Ok(Some(status)) = served.child.try_wait() {
                return Err(failed(format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(failed(format!("did not open its socket within {} s", START_DEADLINE.as_secs())));
            }
            tokio::time::sleep(START_POLL_INTERVAL).await;
        }
        Ok(served)
    }

    /// The socket it serves on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Fills `{name}` places of a template, once: a value that looks like a place stays as it is, and so does an unknown
/// place.
#[must_use]
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, from_brace)) = rest.find('{').map(|at| rest.split_at(at)) {
        filled.push_str(before);
        let value_of = |(name, value): &(&str, &'_ str)| {
            let after = from_brace.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some(((*value).to_owned(), after))
        };
        if let Some((value, after)) = values.iter().find_map(value_of) {
            filled.push_str(&value);
            rest = after;
        } else {
            filled.push('{');
            rest = &from_brace[1..];
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_unknown_ones_kept() {
        let values = [("moref", "vm-62"), ("socket", "/run/a.sock")];
        assert_eq!(fill("vm=moref={moref} {socket} {other}", &values), "vm=moref=vm-62 /run/a.sock {other}");
        let tricky = [("vmdk_path", "[ds] {socket}.vmdk"), ("socket", "/run/a.sock")];
        assert_eq!(fill("{{vmdk_path} {socket}{", &tricky), "{[ds] {socket}.vmdk /run/a.sock{");
    }

    #[tokio::test]
    async fn a_command_that_ends_at_once_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let outcome = ServedDisk::start("false", &[], &folder.path().join("s")).await;
        let Err(MoverError::ServeCommand { what }) = outcome else { panic!("it cannot have served anything") };
        assert!(what.contains("ended at once"), "{what}");
    }
}
