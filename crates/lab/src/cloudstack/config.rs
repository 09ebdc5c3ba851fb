//! How a simulated CloudStack is set up: addresses, folders, accounts, the worker VM, speed and limits.
//!
//! Plain values; every field but the folders and keys has a default that suits a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use model::Secret;
use serde::Deserialize;

/// Name of the built-in root administrator's account.
pub const ADMIN_ACCOUNT: &str = "admin";

/// Set-up of one simulated CloudStack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudstackConfig {
    /// Where the API listens (`/client/api`); port 0 picks one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// Where the unauthenticated lab endpoint listens; keep it on loopback.
    #[serde(default = "loopback")]
    pub admin_listen: SocketAddr,
    /// State file, `primary/` volumes and `secondary/` snapshots.
    pub state_dir: PathBuf,
    /// Plays the worker VM's `/dev/disk/by-id`.
    pub by_id_dir: PathBuf,
    /// Key of the root administrator `admin`.
    pub api_key: String,
    /// Secret of the root administrator.
    pub secret_key: Secret,
    /// Further accounts, each with its own key pair and its own resources.
    #[serde(default)]
    pub accounts: Vec<AccountConfig>,
    /// Networks beside the three that are always there; one in the other zone brings that zone into being.
    #[serde(default)]
    pub more_networks: Vec<NetworkConfig>,
    /// The VM that plays the worker: volumes attached to it appear in `by_id_dir`.
    #[serde(default)]
    pub oma_vm: OmaVmConfig,
    /// Expose attached volumes as loop devices (needs root and `losetup`) instead of plain files.
    #[serde(default)]
    pub loop_devices: bool,
    /// Time between a finished attach and the appearance of the by-id link, as udev needs.
    #[serde(default)]
    pub device_delay_ms: u64,
    /// How long jobs stay pending.
    #[serde(default)]
    pub jobs: JobTiming,
    /// Size and count limits.
    #[serde(default)]
    pub limits: Limits,
    /// Boot every started VM but the worker in `qemu-system-x86_64`, from its own volumes.
    #[serde(default)]
    pub boots: bool,
    /// VMs that are started without being booted write to their disks, as a guest does.
    #[serde(default)]
    pub guests_scribble: bool,
    /// Limits and places of those machines.
    #[serde(default)]
    pub hypervisor: HypervisorConfig,
    /// Refuse writes by GET and requests without signature version 3 (`enforce.post.requests.and.timestamps`).
    #[serde(default)]
    pub enforce_post: bool,
}

impl CloudstackConfig {
    /// A server on loopback with free ports, the admin's key pair and defaults elsewhere.
    #[must_use]
    pub fn new(
        state_dir: impl Into<PathBuf>,
        by_id_dir: impl Into<PathBuf>,
        api_key: impl Into<String>,
        secret_key: impl Into<String>,
    ) -> Self {
        Self {
            listen: loopback(),
            admin_listen: loopback(),
            state_dir: state_dir.into(),
            by_id_dir: by_id_dir.into(),
            api_key: api_key.into(),
            secret_key: Secret::new(secret_key),
            accounts: Vec::new(),
            more_networks: Vec::new(),
            oma_vm: OmaVmConfig::default(),
            loop_devices: false,
            device_delay_ms: 0,
            jobs: JobTiming::default(),
            limits: Limits::default(),
            boots: false,
            guests_scribble: false,
            hypervisor: HypervisorConfig::default(),
            enforce_post: false,
        }
    }
}

/// One account beside the root administrator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Account and user name.
    pub name: String,
    /// The API key of its user.
    pub api_key: String,
    /// The secret key of its user.
    pub secret_key: Secret,
    /// A second root administrator instead of a plain user.
    #[serde(default)]
    pub root_admin: bool,
}

/// Kind of a guest network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum NetworkKind {
    /// Of one account, behind a virtual router.
    Isolated,
    /// Of many accounts.
    Shared,
    /// Without addresses.
    L2,
}

/// One more guest network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: NetworkKind,
    /// It is in the zone `lab-zone-2`, where there is nothing else.
    #[serde(default)]
    pub other_zone: bool,
    /// `canusefordeploy`: without it no VM gets an interface in it.
    #[serde(default = "yes")]
    pub can_use_for_deploy: bool,
}

fn yes() -> bool {
    true
}

/// The worker VM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OmaVmConfig {
    /// Its UUID; without one it is derived from the name.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// MAC of its first interface, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// The account it belongs to.
    pub account: String,
}

impl Default for OmaVmConfig {
    fn default() -> Self {
        Self {
            id: None,
            name: "migratekit".to_owned(),
            mac: "02:00:5e:10:00:01".to_owned(),
            account: ADMIN_ACCOUNT.to_owned(),
        }
    }
}

/// Machines of booted VMs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HypervisorConfig {
    /// The emulator: a name looked up in `PATH`, or a path.
    pub program: PathBuf,
    /// Where Debian's package `ovmf` puts UEFI firmware.
    pub firmware_dir: PathBuf,
    /// Most memory of a machine, MiB, whatever the VM's offering says.
    pub max_memory_mib: u32,
    /// Most CPUs of a machine.
    pub max_cpus: u32,
    /// How long a guest may take to shut down when asked, before power is cut.
    pub stop_wait_ms: u64,
}

impl Default for HypervisorConfig {
    fn default() -> Self {
        Self {
            program: PathBuf::from("qemu-system-x86_64"),
            firmware_dir: PathBuf::from("/usr/share/OVMF"),
            max_memory_mib: 512,
            max_cpus: 2,
            stop_wait_ms: 30_000,
        }
    }
}

/// How long asynchronous jobs stay pending.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobTiming {
    /// Time a job waits, at the head of its VM's queue, before it is carried out.
    pub delay_ms: u64,
    /// Time a job works at least: until it is over, VMs and volumes show their states in between (`Starting`, …).
    pub work_ms: u64,
    /// Number of `queryAsyncJobResult` answers that still say pending after the job was carried out.
    pub pending_polls: u32,
    /// Age at which a finished job is forgotten (`job.expire.minutes` is a day).
    pub retention_s: u64,
}

impl Default for JobTiming {
    fn default() -> Self {
        Self { delay_ms: 20, work_ms: 0, pending_polls: 0, retention_s: 86_400 }
    }
}

/// Limits a client meets.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `custom.diskoffering.size.min`, GiB.
    pub custom_size_min_gib: u64,
    /// `custom.diskoffering.size.max`, GiB.
    pub custom_size_max_gib: u64,
    /// `storage.max.volume.size`, GiB.
    pub volume_size_max_gib: u64,
    /// Volumes one account may own; none means unlimited.
    pub volumes_per_account: Option<u64>,
    /// `default.page.size`: rows of an unpaged answer and the largest page.
    pub page_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            custom_size_min_gib: 1,
            custom_size_max_gib: 1024,
            volume_size_max_gib: 2000,
            volumes_per_account: None,
            page_size: 500,
        }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
