//! Looks at a cloud as a replication target: reads everything once, changes nothing, judges the prerequisites.
//!
//! What `migratekit probe cloudstack` prints and what the validation of a target is made from.

use model::FailureKind;
use serde::Serialize;

use crate::accounts::{Account, ResourceKind, ResourceLimit};
use crate::capabilities::Capabilities;
use crate::client::Client;
use crate::error::CloudstackError;
use crate::networks::{Network, NetworkQuery};
use crate::offerings::{DiskOffering, OfferingQuery, ServiceOffering};
use crate::prerequisites::{Fact, PrerequisiteReport, ProbeFacts, SizeRequest, check, evaluate, failed};
use crate::templates::{Template, TemplateQuery};
use crate::vms::{VirtualMachine, VmQuery, VmState};
use crate::wire::Limit;
use crate::zones::Zone;

/// What is wanted of the cloud.
#[derive(Debug, Clone, Default)]
pub struct ProbeOptions {
    /// Zone by name or id; any enabled one when absent.
    pub zone: Option<String>,
    /// Disk offering of the replica volumes; the first custom-size one when absent.
    pub disk_offering_id: Option<String>,
    /// MAC addresses of the machine that will write the volumes.
    pub local_macs: Vec<String>,
    /// The VM of that machine where somebody named it; else it is found by the MAC addresses.
    pub own_vm_id: Option<String>,
    /// Sizes of the disks to be replicated, in bytes.
    pub wanted_sizes_bytes: Vec<u64>,
}

/// Everything seen.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeReport {
    /// The endpoint asked.
    pub api_url: String,
    /// Version of CloudStack.
    pub version: Option<String>,
    /// Version and abilities in full.
    pub capabilities: Option<Capabilities>,
    /// The account the keys belong to.
    pub account: Option<Account>,
    /// Zones.
    pub zones: Vec<Zone>,
    /// Service offerings.
    pub service_offerings: Vec<ServiceOffering>,
    /// Disk offerings.
    pub disk_offerings: Vec<DiskOffering>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Templates the account can deploy.
    pub templates: Vec<Template>,
    /// The VM this runs on.
    pub own_vm: Option<OwnVm>,
    /// What the account may still use.
    pub limits: LimitsView,
    /// Every prerequisite.
    pub prerequisites: PrerequisiteReport,
    /// Why nothing could be read, if so; the one check in the report is failed then.
    pub failure: Option<ProbeFailure>,
}

/// Why a cloud could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeFailure {
    /// Kind.
    pub kind: FailureKind,
    /// In words, with what lies below.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// The VM this runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnVm {
    /// UUID.
    pub id: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: VmState,
    /// Zone.
    pub zone_id: Option<String>,
    /// The network card it was found by, or its first one when it was named.
    pub mac_address: Option<String>,
}

/// One limit and how far it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct UsageLimit {
    /// Limit.
    pub max: Option<Limit>,
    /// Used.
    pub used: Option<u64>,
    /// Left.
    pub available: Option<Limit>,
}

/// The limits that matter to replication; absent values are those the server does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LimitsView {
    /// Volumes.
    pub volumes: UsageLimit,
    /// Primary storage, in GiB.
    pub primary_storage_gib: UsageLimit,
    /// VMs.
    pub virtual_machines: UsageLimit,
    /// Volume snapshots.
    pub volume_snapshots: UsageLimit,
    /// Smallest custom-size volume, in GiB.
    pub volume_size_min_gib: Option<u64>,
    /// Largest custom-size volume, in GiB.
    pub volume_size_max_gib: Option<u64>,
}

/// Looks at the cloud. Never fails: a cloud that cannot be reached or refuses the keys gives a report with
/// [`ProbeReport::failure`] and one failed check; a single list that is refused gives a warning.
pub async fn probe(client: &Client, options: &ProbeOptions) -> ProbeReport {
    match client.capabilities().await {
        Ok(capabilities) => {
            let facts = gather(client, options, capabilities).await;
            report_of(facts)
        }
        Err(error) => unreachable_report(client, &error),
    }
}

