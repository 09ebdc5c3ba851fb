//! Lists of what never changes, and of accounts.

use super::super::catalogue::{Account, HOST_NAME, POOL_NAME};
use super::super::json::Object;
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::views::{catalogue as view, limits};
use super::super::world::{Caller, World};
use super::{Answer, check_zone, paged, passes};

/// Values of `templatefilter`.
const TEMPLATE_FILTERS: [&str; 7] =
    ["all", "featured", "self", "selfexecutable", "sharedexecutable", "executable", "community"];

pub(super) fn zones(world: &World, caller: &Caller, params: &Params) -> Answer {
    let zones = world.catalogue.zones().into_iter().filter(|(id, name)| passes(params, id, name));
    let rows = zones.map(|(id, name)| view::zone(caller, &id, name)).collect();
    paged(world, params, "zone", rows)
}

pub(super) fn capabilities(world: &World) -> Answer {
    Ok(Object::new().put("capability", view::capabilities(world)))
}

pub(super) fn domains(world: &World, params: &Params) -> Answer {
    let shown = passes(params, &world.catalogue.domain_id, super::super::catalogue::DOMAIN_NAME);
    let rows = if shown { vec![limits::domain(world)] } else { Vec::new() };
    paged(world, params, "domain", rows)
}

pub(super) fn accounts(world: &World, caller: &Caller, params: &Params) -> Answer {
    let rows = visible_accounts(world, caller, params, |account| &account.id)
        .into_iter()
        .map(|account| limits::account(world, account))
        .collect();
    paged(world, params, "account", rows)
}

pub(super) fn users(world: &World, caller: &Caller, params: &Params) -> Answer {
    let rows = visible_accounts(world, caller, params, |account| &account.user_id)
        .into_iter()
        .filter(|account| params.text("username").is_none_or(|name| name == account.name))
        .map(|account| limits::user(world, account))
        .collect();
    paged(world, params, "user", rows)
}

fn visible_accounts<'a>(
    world: &'a World,
    caller: &Caller,
    params: &Params,
    id: impl Fn(&Account) -> &str,
) -> Vec<&'a Account> {
    world
        .catalogue
        .accounts
        .iter()
        .filter(|account| world.lists(caller, params, &account.id))
        .filter(|account| passes(params, id(account), &account.name))
        .collect()
}

pub(super) fn resource_limits(world: &World, caller: &Caller, params: &Params) -> Answer {
    let owner_id = world.owner_of_new(caller, params)?;
    let account = world.account(&owner_id).ok_or_else(|| params.no_such("account"))?;
    let mut rows = limits::resource_limits(world, account);
    if let Some(wanted) = params.integer("resourcetype")? {
        let wanted = wanted.to_string();
        rows.retain(|row| row.text("resourcetype") == Some(wanted.as_str()));
    }
    paged(world, params, "resourcelimit", rows)
}

pub(super) fn service_offerings(world: &World, params: &Params) -> Answer {
    check_zone(world, params)?;
    let offerings = &world.catalogue.service_offerings;
    let rows = offerings
        .iter()
        .filter(|offering| passes(params, &offering.id, offering.name))
        .map(view::service_offering)
        .collect();
    paged(world, params, "serviceoffering", rows)
}

pub(super) fn disk_offerings(world: &World, params: &Params) -> Answer {
    check_zone(world, params)?;
    let offerings = &world.catalogue.disk_offerings;
    let rows = offerings
        .iter()
        .filter(|offering| passes(params, &offering.id, offering.name))
        .map(view::disk_offering)
        .collect();
    paged(world, params, "diskoffering", rows)
}

pub(super) fn templates(world: &World, params: &Params) -> Answer {
    check_zone(world, params)?;
    let filter = params.required("templatefilter")?;
    if !TEMPLATE_FILTERS.contains(&filter) {
        return Err(Refusal::bad_value(params.command(), "templatefilter", filter));
    }
    let rows = world
        .catalogue
        .templates
        .iter()
        .filter(|template| filter != "community" && passes(params, &template.id, template.name))
        .filter(|_| params.text("hypervisor").is_none_or(|wanted| wanted.eq_ignore_ascii_case("KVM")))
        .map(|template| view::template(world, template))
        .collect();
    paged(world, params, "template", rows)
}

pub(super) fn networks(world: &World, caller: &Caller, params: &Params) -> Answer {
    let zone_id = params.text("zoneid");
    if zone_id.is_some_and(|wanted| world.catalogue.zones().iter().all(|(id, _)| id != wanted)) {
        return Err(params.no_such("zoneid"));
    }
    let rows = world
        .catalogue
        .networks
        .iter()
        .filter(|network| passes(params, &network.id, &network.name))
        .filter(|network| zone_id.is_none_or(|wanted| world.catalogue.zone_of(network).0 == wanted))
        .filter(|network| params.flag("canusefordeploy").is_none_or(|wanted| wanted == network.can_be_used))
        .filter(|network| params.text("type").is_none_or(|wanted| wanted.eq_ignore_ascii_case(network.network_type)))
        .map(|network| view::network(world, caller, network))
        .collect();
    paged(world, params, "network", rows)
}

pub(super) fn network_offerings(world: &World, params: &Params) -> Answer {
    let rows: Vec<Object> = world
        .catalogue
        .networks
        .iter()
        .filter(|network| {
            params.text("guestiptype").is_none_or(|wanted| wanted.eq_ignore_ascii_case(network.network_type))
        })
        .map(view::network_offering)
        .filter(|row| passes(params, row.text("id").unwrap_or_default(), row.text("name").unwrap_or_default()))
        .collect();
    paged(world, params, "networkoffering", rows)
}

pub(super) fn os_types(world: &World, params: &Params) -> Answer {
    let described = |name: &str| params.text("description").is_none_or(|wanted| wanted == name);
    let rows = world
        .catalogue
        .os_types
        .iter()
        .filter(|(id, name)| passes(params, id, name) && described(name))
        .map(|(id, name)| view::os_type(id, name))
        .collect();
    paged(world, params, "ostype", rows)
}

pub(super) fn hosts(world: &World, caller: &Caller, params: &Params) -> Answer {
    only_root_admins(caller, params)?;
    let routing = params.text("type").is_none_or(|wanted| wanted.eq_ignore_ascii_case("Routing"));
    let shown = routing && passes(params, &world.catalogue.host_id, HOST_NAME);
    paged(world, params, "host", if shown { vec![view::host(world)] } else { Vec::new() })
}

pub(super) fn storage_pools(world: &World, caller: &Caller, params: &Params) -> Answer {
    only_root_admins(caller, params)?;
    let shown = passes(params, &world.catalogue.pool_id, POOL_NAME);
    paged(world, params, "storagepool", if shown { vec![view::storage_pool(world)] } else { Vec::new() })
}

/// A plain user's role does not hold these commands: the server answers 401.
fn only_root_admins(caller: &Caller, params: &Params) -> Result<(), Refusal> {
    if caller.root_admin { Ok(()) } else { Err(Refusal::outside_role(params.command())) }
}
