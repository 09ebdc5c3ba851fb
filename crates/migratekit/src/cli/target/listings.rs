//! `migratekit target networks|zones|offerings|templates`: what a target offers, read now.

use api::Client;
use api::oma::target_listings::{DiskOfferingView, Listing, NetworkView, ServiceOfferingView, TemplateView, ZoneView};
use clap::Args;
use model::size::human_bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::failure::Failure;
use crate::cli::hub::{Context, escape};
use crate::cli::output::{or_dash, show, table, yes_no};

/// Which target.
#[derive(Args)]
pub struct ListingArgs {
    /// Name or id; the active one otherwise.
    target: Option<String>,
}

async fn listing<T: DeserializeOwned>(client: &Client, what: &str, args: &ListingArgs) -> Result<Listing<T>, Failure> {
    let query = args.target.as_deref().map(|target| format!("?target={}", escape(target))).unwrap_or_default();
    Ok(client.get(&format!("/api/v1/target/{what}{query}")).await?)
}

/// The networks.
///
/// # Errors
/// The hub's or the target's problem.
pub async fn networks(context: &Context, client: &Client, args: &ListingArgs) -> Result<(), Failure> {
    let listing: Listing<NetworkView> = listing(client, "networks", args).await?;
    show(context.output, &listing, |listing| {
        let row = |network: &NetworkView| {
            [
                network.name.clone(),
                or_dash(network.network_type.as_deref()),
                or_dash(network.cidr.as_deref()),
                yes_no(network.usable_for_deploy && network.in_targets_zone),
                or_dash(network.zone_name.as_deref()),
                or_dash(network.state.as_deref()),
                or_dash(network.account.as_deref()),
                network.id.clone(),
            ]
        };
        let head = ["NAME", "TYPE", "RANGE", "USABLE", "ZONE", "STATE", "ACCOUNT", "ID"];
        table(head, listing.items.iter().map(row))
    })
}

/// The zones.
///
/// # Errors
/// The hub's or the target's problem.
pub async fn zones(context: &Context, client: &Client, args: &ListingArgs) -> Result<(), Failure> {
    let listing: Listing<ZoneView> = listing(client, "zones", args).await?;
    show(context.output, &listing, |listing| {
        let row = |zone: &ZoneView| {
            [
                zone.name.clone(),
                or_dash(zone.network_type.as_deref()),
                yes_no(zone.enabled),
                yes_no(zone.is_targets),
                zone.id.clone(),
            ]
        };
        table(["NAME", "TYPE", "ENABLED", "TARGET'S", "ID"], listing.items.iter().map(row))
    })
}

/// Both kinds of offerings.
#[derive(Serialize)]
struct Offerings {
    service_offerings: Listing<ServiceOfferingView>,
    disk_offerings: Listing<DiskOfferingView>,
}

/// The compute and disk offerings.
///
/// # Errors
/// The hub's or the target's problem.
pub async fn offerings(context: &Context, client: &Client, args: &ListingArgs) -> Result<(), Failure> {
    let offerings = Offerings {
        service_offerings: listing(client, "service-offerings", args).await?,
        disk_offerings: listing(client, "disk-offerings", args).await?,
    };
    show(context.output, &offerings, |offerings| {
        let compute = table(
            ["NAME", "CPU", "MEMORY", "ACTIVE", "ID"],
            offerings.service_offerings.items.iter().map(|offering| {
                [
                    offering.name.clone(),
                    amount(offering.cpu_count, offering.min_cpu_count, offering.max_cpu_count, |cpus| cpus.to_string()),
                    amount(offering.memory_mib, offering.min_memory_mib, offering.max_memory_mib, |mib| {
                        human_bytes(mib << 20)
                    }),
                    yes_no(offering.active),
                    offering.id.clone(),
                ]
            }),
        );
        let disk = table(
            ["NAME", "SIZE", "FOR REPLICAS", "STORAGE", "PROVISIONING", "TAGS", "ID"],
            offerings.disk_offerings.items.iter().map(|offering| {
                [
                    offering.name.clone(),
                    offering.size_gib.map_or_else(|| "any".to_owned(), |gib| human_bytes(gib << 30)),
                    yes_no(offering.takes_any_size),
                    or_dash(offering.storage_type.as_deref()),
                    or_dash(offering.provisioning_type.as_deref()),
                    or_dash(offering.storage_tags.as_deref()),
                    offering.id.clone(),
                ]
            }),
        );
        format!("Service offerings\n{compute}\n\nDisk offerings\n{disk}")
    })
}

/// A fixed amount, or the range in which it is chosen.
fn amount(fixed: Option<u64>, least: Option<u64>, most: Option<u64>, text: impl Fn(u64) -> String) -> String {
    match (fixed, least, most) {
        (Some(fixed), _, _) => text(fixed),
        (None, Some(least), Some(most)) => format!("{} to {}", text(least), text(most)),
        (None, Some(least), None) => format!("from {}", text(least)),
        (None, None, Some(most)) => format!("to {}", text(most)),
        (None, None, None) => "any".to_owned(),
    }
}

/// The templates.
///
/// # Errors
/// The hub's or the target's problem.
pub async fn templates(context: &Context, client: &Client, args: &ListingArgs) -> Result<(), Failure> {
    let listing: Listing<TemplateView> = listing(client, "templates", args).await?;
    show(context.output, &listing, |listing| {
        let row = |template: &TemplateView| {
            [
                template.name.clone(),
                or_dash(template.os_type_name.as_deref()),
                or_dash(template.hypervisor.as_deref()),
                or_dash(template.format.as_deref()),
                template.size_bytes.map_or_else(|| "-".to_owned(), human_bytes),
                yes_no(template.ready),
                template.id.clone(),
            ]
        };
        table(["NAME", "OS", "HYPERVISOR", "FORMAT", "SIZE", "READY", "ID"], listing.items.iter().map(row))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_fixed_or_a_range() {
        let text = |fixed, least, most| amount(fixed, least, most, |number| number.to_string());
        assert_eq!(text(Some(2), None, None), "2");
        assert_eq!(text(None, Some(1), Some(16)), "1 to 16");
        assert_eq!(text(None, Some(1), None), "from 1");
        assert_eq!(text(None, None, Some(16)), "to 16");
        assert_eq!(text(None, None, None), "any");
    }
}
