//! Mappings and network cards as the API shows them.

use api::oma::networks::{MappingView, NicView};
use api::vma::SourceNic;
use model::status::{MappingType, NicStrategy, ValidationStatus};
use store::network_mappings::NetworkMapping;

use super::map::{NicMapping, canonical};

/// A stored mapping.
pub(super) fn mapping(row: NetworkMapping) -> MappingView {
    MappingView {
        id: Some(row.id),
        source_mac: row.source_mac,
        source_network_name: row.source_network_name,
        destination_network_id: row.destination_network_id,
        destination_network_name: row.destination_network_name,
        is_test_network: row.is_test_network,
        mapping_type: *row.mapping_type,
        strategy: *row.strategy,
        ip_address: row.ip_address,
        validation_status: *row.validation_status,
        validation_message: row.validation_message,
        last_validated: row.last_validated.map(|at| *at),
    }
}

/// A mapping of one of `cards` that could be used and is not stored.
pub(super) fn planned(mapping: &NicMapping, mapping_type: MappingType, cards: &[&SourceNic]) -> MappingView {
    let card = cards.iter().find(|nic| canonical(&nic.mac_address) == mapping.source_mac);
    MappingView {
        id: None,
        source_mac: mapping.source_mac.clone(),
        source_network_name: card.map(|nic| nic.network_name.clone()).unwrap_or_default(),
        destination_network_id: mapping.network_id.clone(),
        destination_network_name: mapping.network_name.clone(),
        is_test_network: mapping.is_test_network,
        mapping_type,
        strategy: mapping.strategy.unwrap_or(NicStrategy::KeepMac),
        ip_address: mapping.ip_address.clone(),
        validation_status: ValidationStatus::Valid,
        validation_message: None,
        last_validated: None,
    }
}

/// A network card of the source.
pub(super) fn nic(nic: SourceNic) -> NicView {
    NicView {
        source_mac: canonical(&nic.mac_address),
        label: nic.label,
        source_network: nic.network_name,
        connected: nic.connected,
    }
}
