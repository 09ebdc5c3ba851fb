//! The agent's API: discovery, runs that move bytes, and the source's power.

mod limits;
mod power;
mod runs;

use std::collections::BTreeMap;

use model::Secret;
use model::status::Firmware;
use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError, ResponseBody};
pub use limits::RunLimits;
pub use power::{PowerOffRequest, PowerOnRequest, PowerView, ShutdownKind};
pub use runs::{ReaderSpec, RunDisk, RunDiskView, RunPhase, RunView, StartRun, Stretch, SyncMode};

/// How to reach a vCenter or an ESXi host. Travels only inside the agent's mutually authenticated connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VcenterConnection {
    /// `https://host[:port]`.
    pub url: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// SHA-1 or SHA-256 of the server's certificate, hex with or without colons.
    #[serde(default)]
    pub thumbprint: Option<String>,
    /// CA certificates to trust, PEM. With neither this nor a thumbprint the system's roots count.
    #[serde(default)]
    pub ca_pem: Option<String>,
}

/// Asks for the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiscoverRequest {
    /// Where.
    pub vcenter: VcenterConnection,
    /// Part of a name or inventory path, ignoring case; everything when absent.
    #[serde(default)]
    pub filter: Option<String>,
}

/// The VMs found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Inventory {
    /// The vCenter's own name for itself (`about.fullName`).
    pub vcenter_name: String,
    /// Its API version.
    pub api_version: String,
    /// The VMs.
    pub vms: Vec<SourceVm>,
}

/// Asks about one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VmRequest {
    /// Where.
    pub vcenter: VcenterConnection,
}

/// A VM as vCenter describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceVm {
    /// Managed object id, valid in this vCenter.
    pub moref: String,
    /// Instance uuid: the stable key.
    pub instance_uuid: String,
    /// Name.
    pub name: String,
    /// Inventory path `/Datacenter/vm/folder/name`.
    pub path: String,
    /// Datacenter name.
    pub datacenter: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Guest OS in words.
    pub os_type: String,
    /// VMware's guest id.
    pub guest_id: String,
    /// Firmware.
    pub firmware: Firmware,
    /// Whether secure boot is on.
    pub secure_boot: bool,
    /// `poweredOn`, `poweredOff` or `suspended`.
    pub power_state: String,
    /// Tools version or status; empty when there are none.
    pub vm_tools_version: String,
    /// Whether CBT is on.
    pub cbt_enabled: bool,
    /// Whether the platform can track changes of this VM.
    pub cbt_supported: bool,
    /// Names of existing vm_snapshots, ours included.
    pub vm_snapshots: Vec<String>,
    /// Network cards, in the VM's order.
    pub networks: Vec<SourceNic>,
    /// Disks, in the VM's order.
    pub disks: Vec<SourceDisk>,
    /// What stands in the way of a replication, or is worth knowing.
    pub findings: Vec<PreflightFinding>,
    /// How the agent could read its disks; told only when one VM is asked about.
    #[serde(default)]
    pub readers: Option<ReaderFacts>,
}

/// How an agent could read the disks of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReaderFacts {
    /// Names of the NBD commands its configuration knows.
    pub nbd_commands: Vec<String>,
    /// Name of the VM it runs in, when disks of this VM can be added to that one.
    #[serde(default)]
    pub own_vm: Option<String>,
    /// Why no disk can be added, when none can.
    #[serde(default)]
    pub hotadd_refusal: Option<String>,
    /// Names of the datastores the agent's own VM can take disks from.
    #[serde(default)]
    pub hotadd_datastores: Vec<String>,
    /// Types (`VMFS`, `NFS`, `vsan`, `VVOL`, …) of the VM's datastores by name, as far as they are known.
    #[serde(default)]
    pub datastore_types: BTreeMap<String, String>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceNic {
    /// `Network adapter 1`.
    pub label: String,
    /// Name of the network it is on.
    pub network_name: String,
    /// MAC address, lower case with colons.
    pub mac_address: String,
    /// `vmxnet3`, `e1000`, …
    pub adapter_type: String,
    /// Whether it is connected.
    pub connected: bool,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// VMware's device key.
    pub device_key: i32,
    /// The VMDK's uuid.
    pub disk_uuid: String,
    /// `[datastore] dir/file.vmdk`.
    pub vmdk_path: String,
    /// Datastore name.
    pub datastore: String,
    /// `Hard disk 1`.
    pub label: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// `pvscsi`, `lsilogic`, `nvme`, …
    pub controller_type: String,
    /// Bus number of the controller.
    pub controller_bus: i32,
    /// Unit on the controller.
    pub unit_number: i32,
    /// `thin`, `thick` or `eager_zeroed_thick`.
    pub provisioning_type: String,
    /// VMware's disk mode.
    pub disk_mode: String,
    /// VMware's sharing mode.
    pub sharing: String,
    /// Whether the VM boots from it, as far as can be told.
    pub is_boot_disk: bool,
    /// Kind of its file: `FlatVer2`, `SeSparse`, `RawDiskMappingVer1`, …
    #[serde(default)]
    pub backing: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// The VM cannot be replicated like this.
    Blocker,
    /// It can, with a consequence.
    Warning,
    /// Worth knowing.
    Info,
}

