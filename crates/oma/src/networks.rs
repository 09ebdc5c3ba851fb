//! Which network of the target each network card of a VM goes to: looked up, judged, stored.
//!
//! Read `map` (what is decided, and every reason against it), then `target` (what the target offers), then `set` and
//! `report` (what an operator changes and sees).

pub mod map;
pub(crate) mod report;
pub(crate) mod set;
pub(crate) mod target;
mod view;

use api::Problem;
use api::oma::networks::MappingView;
use api::vma::SourceNic;
use model::FailureKind;
use model::status::FailoverType;
use store::network_mappings::{self, NetworkMapping};
use store::vm_replication_contexts::VmContext;

use crate::error::OmaError;
use crate::state::OmaState;
use crate::targets;
use map::{NicMapping, Placement, TargetNetworks};

/// Everything that [`map::map`] decides from, looked up for one VM.
#[derive(Debug, Clone)]
pub struct Known {
    /// The VM.
    pub vm: VmContext,
    /// Its network cards, in its order.
    pub nics: Vec<SourceNic>,
    /// Its mappings as they are stored.
    pub rows: Vec<NetworkMapping>,
    /// What its target offers now.
    pub target: TargetNetworks,
}

/// Looks up what is known of a VM's network cards, and what its target offers.
///
/// # Errors
/// It has no target, or that does not answer; the database fails.
pub async fn look(state: &OmaState, vm: VmContext) -> Result<Known, OmaError> {
    let nics = source_nics(&vm)?;
    let rows = network_mappings::of_context(state.store(), &vm.context_id).await?;
    let (row, client) = targets::client_of(state, &vm).await?;
    let target = target::networks(&row, &client).await?;
    Ok(Known { vm, nics, rows, target })
}

impl Known {
    /// The stored mappings as they count for a decision.
    #[must_use]
    pub fn mappings(&self) -> Vec<NicMapping> {
        self.rows.iter().map(NicMapping::from).collect()
    }

    /// What is to be decided for one kind of failover with these mappings.
    #[must_use]
    pub fn placement<'a>(&'a self, purpose: FailoverType, mappings: &'a [NicMapping]) -> Placement<'a> {
        Placement { vm_name: &self.vm.vm_name, nics: &self.nics, mappings, purpose, target: &self.target }
    }
}

impl From<&NetworkMapping> for NicMapping {
    fn from(row: &NetworkMapping) -> Self {
        Self {
            source_mac: row.source_mac.clone(),
            network_id: row.destination_network_id.clone(),
            network_name: row.destination_network_name.clone(),
            is_test_network: row.is_test_network,
            strategy: Some(*row.strategy),
            ip_address: row.ip_address.clone(),
        }
    }
}

/// Deletes a mapping and answers with it.
///
/// # Errors
/// There is none with that id; the database fails.
pub(crate) async fn delete(state: &OmaState, mapping_id: &str) -> Result<MappingView, OmaError> {
    let deleted = network_mappings::delete(state.store(), mapping_id).await;
    deleted.map(view::mapping).map_err(|error| {
        let is_absent = error.kind() == FailureKind::NotFound;
        let problem = OmaError::from(error).into_problem();
        if is_absent {
            problem.remedy("`migratekit network list VM` shows those there are").into()
        } else {
            problem.into()
        }
    })
}

/// The network cards of a VM when it was last discovered, in its order.
///
/// # Errors
/// The row holds something else.
pub fn source_nics(vm: &VmContext) -> Result<Vec<SourceNic>, OmaError> {
    serde_json::from_value(vm.networks.clone()).map_err(|error| {
        Problem::new(FailureKind::Internal, format!("the network cards of {} cannot be read from its row", vm.vm_name))
            .cause(error.to_string())
            .remedy("refresh it: migratekit vm discover && migratekit vm add")
            .into()
    })
}
