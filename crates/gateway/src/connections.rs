//! The NBD connections that are open: who, which export, how many bytes; and cutting them.
//!
//! A connection that has ended may still have writes in the hands of the medium; each of them holds its [`Connection`],
//! so that one is over when nobody holds it any more.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::gateway::ConnectionView;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Exports whose device's time is remembered; whoever takes differences sees a new beginning when they are forgotten.
const MAX_TIMED_EXPORTS: usize = 10_000;

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    remote: SocketAddr,
    enrollment_id: Option<String>,
    opened_at: OffsetDateTime,
    export_name: Mutex<Option<String>>,
    written: AtomicU64,
    read: AtomicU64,
    /// In nanoseconds.
    device_time: AtomicU64,
    cut: CancellationToken,
    over: Arc<Notify>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.over.notify_waiters();
    }
}

impl Connection {
    /// Where it came from.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The peer asks for an export. From now on the connection is cut with it.
    pub fn chose(&self, export_name: &str) {
        *self.export_name.lock() = Some(export_name.to_owned());
    }

    /// The peer did not get what it asked for.
    pub fn was_refused(&self) {
        *self.export_name.lock() = None;
    }

    /// The peer wrote `bytes`.
    pub fn add_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Relaxed);
    }

    /// The peer read `bytes`.
    pub fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Relaxed);
    }

    /// The device worked for the peer that long.
    pub fn add_device_time(&self, span: Duration) {
        self.device_time.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Cancelled when somebody cuts this connection.
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }

    fn is_on(&self, export_name: &str) -> bool {
        self.export_name.lock().as_deref() == Some(export_name)
    }

    fn view(&self) -> ConnectionView {
        ConnectionView {
            id: self.id,
            export_name: self.export_name.lock().clone(),
            remote_address: self.remote.to_string(),
            enrollment_id: self.enrollment_id.clone(),
            bytes_written: self.written.load(Relaxed),
            bytes_read: self.read.load(Relaxed),
            device_ms: self.device_time.load(Relaxed) / 1_000_000,
            opened_at: self.opened_at,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Connection>>>,
    /// Ended, but perhaps with writes under way.
    ended: Mutex<Vec<Weak<Connection>>>,
    over: Arc<Notify>,
    /// By export: how long devices worked for agents' connections that have ended, in nanoseconds.
    device_times: Mutex<HashMap<String, u64>>,
    next_id: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
}

impl Connections {
    /// Enters a new connection; it is taken out when the guard is dropped.
    pub fn enter(
        self: &Arc<Self>,
        remote: SocketAddr,
        enrollment_id: Option<String>,
        shutdown: &CancellationToken,
    ) -> ConnectionGuard {
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Relaxed) + 1,
            remote,
            enrollment_id,
            opened_at: OffsetDateTime::now_utc(),
            export_name: Mutex::new(None),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            device_time: AtomicU64::new(0),
            cut: shutdown.child_token(),
            over: Arc::clone(&self.over),
        });
        self.open.lock().insert(connection.id, Arc::clone(&connection));
        ConnectionGuard { all: Arc::clone(self), connection }
    }

    /// Every open connection, oldest first.
    pub fn views(&self) -> Vec<ConnectionView> {
        self.open.lock().values().map(|connection| connection.view()).collect()
    }

    /// How many connections are on an export.
    pub fn count_on(&self, export_name: &str) -> u32 {
        let count = self.open.lock().values().filter(|connection| connection.is_on(export_name)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Cuts every connection to an export.
    pub fn cut_export(&self, export_name: &str) {
        for connection in self.open.lock().values().filter(|connection| connection.is_on(export_name)) {
            connection.cut.cancel();
        }
    }

    /// Waits until nothing any connection to an export asked for is under way; `false` when that takes too long.
    pub async fn are_over(&self, export_name: &str, deadline: Instant) -> bool {
        loop {
            let mut over = std::pin::pin!(self.over.notified());
            over.as_mut().enable();
            if !self.is_in_use(export_name) {
                return true;
            }
            if tokio::time::timeout_at(deadline, over).await.is_err() {
                return false;
            }
        }
    }

    fn is_in_use(&self, export_name: &str) -> bool {
        let is_open = self.open.lock().values().any(|connection| connection.is_on(export_name));
        let ended = self.ended.lock();
        is_open || ended.iter().filter_map(Weak::upgrade).any(|connection| connection.is_on(export_name))
    }

    /// Cuts every connection of an agent.
    pub fn cut_agent(&self, enrollment_id: &str) {
        let open = self.open.lock();
        for connection in open.values().filter(|c| c.enrollment_id.as_deref() == Some(enrollment_id)) {
            connection.cut.cancel();
        }
    }

    /// How long the device of an export worked for agents, in milliseconds since this process started.
    pub fn device_ms_of(&self, export_name: &str) -> u64 {
        let open = self.open.lock();
        let ended = self.device_times.lock().get(export_name).copied().unwrap_or(0);
        let on_it =
            open.values().filter(|connection| connection.enrollment_id.is_some() && connection.is_on(export_name));
        let now: u64 = on_it.map(|connection| connection.device_time.load(Relaxed)).sum();
        ended.saturating_add(now) / 1_000_000
    }

    /// Bytes ever written and read over connections that are closed or open.
    pub fn totals(&self) -> (u64, u64) {
        let open = self.open.lock();
        let now = |of: fn(&Connection) -> &AtomicU64| open.values().map(|c| of(c).load(Relaxed)).sum::<u64>();
        (self.written.load(Relaxed) + now(|c| &c.written), self.read.load(Relaxed) + now(|c| &c.read))
    }
}

/// A connection while it is open.
pub struct ConnectionGuard {
    all: Arc<Connections>,
    connection: Arc<Connection>,
}

impl ConnectionGuard {
    /// The connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let connection = &self.connection;
        let mut open = self.all.open.lock();
        self.all.written.fetch_add(connection.written.load(Relaxed), Relaxed);
        self.all.read.fetch_add(connection.read.load(Relaxed), Relaxed);
        if let (Some(name), Some(_)) = (connection.export_name.lock().clone(), &connection.enrollment_id) {
            let mut times = self.all.device_times.lock();
            if times.len() >= MAX_TIMED_EXPORTS && !times.contains_key(&name) {
                times.clear();
            }
            *times.entry(name).or_default() += connection.device_time.load(Relaxed);
        }
        let mut ended = self.all.ended.lock();
        ended.retain(|earlier| earlier.strong_count() > 0);
        ended.push(Arc::downgrade(connection));
        open.remove(&connection.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_an_export_spares_the_others_and_totals_outlive_connections() {
        let all = Arc::new(Connections::default());
        let shutdown = CancellationToken::new();
        let remote: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let first = all.enter(remote, Some("agent-1".into()), &shutdown);
        let second = all.enter(remote, Some("agent-2".into()), &shutdown);
        first.connection().chose("a");
        second.connection().chose("b");
        first.connection().add_written(7);
        first.connection().add_device_time(Duration::from_micros(2900));
        assert_eq!(all.views()[0].device_ms, 2);
        assert_eq!((all.count_on("a"), all.count_on("b")), (1, 1));
        all.cut_export("a");
        assert!(first.connection().cut_token().is_cancelled() && !second.connection().cut_token().is_cancelled());
        drop(first);
        assert_eq!((all.totals(), all.count_on("a"), all.views().len()), ((7, 0), 0, 1));
        assert_eq!((all.device_ms_of("a"), all.device_ms_of("b")), (2, 0), "an ended connection stays counted");
        all.cut_agent("agent-1");
        assert!(!second.connection().cut_token().is_cancelled());
        all.cut_agent("agent-2");
        assert!(second.connection().cut_token().is_cancelled());
    }

    #[tokio::test]
    async fn an_export_is_in_use_until_the_last_write_of_its_connections_is_over() {
        let all = Arc::new(Connections::default());
        let guard = all.enter("192.0.2.1:1".parse().unwrap(), None, &CancellationToken::new());
        guard.connection().chose("a");
        let held_by_a_write = Arc::clone(guard.connection());
        assert!(all.are_over("b", Instant::now()).await);
        all.cut_export("a");
        assert!(!all.are_over("a", Instant::now()).await, "the connection is still open");
        drop(guard);
        assert_eq!(all.count_on("a"), 0);
        assert!(!all.are_over("a", Instant::now()).await, "its write is still under way");
        let deadline = Instant::now() + Duration::from_secs(20);
        let ((), is_over) = tokio::join!(async { drop(held_by_a_write) }, all.are_over("a", deadline));
        assert!(is_over);
    }
}
