//! Can this cloud take replicas? Every prerequisite judged from facts that were read before. Pure.
//!
//! `Failed` means replication cannot work; `Warning` means it works with a consequence, which the evidence names.
//! Reading the facts is `probe`'s affair.

use model::size::{gib_rounded_up, human_bytes};
use serde::{Deserialize, Serialize};

use crate::accounts::{Account, ResourceKind, ResourceLimit};
use crate::capabilities::Capabilities;
use crate::networks::Network;
use crate::offerings::{DiskOffering, ServiceOffering};
use crate::templates::Template;
use crate::vm_snapshots::VmSnapshot;
use crate::vms::{VirtualMachine, VmState};
use crate::wire::Limit;
use crate::zones::Zone;

/// Oldest supported version of CloudStack.
const OLDEST_VERSION: (u32, u32) = (4, 18);
/// Default of the server's `storage.max.volume.size`, in GiB; the API does not tell the value in force.
const DEFAULT_MAX_VOLUME_GIB: u64 = 2_000;
/// Most names listed in one piece of evidence.
const MAX_NAMES: usize = 5;

/// How one prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// As it should be.
    Passed,
    /// Works, with a consequence.
    Warning,
    /// Replication cannot work.
    Failed,
}

/// One prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrerequisiteCheck {
    /// Stable name.
    pub code: String,
    /// In words.
    pub title: String,
    /// How it stands.
    pub outcome: CheckOutcome,
    /// What was seen.
    pub evidence: String,
    /// What to do; empty when it passed.
    pub remedy: String,
}

/// Every prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PrerequisiteReport {
    /// One entry for each prerequisite that could be judged.
    pub checks: Vec<PrerequisiteCheck>,
}

impl PrerequisiteReport {
    /// Whether nothing failed.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != CheckOutcome::Failed)
    }
}

/// The volumes that are to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SizeRequest {
    /// Size of each source disk, in bytes.
    pub disk_sizes_bytes: Vec<u64>,
}

impl SizeRequest {
    fn largest_gib(&self) -> u64 {
        self.disk_sizes_bytes.iter().copied().map(gib_rounded_up).max().unwrap_or_default()
    }

    fn total_gib(&self) -> u64 {
        self.disk_sizes_bytes.iter().copied().map(gib_rounded_up).fold(0, u64::saturating_add)
    }

    fn volumes(&self) -> u64 {
        u64::try_from(self.disk_sizes_bytes.len()).unwrap_or(u64::MAX)
    }
}

/// Something that was read, or why it could not be.
pub type Fact<T> = Result<T, String>;

/// What is known of the cloud and of what is wanted of it.
#[derive(Debug, Clone)]
pub struct ProbeFacts {
    /// The API endpoint.
    pub api_url: String,
    /// Version and abilities.
    pub capabilities: Capabilities,
    /// The caller's account; nothing when the server leaves it open.
    pub account: Fact<Option<Account>>,
    /// Limits of the caller.
    pub limits: Fact<Vec<ResourceLimit>>,
    /// Zones.
    pub zones: Fact<Vec<Zone>>,
    /// Name or id of the zone wanted; any enabled one when absent.
    pub zone_wanted: Option<String>,
    /// Service offerings.
    pub service_offerings: Fact<Vec<ServiceOffering>>,
    /// Disk offerings.
    pub disk_offerings: Fact<Vec<DiskOffering>>,
    /// Disk offering wanted; the first custom-size one when absent.
    pub disk_offering_wanted: Option<String>,
    /// Networks.
    pub networks: Fact<Vec<Network>>,
    /// Templates.
    pub templates: Fact<Vec<Template>>,
    /// MAC addresses of the machine that will write the volumes.
    pub local_macs: Vec<String>,
    /// The VM of that machine, where somebody named it.
    pub own_vm_wanted: Option<String>,
    /// That VM, or the one that has one of the MAC addresses.
    pub own_vm: Fact<Option<VirtualMachine>>,
    /// VM snapshots of that VM.
    pub own_vm_snapshots: Fact<Vec<VmSnapshot>>,
    /// Volumes to be made.
    pub sizes: SizeRequest,
}

