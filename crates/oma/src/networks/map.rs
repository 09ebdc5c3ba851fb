//! Which network each card of a VM goes to, or every reason why it cannot: decided from values, asking nobody.
//!
//! A card is known by its MAC address, never by its place: the cards of a VM and the mappings of a VM may be listed in
//! any order, and the answer is in the VM's own.

mod address;

use std::collections::HashMap;

use api::Problem;
use api::oma::networks::{MappedNic, MappingWarning};
use api::vma::SourceNic;
use cloudstack::Network;
use model::status::{FailoverType, NicStrategy};
use model::{FailureKind, MacAddress};

/// A mapping as it counts here: one side of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicMapping {
    /// The card.
    pub source_mac: String,
    /// CloudStack's id of the network.
    pub network_id: String,
    /// Its name when it was looked at.
    pub network_name: String,
    /// Whether it is for tests or for live failovers.
    pub is_test_network: bool,
    /// How the card is carried over; see [`default_strategy`].
    pub strategy: Option<NicStrategy>,
    /// The IP address, with [`NicStrategy::KeepIp`].
    pub ip_address: Option<String>,
}

/// What a target offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetNetworks {
    /// The zone VMs are made in.
    pub zone_id: String,
    /// Its name.
    pub zone_name: String,
    /// Every network its account sees, those of other zones among them.
    pub networks: Vec<Network>,
}

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Name of the VM.
    pub vm_name: &'a str,
    /// Its network cards, in its order.
    pub nics: &'a [SourceNic],
    /// Its mappings, of both sides.
    pub mappings: &'a [NicMapping],
    /// Which side counts.
    pub purpose: FailoverType,
    /// Where they go.
    pub target: &'a TargetNetworks,
}

/// How one card stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedNic {
    /// The card.
    pub source_mac: String,
    /// Where it goes; none when something stands against it.
    pub mapped: Option<MappedNic>,
    /// Everything that stands against it.
    pub problems: Vec<Problem>,
}

/// That VMs go to a network in live failovers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveUse {
    /// CloudStack's id of the network.
    pub network_id: String,
    /// How many do.
    pub vms: u64,
    /// The name of one of them.
    pub vm_name: String,
}

/// How a card is carried over unless a mapping says otherwise. A test runs beside its source: the same MAC address twice
/// would do harm in a network that is less isolated than it is believed to be.
#[must_use]
pub fn default_strategy(purpose: FailoverType) -> NicStrategy {
    match purpose {
        FailoverType::Live => NicStrategy::KeepMac,
        FailoverType::Test => NicStrategy::NewMac,
    }
}

/// A MAC address as it is compared and stored; a text that is none stays as it is.
#[must_use]
pub fn canonical(mac: &str) -> String {
    mac.parse::<MacAddress>().map_or_else(|_| mac.to_owned(), |mac| mac.to_string())
}

/// Every card in the VM's order with its place in the target.
///
/// # Errors
/// Everything that stands against it at once; each problem names its card and what to do.
pub fn map(placement: &Placement<'_>) -> Result<Vec<MappedNic>, Vec<Problem>> {
    let mut mapped = Vec::new();
    let mut problems = Vec::new();
    for judged in judge(placement) {
        mapped.extend(judged.mapped);
        problems.extend(judged.problems);
    }
    if problems.is_empty() { Ok(mapped) } else { Err(problems) }
}

/// How each card stands, in the VM's order.
#[must_use]
pub fn judge(placement: &Placement<'_>) -> Vec<JudgedNic> {
    (0..placement.nics.len()).map(|index| judge_one(placement, index)).collect()
}

fn judge_one(placement: &Placement<'_>, index: usize) -> JudgedNic {
    let card = Card::of(placement, &placement.nics[index]);
    let mut problems = own_problems(placement, &card, index);
    let mapped = match card.mapping {
        None => {
            problems.push(unmapped(placement, &card));
            None
        }
        Some(mapping) => {
            problems.extend(shared_place(placement, &card, mapping, index));
            match network_of(placement, &card, mapping) {
                Err(problem) => {
                    problems.push(problem);
                    None
                }
                Ok(network) => {
                    problems.extend(address::problem(&card, mapping, network));
                    Some(card.mapped(mapping, network, index))
                }
            }
        }
    };
    JudgedNic { source_mac: card.mac, mapped: mapped.filter(|_| problems.is_empty()), problems }
}