async fn gather(client: &Client, options: &ProbeOptions, capabilities: Capabilities) -> ProbeFacts {
    let zones = fact(client.list_zones().await);
    let zone_id = zones.as_ref().ok().and_then(|zones| {
        let wanted = options.zone.as_ref()?;
        zones.iter().find(|zone| zone.is_called(wanted)).map(|zone| zone.id.clone())
    });
    let offerings = OfferingQuery { id: None, zone_id: zone_id.clone() };
    let networks = NetworkQuery { zone_id: zone_id.clone(), ..NetworkQuery::default() };
    let templates = TemplateQuery { zone_id, ..TemplateQuery::default() };
    let (account, limits, service_offerings, disk_offerings, networks, templates, own_vm) = tokio::join!(
        client.own_account(),
        client.list_resource_limits(None),
        client.list_service_offerings(&offerings),
        client.list_disk_offerings(&offerings),
        client.list_networks(&networks),
        client.list_templates(&templates),
        find_own_vm(client, options),
    );
    let own_vm_snapshots = match &own_vm {
        Ok(Some(vm)) => fact(client.list_vm_snapshots(&vm.id).await),
        _ => Ok(Vec::new()),
    };
    ProbeFacts {
        api_url: client.api_url().to_owned(),
        capabilities,
        account: fact(account),
        limits: fact(limits),
        zones,
        zone_wanted: options.zone.clone(),
        service_offerings: fact(service_offerings),
        disk_offerings: fact(disk_offerings),
        disk_offering_wanted: options.disk_offering_id.clone(),
        networks: fact(networks),
        templates: fact(templates),
        local_macs: options.local_macs.clone(),
        own_vm_wanted: options.own_vm_id.clone(),
        own_vm: fact(own_vm),
        own_vm_snapshots,
        sizes: SizeRequest { disk_sizes_bytes: options.wanted_sizes_bytes.clone() },
    }
}

async fn find_own_vm(client: &Client, options: &ProbeOptions) -> Result<Option<VirtualMachine>, CloudstackError> {
    match &options.own_vm_id {
        Some(id) => client.find_virtual_machine(id).await,
        None => client.find_vm_by_mac(&options.local_macs).await,
    }
}

impl Client {
    /// The VM that has a network card with one of these MAC addresses, in any notation.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_vm_by_mac(&self, macs: &[String]) -> Result<Option<VirtualMachine>, CloudstackError> {
        if macs.is_empty() {
            return Ok(None);
        }
        let query = VmQuery { details: vec!["nics".to_owned()], ..VmQuery::default() };
        let vms = self.list_virtual_machines(&query).await?;
        // A destroyed VM keeps its addresses until it is erased.
        let alive = vms.into_iter().filter(|vm| !matches!(vm.state, VmState::Destroyed | VmState::Expunging));
        Ok(alive.into_iter().find(|vm| matching_mac(vm, macs).is_some()))
    }
}

fn matching_mac<'a>(vm: &'a VirtualMachine, macs: &[String]) -> Option<&'a str> {
    let is_wanted = |mac: &&str| macs.iter().any(|wanted| bare_mac(wanted) == bare_mac(mac));
    vm.nics.iter().filter_map(|nic| nic.mac_address.as_deref()).find(is_wanted)
}

/// Twelve lower-case hexadecimal digits, whatever stood between them.
fn bare_mac(mac: &str) -> String {
    mac.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}

/// Keeps a result for judging; the reason is one line.
fn fact<T>(result: Result<T, CloudstackError>) -> Fact<T> {
    result.map_err(|error| with_sources(&error))
}

