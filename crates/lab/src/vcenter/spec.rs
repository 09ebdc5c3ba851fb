//! What the simulated vCenter is to contain: datacenter, hosts, datastores, networks and virtual machines.
//!
//! Plain configuration; nothing here touches a file or a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use model::Secret;
use serde::{Deserialize, Serialize};

use super::delta_file::DeltaFormat;

/// Idle seconds after which a real vCenter drops a session.
const DEFAULT_SESSION_IDLE_SECONDS: u64 = 30 * 60;
/// Most objects in one page of property results when the caller names no limit.
const DEFAULT_PAGE_OBJECTS: usize = 100;

/// Everything the simulated vCenter is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VcenterConfig {
    /// Where the HTTPS port listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the plain HTTP laboratory endpoint listens; keep it on loopback.
    pub admin_listen: SocketAddr,
    /// Folder for certificates, disks without an image of their own, and snapshot deltas.
    pub state_dir: PathBuf,
    /// The one account.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// Datacenter name.
    pub datacenter: String,
    /// Inventory folder the datacenter lies in; none = directly under the root.
    pub datacenter_folder: Option<String>,
    /// Cluster name; none = each host is a stand-alone compute resource.
    pub cluster: Option<String>,
    /// Host names; the first runs every VM.
    pub hosts: Vec<String>,
    /// Datastores; the first is the default.
    pub datastores: Vec<DatastoreSpec>,
    /// Networks NICs can be connected to.
    pub networks: Vec<NetworkSpec>,
    /// Virtual machines.
    pub vms: Vec<VmSpec>,
    /// Seconds of idleness after which a session is gone.
    pub session_idle_seconds: u64,
    /// Most objects in one page of property results, whatever the caller asks for.
    pub page_objects: usize,
    /// Answer property reads without a login with HTTP 200 and a missing set, as vcsim does, instead of a fault.
    pub unauthenticated_reads_are_missing_sets: bool,
    /// Keep a copy of what each VM snapshot froze when it is removed, for later comparison.
    pub retain_frozen: bool,
    /// Every ticket is good for one request, as some hosts have it.
    pub single_use_tickets: bool,
}

impl Default for VcenterConfig {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            admin_listen: loopback,
            state_dir: PathBuf::from("vcenter"),
            username: "administrator@vsphere.local".to_owned(),
            password: Secret::new("VMware1!"),
            datacenter: "DC0".to_owned(),
            datacenter_folder: None,
            cluster: Some("Cluster0".to_owned()),
            hosts: vec!["esx-01.lab.example".to_owned(), "esx-02.lab.example".to_owned()],
            datastores: vec![DatastoreSpec::default()],
            networks: vec![
                NetworkSpec { name: "VM Network".to_owned(), kind: NetworkKind::Standard },
                NetworkSpec {
                    name: "dv-production".to_owned(),
                    kind: NetworkKind::Distributed { switch: "DSwitch0".to_owned() },
                },
                NetworkSpec {
                    name: "nsx-backend".to_owned(),
                    kind: NetworkKind::Opaque {
                        id: "3f6d2a44-1c0e-4d6b-9a57-0c5f7e1b2d90".to_owned(),
                        network_type: "nsx.LogicalSwitch".to_owned(),
                    },
                },
            ],
            vms: Vec::new(),
            session_idle_seconds: DEFAULT_SESSION_IDLE_SECONDS,
            page_objects: DEFAULT_PAGE_OBJECTS,
            unauthenticated_reads_are_missing_sets: false,
            retain_frozen: false,
            single_use_tickets: false,
        }
    }
}

/// A datastore.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatastoreSpec {
    /// Name as in `[name] folder/file.vmdk`.
    pub name: String,
    /// `VMFS`, `NFS`, `vsan`: changed areas since `*` are exact only on VMFS, and vSAN has no flat files to read.
    pub kind: String,
    /// Size reported to clients.
    pub capacity_bytes: i64,
}

impl Default for DatastoreSpec {
    fn default() -> Self {
        Self { name: "datastore1".to_owned(), kind: "VMFS".to_owned(), capacity_bytes: 4 << 40 }
    }
}

/// A network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Name shown to users.
    pub name: String,
    /// Standard, distributed or opaque.
    pub kind: NetworkKind,
}

/// The three ways a NIC can be connected.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// A port group of a standard switch.
    Standard,
    /// A port group of the named distributed switch.
    Distributed {
        /// Switch name.
        switch: String,
    },
    /// A network another manager owns (NSX).
    Opaque {
        /// `opaqueNetworkId`.
        id: String,
        /// `opaqueNetworkType`, for example `nsx.LogicalSwitch`.
        network_type: String,
    },
}

/// A virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VmSpec {
    /// Inventory name.
    pub name: String,
    /// Folder path under `vm`, parts separated by `/`; empty = directly in it.
    pub folder: String,
    /// `config.guestId`.
    pub guest_id: String,
    /// `config.guestFullName`.
    pub guest_full_name: String,
    /// Name the guest reports for itself.
    pub guest_host_name: String,
    /// Firmware.
    pub firmware: Firmware,
    /// EFI secure boot.
    pub secure_boot: bool,
    /// Virtual CPUs.
    pub cpu_count: i32,
    /// Memory in MiB.
    pub memory_mib: i32,
    /// Virtual hardware version, for example 19.
    pub hardware_version: u32,
    /// A template has no power operations.
    pub template: bool,
    /// Whether it runs when the simulator starts.
    pub powered_on: bool,
    /// VMware Tools state.
    pub tools: Tools,
    /// `config.annotation`.
    pub annotation: String,
    /// `capability.changeTrackingSupported`.
    pub change_tracking_supported: bool,
    /// Changed block tracking already on and active at start.
    pub change_tracking_enabled: bool,
    /// Encrypted: `config.keyId` is set.
    pub encrypted: bool,
    /// Fault tolerance is on: VM snapshots are refused.
    pub fault_tolerant: bool,
    /// Names of VM snapshots that exist at start.
    pub existing_vm_snapshots: Vec<String>,
    /// Disks in controller order.
    pub disks: Vec<DiskSpec>,
    /// Network cards.
    pub nics: Vec<NicSpec>,
}