/// A card with what is said of it everywhere.
struct Card<'a> {
    nic: &'a SourceNic,
    mac: String,
    /// `Network adapter 1 (00:50:56:00:00:01) of web1`.
    name: String,
    mapping: Option<&'a NicMapping>,
    strategy: NicStrategy,
    /// The command that maps it, up to the network.
    command: String,
}

impl<'a> Card<'a> {
    fn of(placement: &Placement<'a>, nic: &'a SourceNic) -> Self {
        let mac = canonical(&nic.mac_address);
        let mapping = mapping_of(placement, &mac);
        let default = default_strategy(placement.purpose);
        Self {
            name: format!("{} of {}", nic_name(nic), placement.vm_name),
            command: format!("migratekit network map {} --mac {mac} --for {}", placement.vm_name, placement.purpose),
            strategy: mapping.and_then(|mapping| mapping.strategy).unwrap_or(default),
            nic,
            mac,
            mapping,
        }
    }

    fn keeps_mac(&self) -> bool {
        matches!(self.strategy, NicStrategy::KeepMac | NicStrategy::KeepIp)
    }

    fn mapped(&self, mapping: &NicMapping, network: &Network, index: usize) -> MappedNic {
        let ip = mapping.ip_address.clone().filter(|_| self.strategy == NicStrategy::KeepIp);
        MappedNic {
            label: self.nic.label.clone(),
            source_mac: self.mac.clone(),
            source_network: self.nic.network_name.clone(),
            network_id: network.id.clone(),
            network_name: network.name.clone(),
            mac: self.keeps_mac().then(|| self.mac.clone()),
            ip,
            is_default: index == 0,
        }
    }
}

fn nic_name(nic: &SourceNic) -> String {
    let mac = if nic.mac_address.is_empty() { "no MAC address" } else { nic.mac_address.as_str() };
    format!("{} ({})", nic.label, canonical(mac))
}

/// The mapping of a card on the side that counts.
fn mapping_of<'a>(placement: &Placement<'a>, mac: &str) -> Option<&'a NicMapping> {
    let is_test = placement.purpose == FailoverType::Test;
    placement.mappings.iter().find(|row| row.is_test_network == is_test && canonical(&row.source_mac) == mac)
}

/// What is wrong with the card itself: it is known by its MAC address, so that must be one, and its own.
fn own_problems(placement: &Placement<'_>, card: &Card<'_>, index: usize) -> Vec<Problem> {
    let refused = |what: String| {
        Problem::new(FailureKind::Invalid, what)
            .remedy("give the card a MAC address of its own in vCenter, then refresh the VM: migratekit vm discover && migratekit vm add")
    };
    let mut problems = Vec::new();
    match card.mac.parse::<MacAddress>() {
        Err(error) => {
            problems.push(refused(format!("{} has no usable MAC address", card.name)).cause(error.to_string()))
        }
        Ok(mac) if mac.is_zero() => problems.push(refused(format!("the MAC address of {} is all zeros", card.name))),
        Ok(mac) if mac.is_multicast() => {
            problems.push(refused(format!("the MAC address of {} is a multicast address", card.name)));
        }
        Ok(_) => {}
    }
    let same = |other: &SourceNic| canonical(&other.mac_address) == card.mac;
    if let Some(other) = other_than(placement, index).find(|other| same(other)) {
        problems.push(refused(format!("{} has the same MAC address as {}", card.name, other.label)));
    }
    problems
}

fn other_than<'a>(placement: &Placement<'a>, index: usize) -> impl Iterator<Item = &'a SourceNic> {
    placement.nics.iter().enumerate().filter(move |(other, _)| *other != index).map(|(_, nic)| nic)
}

fn unmapped(placement: &Placement<'_>, card: &Card<'_>) -> Problem {
    let detail = format!("{} has no network for a {} failover", card.name, placement.purpose);
    Problem::new(FailureKind::Conflict, detail)
        .evidence(format!("it is on {} in the source", card.nic.network_name))
        .remedy(format!("{} --to NETWORK; `migratekit target networks` lists them", card.command))
}

