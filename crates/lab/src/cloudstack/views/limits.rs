//! Accounts, users, the domain and their limits: the answers whose numbers are strings.

use super::super::catalogue::{Account, DOMAIN_NAME, SET_UP};
use super::super::json::{Json, Object};
use super::super::rules::GIB_BYTES;
use super::super::world::World;
use super::date;

/// Resource types by number, as listResourceLimits names them.
const RESOURCE_TYPES: [&str; 12] = [
    "user_vm",
    "public_ip",
    "volume",
    "snapshot",
    "template",
    "project",
    "network",
    "vpc",
    "cpu",
    "memory",
    "primary_storage",
    "secondary_storage",
];
/// Number of the volume limit among them.
const VOLUME_TYPE: usize = 2;

/// The only domain.
pub(crate) fn domain(world: &World) -> Object {
    Object::new()
        .put("id", &world.catalogue.domain_id)
        .put("name", DOMAIN_NAME)
        .put("level", 0_u32)
        .put("haschild", false)
        .put("path", DOMAIN_NAME)
        .put("state", "Active")
        .put("created", date(SET_UP))
        .merge(totals(world, None))
        .put("tags", Vec::<Json>::new())
        .put("hasannotations", false)
}

/// An account with its user.
pub(crate) fn account(world: &World, account: &Account) -> Object {
    Object::new()
        .put("id", &account.id)
        .put("name", &account.name)
        .put("accounttype", u32::from(account.root_admin))
        .put("roletype", role(account).0)
        .put("rolename", role(account).1)
        .put("domainid", &world.catalogue.domain_id)
        .put("domain", DOMAIN_NAME)
        .put("domainpath", DOMAIN_NAME)
        .merge(totals(world, Some(account)))
        .put("state", "enabled")
        .put("created", date(SET_UP))
        .put("user", vec![user(world, account)])
        .put("isdefault", account.root_admin)
        .put("groups", Vec::<Json>::new())
        .put("hasannotations", false)
}

/// A user; its secret key is never shown.
pub(crate) fn user(world: &World, account: &Account) -> Object {
    Object::new()
        .put("id", &account.user_id)
        .put("username", &account.name)
        .put("firstname", &account.name)
        .put("lastname", "user")
        .put("email", format!("{}@lab.invalid", account.name))
        .put("created", date(SET_UP))
        .put("state", "enabled")
        .put("account", &account.name)
        .put("accounttype", u32::from(account.root_admin))
        .put("usersource", "native")
        .put("roletype", role(account).0)
        .put("rolename", role(account).1)
        .put("domainid", &world.catalogue.domain_id)
        .put("domain", DOMAIN_NAME)
        .put("apikey", &account.api_key)
        .put("accountid", &account.id)
        .put("iscallerchilddomain", false)
        .put("isdefault", account.root_admin)
        .put("is2faenabled", false)
        .put("is2famandated", false)
}

/// The rows of listResourceLimits for one account.
pub(crate) fn resource_limits(world: &World, account: &Account) -> Vec<Object> {
    RESOURCE_TYPES
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let max = match world.config.limits.volumes_per_account {
                Some(limit) if number == VOLUME_TYPE => i64::try_from(limit).unwrap_or(i64::MAX),
                _ => -1,
            };
            Object::new()
                .put("account", &account.name)
                .put("domainid", &world.catalogue.domain_id)
                .put("domain", DOMAIN_NAME)
                .put("resourcetype", number.to_string())
                .put("resourcetypename", *name)
                .put("max", max)
        })
        .collect()
}

fn role(account: &Account) -> (&'static str, &'static str) {
    if account.root_admin { ("Admin", "Root Admin") } else { ("User", "User") }
}

/// Limits are strings, totals are numbers.
fn totals(world: &World, account: Option<&Account>) -> Object {
    let owned = |owner: &str| account.is_none_or(|account| account.id == owner);
    let volumes: Vec<u64> = world
        .inventory
        .volumes
        .iter()
        .filter(|volume| owned(&volume.account_id))
        .map(|volume| volume.size_bytes)
        .collect();
    let vms = world.inventory.vms.iter().filter(|vm| owned(&vm.account_id)).count();
    let volume_limit = account.and(world.config.limits.volumes_per_account);
    let limit = volume_limit.map_or("Unlimited".to_owned(), |limit| limit.to_string());
    let available =
        volume_limit.map_or("Unlimited".to_owned(), |limit| limit.saturating_sub(volumes.len() as u64).to_string());
    Object::new()
        .put("vmlimit", "Unlimited")
        .put("vmtotal", vms)
        .put("vmavailable", "Unlimited")
        .put("volumelimit", limit)
        .put("volumetotal", volumes.len())
        .put("volumeavailable", available)
        .put("primarystoragelimit", "-1")
        .put("primarystoragetotal", volumes.iter().sum::<u64>() / GIB_BYTES)
        .put("primarystorageavailable", "-1")
        .put("secondarystoragelimit", "-1")
        .put("secondarystoragetotal", 0_u32)
        .put("secondarystorageavailable", "-1.0")
}
