//! `/target/…`: what a CloudStack target offers, as its account sees it now.

use serde::{Deserialize, Serialize};

/// Query of every listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TargetQuery {
    /// The target: name or id; the active one when absent.
    pub target: Option<String>,
}

/// What CloudStack answered, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Listing<T> {
    /// Name of the target that was asked.
    pub target: String,
    /// Everything its account sees.
    pub items: Vec<T>,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ZoneView {
    /// CloudStack's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `Advanced` or `Basic`.
    pub network_type: Option<String>,
    /// Whether VMs and volumes may be made in it.
    pub enabled: bool,
    /// Whether the target makes its VMs in it.
    pub is_targets: bool,
}

/// A guest network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkView {
    /// CloudStack's id.
    pub id: String,
    /// Name; not unique.
    pub name: String,
    /// `Isolated`, `Shared` or `L2`.
    pub network_type: Option<String>,
    /// State in CloudStack's words.
    pub state: Option<String>,
    /// Zone it is in.
    pub zone_name: Option<String>,
    /// Whether that is the target's zone.
    pub in_targets_zone: bool,
    /// IPv4 range; L2 networks have none.
    pub cidr: Option<String>,
    /// IPv4 gateway.
    pub gateway: Option<String>,
    /// VLAN, where the account is shown it.
    pub vlan: Option<String>,
    /// Account that owns it.
    pub account: Option<String>,
    /// VPC it is a tier of.
    pub vpc_id: Option<String>,
    /// Whether CloudStack puts VMs into it.
    pub usable_for_deploy: bool,
}

/// A compute offering usable in the target's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceOfferingView {
    /// CloudStack's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether new VMs may use it.
    pub active: bool,
    /// Whether CPUs and memory are chosen when a VM is made.
    pub customised: bool,
    /// CPUs; none when customised.
    pub cpu_count: Option<u64>,
    /// Speed of a CPU in MHz.
    pub cpu_speed_mhz: Option<u64>,
    /// Memory in MiB; none when customised.
    pub memory_mib: Option<u64>,
    /// Fewest CPUs of a customised one, where it has a limit.
    pub min_cpu_count: Option<u64>,
    /// Most CPUs.
    pub max_cpu_count: Option<u64>,
    /// Least memory of a customised one in MiB, where it has a limit.
    pub min_memory_mib: Option<u64>,
    /// Most memory in MiB.
    pub max_memory_mib: Option<u64>,
}

/// A disk offering usable in the target's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiskOfferingView {
    /// CloudStack's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether replica volumes of any size can be made of it.
    pub takes_any_size: bool,
    /// Its fixed size in GiB; none when the size is chosen.
    pub size_gib: Option<u64>,
    /// `shared` or `local`.
    pub storage_type: Option<String>,
    /// `thin`, `sparse` or `fat`.
    pub provisioning_type: Option<String>,
    /// Storage tags, separated by commas.
    pub storage_tags: Option<String>,
}

/// A template in the target's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TemplateView {
    /// CloudStack's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether VMs can be made of it.
    pub ready: bool,
    /// Such as `KVM`.
    pub hypervisor: Option<String>,
    /// `QCOW2`, `RAW`, …
    pub format: Option<String>,
    /// Size of its disk in bytes.
    pub size_bytes: Option<u64>,
    /// Guest OS type.
    pub os_type_name: Option<String>,
}