/// CloudStack refuses a second card of a VM in a network.
fn shared_place(placement: &Placement<'_>, card: &Card<'_>, mapping: &NicMapping, index: usize) -> Option<Problem> {
    let same = |other: &&SourceNic| {
        let mac = canonical(&other.mac_address);
        mac != card.mac && mapping_of(placement, &mac).is_some_and(|theirs| theirs.network_id == mapping.network_id)
    };
    let other = other_than(placement, index).find(same)?;
    let detail = format!("{} would go to {:?}, as {} does", card.name, mapping.network_name, nic_name(other));
    Some(
        Problem::new(FailureKind::Invalid, detail)
            .cause("CloudStack takes one card of a VM in each network")
            .remedy(format!("map one of them to another network: {} --to NETWORK", card.command)),
    )
}

/// The network of a mapping, if cards can be made in it.
fn network_of<'a>(placement: &Placement<'a>, card: &Card<'_>, mapping: &NicMapping) -> Result<&'a Network, Problem> {
    let target = placement.target;
    let another =
        || format!("map it to another one: {} --to NETWORK; `migratekit target networks` lists them", card.command);
    let Some(network) = target.networks.iter().find(|network| network.id.eq_ignore_ascii_case(&mapping.network_id))
    else {
        let detail = format!("the network {:?} for {} does not exist", mapping.network_name, card.name);
        return Err(Problem::new(FailureKind::NotFound, detail)
            .evidence(format!("the target's account sees no network with the id {}", mapping.network_id))
            .remedy(another()));
    };
    if let Some(zone) = network.zone_id.as_deref().filter(|zone| !zone.eq_ignore_ascii_case(&target.zone_id)) {
        let zone = network.zone_name.as_deref().unwrap_or(zone);
        let detail = format!("the network {:?} for {} is in another zone", network.name, card.name);
        return Err(Problem::new(FailureKind::Invalid, detail)
            .evidence(format!("it is in {zone}, the target makes VMs in {}", target.zone_name))
            .remedy(another()));
    }
    if !network.usable_for_deploy {
        let detail = format!("the network {:?} for {} takes no VMs", network.name, card.name);
        let state = network.state.as_deref().unwrap_or("unknown");
        return Err(Problem::new(FailureKind::Invalid, detail)
            .evidence(format!("CloudStack says canusefordeploy = false; its state is {state}"))
            .remedy(format!("make it usable in CloudStack, or {}", another())));
    }
    Ok(network)
}

/// What should be known of the places of a test: it is not isolated where live VMs are, or will be.
#[must_use]
pub fn warnings(placement: &Placement<'_>, live: &[LiveUse]) -> Vec<MappingWarning> {
    if placement.purpose != FailoverType::Test {
        return Vec::new();
    }
    let live: HashMap<&str, &LiveUse> = live.iter().map(|used| (used.network_id.as_str(), used)).collect();
    let cards = placement.nics.iter().map(|nic| Card::of(placement, nic));
    cards.flat_map(|card| card_warnings(placement, &card, &live)).collect()
}

fn card_warnings(placement: &Placement<'_>, card: &Card<'_>, live: &HashMap<&str, &LiveUse>) -> Vec<MappingWarning> {
    let Some(mapping) = card.mapping else { return Vec::new() };
    let networks = &placement.target.networks;
    let Some(network) = networks.iter().find(|network| network.id == mapping.network_id) else { return Vec::new() };
    let warning = |code: &str, message: String| MappingWarning {
        code: code.to_owned(),
        source_mac: card.mac.clone(),
        message,
        remedy: format!("use an isolated network of its own for tests: {} --to NETWORK", card.command),
    };
    let mut warnings = Vec::new();
    if let Some(used) = live.get(network.id.as_str()) {
        let more = if used.vms > 1 { format!(" and {} more", used.vms - 1) } else { String::new() };
        let users = format!("{}{more}", used.vm_name);
        let message = format!("{} is tested in {:?}, where {users} goes in a live failover", card.name, network.name);
        warnings.push(warning("test_network_is_live", message));
    }
    if network.network_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("shared")) {
        let message = format!("{} is tested in {:?}, which is shared with others", card.name, network.name);
        warnings.push(warning("test_network_is_shared", message));
    }
    warnings
}

#[cfg(test)]
mod tests;
