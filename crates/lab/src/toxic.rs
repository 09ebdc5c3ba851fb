//! A bad link: a TCP forwarder between an agent and its hub that cuts, swallows, delays and throttles what passes. It knows
//! nothing of what it forwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way in one direction of a connection: with a delay, what the link holds.
const PIECES_UNDER_WAY: usize = 256;

/// How the link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mood {
    /// Grows with each cut; connections of before end.
    cuts: u64,
    /// New connections are dropped.
    refuses: bool,
    /// Nothing passes; connections stay, and new ones are taken.
    swallows: bool,
    /// What passes comes so much later.
    delay: Duration,
    /// Of each direction, over all connections.
    bytes_per_second: Option<u64>,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    passed: AtomicU64,
    /// When the link is free for the next piece.
    free_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    mood: watch::Sender<Mood>,
    to_hub: Direction,
    to_agent: Direction,
    dialled: AtomicU64,
}

/// The link. Dropping it cuts everything.
#[derive(Debug)]
pub struct ToxicLink {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl ToxicLink {
    /// Listens on a port of 127.0.0.1 and forwards to `to`; at first as well as it can.
    ///
    /// # Errors
    /// The port cannot be listened on.
    pub async fn to(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (to_hub, to_agent) = (Direction::default(), Direction::default());
        let mood = watch::Sender::new(Mood::default());
        let shared = Arc::new(Shared { to, mood, to_hub, to_agent, dialled: AtomicU64::new(0) });
        let serving = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                serving.dialled.fetch_add(1, Relaxed);
                let mood = *serving.mood.borrow();
                if !mood.refuses {
                    tokio::spawn(connection(client, Arc::clone(&serving), mood.cuts));
                }
            }
        });
        Ok(Self { address, shared, listening })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn change(&self, change: impl FnOnce(&mut Mood)) {
        self.shared.mood.send_modify(change);
    }

    /// Ends every connection; new ones are dropped until [`Self::heal`].
    pub fn cut(&self) {
        self.change(|mood| (mood.cuts, mood.refuses) = (mood.cuts + 1, true));
    }

    /// Lets nothing pass any more, in either direction, and says so to nobody, until [`Self::heal`].
    pub fn black_hole(&self) {
        self.change(|mood| mood.swallows = true);
    }

    /// Takes new connections and lets through what was held.
    pub fn heal(&self) {
        self.change(|mood| (mood.refuses, mood.swallows) = (false, false));
    }

    /// Everything comes so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.change(|mood| mood.delay = delay);
    }

    /// No more than so many bytes per second pass in each direction, or as many as can.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.change(|mood| mood.bytes_per_second = bytes_per_second.map(|rate| rate.max(1)));
    }

    /// Bytes that went from the agent to the hub.
    #[must_use]
    pub fn bytes_to_hub(&self) -> u64 {
        self.shared.to_hub.passed.load(Relaxed)
    }

    /// Connections the agent dialled, those that were dropped included.
    #[must_use]
    pub fn dialled(&self) -> u64 {
        self.shared.dialled.load(Relaxed)
    }
}

impl Drop for ToxicLink {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>, cuts: u64) {
    let mut mood = shared.mood.subscribe();
    let forwarding = async {
        let Ok(server) = TcpStream::connect(shared.to).await else { return };
        // Small pieces are not to wait for others.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::join!(
            pass(from_client, to_server, &shared, &shared.to_hub),
            pass(from_server, to_client, &shared, &shared.to_agent)
        );
    };
    tokio::select! {
        () = forwarding => {}
        // The sender lives as long as this holds `shared`.
        _ = mood.wait_for(|mood| mood.cuts != cuts) => {}
    }
}

/// Passes one direction on to its end.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, direction: &Direction) {
    let mut mood = shared.mood.subscribe();
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_UNDER_WAY);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(length);
            let Ok(now) = mood.wait_for(|mood| !mood.swallows).await.map(|mood| *mood) else { return };
            let free_at = direction.reserve(length, now.bytes_per_second);
            tokio::time::sleep_until(free_at).await;
            if sender.send((free_at + now.delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        let mut mood = shared.mood.subscribe();
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if mood.wait_for(|mood| !mood.swallows).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
            direction.passed.fetch_add(piece.len() as u64, Relaxed);
        }
        // The other side may have gone first.
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

impl Direction {
    /// When a piece may pass, and the next one after it.
    fn reserve(&self, length: usize, bytes_per_second: Option<u64>) -> Instant {
        let now = Instant::now();
        let mut free_at = self.free_at.lock();
        let Some(rate) = bytes_per_second else {
            *free_at = None;
            return now;
        };
        let at = free_at.map_or(now, |free_at| free_at.max(now));
        let micros = (length as u64).saturating_mul(1_000_000) / rate;
        *free_at = Some(at + Duration::from_micros(micros));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link to a server that sends everything back.
    async fn echo() -> ToxicLink {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = ToxicLink::to(server.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        link
    }

    async fn round(stream: &mut TcpStream, bytes: &[u8]) {
        let mut back = vec![0; bytes.len()];
        let (mut read, mut write) = stream.split();
        let (sent, received) = tokio::join!(write.write_all(bytes), read.read_exact(&mut back));
        sent.unwrap();
        received.unwrap();
        assert_eq!(back, bytes);
    }

    #[tokio::test]
    async fn a_cut_link_ends_connections_and_a_healed_one_takes_new_ones() {
        let link = echo().await;
        let mut through = TcpStream::connect(link.address()).await.unwrap();
        round(&mut through, b"a").await;
        link.cut();
        assert_eq!(through.read(&mut [0]).await.unwrap_or(0), 0);
        let mut refused = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);
        link.heal();
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        round(&mut again, b"b").await;
        assert_eq!((link.dialled(), link.bytes_to_hub()), (3, 2));
    }

    #[tokio::test]
    async fn a_black_hole_lets_nothing_pass_and_ends_nothing() {
        let link = echo().await;
        let mut through = TcpStream::connect(link.address()).await.unwrap();
        round(&mut through, b"a").await;
        link.black_hole();
        let mut late = TcpStream::connect(link.address()).await.unwrap();
        through.write_all(b"held").await.unwrap();
        late.write_all(b"held").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), through.read(&mut [0])).await.is_err());
        assert_eq!(link.bytes_to_hub(), 1);
        link.heal();
        for stream in [&mut through, &mut late] {
            let mut back = [0; 4];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"held");
        }
    }

    #[tokio::test]
    async fn what_is_delayed_or_throttled_comes_whole_and_later() {
        let link = echo().await;
        let mut through = TcpStream::connect(link.address()).await.unwrap();
        link.delay(Duration::from_millis(60));
        let began = Instant::now();
        round(&mut through, b"there and back").await;
        assert!(began.elapsed() >= Duration::from_millis(120));
        link.delay(Duration::ZERO);
        link.throttle(Some(1 << 20));
        let (began, bytes) = (Instant::now(), vec![7; 400 * 1024]);
        round(&mut through, &bytes).await;
        assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
        link.throttle(None);
        round(&mut through, &bytes).await;
    }
}
