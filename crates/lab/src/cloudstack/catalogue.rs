//! What the simulated cloud offers and never changes: zone, host, pool, offerings, templates, networks, accounts.
//!
//! Every id is derived from a name, so a restarted server, and the next one, offers the same.

use super::config::{ADMIN_ACCOUNT, CloudstackConfig};
use super::error::CloudstackSimError;
use model::Secret;

/// Domain of all accounts.
pub(crate) const DOMAIN_NAME: &str = "ROOT";
/// The zone everything is in.
pub(crate) const ZONE_NAME: &str = "lab-zone";
/// A second zone, with nothing in it but a network.
pub(crate) const FAR_ZONE_NAME: &str = "lab-far-zone";
/// The only primary storage.
pub(crate) const POOL_NAME: &str = "PS0";
/// The only cluster.
pub(crate) const CLUSTER_NAME: &str = "C0";
/// The only pod.
pub(crate) const POD_NAME: &str = "POD0";
/// The only host.
pub(crate) const HOST_NAME: &str = "kvm-1";
/// The disk offering whose size the caller chooses.
pub const CUSTOM_DISK_OFFERING: &str = "Custom";
/// The compute offering used when nothing else is named.
pub const SMALL_OFFERING: &str = "Small Instance";
/// 2026-01-01T00:00:00Z: when the cloud was set up, in seconds.
pub(crate) const SET_UP: i64 = 1_767_225_600;
/// The version the server claims.
pub(crate) const VERSION: &str = "4.22.0.0";

/// An account with its only user.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) name: String,
    pub(crate) api_key: String,
    pub(crate) secret_key: Secret,
    pub(crate) root_admin: bool,
}

/// A disk offering.
#[derive(Debug, Clone)]
pub(crate) struct DiskOffering {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) display_text: &'static str,
    /// Zero for the custom one.
    pub(crate) size_gib: u64,
    pub(crate) is_custom: bool,
}

/// A compute offering.
#[derive(Debug, Clone)]
pub(crate) struct ServiceOffering {
    pub(crate) id: String,
    /// What a ROOT volume shows as `serviceofferingid`.
    pub(crate) internal_id: &'static str,
    pub(crate) name: &'static str,
    /// CPUs, MHz, MiB; none when the caller chooses.
    pub(crate) shape: Option<(u32, u32, u32)>,
}

/// A template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) size_gib: u64,
    pub(crate) os_type_id: String,
    pub(crate) os_type_name: &'static str,
}

/// A guest network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    /// `Isolated`, `Shared` or `L2`.
    pub(crate) network_type: &'static str,
    /// First three octets of its /24; none for L2.
    pub(crate) prefix: Option<&'static str>,
    pub(crate) vlan: u32,
    pub(crate) offering_name: &'static str,
    pub(crate) zone_name: &'static str,
    /// What it shows as `canusefordeploy`.
    pub(crate) is_usable: bool,
}

/// Everything constant.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue {
    pub(crate) zone_id: String,
    pub(crate) domain_id: String,
    pub(crate) pod_id: String,
    pub(crate) cluster_id: String,
    pub(crate) host_id: String,
    pub(crate) pool_id: String,
    pub(crate) server_id: String,
    pub(crate) accounts: Vec<Account>,
    pub(crate) disk_offerings: Vec<DiskOffering>,
    pub(crate) service_offerings: Vec<ServiceOffering>,
    pub(crate) templates: Vec<Template>,
    pub(crate) networks: Vec<Network>,
    pub(crate) os_types: Vec<(String, &'static str)>,
}

/// Guest operating systems: enough of the real list for a mapping to be tested.
const OS_TYPES: [&str; 8] = [
    "CentOS 5.6 (64-bit)",
    "Debian GNU/Linux 12 (64-bit)",
    "Other (64-bit)",
    "Other PV (64-bit)",
    "Other PV Virtio-SCSI (64-bit)",
    "Rocky Linux 9",
    "Ubuntu 22.04 LTS",
    "Windows Server 2022 (64-bit)",
];

