//! Gathers what the plan is made from: rows of the database, the agent's presence and, if asked, the VM as it is now.

use api::vma::{SourceVm, VmRequest, VmaClient};
use model::FailureKind;
use model::status::{DiskSyncStatus, VolumeState};
use store::vm_disks::VmDisk;
use store::vm_replication_contexts::VmContext;
use store::{StoreError, disk_scrubs, ossea_configs, ossea_volumes, vm_disks, vm_replication_contexts};
use time::OffsetDateTime;

use super::plan::{DiskFacts, Facts};
use super::scrub::ScrubFacts;
use crate::digests::{self, Look};
use crate::error::OmaError;
use crate::inventory::vcenter;
use crate::state::OmaState;
use crate::unfinished;

/// Whether vCenter is asked about the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskSource {
    /// Only what is stored.
    No,
    /// When the agent is connected.
    IfPossible,
    /// Always; without an agent it fails.
    Always,
}

/// Gathers the facts of a VM; `own` (the replication, and the failover it is a part of) is not counted as running.
pub(super) async fn gather(
    state: &OmaState,
    context_id: &str,
    own: &[&str],
    ask: AskSource,
) -> Result<Facts, OmaError> {
    let store = state.store();
    let vm = vm_replication_contexts::find(store, context_id).await?;
    let mut disks = Vec::new();
    for row in vm_disks::of_context(store, &vm.context_id).await? {
        disks.push(disk_facts(state, row, ask).await?);
    }
    let unfinished = unfinished::job_of(state, &vm.context_id, own).await?;
    let unfinished = unfinished.map(|job| job.external_job_id.unwrap_or(job.id));
    let running_job = vm.current_job_id.clone().filter(|job| !own.contains(&job.as_str())).or(unfinished);
    let agent_connected = vm.enrollment_id.as_deref().is_some_and(|agent| state.agents().is_connected(agent));
    let has_target = vm.ossea_config_id.is_some() || found(ossea_configs::active(store).await)?.is_some();
    let seen = match ask {
        AskSource::No => None,
        AskSource::IfPossible if !agent_connected => None,
        AskSource::IfPossible | AskSource::Always => Some(ask_source(state, &vm).await?),
    };
    Ok(Facts {
        vm_name: vm.vm_name,
        status: *vm.current_status,
        running_job,
        has_agent: vm.enrollment_id.is_some(),
        agent_connected,
        has_credential: vm.credential_id.is_some(),
        has_target,
        disks,
        seen,
    })
}

async fn disk_facts(state: &OmaState, row: VmDisk, ask: AskSource) -> Result<DiskFacts, OmaError> {
    let store = state.store();
    let look = if ask == AskSource::Always { Look::Whole } else { Look::Glance };
    if look == Look::Whole {
        digests::settle_disk(state, &row.id).await?;
    }
    let unproven = digests::unproven(state, &row, look).await?;
    let scrub = scrub_facts(state, &row).await?;
    let volume = match &row.volume_uuid {
        Some(uuid) => found(ossea_volumes::by_volume_id(store, uuid).await)?,
        None => None,
    };
    let volume = volume.filter(|volume| !matches!(*volume.state, VolumeState::Deleting | VolumeState::Deleted));
    Ok(DiskFacts {
        disk_id: row.disk_id,
        disk_uuid: row.disk_uuid,
        capacity_bytes: *row.capacity_bytes,
        volume_uuid: volume.as_ref().map(|volume| volume.volume_id.clone()),
        volume_size_bytes: volume.as_ref().map(|volume| *volume.size_bytes),
        committed: row.disk_change_id.map(|id| id.0),
        unproven,
        diverged: *row.sync_status == DiskSyncStatus::Diverged,
        scrub,
    })
}

async fn scrub_facts(state: &OmaState, row: &VmDisk) -> Result<ScrubFacts, OmaError> {
    let scrub = disk_scrubs::of_disk(state.store(), &row.id).await?;
    Ok(scrub.map_or_else(ScrubFacts::default, |scrub| ScrubFacts {
        position_bytes: *scrub.position_bytes,
        idle: (OffsetDateTime::now_utc() - *scrub.advanced_at).try_into().unwrap_or_default(),
        is_distrusted: scrub.distrusted_at.is_some(),
    }))
}

/// What is not there is no error here.
fn found<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Ok(row) => Ok(Some(row)),
        Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask_source(state: &OmaState, vm: &VmContext) -> Result<SourceVm, OmaError> {
    let vcenter = vcenter::connection(state, vm.credential_id.as_deref()).await?;
    Ok(agent_of(state, vm)?.vm(&vm.vmware_moref, &VmRequest { vcenter }).await?)
}

/// The agent a VM is read through.
pub(crate) fn agent_of(state: &OmaState, vm: &VmContext) -> Result<VmaClient, OmaError> {
    let id = vm.enrollment_id.as_deref().ok_or_else(|| OmaError::Invalid {
        what: "the VM",
        reason: format!("{} has no agent; add it again through an approved one", vm.vm_name),
    })?;
    state.agents().client(id)
}
