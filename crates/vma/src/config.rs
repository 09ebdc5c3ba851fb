//! The agent's configuration: one TOML file, read once.

mod nbd_command;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::{BandwidthLimit, CompressionMode};
use serde::Deserialize;

pub use nbd_command::NbdCommand;
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
    /// Disks read over HTTPS from their datastores.
    #[serde(default)]
    pub folder: FolderConfig,
    /// Disks added to the agent's own VM.
    #[serde(default)]
    pub hotadd: HotAddConfig,
    /// Commands that serve a frozen disk as NBD, by name: the hub can choose one, never write one.
    #[serde(default)]
    pub nbd_commands: BTreeMap<String, NbdCommand>,
    /// How long a run whose link to the hub is lost keeps its vm_snapshot and waits, in minutes.
    #[serde(default = "resume_patience_minutes")]
    pub resume_patience_minutes: u32,
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

/// How disks are read over HTTPS from their datastores.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FolderConfig {
    /// Straight from the ESXi host, with tickets vCenter issues, instead of through vCenter. The agent must reach the
    /// hosts' port 443 under the names vCenter has for them.
    pub host_direct: bool,
}

/// How disks are added to the VM this agent runs in.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HotAddConfig {
    /// Whether it is done at all.
    pub enabled: bool,
    /// BIOS uuid of this VM as vCenter shows it (`config.uuid`); by default it is asked of the firmware.
    pub vm_uuid: Option<String>,
    /// Bus number of the SCSI controller to use, 0 to 3; by default the first with a free place.
    pub controller: Option<u8>,
    /// The folder that names block devices by their disks' uuids.
    pub device_dir: PathBuf,
    /// Disks of all runs together that are added at once. A VM with more disks waits until it is alone.
    pub max_disks: u32,
}

impl Default for HotAddConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            vm_uuid: None,
            controller: None,
            device_dir: PathBuf::from("/dev/disk/by-id"),
            max_disks: 4,
        }
    }
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