/// The id that belongs to a name: a UUID of version 4's form.
pub(crate) fn fixed_id(class: &str, name: &str) -> String {
    let digest = blake3::hash(format!("lab-cloudstack/{class}/{name}").as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// A new random entity id.
pub(crate) fn random_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Catalogue {
    /// The catalogue for a configuration.
    pub(crate) fn new(config: &CloudstackConfig) -> Result<Self, CloudstackSimError> {
        Ok(Self {
            zone_id: fixed_id("zone", ZONE_NAME),
            domain_id: fixed_id("domain", DOMAIN_NAME),
            pod_id: fixed_id("pod", POD_NAME),
            cluster_id: fixed_id("cluster", CLUSTER_NAME),
            host_id: fixed_id("host", HOST_NAME),
            pool_id: fixed_id("pool", POOL_NAME),
            server_id: fixed_id("managementserver", "ms1"),
            accounts: accounts(config)?,
            disk_offerings: vec![
                disk_offering(CUSTOM_DISK_OFFERING, "Custom Disk", 0),
                disk_offering("Small", "Small Disk, 5 GB", 5),
                disk_offering("Medium", "Medium Disk, 20 GB", 20),
            ],
            service_offerings: vec![
                service_offering("1", SMALL_OFFERING, Some((1, 500, 512))),
                service_offering("2", "Medium Instance", Some((1, 1000, 1024))),
                service_offering("3", "Custom Instance", None),
            ],
            templates: vec![
                template("CentOS 5.6 (64-bit) no GUI (Simulator)", "CentOS 5.6 (64-bit)", 2),
                template("shell", "Other PV (64-bit)", 1),
            ],
            networks: vec![
                network("lab-isolated", "Isolated", Some("10.1.1"), 1850),
                network("lab-shared", "Shared", Some("10.20.30"), 100),
                network("lab-l2", "L2", None, 200),
                network("lab-bubble-1", "Isolated", Some("10.99.1"), 1901),
                network("lab-bubble-2", "Isolated", Some("10.99.2"), 1902),
                Network { is_usable: false, ..network("lab-closed", "Isolated", Some("10.66.1"), 1903) },
                Network { zone_name: FAR_ZONE_NAME, ..network("lab-far", "Isolated", Some("10.77.1"), 1850) },
            ],
            os_types: OS_TYPES.iter().map(|name| (fixed_id("ostype", name), *name)).collect(),
        })
    }

    pub(crate) fn account(&self, id: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.id == id)
    }

    pub(crate) fn account_named(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
    }

    pub(crate) fn account_with_key(&self, api_key: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.api_key == api_key)
    }

    pub(crate) fn disk_offering(&self, id: &str) -> Option<&DiskOffering> {
        self.disk_offerings.iter().find(|offering| offering.id == id)
    }

    pub(crate) fn service_offering(&self, id: &str) -> Option<&ServiceOffering> {
        self.service_offerings.iter().find(|offering| offering.id == id)
    }

    pub(crate) fn template(&self, id: &str) -> Option<&Template> {
        self.templates.iter().find(|template| template.id == id)
    }

    pub(crate) fn network(&self, id: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == id)
    }

    pub(crate) fn os_type_name(&self, id: &str) -> Option<&'static str> {
        self.os_types.iter().find(|(known, _)| known == id).map(|(_, name)| *name)
    }
}

fn accounts(config: &CloudstackConfig) -> Result<Vec<Account>, CloudstackSimError> {
    let mut accounts = vec![account(ADMIN_ACCOUNT, &config.api_key, &config.secret_key, true)];
    for extra in &config.accounts {
        if accounts.iter().any(|known| known.name == extra.name || known.api_key == extra.api_key) {
            return Err(CloudstackSimError::Config(format!("account {} or its API key appears twice", extra.name)));
        }
        accounts.push(account(&extra.name, &extra.api_key, &extra.secret_key, extra.root_admin));
    }
    if config.api_key.is_empty() || config.secret_key.expose().is_empty() {
        return Err(CloudstackSimError::Config("the administrator's API key or secret key is empty".to_owned()));
    }
    if !accounts.iter().any(|account| account.name == config.oma_vm.account) {
        return Err(CloudstackSimError::Config(format!(
            "the worker VM's account {} is unknown",
            config.oma_vm.account
        )));
    }
    Ok(accounts)
}

fn account(name: &str, api_key: &str, secret_key: &Secret, root_admin: bool) -> Account {
    Account {
        id: fixed_id("account", name),
        user_id: fixed_id("user", name),
        name: name.to_owned(),
        api_key: api_key.to_owned(),
        secret_key: secret_key.clone(),
        root_admin,
    }
}

fn disk_offering(name: &'static str, display_text: &'static str, size_gib: u64) -> DiskOffering {
    DiskOffering { id: fixed_id("diskoffering", name), name, display_text, size_gib, is_custom: size_gib == 0 }
}

fn service_offering(internal_id: &'static str, name: &'static str, shape: Option<(u32, u32, u32)>) -> ServiceOffering {
    ServiceOffering { id: fixed_id("serviceoffering", name), internal_id, name, shape }
}

fn template(name: &'static str, os_type_name: &'static str, size_gib: u64) -> Template {
    Template {
        id: fixed_id("template", name),
        name,
        size_gib,
        os_type_id: fixed_id("ostype", os_type_name),
        os_type_name,
    }
}

fn network(name: &'static str, network_type: &'static str, prefix: Option<&'static str>, vlan: u32) -> Network {
    let offering_name = match network_type {
        "Isolated" => "DefaultIsolatedNetworkOfferingWithSourceNatService",
        "Shared" => "DefaultSharedNetworkOffering",
        _ => "DefaultL2NetworkOffering",
    };
    Network {
        id: fixed_id("network", name),
        name,
        network_type,
        prefix,
        vlan,
        offering_name,
        zone_name: ZONE_NAME,
        is_usable: true,
    }
}