impl ProbeFacts {
    /// The zone wanted, or the only one there is.
    #[must_use]
    pub fn zone(&self) -> Option<&Zone> {
        let zones = self.zones.as_ref().ok()?;
        match &self.zone_wanted {
            Some(wanted) => zones.iter().find(|zone| zone.is_called(wanted)),
            None => zones.iter().find(|zone| zone.is_enabled()),
        }
    }
}

/// Judges every prerequisite.
#[must_use]
pub fn evaluate(facts: &ProbeFacts) -> PrerequisiteReport {
    let checks = vec![
        check(
            "connectivity",
            "The API answers and accepts the keys",
            passed(&format!("answered at {}", facts.api_url)),
        ),
        check("transport_encryption", "The way to the API is encrypted", encryption(&facts.api_url)),
        check("api_version", "CloudStack is 4.18 or later", version(&facts.capabilities)),
        check("account_role", "The account may choose ids and see all it needs", known(&facts.account, account_role)),
        check("zone", "The zone exists and is enabled", known(&facts.zones, |zones| zone(facts, zones))),
        check(
            "disk_offering",
            "A custom-size disk offering exists",
            known(&facts.disk_offerings, |offerings| disk_offering(facts, offerings)),
        ),
        check(
            "service_offering",
            "A customised service offering exists",
            known(&facts.service_offerings, |offerings| service_offering(offerings)),
        ),
        check(
            "networks",
            "VMs can be deployed into a network",
            known(&facts.networks, |networks| usable_networks(networks)),
        ),
        check("templates", "A template is ready", known(&facts.templates, |templates| ready_templates(templates))),
        check("volume_size", "Volumes may be large enough", volume_size(facts)),
        check(
            "own_vm",
            "The machine that writes is a VM of this cloud",
            known(&facts.own_vm, |vm| own_vm(facts, vm.as_ref())),
        ),
        check(
            "volume_limit",
            "The account may make the volumes",
            known(&facts.account, |account| volume_limit(facts, account.as_ref())),
        ),
        check(
            "primary_storage_limit",
            "The account may use the storage",
            known(&facts.account, |account| storage_limit(facts, account.as_ref())),
        ),
        check("volume_snapshots", "Volumes of running VMs can be snapshotted", snapshot_ability(&facts.capabilities)),
    ];
    PrerequisiteReport { checks }
}

/// Outcome, evidence and remedy of a check.
pub(crate) struct Verdict(CheckOutcome, String, String);

pub(crate) fn check(code: &str, title: &str, verdict: Verdict) -> PrerequisiteCheck {
    let Verdict(outcome, evidence, remedy) = verdict;
    PrerequisiteCheck { code: code.to_owned(), title: title.to_owned(), outcome, evidence, remedy }
}

fn passed(evidence: &str) -> Verdict {
    Verdict(CheckOutcome::Passed, evidence.to_owned(), String::new())
}

fn warning(evidence: impl Into<String>, remedy: &str) -> Verdict {
    Verdict(CheckOutcome::Warning, evidence.into(), remedy.to_owned())
}

pub(crate) fn failed(evidence: impl Into<String>, remedy: &str) -> Verdict {
    Verdict(CheckOutcome::Failed, evidence.into(), remedy.to_owned())
}

/// Judges a fact, or says that it could not be read.
fn known<T>(fact: &Fact<T>, judge: impl FnOnce(&T) -> Verdict) -> Verdict {
    match fact {
        Ok(value) => judge(value),
        Err(reason) => {
            warning(format!("not known: {reason}"), "allow the account's role to list this, or check it by hand")
        }
    }
}

fn encryption(api_url: &str) -> Verdict {
    if api_url.starts_with("https:") {
        return passed("https");
    }
    warning(
        "http: everybody on the way can read what is asked and answered (the secret key itself is never sent)",
        "give CloudStack a certificate and use its https endpoint",
    )
}

fn version(capabilities: &Capabilities) -> Verdict {
    let told = capabilities.cloudstack_version.as_deref().unwrap_or("not told");
    match capabilities.version() {
        Some(version) if version >= OLDEST_VERSION => passed(told),
        Some(_) => failed(told, "upgrade CloudStack to 4.18 or later"),
        None => warning(told, "make sure that CloudStack is 4.18 or later"),
    }
}

