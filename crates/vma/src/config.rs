//! The agent's configuration: one TOML file, read once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::{BandwidthLimit, CompressionMode};
use serde::Deserialize;

/// What the agent needs to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmaConfig {
    /// The hub: `host` or `host:port`. The agent dials it and nothing dials in.
    pub hub: String,
    /// Where the agent's identity and the digests of running copies are kept.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// Local status; must be a loopback address, because callers are not authenticated.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Folders under which the hub may have disks read as plain files, or from NBD servers on Unix sockets.
    #[serde(default)]
    pub file_roots: Vec<PathBuf>,
    /// Commands that serve a frozen disk as NBD, by name: the hub can choose one, never write one.
    #[serde(default)]
    pub nbd_commands: BTreeMap<String, NbdCommand>,
    /// Manners on the link to the hub.
    #[serde(default)]
    pub wan: WanConfig,
}

/// How the link to the hub is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanConfig {
    /// Whether what is sent is compressed, unless a replication says otherwise.
    #[serde(default)]
    pub compression: CompressionMode,
    /// Limits of everything this agent sends to the data plane; the lowest in force counts.
    #[serde(default)]
    pub limit: Vec<BandwidthLimit>,
    /// NBD connections that copy at a time; further disks wait for their turn.
    #[serde(default = "max_connections")]
    pub max_connections: u32,
}

impl Default for WanConfig {
    fn default() -> Self {
        Self { compression: CompressionMode::default(), limit: Vec::new(), max_connections: max_connections() }
    }
}

/// A command that serves one frozen disk as NBD on the Unix socket `{socket}`.
///
/// Its arguments may hold `{socket}`, `{server}`, `{username}`, `{password_file}`, `{thumbprint}`, `{moref}`,
/// `{vm_snapshot}` and `{vmdk_path}`. The password is only ever given as a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl VmaConfig {
    /// The folder of all runs' files: nothing in it outlasts the process.
    #[must_use]
    pub fn runs_folder(&self) -> PathBuf {
        self.state_dir.join("runs")
    }

    /// The folder of a run's files.
    #[must_use]
    pub fn run_folder(&self, job_id: &str) -> PathBuf {
        self.runs_folder().join(job_id)
    }
}

/// 16 disks: each holds a thread and some MiB per connection here and on the hub.
fn max_connections() -> u32 {
    32
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/migratekit-vma")
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}
