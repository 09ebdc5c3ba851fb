//! How entities look in answers: field sets and order of CloudStack 4.22.
//!
//! Reads the world, changes nothing.

pub(crate) mod catalogue;
pub(crate) mod job;
pub(crate) mod limits;
pub(crate) mod snapshots;
pub(crate) mod vm;
pub(crate) mod volume;

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::macros::format_description;

use super::json::{Json, Object};
use super::world::World;

/// A moment as CloudStack prints it: no colon in the offset.
pub(crate) fn date(seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]+0000");
    OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|moment| moment.format(&format).ok()).unwrap_or_default()
}

/// `account`, `domainid`, `domain`, `domainpath` of an owner.
pub(crate) fn owner(world: &World, account_id: &str) -> Object {
    let domain = super::catalogue::DOMAIN_NAME;
    Object::new()
        .maybe("account", world.catalogue.account(account_id).map(|account| &account.name))
        .put("domainid", &world.catalogue.domain_id)
        .put("domain", domain)
        .put("domainpath", domain)
}

/// The `tags` array of an entity.
pub(crate) fn tags(
    world: &World,
    account_id: &str,
    resource_type: &str,
    resource_id: &str,
    tags: &BTreeMap<String, String>,
) -> Vec<Json> {
    tags.iter()
        .map(|(key, value)| {
            Object::new()
                .put("key", key)
                .put("value", value)
                .put("resourcetype", resource_type)
                .put("resourceid", resource_id)
                .merge(owner(world, account_id))
                .into()
        })
        .collect()
}

/// The closing fields: `hasannotations` and, while a job works on the entity, that job.
pub(crate) fn closing(world: &World, instance_id: &str) -> Object {
    let job = world.pending_job_of(instance_id);
    Object::new()
        .put("hasannotations", false)
        .maybe("jobid", job.map(|job| &job.id))
        .maybe("jobstatus", job.map(|job| job.status.number()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_have_no_colon_in_the_offset() {
        assert_eq!(super::date(1_714_558_272), "2024-05-01T10:11:12+0000");
    }
}
