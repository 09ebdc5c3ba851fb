//! What a target offers: its zone and the networks its account sees.

use api::Problem;
use cloudstack::{Client, Network, NetworkQuery, Zone};
use model::FailureKind;
use store::ossea_configs::OsseaConfig;

use super::map::TargetNetworks;
use crate::error::OmaError;
use crate::targets;

/// The networks of a target, those of other zones among them: they can be named, and then it can be said what is wrong.
///
/// # Errors
/// The target does not answer or refuses; its zone does not exist.
pub async fn networks(row: &OsseaConfig, client: &Client) -> Result<TargetNetworks, OmaError> {
    let query = NetworkQuery::default();
    let (zones, networks) =
        targets::read(row, async { tokio::try_join!(client.list_zones(), client.list_networks(&query)) }).await?;
    let zone = zone_of(row, zones)?;
    Ok(TargetNetworks { zone_id: zone.id, zone_name: zone.name, networks })
}

/// The zone a target makes VMs in.
///
/// # Errors
/// The account does not see it.
pub fn zone_of(row: &OsseaConfig, zones: Vec<Zone>) -> Result<Zone, OmaError> {
    let names: Vec<String> = zones.iter().map(|zone| zone.name.clone()).collect();
    zones.into_iter().find(|zone| zone.is_called(&row.zone)).ok_or_else(|| {
        Problem::new(FailureKind::NotFound, format!("the target {} has no zone {:?}", row.name, row.zone))
            .evidence(format!("its account sees {}", names.join(", ")))
            .remedy(format!("correct the target's zone; `migratekit target validate {}` looks at everything", row.name))
            .into()
    })
}

/// The network an operator's text means: by id, else by name, in the target's zone before others.
///
/// # Errors
/// There is none, or several have the name.
pub fn network_called<'a>(target: &'a TargetNetworks, wanted: &str) -> Result<&'a Network, Problem> {
    if let Some(network) = target.networks.iter().find(|network| network.id.eq_ignore_ascii_case(wanted)) {
        return Ok(network);
    }
    let in_zone = |network: &&Network| network.zone_id.as_deref().is_none_or(|zone| zone == target.zone_id);
    let named: Vec<&Network> = target.networks.iter().filter(|network| network.name == wanted).collect();
    let near: Vec<&Network> = named.iter().copied().filter(in_zone).collect();
    match if near.is_empty() { named } else { near }.as_slice() {
        [network] => Ok(network),
        [] => Err(Problem::new(FailureKind::NotFound, format!("there is no network {wanted:?} in the target"))
            .remedy("`migratekit target networks` lists them; names are compared exactly")),
        several => {
            let ids: Vec<&str> = several.iter().map(|network| network.id.as_str()).collect();
            let detail = format!("{} networks of the target are called {wanted:?}", several.len());
            Err(Problem::new(FailureKind::Invalid, detail).evidence(ids.join(", ")).remedy("name one by its id"))
        }
    }
}