fn report_of(facts: ProbeFacts) -> ProbeReport {
    let prerequisites = evaluate(&facts);
    let account = facts.account.ok().flatten();
    let limits = limits_view(account.as_ref(), facts.limits.as_deref().unwrap_or_default(), &facts.capabilities);
    let own_vm = facts.own_vm.ok().flatten().map(|vm| own_vm_view(vm, &facts.local_macs));
    ProbeReport {
        api_url: facts.api_url,
        version: facts.capabilities.cloudstack_version.clone(),
        capabilities: Some(facts.capabilities),
        account,
        zones: facts.zones.unwrap_or_default(),
        service_offerings: facts.service_offerings.unwrap_or_default(),
        disk_offerings: facts.disk_offerings.unwrap_or_default(),
        networks: facts.networks.unwrap_or_default(),
        templates: facts.templates.unwrap_or_default(),
        own_vm,
        limits,
        prerequisites,
        failure: None,
    }
}

fn own_vm_view(vm: VirtualMachine, local_macs: &[String]) -> OwnVm {
    let first = || vm.nics.iter().find_map(|nic| nic.mac_address.as_deref());
    let mac_address = matching_mac(&vm, local_macs).or_else(first).map(str::to_owned);
    OwnVm { id: vm.id, name: vm.name, state: vm.state, zone_id: vm.zone_id, mac_address }
}

fn unreachable_report(client: &Client, error: &CloudstackError) -> ProbeReport {
    let message = with_sources(error);
    let remedy = error.remedy().map(str::to_owned);
    let verdict = failed(message.clone(), remedy.as_deref().unwrap_or("look at the message"));
    let connectivity = check("connectivity", "The API answers and accepts the keys", verdict);
    ProbeReport {
        api_url: client.api_url().to_owned(),
        version: None,
        capabilities: None,
        account: None,
        zones: Vec::new(),
        service_offerings: Vec::new(),
        disk_offerings: Vec::new(),
        networks: Vec::new(),
        templates: Vec::new(),
        own_vm: None,
        limits: LimitsView::default(),
        prerequisites: PrerequisiteReport { checks: vec![connectivity] },
        failure: Some(ProbeFailure { kind: error.kind(), message, remedy }),
    }
}

fn limits_view(account: Option<&Account>, limits: &[ResourceLimit], capabilities: &Capabilities) -> LimitsView {
    let of = |read: fn(&Account) -> UsageLimit, kind: ResourceKind| {
        let told = account.map(read).unwrap_or_default();
        let configured = || limits.iter().find(|limit| limit.is_of(kind)).and_then(|limit| limit.max);
        UsageLimit { max: told.max.or_else(configured), ..told }
    };
    LimitsView {
        volumes: of(
            |a| UsageLimit { max: a.volume_limit, used: a.volume_total, available: a.volume_available },
            ResourceKind::Volume,
        ),
        primary_storage_gib: of(
            |a| UsageLimit {
                max: a.primary_storage_limit_gib,
                used: a.primary_storage_total_gib,
                available: a.primary_storage_available_gib,
            },
            ResourceKind::PrimaryStorage,
        ),
        virtual_machines: of(
            |a| UsageLimit { max: a.vm_limit, used: a.vm_total, available: a.vm_available },
            ResourceKind::VirtualMachine,
        ),
        volume_snapshots: of(
            |a| UsageLimit {
                max: a.volume_snapshot_limit,
                used: a.volume_snapshot_total,
                available: a.volume_snapshot_available,
            },
            ResourceKind::VolumeSnapshot,
        ),
        volume_size_min_gib: capabilities.custom_volume_min_gib,
        volume_size_max_gib: capabilities.custom_volume_max_gib,
    }
}

/// An error with everything below it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_match_in_any_notation() {
        let vm: VirtualMachine =
            serde_json::from_str(r#"{"id":"v","nic":[{"id":"n","macaddress":"02:00:34:FB:00:01"}]}"#).unwrap();
        assert!(matching_mac(&vm, &["0200.34fb.0001".to_owned()]).is_some());
        assert!(matching_mac(&vm, &["02-00-34-fb-00-02".to_owned()]).is_none());
    }
}
