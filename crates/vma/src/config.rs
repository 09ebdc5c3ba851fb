//! The agent's configuration: one TOML file, read once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Longer than a restart of either machine takes; a vm_snapshot grows while it is kept.
pub const DEFAULT_RESUME_PATIENCE_MINUTES: u32 = 30;

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
    /// How long a run whose link to the hub is lost keeps its vm_snapshot and waits, in minutes.
    #[serde(default = "resume_patience_minutes")]
    pub resume_patience_minutes: u32,
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
    /// How long a run waits for the hub.
    #[must_use]
    pub fn resume_patience(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.resume_patience_minutes))
    }

    /// The folder of all runs' files: what is needed to go on after a restart.
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

fn resume_patience_minutes() -> u32 {
    DEFAULT_RESUME_PATIENCE_MINUTES
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/migratekit-vma")
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}
