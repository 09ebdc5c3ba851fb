//! A relay that counts: what a client really sends, with everything TLS and NBD put around it. For counting only; nothing
//! is timed through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::error::BenchError;
use crate::process::free_address;

/// Bytes passed on at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// Passes TCP connections on until it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Passes everything on to `server`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> Result<Self, BenchError> {
        let address = free_address()?;
        let listener = TcpListener::bind(address).await.map_err(BenchError::io("listening between two processes"))?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let serving = tokio::spawn(async move {
            // Either end going away is an end, and whoever loses bytes by it will say so.
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { return };
                tokio::spawn(pass_on(client, server, Arc::clone(&counter)));
            }
        });
        Ok(Self { address, sent, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes clients have sent so far. An answered request is counted.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, sent: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            sent.fetch_add(length as u64, Ordering::Relaxed);
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_counted_and_arrives() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(&[7; 1000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        accepted.read_to_end(&mut received).await.unwrap();
        accepted.write_all(b"done").await.unwrap();
        drop(accepted);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((received.len(), answer.as_str(), relay.sent_bytes()), (1000, "done", 1000));
    }
}
