//! createTags, listTags, deleteTags on volumes, VMs and both kinds of snapshot.

use std::collections::BTreeMap;

use super::super::entities::Inventory;
use super::super::jobs::Submission;
use super::super::json::{Json, Object};
use super::super::params::Params;
use super::super::refusal::Refusal;
use super::super::views;
use super::super::world::{Caller, World};
use super::{Answer, paged};

/// Resource types that carry tags here.
const RESOURCE_TYPES: [&str; 4] = ["Volume", "UserVm", "Snapshot", "VMSnapshot"];

fn resource_type(params: &Params) -> Result<&'static str, Refusal> {
    let wanted = params.required("resourcetype")?;
    RESOURCE_TYPES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(wanted))
        .ok_or_else(|| Refusal::invalid(format!("Invalid resource type: {wanted}")))
}

fn tags_of<'a>(inventory: &'a mut Inventory, kind: &str, id: &str) -> Option<&'a mut BTreeMap<String, String>> {
    match kind {
        "Volume" => inventory.volume_mut(id).map(|volume| &mut volume.tags),
        "UserVm" => inventory.vm_mut(id).map(|vm| &mut vm.tags),
        "Snapshot" => inventory.volume_snapshot_mut(id).map(|snapshot| &mut snapshot.tags),
        _ => inventory.vm_snapshot_mut(id).map(|snapshot| &mut snapshot.tags),
    }
}

fn owner_of<'a>(inventory: &'a Inventory, kind: &str, id: &str) -> Option<&'a str> {
    match kind {
        "Volume" => inventory.volume(id).map(|volume| volume.account_id.as_str()),
        "UserVm" => inventory.vm(id).map(|vm| vm.account_id.as_str()),
        "Snapshot" => inventory.volume_snapshot(id).map(|snapshot| snapshot.account_id.as_str()),
        _ => inventory.vm_snapshot(id).map(|snapshot| snapshot.account_id.as_str()),
    }
}

fn resources(world: &World, caller: &Caller, params: &Params, kind: &str) -> Result<Vec<String>, Refusal> {
    params.required("resourceids")?;
    let ids = params.list("resourceids");
    for id in &ids {
        let owner = owner_of(&world.inventory, kind, id)
            .ok_or_else(|| Refusal::invalid(format!("Unable to find resource by id {id} and type {kind}")))?;
        world.may_use(caller, owner, &format!("{kind}[{id}]"))?;
    }
    Ok(ids)
}

fn job(ids: Vec<String>, change: impl Fn(&mut World, &str) + Send + 'static) -> Submission {
    let queue = format!("tags-{}", ids.first().map_or("", String::as_str));
    let mut submission = Submission::new("None", "", &queue, move |world, _| {
        ids.iter().for_each(|id| change(world, id));
        Ok(Object::new().put("success", true))
    });
    submission.instance_id = None;
    submission
}

pub(super) fn create(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let kind = resource_type(params)?;
    let ids = resources(world, caller, params, kind)?;
    let pairs = params.tags();
    if pairs.is_empty() {
        return Err(Refusal::missing(params.command(), "tags"));
    }
    Ok(job(ids, move |world, id| {
        if let Some(tags) = tags_of(&mut world.inventory, kind, id) {
            tags.extend(pairs.iter().cloned().map(|(key, value)| (key, value.unwrap_or_default())));
        }
    }))
}

/// Without named tags all of the resource's go.
pub(super) fn delete(world: &World, caller: &Caller, params: &Params) -> Result<Submission, Refusal> {
    let kind = resource_type(params)?;
    let ids = resources(world, caller, params, kind)?;
    let pairs = params.tags();
    Ok(job(ids, move |world, id| {
        if let Some(tags) = tags_of(&mut world.inventory, kind, id) {
            tags.retain(|key, value| {
                let named = |(name, wanted): &(String, Option<String>)| {
                    name == key && wanted.as_ref().is_none_or(|wanted| wanted == value)
                };
                !(pairs.is_empty() || pairs.iter().any(named))
            });
        }
    }))
}

pub(super) fn list(world: &World, caller: &Caller, params: &Params) -> Answer {
    let wanted = params.text("resourcetype").map(|_| resource_type(params)).transpose()?;
    let same = |name: &str, row: &Object| params.text(name).is_none_or(|wanted| row.text(name) == Some(wanted));
    let mut rows: Vec<Object> = Vec::new();
    for kind in RESOURCE_TYPES.into_iter().filter(|kind| wanted.is_none_or(|wanted| wanted == *kind)) {
        for (id, owner, tags) in tagged(&world.inventory, kind) {
            if !world.lists(caller, params, owner) {
                continue;
            }
            rows.extend(views::tags(world, owner, kind, id, tags).into_iter().filter_map(|row| match row {
                Json::Object(row) => Some(row),
                _ => None,
            }));
        }
    }
    rows.retain(|row| same("resourceid", row) && same("key", row) && same("value", row));
    paged(world, params, "tag", rows)
}

type Tagged<'a> = (&'a str, &'a str, &'a BTreeMap<String, String>);

fn tagged<'a>(inventory: &'a Inventory, kind: &str) -> Vec<Tagged<'a>> {
    match kind {
        "Volume" => inventory.volumes.iter().map(|v| (v.id.as_str(), v.account_id.as_str(), &v.tags)).collect(),
        "UserVm" => inventory.vms.iter().map(|v| (v.id.as_str(), v.account_id.as_str(), &v.tags)).collect(),
        "Snapshot" => {
            inventory.volume_snapshots.iter().map(|s| (s.id.as_str(), s.account_id.as_str(), &s.tags)).collect()
        }
        _ => inventory.vm_snapshots.iter().map(|s| (s.id.as_str(), s.account_id.as_str(), &s.tags)).collect(),
    }
}
