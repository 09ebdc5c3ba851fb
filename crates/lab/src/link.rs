//! A link between two sites: so many bytes per second, so much delay, in front of a server. Everything that goes through
//! it is counted.
//!
//! It is in this process, because netem is not in every kernel tests run on; what is beyond rate, delay and a bounded
//! queue (loss, reordering) it does not have.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::channel;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes taken at a time.
const PACKET_BYTES: usize = 16 * 1024;
/// Packets of one connection on their way in one direction: more than the product of rate and delay of any link here.
const MAX_UNDER_WAY: usize = 256;
/// How late a timer may be without the link becoming slower by it.
const LATENESS: Duration = Duration::from_millis(10);

/// What a link is like, in each direction.
#[derive(Debug, Clone, Copy)]
pub struct LinkNature {
    /// Bytes per second, for all connections together.
    pub bytes_per_s: u64,
    /// From one end to the other.
    pub delay: Duration,
}

/// A link; it is cut when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    to_server: Arc<Direction>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Direction {
    nature: LinkNature,
    free_at: Mutex<Instant>,
    passed: AtomicU64,
}

impl Direction {
    fn new(nature: LinkNature) -> Arc<Self> {
        Arc::new(Self { nature, free_at: Mutex::new(Instant::now()), passed: AtomicU64::new(0) })
    }

    /// When the last of so many bytes has left, if they are next.
    fn leaves_at(&self, length: usize) -> Instant {
        let nanoseconds = (length as u64).saturating_mul(1_000_000_000) / self.nature.bytes_per_s.max(1);
        let mut free_at = self.free_at.lock();
        let begins_at = Instant::now().checked_sub(LATENESS).map_or(*free_at, |earliest| earliest.max(*free_at));
        *free_at = begins_at + Duration::from_nanos(nanoseconds);
        self.passed.fetch_add(length as u64, Ordering::Relaxed);
        *free_at
    }
}

impl Link {
    /// A link to `server` that is like `nature` in both directions.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn to(server: SocketAddr, nature: LinkNature) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (to_server, to_client) = (Direction::new(nature), Direction::new(nature));
        let there = Arc::clone(&to_server);
        let serving = tokio::spawn(async move {
            // A server that is gone is an end for whoever connects.
            while let Ok((client, _)) = listener.accept().await {
                let (there, back) = (Arc::clone(&there), Arc::clone(&to_client));
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        connect(client, server, there, back).await;
                    }
                });
            }
        });
        Ok(Self { address, to_server, serving })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients have sent over it so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.to_server.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn connect(client: TcpStream, server: TcpStream, there: Arc<Direction>, back: Arc<Direction>) {
    // The delay is the link's alone.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(carry(from_client, to_server, there), carry(from_server, to_client, back));
}

/// Until either end is gone: who loses bytes by that will say so.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Arc<Direction>) {
    let (leaving, mut under_way) = channel::<(Instant, Vec<u8>)>(MAX_UNDER_WAY);
    let delay = direction.nature.delay;
    let sending = async move {
        loop {
            let mut packet = Vec::with_capacity(PACKET_BYTES);
            match from.read_buf(&mut packet).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let left_at = direction.leaves_at(length);
                    if leaving.send((left_at + delay, packet)).await.is_err() {
                        return;
                    }
                    sleep_until(left_at).await;
                }
            }
        }
    };
    let arriving = async move {
        while let Some((arrives_at, packet)) = under_way.recv().await {
            sleep_until(arrives_at).await;
            if to.write_all(&packet).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(sending, arriving);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_late_at_the_rate_and_is_counted() {
        const LENGTH: usize = 1 << 20;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nature = LinkNature { bytes_per_s: 4 << 20, delay: Duration::from_millis(40) };
        let link = Link::to(server.local_addr().unwrap(), nature).await.unwrap();
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let begun = Instant::now();
        let (sent, received) = tokio::join!(
            async {
                client.write_all(&vec![7; LENGTH]).await.unwrap();
                client.shutdown().await
            },
            async {
                let mut received = Vec::new();
                accepted.read_to_end(&mut received).await.map(|_| received)
            }
        );
        sent.unwrap();
        assert_eq!((received.unwrap().len(), link.sent_bytes()), (LENGTH, LENGTH as u64));
        // A quarter of a second at that rate, and the delay.
        assert!(begun.elapsed() >= Duration::from_millis(270), "{:?}", begun.elapsed());
    }
}
