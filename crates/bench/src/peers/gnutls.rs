//! TLS of the peers that use GnuTLS: a key shared in advance, AES-GCM instead of ChaCha20, and a look at what they
//! really agreed on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngCore as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::BenchError;
use crate::process::{Running, free_address};

/// Whose key it is.
const USERNAME: &str = "bench";
/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// What GnuTLS reads instead of its system-wide configuration.
const SETTINGS: &str = "[overrides]\ntls-disabled-cipher = CHACHA20-POLY1305\n";
/// Most bytes looked at for the server's half of the handshake.
const MAX_SEEN_BYTES: usize = 16 * 1024;

/// A key both ends know, in a folder of its own.
#[derive(Debug)]
pub struct SharedKey {
    folder: PathBuf,
}

impl SharedKey {
    /// Makes one in `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn make(folder: PathBuf) -> Result<Self, BenchError> {
        let mut key = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut key);
        let made = Self { folder };
        let line = format!("{USERNAME}:{}\n", hex::encode(key));
        runtime::private_file::write(&made.file(), line.as_bytes())
            .map_err(BenchError::io("writing the shared key"))?;
        std::fs::write(made.settings(), SETTINGS).map_err(BenchError::io("writing the settings of GnuTLS"))?;
        Ok(made)
    }

    /// The file with the key.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("keys.psk")
    }

    fn settings(&self) -> PathBuf {
        self.folder.join("gnutls.conf")
    }

    /// Makes a command prefer AES-GCM.
    pub fn prefer_aes(&self, command: &mut Command) {
        command.env("GNUTLS_SYSTEM_PRIORITY_FILE", self.settings());
    }

    /// Where libnbd finds the server and the key.
    #[must_use]
    pub fn nbds_uri(&self, address: SocketAddr) -> String {
        format!("nbds://{USERNAME}@{address}/?tls-psk-file={}", self.file().display())
    }

    /// The key as QEMU's server wants it described.
    #[must_use]
    pub fn qemu_server(&self) -> String {
        format!("tls-creds-psk,id=tls0,endpoint=server,dir={}", self.folder.display())
    }

    /// The key as QEMU's client wants it described.
    #[must_use]
    pub fn qemu_client(&self) -> String {
        format!("tls-creds-psk,id=tls0,endpoint=client,dir={},username={USERNAME}", self.folder.display())
    }
}

/// The cipher suite a client and a server agree on: one connection is passed through and the server's hello read.
///
/// # Errors
/// When they do not talk, or the suite is not AES-GCM.
pub async fn agreed_cipher(
    peer: &'static str,
    server: SocketAddr,
    client: impl FnOnce(SocketAddr) -> Result<Command, BenchError>,
    logs: &Path,
) -> Result<&'static str, BenchError> {
    let between = free_address()?;
    let listener = TcpListener::bind(between).await.map_err(BenchError::io("listening between two peers"))?;
    let running = Running::start(client(between)?, logs)?;
    let seen = tokio::select! {
        seen = first_hello(&listener, server) => seen.map_err(BenchError::io("listening between two peers"))?,
        ended = running.ended() => {
            ended?;
            None
        }
    };
    match seen.map(name_of) {
        Some(Ok(name)) => Ok(name),
        Some(Err(code)) => Err(BenchError::Cipher { peer, found: format!("cipher suite {code:#06x}") }),
        None => Err(BenchError::Cipher { peer, found: format!("nothing: {}", running.said()) }),
    }
}

/// Passes one connection on until the server's hello was seen.
async fn first_hello(listener: &TcpListener, server: SocketAddr) -> std::io::Result<Option<u16>> {
    let (mut client, _) = listener.accept().await?;
    let mut server = TcpStream::connect(server).await?;
    let (mut from_client, mut from_server) = (vec![0; MAX_SEEN_BYTES], vec![0; MAX_SEEN_BYTES]);
    let mut seen = Vec::new();
    while seen.len() < MAX_SEEN_BYTES {
        tokio::select! {
            read = client.read(&mut from_client) => match read? {
                0 => return Ok(None),
                length => server.write_all(&from_client[..length]).await?,
            },
            read = server.read(&mut from_server) => {
                let length = read?;
                if length == 0 {
                    return Ok(None);
                }
                seen.extend_from_slice(&from_server[..length]);
                if let Some(suite) = hello_suite(&seen) {
                    return Ok(Some(suite));
                }
                client.write_all(&from_server[..length]).await?;
            }
        }
    }
    Ok(None)
}

/// The cipher suite of the first TLS ServerHello in what a server sent (RFC 8446 §4.1.3), after whatever clear text.
fn hello_suite(sent: &[u8]) -> Option<u16> {
    // Record: handshake, legacy version 3.3, length; then ServerHello, its length, version 3.3, 32 random bytes.
    let at = sent.windows(6).position(|window| matches!(window, [0x16, 3, 3, _, _, 2]))?;
    let hello = sent.get(at + 9..)?;
    let session_id_bytes = usize::from(*hello.get(34)?);
    let suite = hello.get(35 + session_id_bytes..37 + session_id_bytes)?;
    Some(u16::from_be_bytes([suite[0], suite[1]]))
}

/// The name of an AES-GCM suite; the number of any other.
fn name_of(suite: u16) -> Result<&'static str, u16> {
    match suite {
        0x1301 => Ok("TLS_AES_128_GCM_SHA256"),
        0x1302 => Ok("TLS_AES_256_GCM_SHA384"),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_found_behind_clear_text() {
        let mut sent = b"NBDMAGICIHAVEOPT\x00\x03".to_vec();
        sent.extend([0x16, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3]);
        sent.extend([7; 32]);
        sent.push(4);
        sent.extend([1, 2, 3, 4]);
        assert_eq!(hello_suite(&sent), None);
        sent.extend([0x13, 0x01, 0]);
        assert_eq!(hello_suite(&sent).map(name_of), Some(Ok("TLS_AES_128_GCM_SHA256")));
        assert_eq!(name_of(0x1303), Err(0x1303));
    }
}