fn account_role(account: &Option<Account>) -> Verdict {
    let Some(account) = account else {
        return warning(
            "the server does not tell which account the keys belong to",
            "use keys of a root administrator, so that volumes can be given chosen ids",
        );
    };
    let role = account.role_name.as_deref().or(account.role_type.as_deref()).unwrap_or("unknown role");
    let evidence = format!("account {} ({role})", account.name);
    if account.state.as_deref().is_some_and(|state| !state.eq_ignore_ascii_case("enabled")) {
        return failed(format!("{evidence} is not enabled"), "enable the account");
    }
    if account.is_root_admin() {
        return passed(&evidence);
    }
    warning(
        format!(
            "{evidence} is no root administrator: ids cannot be chosen, so repeats after a crash are found by tags"
        ),
        "use keys of a root administrator",
    )
}

fn zone(facts: &ProbeFacts, zones: &[Zone]) -> Verdict {
    let names = names(zones.iter().map(|zone| zone.name.as_str()));
    let Some(zone) = facts.zone() else {
        let wanted = facts.zone_wanted.as_deref().unwrap_or("any enabled zone");
        return failed(format!("{wanted} is not among: {names}"), "choose one of the zones by its name or id");
    };
    if zone.is_enabled() {
        passed(&format!("{} is enabled", zone.name))
    } else {
        failed(format!("{} is disabled", zone.name), "enable the zone")
    }
}

fn disk_offering(facts: &ProbeFacts, offerings: &[DiskOffering]) -> Verdict {
    const MAKE_ONE: &str =
        "make a disk offering with custom size, usable in the zone, on storage the hub's VM can reach";
    let zone_id = facts.zone().map(|zone| zone.id.as_str());
    if let Some(wanted) = &facts.disk_offering_wanted {
        return match offerings.iter().find(|offering| &offering.id == wanted) {
            None => failed(format!("{wanted} does not exist"), "choose an existing disk offering"),
            Some(offering) if offering.takes_any_size(zone_id) => passed(&offering.name),
            Some(offering) => {
                failed(format!("{} has a fixed size, is inactive or is not for this zone", offering.name), MAKE_ONE)
            }
        };
    }
    let usable = names(offerings.iter().filter(|offering| offering.takes_any_size(zone_id)).map(|o| o.name.as_str()));
    if usable.is_empty() {
        return failed(format!("none among {} disk offerings", offerings.len()), MAKE_ONE);
    }
    passed(&usable)
}

fn service_offering(offerings: &[ServiceOffering]) -> Verdict {
    let usable = names(offerings.iter().filter(|o| o.is_customized && o.is_active()).map(|o| o.name.as_str()));
    if usable.is_empty() {
        return warning(
            format!("none among {} service offerings: VMs get the nearest fixed size", offerings.len()),
            "make a customised service offering, so that VMs get their exact CPUs and memory",
        );
    }
    passed(&usable)
}

fn usable_networks(networks: &[Network]) -> Verdict {
    let usable = names(networks.iter().filter(|network| network.usable_for_deploy).map(|n| n.name.as_str()));
    if usable.is_empty() {
        return warning(
            format!("none among {} networks: replication works, failover does not", networks.len()),
            "make a network the account can deploy VMs into",
        );
    }
    passed(&usable)
}

fn ready_templates(templates: &[Template]) -> Verdict {
    let usable = names(templates.iter().filter(|template| template.is_ready).map(|t| t.name.as_str()));
    if usable.is_empty() {
        return warning(
            format!("none among {} templates: replication works, failover does not", templates.len()),
            "register any small template; failover deploys an empty VM of it",
        );
    }
    passed(&usable)
}

fn volume_size(facts: &ProbeFacts) -> Verdict {
    const RAISE: &str =
        "raise the global settings custom.diskoffering.size.max and storage.max.volume.size (GiB) above the size";
    let wanted = facts.sizes.largest_gib();
    let Some(max) = facts.capabilities.custom_volume_max_gib else {
        return warning("the server does not tell its largest volume", "check custom.diskoffering.size.max");
    };
    if facts.sizes.disk_sizes_bytes.is_empty() {
        return passed(&format!("up to {max} GiB"));
    }
    let largest = facts.sizes.disk_sizes_bytes.iter().copied().max().unwrap_or_default();
    let evidence = format!("largest disk {} needs {wanted} GiB, allowed are {max} GiB", human_bytes(largest));
    if wanted > max {
        return failed(evidence, RAISE);
    }
    if wanted > DEFAULT_MAX_VOLUME_GIB {
        return warning(
            format!("{evidence}; storage.max.volume.size is {DEFAULT_MAX_VOLUME_GIB} unless it was raised"),
            RAISE,
        );
    }
    passed(&evidence)
}

