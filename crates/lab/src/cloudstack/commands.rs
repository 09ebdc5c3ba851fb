//! The table of commands, and how parameters become entities.
//!
//! Each command lives in a file of its family; lists only read, the others answer at once or submit a job.

mod attachments;
mod catalogue;
mod deploy;
mod job_queries;
mod nics;
pub(crate) mod power;
mod tags;
mod vm_snapshots;
mod vms;
mod volume_snapshots;
mod volumes;

use std::collections::BTreeMap;

use super::entities::{Vm, VmSnapshot, Volume, VolumeSnapshot};
use super::jobs::Submission;
use super::json::Object;
use super::params::{Page, Params};
use super::refusal::Refusal;
use super::world::{Caller, World};

/// What a command leads to.
pub(crate) enum Reply {
    /// The content of the envelope.
    Now(Object),
    /// A job whose id is the answer.
    Job(Submission),
}

type Answer = Result<Object, Refusal>;

/// Carries out a command, or prepares its job.
pub(crate) fn carry_out(world: &mut World, caller: &Caller, params: &Params) -> Result<Reply, Refusal> {
    if let Some(answer) = list(world, caller, params) {
        return answer.map(Reply::Now);
    }
    if let Some(reply) = change_volume(world, caller, params) {
        return reply;
    }
    match params.command() {
        "queryAsyncJobResult" => job_queries::query(world, caller, params).map(Reply::Now),
        "deployVirtualMachine" => deploy::deploy(world, caller, params).map(Reply::Job),
        "startVirtualMachine" => power::start(world, caller, params).map(Reply::Job),
        "stopVirtualMachine" => power::stop(world, caller, params).map(Reply::Job),
        "rebootVirtualMachine" => power::reboot(world, caller, params).map(Reply::Job),
        "destroyVirtualMachine" => power::destroy(world, caller, params).map(Reply::Job),
        "updateVirtualMachine" => vms::update(world, caller, params).map(Reply::Now),
        "addNicToVirtualMachine" => nics::add(world, caller, params).map(Reply::Job),
        "createVMSnapshot" => vm_snapshots::create(world, caller, params).map(Reply::Job),
        "deleteVMSnapshot" => vm_snapshots::delete(world, caller, params).map(Reply::Job),
        "revertToVMSnapshot" => vm_snapshots::revert(world, caller, params).map(Reply::Job),
        "createTags" => tags::create(world, caller, params).map(Reply::Job),
        "deleteTags" => tags::delete(world, caller, params).map(Reply::Job),
        other => Err(Refusal::unknown_command(other)),
    }
}

fn change_volume(world: &mut World, caller: &Caller, params: &Params) -> Option<Result<Reply, Refusal>> {
    let reply = match params.command() {
        "createVolume" => volumes::create(world, caller, params).map(Reply::Job),
        "attachVolume" => attachments::attach(world, caller, params).map(Reply::Job),
        "detachVolume" => attachments::detach(world, caller, params).map(Reply::Job),
        "deleteVolume" => volumes::delete(world, caller, params).map(Reply::Now),
        "resizeVolume" => volumes::resize(world, caller, params).map(Reply::Job),
        "createSnapshot" => volume_snapshots::create(world, caller, params).map(Reply::Job),
        "revertSnapshot" => volume_snapshots::revert(world, caller, params).map(Reply::Job),
        "deleteSnapshot" => volume_snapshots::delete(world, caller, params).map(Reply::Job),
        _ => return None,
    };
    Some(reply)
}

/// The lists, apart so that they can also run over an older inventory.
pub(crate) fn list(world: &World, caller: &Caller, params: &Params) -> Option<Answer> {
    let answer = match params.command() {
        "listZones" => catalogue::zones(world, caller, params),
        "listCapabilities" => catalogue::capabilities(world),
        "listDomains" => catalogue::domains(world, params),
        "listAccounts" => catalogue::accounts(world, caller, params),
        "listUsers" => catalogue::users(world, caller, params),
        "listResourceLimits" => catalogue::resource_limits(world, caller, params),
        "listServiceOfferings" => catalogue::service_offerings(world, params),
        "listDiskOfferings" => catalogue::disk_offerings(world, params),
        "listTemplates" => catalogue::templates(world, params),
        "listNetworks" => catalogue::networks(world, caller, params),
        "listNetworkOfferings" => catalogue::network_offerings(world, params),
        "listOsTypes" => catalogue::os_types(world, params),
        "listHosts" => catalogue::hosts(world, caller, params),
        "listStoragePools" => catalogue::storage_pools(world, caller, params),
        "listVirtualMachines" => vms::list(world, caller, params, false),
        "listVirtualMachinesMetrics" => vms::list(world, caller, params, true),
        "listVolumes" | "listVolumesMetrics" => volumes::list(world, caller, params),
        "listSnapshots" => volume_snapshots::list(world, caller, params),
        "listVMSnapshot" => vm_snapshots::list(world, caller, params),
        "listTags" => tags::list(world, caller, params),
        "listAsyncJobs" => job_queries::list(world, caller, params),
        _ => return None,
    };
    Some(answer)
}