/// One thing preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PreflightFinding {
    /// How much it matters.
    pub severity: FindingSeverity,
    /// Stable name, such as `disk_independent`.
    pub code: String,
    /// The disk concerned (`disk-<device key>`).
    pub disk_id: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The agent about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentHealth {
    /// `ok`.
    pub status: String,
    /// The agent's version.
    pub version: String,
    /// Version of this API.
    pub protocol_version: String,
    /// Names of the NBD commands its configuration knows.
    pub nbd_commands: Vec<String>,
    /// Runs under way.
    pub active_runs: u32,
}

/// Client of one agent.
#[derive(Clone)]
pub struct VmaClient {
    client: Client,
}

impl VmaClient {
    /// To the agent behind `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The inventory.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn discover(&self, request: &DiscoverRequest) -> Result<Inventory, ClientError> {
        self.client.post("/discover", request).await
    }

    /// One VM, fresh.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn vm(&self, moref: &str, request: &VmRequest) -> Result<SourceVm, ClientError> {
        self.client.post(&format!("/vms/{moref}"), request).await
    }

    /// Starts a run, or answers with the run of that job id when there is one. One that the agent was restarted in goes on
    /// in its vm_snapshot, if that is still there and the request is the same.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn start_run(&self, run: &StartRun) -> Result<RunView, ClientError> {
        self.client.post("/runs", run).await
    }

    /// Every run the agent knows: those under way, and the last that ended.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn runs(&self) -> Result<Vec<RunView>, ClientError> {
        self.client.get("/runs").await
    }

    /// A run; how far it is.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn run(&self, job_id: &str) -> Result<RunView, ClientError> {
        self.client.get(&format!("/runs/{job_id}")).await
    }

    /// Changes how much a run that is under way may send, and the agent in all.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn limit_run(&self, job_id: &str, limits: &RunLimits) -> Result<RunView, ClientError> {
        self.client.post(&format!("/runs/{job_id}/limits"), limits).await
    }

    /// Stops a run and removes its vm_snapshot.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn cancel_run(&self, job_id: &str) -> Result<RunView, ClientError> {
        self.client.post(&format!("/runs/{job_id}/cancel"), &()).await
    }

    /// Ends a copied run: its vm_snapshot is removed.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn release_run(&self, job_id: &str) -> Result<RunView, ClientError> {
        self.client.post(&format!("/runs/{job_id}/release"), &()).await
    }

    /// Removes every vm_snapshot of ours on a VM (after a run the agent no longer knows).
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn remove_vm_snapshots(&self, moref: &str, request: &VmRequest) -> Result<Vec<String>, ClientError> {
        self.client.post(&format!("/vms/{moref}/remove-our-vm-snapshots"), request).await
    }

    /// Switches a VM off, or asks its guest to shut down; one that is off already is left alone. After a guest shutdown
    /// was asked for, [`VmaClient::vm`] tells when it has happened.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn power_off(&self, moref: &str, request: &PowerOffRequest) -> Result<PowerView, ClientError> {
        self.client.post(&format!("/vms/{moref}/power-off"), request).await
    }

    /// Switches a VM on; one that is on already is left alone.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn power_on(&self, moref: &str, request: &PowerOnRequest) -> Result<PowerView, ClientError> {
        self.client.post(&format!("/vms/{moref}/power-on"), request).await
    }

    /// The source digests of a copied disk, as a stream of [`crate::gateway::DigestRecord`]s.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn digests(&self, job_id: &str, disk_id: &str) -> Result<ResponseBody, ClientError> {
        self.client.stream(&format!("/runs/{job_id}/disks/{disk_id}/digests")).await
    }

    /// The agent about itself.
    ///
    /// # Errors
    /// The agent's problem, or no answer.
    pub async fn health(&self) -> Result<AgentHealth, ClientError> {
        self.client.get("/health").await
    }
}
