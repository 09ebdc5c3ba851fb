//! Malformed NBD and HTTP, connections that say nothing and connections that never stop: all while a replication runs,
//! which completes all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::site::{Site, VM, two_disks};
use crate::{malformed_http, malformed_nbd, replica};

/// Connections to each port that begin a handshake and never end it.
const SLOW_CONNECTIONS: usize = 16;
/// Connections with garbage that must have been made before the replication goes on.
const GARBAGE_CONNECTIONS: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_input_disturbs_no_replication() {
    let mut site = Site::start(two_disks()).await;
    site.done(&["vm", "add", VM]).await;
    let (job_id, export) = site.held_sync().await;
    malformed_http::all(&site).await;
    malformed_nbd::all(&site, &export).await;
    let slow = slow_connections(&site).await;
    let garbage = Garbage::start(&site);
    site.until("garbage", async || (garbage.count() > GARBAGE_CONNECTIONS).then_some(())).await;
    site.world.release_reads().await.unwrap();
    let progress = site.until_ended(&job_id).await;
    garbage.stop().await;
    drop(slow);
    replica::assert_equal(&site, &progress).await;
    for process in &mut site.world.hub {
        assert!(!process.has_ended(), "{} ended", process.name());
    }
    site.world.stop().await;
}

/// Each sends the beginning of something and then nothing.
async fn slow_connections(site: &Site) -> Vec<TcpStream> {
    let hub = site.world.hub_url().trim_start_matches("http://").to_owned();
    let ports = [
        (site.world.hub_address(), b"\x16\x03\x01\x02\x00\x01".as_slice()),
        (site.world.local_nbd_address().to_string(), b"\0\0"),
        (hub, b"POST /api/v1/enroll HTTP/1.1\r\ncontent-length: 100\r\n\r\n{"),
    ];
    let mut open = Vec::new();
    for (address, beginning) in ports {
        for _ in 0..SLOW_CONNECTIONS {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            open.push(stream);
        }
    }
    open
}

/// Connections that send garbage, one after the other, to every port of the hub.
struct Garbage {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Garbage {
    fn start(site: &Site) -> Self {
        let hub = site.world.hub_url().trim_start_matches("http://").to_owned();
        let ports = [site.world.hub_address(), site.world.local_nbd_address().to_string(), hub];
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            let mut garbage = vec![0_u8; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                garbage.fill_with(|| u8::try_from(number % 251).unwrap_or_default());
                let port = &ports[usize::try_from(number).unwrap() % ports.len()];
                if let Ok(mut stream) = TcpStream::connect(port).await {
                    // The hub may hang up at any byte.
                    let _ = stream.write_all(&garbage).await;
                }
            }
        });
        Self { stop, sent, task }
    }

    fn count(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