impl Default for VmSpec {
    fn default() -> Self {
        Self {
            name: "vm".to_owned(),
            folder: String::new(),
            guest_id: "debian12_64Guest".to_owned(),
            guest_full_name: "Debian GNU/Linux 12 (64-bit)".to_owned(),
            guest_host_name: "guest".to_owned(),
            firmware: Firmware::Bios,
            secure_boot: false,
            cpu_count: 2,
            memory_mib: 2048,
            hardware_version: 19,
            template: false,
            powered_on: true,
            tools: Tools::Running,
            annotation: String::new(),
            change_tracking_supported: true,
            change_tracking_enabled: false,
            encrypted: false,
            fault_tolerant: false,
            existing_vm_snapshots: Vec::new(),
            disks: Vec::new(),
            nics: Vec::new(),
        }
    }
}

impl VmSpec {
    /// A running Debian guest of that name with no disks and no NICs.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { guest_host_name: name.clone(), name, ..Self::default() }
    }

    /// Adds a disk.
    #[must_use]
    pub fn with_disk(mut self, disk: DiskSpec) -> Self {
        self.disks.push(disk);
        self
    }

    /// Adds a network card.
    #[must_use]
    pub fn with_nic(mut self, nic: NicSpec) -> Self {
        self.nics.push(nic);
        self
    }
}

/// Virtual firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// Legacy BIOS.
    Bios,
    /// UEFI.
    Efi,
}

/// State of VMware Tools in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tools {
    /// Installed and running while the VM is on.
    Running,
    /// Installed, not running.
    Stopped,
    /// Not installed.
    Absent,
}

/// A virtual disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskSpec {
    /// Size; taken from the image when that is larger.
    pub capacity_bytes: u64,
    /// A raw file that becomes the disk's base, written in place. None = an empty sparse file.
    pub image: Option<PathBuf>,
    /// Datastore; none = the first.
    pub datastore: Option<String>,
    /// Kind of controller the disk hangs on.
    pub controller: ControllerKind,
    /// Bus number of that controller.
    pub bus: i32,
    /// `sharedBus` of that controller (`noSharing`, `virtualSharing`, `physicalSharing`); the first disk decides.
    pub shared_bus: String,
    /// `backing.diskMode`.
    pub mode: String,
    /// `backing.sharing` (`sharingNone`, `sharingMultiWriter`).
    pub sharing: String,
    /// `backing.thinProvisioned`.
    pub thin: bool,
    /// A raw device mapping: `physicalMode` or `virtualMode`.
    pub raw_device_mode: Option<String>,
    /// Where the block of the guest's marker file lies, bytes from the start of the disk.
    pub marker_start_bytes: Option<u64>,
    /// How the datastore keeps its deltas.
    pub delta_format: DeltaFormat,
}

impl Default for DiskSpec {
    fn default() -> Self {
        Self {
            capacity_bytes: 64 << 20,
            image: None,
            datastore: None,
            controller: ControllerKind::ParaVirtual,
            bus: 0,
            shared_bus: "noSharing".to_owned(),
            mode: "persistent".to_owned(),
            sharing: "sharingNone".to_owned(),
            thin: true,
            raw_device_mode: None,
            marker_start_bytes: None,
            delta_format: DeltaFormat::SeSparse,
        }
    }
}

impl DiskSpec {
    /// An empty thin disk of that size on a paravirtual SCSI controller.
    #[must_use]
    pub fn empty(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, ..Self::default() }
    }

    /// A disk whose base is that raw file.
    #[must_use]
    pub fn from_image(image: impl Into<PathBuf>) -> Self {
        Self { image: Some(image.into()), capacity_bytes: 0, ..Self::default() }
    }
}

/// Kinds of storage controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControllerKind {
    /// VMware paravirtual SCSI.
    ParaVirtual,
    /// LSI Logic parallel SCSI.
    LsiLogic,
    /// LSI Logic SAS.
    LsiLogicSas,
    /// AHCI SATA.
    Sata,
    /// NVMe.
    Nvme,
    /// IDE.
    Ide,
}

/// A network card.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NicSpec {
    /// Name of a network of the configuration.
    pub network: String,
    /// MAC address; none = made from the VM's place in the list.
    pub mac_address: Option<String>,
    /// Emulated hardware.
    pub kind: NicKind,
    /// Whether the cable is in.
    pub connected: bool,
    /// Addresses VMware Tools report.
    pub ip_addresses: Vec<String>,
}

impl Default for NicSpec {
    fn default() -> Self {
        Self {
            network: "VM Network".to_owned(),
            mac_address: None,
            kind: NicKind::Vmxnet3,
            connected: true,
            ip_addresses: Vec::new(),
        }
    }
}

impl NicSpec {
    /// A connected vmxnet3 card in that network.
    #[must_use]
    pub fn on(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }
}

/// Kinds of network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicKind {
    /// `VirtualVmxnet3`
    Vmxnet3,
    /// `VirtualE1000`
    E1000,
    /// `VirtualE1000e`
    E1000e,
}