fn own_vm(facts: &ProbeFacts, vm: Option<&VirtualMachine>) -> Verdict {
    if let (Some(id), None) = (&facts.own_vm_wanted, vm) {
        return failed(
            format!("there is no VM {id} that this account sees"),
            "use the keys of the account that owns the hub's VM or of a root administrator, or name the right VM",
        );
    }
    if facts.own_vm_wanted.is_none() && facts.local_macs.is_empty() {
        return warning(
            "no network card of this machine was given to look for",
            "run the hub on a VM of this cloud: volumes are attached to it",
        );
    }
    let Some(vm) = vm else {
        return failed(
            format!("no VM has one of the network cards {}", names(facts.local_macs.iter().map(String::as_str))),
            "run the hub on a VM of this cloud, owned by this account or visible to it",
        );
    };
    if let (Some(zone), Some(own)) = (facts.zone(), &vm.zone_id)
        && &zone.id != own
    {
        return failed(format!("{} is in another zone than {}", vm.name, zone.name), "choose the zone of the hub's VM");
    }
    if vm.state != VmState::Running {
        return warning(format!("{} is {}", vm.name, vm.state), "look at the hub's VM in CloudStack");
    }
    own_vm_snapshots(facts, vm)
}

fn own_vm_snapshots(facts: &ProbeFacts, vm: &VirtualMachine) -> Verdict {
    match facts.own_vm_snapshots.as_deref() {
        Ok([]) => passed(&format!("{} ({})", vm.name, vm.id)),
        Ok(snapshots) => failed(
            format!("{} has {} VM snapshots: nothing can be attached to it", vm.name, snapshots.len()),
            "delete the VM snapshots of the hub's VM",
        ),
        Err(reason) => warning(
            format!("{} ({}); its VM snapshots are not known: {reason}", vm.name, vm.id),
            "make sure that the hub's VM has no VM snapshots: nothing could be attached to it",
        ),
    }
}

fn volume_limit(facts: &ProbeFacts, account: Option<&Account>) -> Verdict {
    let left = account.and_then(|account| account.volume_available);
    room(left, limit_of(facts, ResourceKind::Volume), facts.sizes.volumes().max(1), "volumes")
}

fn storage_limit(facts: &ProbeFacts, account: Option<&Account>) -> Verdict {
    let left = account.and_then(|account| account.primary_storage_available_gib);
    room(left, limit_of(facts, ResourceKind::PrimaryStorage), facts.sizes.total_gib().max(1), "GiB of primary storage")
}

fn limit_of(facts: &ProbeFacts, kind: ResourceKind) -> Option<Limit> {
    facts.limits.as_ref().ok()?.iter().find(|limit| limit.is_of(kind)).and_then(|limit| limit.max)
}

/// Judges what is left, or else the limit as such.
fn room(left: Option<Limit>, limit: Option<Limit>, wanted: u64, unit: &str) -> Verdict {
    const RAISE: &str = "raise the limit of the account or its domain, or remove what is no longer needed";
    let (told, evidence) = match (left, limit) {
        (Some(left), _) => (left, format!("{wanted} {unit} wanted, left: {left}")),
        (None, Some(limit)) => (limit, format!("{wanted} {unit} wanted, limit: {limit} (what is used is not told)")),
        (None, None) => return warning(format!("the limit of {unit} is not told"), "check the account's limits"),
    };
    if told.has_room_for(wanted) { passed(&evidence) } else { failed(evidence, RAISE) }
}

fn snapshot_ability(capabilities: &Capabilities) -> Verdict {
    if capabilities.kvm_snapshot_enabled {
        return passed("kvm.snapshot.enabled is true");
    }
    warning(
        "kvm.snapshot.enabled is false: replicas are protected by snapshots only while their VM is stopped",
        "set the global setting kvm.snapshot.enabled to true",
    )
}

/// A few names, and how many more there are.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let shown = all.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(MAX_NAMES) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
