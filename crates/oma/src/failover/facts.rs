//! What is known of a VM, its replica and its target before a failover. Values only; gathered in `gather`.

use std::path::PathBuf;

use api::vma::SourceNic;
use cloudstack::{Capabilities, ServiceOffering, Template};
use model::ChangeId;
use model::status::{ContextStatus, DiskSyncStatus, Firmware};

use crate::networks::map::{NicMapping, TargetNetworks};

/// Everything a failover is decided from.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The source VM.
    pub(crate) vm: VmFacts,
    /// A job that works on its replica.
    pub(crate) running_job: Option<String>,
    /// Another failover that holds it.
    pub(crate) held_by: Option<String>,
    /// Its recovery points (`job-…`), newest first.
    pub(crate) points: Vec<String>,
    /// Its disks in the source's order.
    pub(crate) disks: Vec<DiskFacts>,
    /// Where its network cards are to go.
    pub(crate) mappings: Vec<NicMapping>,
    /// The target cloud, or why nothing is known of it.
    pub(crate) target: Result<TargetFacts, api::Problem>,
    /// Whether the conversion tool is on this hub.
    pub(crate) has_conversion_tool: bool,
    /// Whether the drivers it installs into Windows are on this hub.
    pub(crate) has_windows_drivers: bool,
}

/// The source VM, as it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct VmFacts {
    pub(crate) context_id: String,
    pub(crate) name: String,
    pub(crate) status: ContextStatus,
    pub(crate) os_type: String,
    pub(crate) guest_id: String,
    pub(crate) firmware: Firmware,
    pub(crate) secure_boot: bool,
    pub(crate) cpu_count: u32,
    pub(crate) memory_mib: u64,
    pub(crate) power_state: String,
    pub(crate) nics: Vec<SourceNic>,
    /// Whether it can be asked to switch off and to be copied.
    pub(crate) agent_connected: bool,
}

/// A disk with its replica.
#[derive(Debug, Clone)]
pub(crate) struct DiskFacts {
    pub(crate) disk_id: String,
    pub(crate) is_boot_disk: bool,
    pub(crate) capacity_bytes: u64,
    pub(crate) sync_status: DiskSyncStatus,
    pub(crate) committed: Option<ChangeId>,
    pub(crate) volume: Option<VolumeFacts>,
}

/// A replica volume.
#[derive(Debug, Clone)]
pub(crate) struct VolumeFacts {
    pub(crate) volume_uuid: String,
    pub(crate) size_bytes: u64,
    /// The device it is on this hub, while the hub's VM holds it.
    pub(crate) device_path: Option<PathBuf>,
    /// Another VM than the hub's that holds it.
    pub(crate) held_by_vm: Option<String>,
}

/// The target cloud.
#[derive(Debug, Clone)]
pub(crate) struct TargetFacts {
    /// Its name here.
    pub(crate) name: String,
    /// Whether ids may be chosen and VMs expunged.
    pub(crate) is_root_admin: bool,
    pub(crate) capabilities: Capabilities,
    /// What the target's settings name.
    pub(crate) wanted_offering_id: Option<String>,
    pub(crate) wanted_template_id: Option<String>,
    /// What the zone has.
    pub(crate) offerings: Vec<ServiceOffering>,
    pub(crate) templates: Vec<Template>,
    pub(crate) networks: TargetNetworks,
    /// Names of VMs that exist and begin like the one to be made.
    pub(crate) taken_names: Vec<String>,
}
