//! The gateway's configuration: one table of one TOML file, read once.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// What the gateway needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// The one public port.
    pub listen: SocketAddr,
    /// Plain NBD for tools on this machine.
    pub local_nbd_listen: SocketAddr,
    /// Whether tools on this machine may write; off, the local port opens exports for reading only.
    pub local_writes: bool,
    /// DNS names and addresses agents and operators reach this hub by: they go into its certificate.
    pub server_names: Vec<String>,
    /// Where the hub's CA and server certificate are kept.
    pub state_dir: PathBuf,
    /// Where the sockets to the other processes of the hub are.
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

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 443)),
            local_nbd_listen: SocketAddr::from(([127, 0, 0, 1], 10809)),
            local_writes: false,
            server_names: Vec::new(),
            state_dir: PathBuf::from("/var/lib/migratekit"),
            run_dir: PathBuf::from("/run/migratekit"),
        }
    }
}
