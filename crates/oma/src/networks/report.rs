//! Looking at the mappings of a VM: as they are stored, and as the target sees them now.

use api::oma::networks::{MappingList, MappingWarning, NetworkReport, PurposeReport};
use model::status::{FailoverType, ValidationStatus};
use store::Timestamp;
use store::network_mappings::{self, NetworkMapping, Validation};

use super::map::{self, JudgedNic, LiveUse, NicMapping, Placement, canonical, judge};
use super::{Known, look, source_nics, view};
use crate::error::OmaError;
use crate::inventory::vm_called;
use crate::state::OmaState;

/// The network cards and the mappings of a VM as they are stored; the target is not asked.
///
/// # Errors
/// There is no such VM; the database fails.
pub(crate) async fn list(state: &OmaState, vm: &str) -> Result<MappingList, OmaError> {
    let vm = vm_called(state, vm).await?;
    let rows = network_mappings::of_context(state.store(), &vm.context_id).await?;
    Ok(MappingList {
        nics: source_nics(&vm)?.into_iter().map(view::nic).collect(),
        items: rows.into_iter().map(view::mapping).collect(),
        vm_context_id: vm.context_id,
        vm_name: vm.vm_name,
    })
}

/// Looks at every mapping of a VM again and records what was found.
///
/// # Errors
/// There is no such VM, or its target does not answer: nothing is recorded then; the database fails.
pub(crate) async fn validate(state: &OmaState, vm: &str) -> Result<NetworkReport, OmaError> {
    let known = look(state, vm_called(state, vm).await?).await?;
    let mappings = known.mappings();
    let at = Timestamp::now();
    let live = known.placement(FailoverType::Live, &mappings);
    let test = known.placement(FailoverType::Test, &mappings);
    let (judged_live, judged_test) = (judge(&live), judge(&test));
    let mut items = Vec::new();
    for row in &known.rows {
        let found = finding(row, if row.is_test_network { &judged_test } else { &judged_live }, at);
        let recorded = network_mappings::set_validation(state.store(), row, &found).await?;
        items.extend(recorded.map(view::mapping));
    }
    let test_warnings = warnings(state, &known, &mappings).await?;
    Ok(NetworkReport {
        live: purpose_report(&known, &live, Vec::new()),
        test: purpose_report(&known, &test, test_warnings),
        vm_context_id: known.vm.context_id.clone(),
        vm_name: known.vm.vm_name.clone(),
        items,
    })
}

/// What should be known of the places of a test.
///
/// # Errors
/// The database fails.
pub async fn warnings(
    state: &OmaState,
    known: &Known,
    mappings: &[NicMapping],
) -> Result<Vec<MappingWarning>, OmaError> {
    let tested: Vec<String> =
        mappings.iter().filter(|row| row.is_test_network).map(|row| row.network_id.clone()).collect();
    let uses = network_mappings::live_uses(state.store(), &tested).await?;
    let mut live: Vec<LiveUse> = uses.into_iter().map(LiveUse::from).collect();
    // The VM's own, which may not be stored yet.
    for own in mappings.iter().filter(|row| !row.is_test_network) {
        if live.iter().all(|used| used.network_id != own.network_id) {
            let vm_name = known.vm.vm_name.clone();
            live.push(LiveUse { network_id: own.network_id.clone(), vms: 1, vm_name });
        }
    }
    Ok(map::warnings(&known.placement(FailoverType::Test, mappings), &live))
}

impl From<network_mappings::LiveUse> for LiveUse {
    fn from(used: network_mappings::LiveUse) -> Self {
        Self { network_id: used.network_id, vms: used.vms, vm_name: used.vm_name }
    }
}

/// What is to be recorded of a mapping.
fn finding(row: &NetworkMapping, judged: &[JudgedNic], at: Timestamp) -> Validation {
    let Some(card) = judged.iter().find(|card| card.source_mac == row.source_mac) else {
        let message = Some("the VM has no network card with this MAC address".to_owned());
        return Validation { status: ValidationStatus::Invalid, message, at };
    };
    if card.problems.is_empty() {
        return Validation { status: ValidationStatus::Valid, message: None, at };
    }
    let details: Vec<&str> = card.problems.iter().map(|problem| problem.detail.as_str()).collect();
    Validation { status: ValidationStatus::Invalid, message: Some(details.join("; ")), at }
}

/// One half of the report: what [`map::map`] says is what a failover does.
fn purpose_report(known: &Known, placement: &Placement<'_>, mut warnings: Vec<MappingWarning>) -> PurposeReport {
    warnings.extend(strays(known, placement.purpose));
    match map::map(placement) {
        Ok(nics) => PurposeReport { ready: true, nics, problems: Vec::new(), warnings },
        Err(problems) => PurposeReport { ready: false, nics: Vec::new(), problems, warnings },
    }
}

/// Mappings whose cards the VM has no more.
fn strays(known: &Known, purpose: FailoverType) -> impl Iterator<Item = MappingWarning> {
    let is_test = purpose == FailoverType::Test;
    let vm = &known.vm.vm_name;
    let has_card = |row: &NetworkMapping| known.nics.iter().any(|nic| canonical(&nic.mac_address) == row.source_mac);
    let strays = known.rows.iter().filter(move |row| row.is_test_network == is_test && !has_card(row));
    strays.map(move |row| MappingWarning {
        code: "mapping_without_card".to_owned(),
        source_mac: row.source_mac.clone(),
        message: format!("{vm} has no network card with the MAC address {} any more", row.source_mac),
        remedy: format!("migratekit network unmap {vm} --mac {} --for {purpose}", row.source_mac),
    })
}
