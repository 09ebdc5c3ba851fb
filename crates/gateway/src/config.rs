//! The gateway's configuration: one table of one TOML file, read once.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// What the gateway needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The one public port.
    #[serde(default = "public_listen")]
    pub listen: SocketAddr,
    /// Plain NBD for tools on this machine.
    #[serde(default = "local_listen")]
    pub local_nbd_listen: SocketAddr,
    /// Whether tools on this machine may write; off, the local port opens exports for reading only.
    #[serde(default)]
    pub local_writes: bool,
    /// DNS names and addresses agents and operators reach this hub by: they go into its certificate.
    #[serde(default)]
    pub server_names: Vec<String>,
    /// Where the hub's CA and server certificate are kept.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Where the sockets to the other processes of the hub are.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
}

impl GatewayConfig {
    /// The socket the gateway is controlled through.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("gateway.sock")
    }

    /// The control plane's socket for what comes in from outside.
    #[must_use]
    pub fn front_socket(&self) -> PathBuf {
        self.run_dir.join("oma-front.sock")
    }
}

fn public_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 443))
}

fn local_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10809))
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/migratekit")
}

fn run_dir() -> PathBuf {
    PathBuf::from("/run/migratekit")
}
