//! Setting mappings: what is asked for is judged against the target first, and stored only if all of it can be used.

use api::Problem;
use api::oma::networks::{MappingChange, SetMapping};
use api::vma::SourceNic;
use model::status::{FailoverType, MappingType, ValidationStatus};
use model::{FailureKind, MacAddress};
use store::Timestamp;
use store::network_mappings::{self, NewMapping, Validation};

use super::map::{NicMapping, canonical, default_strategy, judge};
use super::target::network_called;
use super::{Known, look, report, view};
use crate::error::OmaError;
use crate::inventory::vm_called;
use crate::state::OmaState;

/// Longest name or id that is looked for, in characters: the width of the columns they are stored in.
const MAX_NAME_CHARS: usize = 255;

/// Which cards are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cards {
    /// The one with this MAC address.
    Mac(MacAddress),
    /// Every one on this network of the source.
    OnNetwork(String),
}

/// Sets mappings of a VM, or says what they would be.
///
/// # Errors
/// The VM, the card or the network does not exist; the network cannot take the card; the target does not answer.
/// Nothing is stored then.
pub(crate) async fn set(state: &OmaState, request: &SetMapping, dry_run: bool) -> Result<MappingChange, OmaError> {
    let cards = cards_asked_for(request)?;
    let known = look(state, vm_called(state, &request.vm).await?).await?;
    let touched = touched(&known, &cards)?;
    let wanted = wanted(&known, &touched, request)?;
    let mappings = with(known.mappings(), &wanted);
    refuse_unusable(&known, &touched, &wanted, &mappings)?;
    let is_touched = |mac: &str| touched.iter().any(|nic| canonical(&nic.mac_address) == mac);
    let mut warnings = report::warnings(state, &known, &mappings).await?;
    warnings.retain(|warning| request.mapping_type != MappingType::Live && is_touched(&warning.source_mac));
    let mappings = if dry_run {
        wanted.iter().map(|mapping| view::planned(mapping, request.mapping_type, &touched)).collect()
    } else {
        let rows = rows(&touched, &wanted, request);
        let stored = network_mappings::set(state.store(), &known.vm.context_id, &rows).await?;
        stored.into_iter().map(view::mapping).collect()
    };
    Ok(MappingChange { stored: !dry_run, mappings, warnings })
}

/// What a request names, before anybody is asked about it.
fn cards_asked_for(request: &SetMapping) -> Result<Cards, Problem> {
    let refused = |detail: String| Problem::new(FailureKind::Invalid, detail);
    for (what, text) in [("destination_network", &request.destination_network), ("vm", &request.vm)] {
        if text.trim().is_empty() || text.chars().count() > MAX_NAME_CHARS {
            return Err(
                refused(format!("{what} must have 1 to {MAX_NAME_CHARS} characters")).remedy("name it as the lists do")
            );
        }
    }
    match (&request.source_mac, &request.source_network_name) {
        (Some(mac), None) => mac.parse().map(Cards::Mac).map_err(|error: model::MacAddressError| {
            refused(error.to_string()).remedy("write it as `migratekit network list VM` shows it")
        }),
        (None, Some(network)) => Ok(Cards::OnNetwork(network.clone())),
        (Some(_), Some(_)) | (None, None) => {
            Err(refused("either a MAC address or a network of the source must be named".to_owned())
                .remedy("send source_mac or source_network_name, one of them"))
        }
    }
}

/// The cards a request is about.
fn touched<'a>(known: &'a Known, cards: &Cards) -> Result<Vec<&'a SourceNic>, Problem> {
    let is_meant = |nic: &&SourceNic| match cards {
        Cards::Mac(mac) => canonical(&nic.mac_address) == mac.to_string(),
        Cards::OnNetwork(name) => nic.network_name == *name,
    };
    let found: Vec<&SourceNic> = known.nics.iter().filter(is_meant).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let vm = &known.vm.vm_name;
    let detail = match cards {
        Cards::Mac(mac) => format!("{vm} has no network card with the MAC address {mac}"),
        Cards::OnNetwork(name) => format!("{vm} has no network card on {name:?}"),
    };
    let seen = known.nics.iter().map(|nic| format!("{} ({}) on {}", nic.label, nic.mac_address, nic.network_name));
    let seen: Vec<String> = seen.collect();
    let seen = if seen.is_empty() { "it has none".to_owned() } else { format!("it has {}", seen.join(", ")) };
    Err(Problem::new(FailureKind::NotFound, detail).evidence(seen).remedy(format!(
        "`migratekit network list {vm}` shows its cards; if they changed in vCenter, refresh it: \
         migratekit vm discover && migratekit vm add {vm}"
    )))
}

