//! `/network-mappings`: which network of the target each network card of a VM goes to, live and test apart.

use model::status::{MappingType, NicStrategy, ValidationStatus};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::problem::Problem;

/// Query of `GET /api/v1/network-mappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MappingQuery {
    /// The VM: name or context id.
    pub vm: String,
}

/// `GET /api/v1/network-mappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappingList {
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
    /// Its network cards when it was last discovered, in its order.
    pub nics: Vec<NicView>,
    /// Its mappings, by MAC address, live before test.
    pub items: Vec<MappingView>,
}

/// A network card of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NicView {
    /// `Network adapter 1`.
    pub label: String,
    /// MAC address, lower case with colons.
    pub source_mac: String,
    /// Network it is on.
    pub source_network: String,
    /// Whether it is connected.
    pub connected: bool,
}

/// Where one network card goes, in live or in test failovers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappingView {
    /// Row id; none while the mapping is only planned.
    pub id: Option<String>,
    /// MAC address of the card, lower case with colons.
    pub source_mac: String,
    /// Network the card was on when the mapping was made.
    pub source_network_name: String,
    /// CloudStack's id of the network.
    pub destination_network_id: String,
    /// Its name when it was looked at.
    pub destination_network_name: String,
    /// The side: test failovers, or live ones.
    pub is_test_network: bool,
    /// Whether it was made for one side or for both together.
    pub mapping_type: MappingType,
    /// How the card is carried over.
    pub strategy: NicStrategy,
    /// The IP address it gets, with `keep_ip`.
    pub ip_address: Option<String>,
    /// Whether it could be used when it was last looked at.
    pub validation_status: ValidationStatus,
    /// Why not.
    pub validation_message: Option<String>,
    /// When the network was looked at last.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_validated: Option<OffsetDateTime>,
}

/// `PUT /api/v1/network-mappings`: names one card by its MAC address, or every card on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMapping {
    /// The VM: name or context id.
    pub vm: String,
    /// MAC address of the card.
    #[serde(default)]
    pub source_mac: Option<String>,
    /// Instead of a MAC address: every card of the VM on this network.
    #[serde(default)]
    pub source_network_name: Option<String>,
    /// The network in CloudStack: id or name.
    pub destination_network: String,
    /// For live failovers, test failovers, or both.
    pub mapping_type: MappingType,
    /// How the card is carried over; `keep_mac` in live failovers and `new_mac` in tests when absent.
    #[serde(default)]
    pub strategy: Option<NicStrategy>,
    /// The IP address; only with `keep_ip`.
    #[serde(default)]
    pub ip_address: Option<String>,
}

/// What `PUT /api/v1/network-mappings` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappingChange {
    /// Whether it was stored; not with `dry_run`.
    pub stored: bool,
    /// The mappings that were, or would be, made or replaced.
    pub mappings: Vec<MappingView>,
    /// What is worth knowing about them.
    pub warnings: Vec<MappingWarning>,
}

/// `POST /api/v1/network-mappings/validate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateMappings {
    /// The VM: name or context id.
    pub vm: String,
}

/// Whether the network cards of a VM can be carried over, for each kind of failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkReport {
    /// The VM.
    pub vm_context_id: String,
    /// Its name.
    pub vm_name: String,
    /// Its mappings with what was found now.
    pub items: Vec<MappingView>,
    /// In a live failover.
    pub live: PurposeReport,
    /// In a test.
    pub test: PurposeReport,
}

/// One half of a [`NetworkReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeReport {
    /// Whether every card has its place.
    pub ready: bool,
    /// The cards in the VM's order as they would be made; empty unless all can be.
    pub nics: Vec<MappedNic>,
    /// Everything that stands against it.
    pub problems: Vec<Problem>,
    /// What is worth knowing; none of it stands against it.
    pub warnings: Vec<MappingWarning>,
}

/// A network card as it is made in the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappedNic {
    /// `Network adapter 1`.
    pub label: String,
    /// MAC address in the source, lower case with colons.
    pub source_mac: String,
    /// Network it is on in the source.
    pub source_network: String,
    /// CloudStack's id of the network it goes to.
    pub network_id: String,
    /// That network's name.
    pub network_name: String,
    /// The MAC address it is made with; CloudStack chooses when absent.
    pub mac: Option<String>,
    /// The IP address it is made with; the network chooses when absent.
    pub ip: Option<String>,
    /// Whether it is the VM's default card, which is the first one.
    pub is_default: bool,
}

/// Something about a mapping that stands against nothing, but should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MappingWarning {
    /// Stable name.
    pub code: String,
    /// MAC address of the card.
    pub source_mac: String,
    /// What was seen; names the card.
    pub message: String,
    /// What can be done.
    pub remedy: String,
}
