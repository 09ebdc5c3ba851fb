//! A link that is dead without anybody having said so: both sides notice within half a minute (of paused time).

use std::time::Duration;

use api::Client;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tunnel::{ControlConnection, TunnelError, serve_control};

use crate::control::agent_api;

const BUFFER_BYTES: usize = 64 * 1024;
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// Copies one way while `open` is true, and then holds everything back without closing anything.
async fn carry(mut from: DuplexStream, mut to: DuplexStream, open: watch::Receiver<bool>) {
    let (mut from_read, mut from_write) = tokio::io::split(&mut from);
    let (mut to_read, mut to_write) = tokio::io::split(&mut to);
    let one = pass(&mut from_read, &mut to_write, open.clone());
    let other = pass(&mut to_read, &mut from_write, open);
    tokio::join!(one, other);
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return std::future::pending().await;
        }
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 || !*open.borrow() || to.write_all(&buffer[..read]).await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_is_noticed_by_both_sides() {
    let (agent_end, agent_far) = duplex(BUFFER_BYTES);
    let (hub_end, hub_far) = duplex(BUFFER_BYTES);
    let (open, opened) = watch::channel(true);
    tokio::spawn(carry(agent_far, hub_far, opened));
    let agent = tokio::spawn(serve_control(agent_end, agent_api("one"), CancellationToken::new()));
    let hub = Arc::new(ControlConnection::from_stream(hub_end, "e-1").await.unwrap());
    let client = Client::new(Arc::clone(&hub) as Arc<dyn api::Transport>);
    let name: String = client.get("/name").await.unwrap();
    assert_eq!(name, "one");

    let idle = Instant::now();
    tokio::time::timeout(Duration::from_secs(600), hub.closed()).await.unwrap_err();
    assert!(idle.elapsed() >= Duration::from_secs(600), "an idle link that answers pings stays");
    let name: String = client.get("/name").await.unwrap();
    assert_eq!(name, "one");

    open.send_replace(false);
    let dead = Instant::now();
    tokio::time::timeout(NOTICED_WITHIN, hub.closed()).await.unwrap();
    let left = NOTICED_WITHIN.saturating_sub(dead.elapsed());
    let served = tokio::time::timeout(left, agent).await.unwrap().unwrap();
    assert!(matches!(served.unwrap_err(), TunnelError::Http2 { .. }));
    assert!(client.get::<String>("/name").await.is_err());
}