/// The rows of a list in its envelope.
fn paged(world: &World, params: &Params, key: &str, rows: Vec<Object>) -> Answer {
    Ok(Page::read(params, world.config.limits.page_size)?.envelope(key, rows))
}

/// Whether a row passes `id`, `ids`, `name` and `keyword`.
fn passes(params: &Params, id: &str, name: &str) -> bool {
    let ids = params.list("ids");
    let same = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
    let keyword_found =
        params.text("keyword").is_none_or(|keyword| name.to_lowercase().contains(&keyword.to_lowercase()));
    same(params.text("id"), id)
        && (ids.is_empty() || ids.iter().any(|wanted| wanted == id))
        && keyword_found
        && same(params.text("name"), name)
}

/// Whether a row carries every tag the list asks for; a tag without a value asks for the key alone.
fn carries(params: &Params, tags: &BTreeMap<String, String>) -> bool {
    let has = |(key, value): &(String, Option<String>)| {
        tags.get(key).is_some_and(|found| value.as_ref().is_none_or(|wanted| wanted == found))
    };
    params.tags().iter().all(has)
}

/// Refuses a zone that is not the only one; CloudStack answers 431 for unknown ids even in lists.
fn check_zone(world: &World, params: &Params) -> Result<(), Refusal> {
    match params.text("zoneid") {
        Some(zone_id) if zone_id != world.catalogue.zone_id => Err(params.no_such("zoneid")),
        _ => Ok(()),
    }
}

/// The volume a required parameter names, if the caller may use it.
fn volume_of<'a>(world: &'a World, caller: &Caller, params: &Params, name: &str) -> Result<&'a Volume, Refusal> {
    let volume = world.inventory.volume(params.required(name)?).ok_or_else(|| params.no_such(name))?;
    world.may_use(caller, &volume.account_id, &format!("Vol[{}|{}]", volume.id, volume.name))?;
    Ok(volume)
}

/// The VM a required parameter names, if the caller may use it.
fn vm_of<'a>(world: &'a World, caller: &Caller, params: &Params, name: &str) -> Result<&'a Vm, Refusal> {
    let vm = world.inventory.vm(params.required(name)?).ok_or_else(|| params.no_such(name))?;
    world.may_use(caller, &vm.account_id, &format!("VM[User|{}]", vm.instance_name))?;
    Ok(vm)
}

/// The volume snapshot a required parameter names, if the caller may use it.
fn volume_snapshot_of<'a>(
    world: &'a World,
    caller: &Caller,
    params: &Params,
    name: &str,
) -> Result<&'a VolumeSnapshot, Refusal> {
    let snapshot = world.inventory.volume_snapshot(params.required(name)?).ok_or_else(|| params.no_such(name))?;
    world.may_use(caller, &snapshot.account_id, &format!("Snapshot[{}]", snapshot.id))?;
    Ok(snapshot)
}

/// The VM snapshot a required parameter names, if the caller may use it.
fn vm_snapshot_of<'a>(
    world: &'a World,
    caller: &Caller,
    params: &Params,
    name: &str,
) -> Result<&'a VmSnapshot, Refusal> {
    let snapshot = world.inventory.vm_snapshot(params.required(name)?).ok_or_else(|| params.no_such(name))?;
    world.may_use(caller, &snapshot.account_id, &format!("VMSnapshot[{}]", snapshot.id))?;
    Ok(snapshot)
}

/// An entity that was there when its job was submitted and is gone when the job runs.
fn gone(what: &str, id: &str) -> Refusal {
    Refusal::invalid(format!("Unable to find {what} by id {id}"))
}
