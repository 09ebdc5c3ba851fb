//! TCP options of every tunnel connection: no delay, and a dead peer is noticed within about half a minute.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Silence after which the system probes the peer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered probes before the connection is given up.
const KEEPALIVE_PROBES: u32 = 4;
/// How long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482), in milliseconds.
const UNACKNOWLEDGED_MS: u32 = 30_000;

pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
    Ok(())
}