/// The mappings asked for, one for each card and side.
fn wanted(known: &Known, touched: &[&SourceNic], request: &SetMapping) -> Result<Vec<NicMapping>, Problem> {
    let network = network_called(&known.target, &request.destination_network)?;
    let sides = sides(request.mapping_type);
    let of_card = |nic: &&SourceNic| {
        let mac = canonical(&nic.mac_address);
        sides.iter().map(move |purpose| NicMapping {
            source_mac: mac.clone(),
            network_id: network.id.clone(),
            network_name: network.name.clone(),
            is_test_network: *purpose == FailoverType::Test,
            strategy: Some(request.strategy.unwrap_or(default_strategy(*purpose))),
            ip_address: request.ip_address.clone(),
        })
    };
    Ok(touched.iter().flat_map(of_card).collect())
}

fn sides(mapping_type: MappingType) -> &'static [FailoverType] {
    match mapping_type {
        MappingType::Live => &[FailoverType::Live],
        MappingType::Test => &[FailoverType::Test],
        MappingType::Both => &[FailoverType::Live, FailoverType::Test],
    }
}

/// The mappings as they would be with those asked for in their places.
fn with(mut mappings: Vec<NicMapping>, wanted: &[NicMapping]) -> Vec<NicMapping> {
    let is_replaced = |row: &NicMapping| {
        wanted.iter().any(|new| new.source_mac == row.source_mac && new.is_test_network == row.is_test_network)
    };
    mappings.retain(|row| !is_replaced(row));
    mappings.extend_from_slice(wanted);
    mappings
}

/// Every reason against the cards asked for; what is wrong with others is not this request's fault.
fn refuse_unusable(
    known: &Known,
    touched: &[&SourceNic],
    wanted: &[NicMapping],
    mappings: &[NicMapping],
) -> Result<(), Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for purpose in [FailoverType::Live, FailoverType::Test] {
        if wanted.iter().all(|mapping| mapping.is_test_network != (purpose == FailoverType::Test)) {
            continue;
        }
        let judged = judge(&known.placement(purpose, mappings))
            .into_iter()
            .filter(|judged| touched.iter().any(|nic| canonical(&nic.mac_address) == judged.source_mac));
        for problem in judged.flat_map(|judged| judged.problems) {
            if problems.iter().all(|said| said.detail != problem.detail) {
                problems.push(problem);
            }
        }
    }
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(()) };
    let others: Vec<String> = problems.map(|other| other.detail).collect();
    if others.is_empty() {
        return Err(first);
    }
    let evidence = first.evidence.iter().cloned().chain([format!("also: {}", others.join("; "))]);
    Err(Problem { evidence: Some(evidence.collect::<Vec<_>>().join("; ")), ..first })
}

fn rows(touched: &[&SourceNic], wanted: &[NicMapping], request: &SetMapping) -> Vec<NewMapping> {
    let strategy = |purpose| request.strategy.unwrap_or(default_strategy(purpose));
    let of_card = |nic: &&SourceNic| {
        let mac = nic.mac_address.parse().ok()?;
        let mapping = wanted.iter().find(|mapping| mapping.source_mac == canonical(&nic.mac_address))?;
        Some(NewMapping {
            source_mac: mac,
            source_network_name: nic.network_name.clone(),
            destination_network_id: mapping.network_id.clone(),
            destination_network_name: mapping.network_name.clone(),
            mapping_type: request.mapping_type,
            live_strategy: strategy(FailoverType::Live),
            test_strategy: strategy(FailoverType::Test),
            ip_address: request.ip_address.clone(),
            validation: Validation { status: ValidationStatus::Valid, message: None, at: Timestamp::now() },
        })
    };
    touched.iter().filter_map(of_card).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SetMapping {
        SetMapping {
            vm: "web1".into(),
            source_mac: Some("00-50-56-00-00-AA".into()),
            source_network_name: None,
            destination_network: "net".into(),
            mapping_type: MappingType::Both,
            strategy: None,
            ip_address: None,
        }
    }

    #[test]
    fn one_card_or_one_network_is_named() {
        let mac = "00:50:56:00:00:aa".parse().unwrap();
        assert_eq!(cards_asked_for(&request()), Ok(Cards::Mac(mac)));
        let network = SetMapping { source_mac: None, source_network_name: Some("VM Network".into()), ..request() };
        assert_eq!(cards_asked_for(&network), Ok(Cards::OnNetwork("VM Network".into())));
        for wrong in [
            SetMapping { source_network_name: Some("VM Network".into()), ..request() },
            SetMapping { source_mac: None, ..request() },
            SetMapping { source_mac: Some("nonsense".into()), ..request() },
            SetMapping { destination_network: " ".into(), ..request() },
            SetMapping { vm: "x".repeat(256), ..request() },
        ] {
            let problem = cards_asked_for(&wrong).unwrap_err();
            assert_eq!(problem.kind, FailureKind::Invalid, "{wrong:?}");
            assert!(problem.remedy.is_some(), "{wrong:?}");
        }
    }
}
