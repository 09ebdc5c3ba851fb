//! Gathers what a failover is decided from: rows of the database, the target's offers, the agent's presence.

use std::path::PathBuf;

use api::Problem;
use api::oma::failovers::StartFailover;
use cloudstack::{Client, CloudstackError, NetworkQuery, OfferingQuery, TemplateFilter, TemplateQuery, VmQuery};
use model::FailureKind;
use model::status::{LinuxState, OperationMode, VolumeState};
use store::ossea_configs::OsseaConfig;
use store::vm_disks::{self, VmDisk};
use store::vm_replication_contexts::{self, VmContext};
use store::{device_mappings, failover_jobs, network_mappings, ossea_volumes};

use super::conversion;
use super::facts::{DiskFacts, Facts, TargetFacts, VmFacts, VolumeFacts};
use crate::error::OmaError;
use crate::networks::map::{NicMapping, TargetNetworks};
use crate::networks::source_nics;
use crate::state::OmaState;
use crate::{recovery_points, targets, unfinished};

/// Gathers the facts of a VM; `own` (ids of jobs) does not count as running.
pub(super) async fn gather(
    state: &OmaState,
    vm_context_id: &str,
    request: &StartFailover,
    own: &[&str],
) -> Result<Facts, OmaError> {
    let store = state.store();
    let vm = vm_replication_contexts::find(store, vm_context_id).await?;
    let unfinished = unfinished::job_of(state, &vm.context_id, own).await?;
    let running = unfinished.map(|job| job.external_job_id.unwrap_or(job.id)).or(vm.current_job_id.clone());
    let held_by = failover_jobs::holding(store, &vm.context_id).await?.map(|row| row.job_id);
    let mut disks = Vec::new();
    let mut rows = vm_disks::of_context(store, &vm.context_id).await?;
    rows.sort_by_key(device_key);
    for row in rows {
        disks.push(disk_facts(state, row).await?);
    }
    let is_other = |id: &String| !own.contains(&id.as_str());
    Ok(Facts {
        running_job: running.filter(is_other),
        held_by: held_by.filter(is_other),
        points: recovery_points::list(state, &vm.context_id).await?.points.into_iter().map(|point| point.id).collect(),
        disks,
        mappings: network_mappings::of_context(store, &vm.context_id).await?.iter().map(NicMapping::from).collect(),
        target: target(state, &vm, request).await?,
        has_conversion_tool: conversion::find_tool().is_some(),
        has_windows_drivers: conversion::find_windows_drivers().is_some(),
        vm: vm_facts(state, &vm)?,
    })
}

/// VMware's device key: the VM's order of its disks.
fn device_key(row: &VmDisk) -> (u64, String) {
    let key = row.disk_id.rsplit('-').next().and_then(|digits| digits.parse().ok());
    (key.unwrap_or(u64::MAX), row.disk_id.clone())
}

fn vm_facts(state: &OmaState, vm: &VmContext) -> Result<VmFacts, OmaError> {
    Ok(VmFacts {
        context_id: vm.context_id.clone(),
        name: vm.vm_name.clone(),
        status: *vm.current_status,
        os_type: vm.os_type.clone(),
        guest_id: vm.guest_id.clone(),
        firmware: *vm.firmware,
        secure_boot: vm.secure_boot,
        cpu_count: u32::try_from(*vm.cpu_count).unwrap_or(u32::MAX),
        memory_mib: *vm.memory_mb,
        power_state: vm.power_state.clone(),
        nics: source_nics(vm)?,
        agent_connected: vm.enrollment_id.as_deref().is_some_and(|agent| state.agents().is_connected(agent)),
    })
}

async fn disk_facts(state: &OmaState, row: VmDisk) -> Result<DiskFacts, OmaError> {
    let volume = match &row.volume_uuid {
        Some(uuid) => volume_facts(state, uuid).await?,
        None => None,
    };
    Ok(DiskFacts {
        disk_id: row.disk_id,
        is_boot_disk: row.is_boot_disk == Some(true),
        capacity_bytes: *row.capacity_bytes,
        sync_status: *row.sync_status,
        committed: row.disk_change_id.map(|id| id.0),
        volume,
    })
}

async fn volume_facts(state: &OmaState, volume_uuid: &str) -> Result<Option<VolumeFacts>, OmaError> {
    let Some(volume) = ossea_volumes::find(state.store(), volume_uuid).await? else { return Ok(None) };
    if matches!(*volume.state, VolumeState::Creating | VolumeState::Deleting | VolumeState::Deleted) {
        return Ok(None);
    }
    let mapping = match device_mappings::by_volume(state.store(), volume_uuid).await {
        Ok(mapping) => Some(mapping),
        Err(error) if error.kind() == FailureKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let is_here = mapping.as_ref().is_some_and(|mapping| *mapping.operation_mode == OperationMode::Oma);
    let device = mapping.filter(|mapping| is_here && *mapping.linux_state == LinuxState::Present);
    Ok(Some(VolumeFacts {
        volume_uuid: volume.volume_id,
        size_bytes: *volume.size_bytes,
        device_path: device.and_then(|mapping| mapping.device_path).map(PathBuf::from),
        held_by_vm: volume.vm_id.filter(|_| !is_here && *volume.state == VolumeState::Attached),
    }))
}

/// The target's offers, or the problem of finding them out; only the database's own failure is an error.
async fn target(
    state: &OmaState,
    vm: &VmContext,
    request: &StartFailover,
) -> Result<Result<TargetFacts, Problem>, OmaError> {
    let (config, client) = match targets::client_of(state, vm).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.into_problem())),
    };
    let name = request.destination_name.as_deref().unwrap_or(&vm.vm_name);
    match offers(&client, &config, name).await {
        Ok(Some(facts)) => Ok(Ok(facts)),
        Ok(None) => {
            let detail = format!("target {} has no zone {}", config.name, config.zone);
            let remedy = "set the zone's id or name: migratekit target add";
            Ok(Err(Problem::new(FailureKind::Invalid, detail).remedy(remedy)))
        }
        Err(error) => Ok(Err(OmaError::from(error).into_problem())),
    }
}

async fn offers(client: &Client, config: &OsseaConfig, name: &str) -> Result<Option<TargetFacts>, CloudstackError> {
    let zones = client.list_zones().await?;
    let Some(zone) = zones.into_iter().find(|zone| zone.is_called(&config.zone)) else { return Ok(None) };
    let in_zone = || OfferingQuery { id: None, zone_id: Some(zone.id.clone()) };
    let templates = TemplateQuery {
        filter: TemplateFilter::Executable,
        id: config.template_id.clone(),
        zone_id: Some(zone.id.clone()),
        hypervisor: None,
    };
    let called = VmQuery { name: Some(name.to_owned()), zone_id: Some(zone.id.clone()), ..VmQuery::default() };
    let account = client.own_account().await?;
    Ok(Some(TargetFacts {
        name: config.name.clone(),
        is_root_admin: account.is_some_and(|account| account.is_root_admin()),
        capabilities: client.capabilities().await?,
        wanted_offering_id: config.service_offering_id.clone(),
        wanted_template_id: config.template_id.clone(),
        offerings: client.list_service_offerings(&in_zone()).await?,
        templates: client.list_templates(&templates).await?,
        // Of every zone: a mapping to another one is told as that.
        networks: TargetNetworks {
            networks: client.list_networks(&NetworkQuery::default()).await?,
            zone_name: zone.name,
            zone_id: zone.id,
        },
        taken_names: client.list_virtual_machines(&called).await?.into_iter().map(|vm| vm.name).collect(),
    }))
}
