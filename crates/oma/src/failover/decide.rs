//! What a failover would make, and everything that stands against it: `preflight` and `spec` together. Pure.

use api::Problem;
use api::oma::failovers::{DestinationVm, StartFailover};

use super::conversion::need::needs_conversion;
use super::facts::Facts;
use super::preflight::{Conversion, conversion, findings};
use super::spec::{Identity, spec};

/// The decision.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// The VM to be made; none while something about itself stands in its way.
    pub(crate) vm: Option<DestinationVm>,
    /// Whether the guest is converted.
    pub(crate) conversion: Conversion,
    /// Everything that stands against it.
    pub(crate) blockers: Vec<Problem>,
    /// What is worth knowing.
    pub(crate) warnings: Vec<String>,
}

/// Decides.
#[must_use]
pub(crate) fn decide(facts: &Facts, request: &StartFailover, identity: &Identity) -> Decision {
    let need = needs_conversion(&facts.vm.guest_id, &facts.vm.os_type);
    let conversion = conversion(request.guest_conversion, need);
    let found = findings(facts, request, &conversion);
    let mut blockers = found.blockers;
    let vm = spec(facts, request, &conversion, identity).map_err(|more| blockers.extend(more)).ok();
    Decision { vm, conversion, blockers, warnings: found.warnings }
}
