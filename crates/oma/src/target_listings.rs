//! What a target offers, listed for an operator who has to choose. Reads only; stores nothing.

use api::Problem;
use api::oma::target_listings::{DiskOfferingView, Listing, NetworkView, ServiceOfferingView, TemplateView, ZoneView};
use cloudstack::{
    Client, DiskOffering, Network, NetworkQuery, OfferingQuery, ServiceOffering, Template, TemplateQuery, Zone,
};
use model::FailureKind;
use store::ossea_configs::OsseaConfig;

use crate::error::OmaError;
use crate::networks::target::zone_of;
use crate::state::OmaState;
use crate::targets;

/// Most rows in one answer: more than that nobody reads, and a program should ask CloudStack itself.
const MAX_ROWS: usize = 10_000;

/// The zones.
///
/// # Errors
/// There is no such target, or it does not answer.
pub(crate) async fn zones(state: &OmaState, target: Option<&str>) -> Result<Listing<ZoneView>, OmaError> {
    let (row, client) = opened(state, target).await?;
    let zones = targets::read(&row, client.list_zones()).await?;
    let view = |zone: Zone| ZoneView {
        enabled: zone.is_enabled(),
        is_targets: zone.is_called(&row.zone),
        id: zone.id,
        name: zone.name,
        network_type: zone.network_type,
    };
    listing(&row, zones.into_iter().map(view).collect())
}

/// The networks, those of other zones among them.
///
/// # Errors
/// There is no such target, or it does not answer.
pub(crate) async fn networks(state: &OmaState, target: Option<&str>) -> Result<Listing<NetworkView>, OmaError> {
    let (row, client) = opened(state, target).await?;
    let query = NetworkQuery::default();
    let found = targets::read(&row, async { tokio::try_join!(client.list_zones(), client.list_networks(&query)) });
    let (zones, networks) = found.await?;
    let zone = zone_of(&row, zones)?;
    let view = |network: Network| NetworkView {
        in_targets_zone: network.zone_id.as_ref().is_some_and(|id| *id == zone.id),
        id: network.id,
        name: network.name,
        network_type: network.network_type,
        state: network.state,
        zone_name: network.zone_name,
        cidr: network.cidr,
        gateway: network.gateway,
        vlan: network.vlan,
        account: network.account,
        vpc_id: network.vpc_id,
        usable_for_deploy: network.usable_for_deploy,
    };
    listing(&row, networks.into_iter().map(view).collect())
}

/// The compute offerings usable in the target's zone.
///
/// # Errors
/// There is no such target, or it does not answer.
pub(crate) async fn service_offerings(
    state: &OmaState,
    target: Option<&str>,
) -> Result<Listing<ServiceOfferingView>, OmaError> {
    let (row, client, zone) = opened_in_zone(state, target).await?;
    let query = OfferingQuery { zone_id: Some(zone.id), ..OfferingQuery::default() };
    let offerings = targets::read(&row, client.list_service_offerings(&query)).await?;
    listing(&row, offerings.into_iter().map(service_offering).collect())
}

fn service_offering(offering: ServiceOffering) -> ServiceOfferingView {
    let bound = |name: &str| offering.bounds.get(name).and_then(|text| text.parse().ok());
    ServiceOfferingView {
        active: offering.is_active(),
        min_cpu_count: bound("mincpunumber"),
        max_cpu_count: bound("maxcpunumber"),
        min_memory_mib: bound("minmemory"),
        max_memory_mib: bound("maxmemory"),
        id: offering.id,
        name: offering.name,
        customised: offering.is_customized,
        cpu_count: offering.cpu_count,
        cpu_speed_mhz: offering.cpu_speed_mhz,
        memory_mib: offering.memory_mib,
    }
}

/// The disk offerings usable in the target's zone.
///
/// # Errors
/// There is no such target, or it does not answer.
pub(crate) async fn disk_offerings(
    state: &OmaState,
    target: Option<&str>,
) -> Result<Listing<DiskOfferingView>, OmaError> {
    let (row, client, zone) = opened_in_zone(state, target).await?;
    let query = OfferingQuery { zone_id: Some(zone.id.clone()), ..OfferingQuery::default() };
    let offerings = targets::read(&row, client.list_disk_offerings(&query)).await?;
    let view = |offering: DiskOffering| DiskOfferingView {
        takes_any_size: offering.takes_any_size(Some(&zone.id)),
        size_gib: offering.size_gib.filter(|_| !offering.is_customized),
        id: offering.id,
        name: offering.name,
        storage_type: offering.storage_type,
        provisioning_type: offering.provisioning_type,
        storage_tags: offering.storage_tags,
    };
    listing(&row, offerings.into_iter().map(view).collect())
}

/// The templates VMs can be deployed from in the target's zone.
///
/// # Errors
/// There is no such target, or it does not answer.
pub(crate) async fn templates(state: &OmaState, target: Option<&str>) -> Result<Listing<TemplateView>, OmaError> {
    let (row, client, zone) = opened_in_zone(state, target).await?;
    let query = TemplateQuery { zone_id: Some(zone.id), ..TemplateQuery::default() };
    let templates = targets::read(&row, client.list_templates(&query)).await?;
    let view = |template: Template| TemplateView {
        id: template.id,
        name: template.name,
        ready: template.is_ready,
        hypervisor: template.hypervisor,
        format: template.format,
        size_bytes: template.size_bytes,
        os_type_name: template.os_type_name,
    };
    listing(&row, templates.into_iter().map(view).collect())
}

async fn opened(state: &OmaState, target: Option<&str>) -> Result<(OsseaConfig, Client), OmaError> {
    let row = targets::named(state, target).await?;
    let client = targets::client(state, &row)?;
    Ok((row, client))
}

async fn opened_in_zone(state: &OmaState, target: Option<&str>) -> Result<(OsseaConfig, Client, Zone), OmaError> {
    let (row, client) = opened(state, target).await?;
    let zones = targets::read::<Vec<Zone>>(&row, client.list_zones()).await?;
    let zone = zone_of(&row, zones)?;
    Ok((row, client, zone))
}

/// The whole answer, or none: a list that was cut would say that something does not exist.
fn listing<T>(row: &OsseaConfig, items: Vec<T>) -> Result<Listing<T>, OmaError> {
    if items.len() > MAX_ROWS {
        let detail = format!("the target {} lists {} rows, at most {MAX_ROWS} are shown", row.name, items.len());
        let problem = Problem::new(FailureKind::Exhausted, detail);
        return Err(problem.remedy("use the keys of an account that sees fewer, or ask CloudStack itself").into());
    }
    Ok(Listing { target: row.name.clone(), items })
}
