//! Deletes what carries our tag and belongs to nothing: a volume no row knows, a volume_snapshot no row names.
//!
//! A disk's replica is never a stray, whatever state its rows are in.

use cloudstack::Volume;
use joblog::{Saga, Step, StepContext, StepResult, output};
use model::ownership::OWNER_TAG;
use model::status::VolumeState;
use serde::{Deserialize, Serialize};
use store::{ossea_volumes, vm_disks, volume_snapshots};

use super::cloud_job::confirmed;
use super::refusal::Refusal;
use super::{Params, begin, delete_snapshot, finished, tagging};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// Deletes a volume.
pub(super) static VOLUME_SAGA: Saga<Daemon> = Saga {
    job_type: "stray_volume_delete",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan_volume(daemon, context))),
        Step::check("delete", |daemon, context| Box::pin(delete_volume(daemon, context))).with_weight(6),
        Step::retried("record", |daemon, context| Box::pin(record_volume(daemon, context))),
    ],
    finished,
};

/// Deletes a volume_snapshot.
pub(super) static SNAPSHOT_SAGA: Saga<Daemon> = Saga {
    job_type: "stray_snapshot_delete",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan_snapshot(daemon, context))),
        Step::check("delete", |daemon, context| Box::pin(delete_snapshot::delete(daemon, context))).with_weight(6),
    ],
    finished,
};

/// What is asked for, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StrayRequest {
    pub(crate) volume_uuid: String,
    /// The volume_snapshot, when it is one of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_id: Option<String>,
    /// The target; the active one when absent.
    #[serde(default)]
    pub(crate) ossea_config_id: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    volume_uuid: String,
}

async fn plan_volume(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: StrayRequest = params.request()?;
    let row = ossea_volumes::find(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let config_id = row.map(|row| row.ossea_config_id).or(request.ossea_config_id);
    let cloud = daemon.clouds.get(config_id.as_deref()).await.map_err(step)?;
    confirmed(|| check_volume(daemon, &cloud, &request.volume_uuid)).await.map_err(step)?;
    output(&Plan { ossea_config_id: cloud.config.id.clone(), volume_uuid: request.volume_uuid })
}

/// Refuses a volume that somebody may need; one that CloudStack does not show is gone already.
async fn check_volume(daemon: &Daemon, cloud: &Cloud, volume_uuid: &str) -> Result<(), VolumeDaemonError> {
    if let Some(row) = ossea_volumes::find(&daemon.store, volume_uuid).await?
        && !matches!(*row.state, VolumeState::Error | VolumeState::Deleted)
    {
        let (volume_uuid, vm_context_id) = (row.volume_id, row.vm_context_id);
        return Err(Refusal::KnownVolume { volume_uuid, vm_context_id, state: *row.state }.into());
    }
    if let Some(disk) = vm_disks::replicated_by(&daemon.store, volume_uuid).await?.into_iter().next() {
        let volume_uuid = volume_uuid.to_owned();
        return Err(Refusal::ReplicaOf { volume_uuid, disk_id: disk.disk_id, vm_context_id: disk.vm_context_id }.into());
    }
    match cloud.client().find_volume(volume_uuid).await? {
        Some(volume) => refuse_needed(&volume),
        None => Ok(()),
    }
}

fn refuse_needed(volume: &Volume) -> Result<(), VolumeDaemonError> {
    let volume_uuid = volume.id.clone();
    if let Some(vm_id) = volume.virtual_machine_id.clone() {
        return Err(VolumeDaemonError::Attached { volume_uuid, vm_id });
    }
    match tagging::value_of(&volume.tags, OWNER_TAG) {
        Some(_) => Ok(()),
        None => Err(Refusal::Untagged { what: "volume", id: volume_uuid }.into()),
    }
}

async fn delete_volume(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    begin(daemon, context).await?;
    // Rows and cloud may have changed while this waited.
    confirmed(|| check_volume(daemon, &cloud, &plan.volume_uuid)).await.map_err(step)?;
    // A call that broke off is repeated: it then says that there is nothing to delete.
    let deletion = cloud.volumes.delete(&plan.volume_uuid).await.map_err(step)?;
    tracing::info!(volume = plan.volume_uuid, ?deletion, "deleted a stray volume");
    output(&())
}

async fn record_volume(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    ossea_volumes::delete(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    output(&())
}

async fn plan_snapshot(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: StrayRequest = params.request()?;
    let snapshot_id = request.snapshot_id.unwrap_or_default();
    if let Some(row) = volume_snapshots::volume_of(&daemon.store, &snapshot_id).await.map_err(step)? {
        return Err(step(Refusal::KnownSnapshot { snapshot_id, volume_uuid: row.volume_id }));
    }
    let row = ossea_volumes::find(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let config_id = row.map(|row| row.ossea_config_id).or(request.ossea_config_id);
    let cloud = daemon.clouds.get(config_id.as_deref()).await.map_err(step)?;
    confirmed(|| check_snapshot(&cloud, &request.volume_uuid, &snapshot_id)).await.map_err(step)?;
    let ossea_config_id = cloud.config.id.clone();
    output(&delete_snapshot::Plan { ossea_config_id, volume_uuid: request.volume_uuid, snapshot_id })
}

/// Refuses a volume_snapshot that is not ours or of another volume; one that CloudStack does not show is gone already.
async fn check_snapshot(cloud: &Cloud, volume_uuid: &str, snapshot_id: &str) -> Result<(), VolumeDaemonError> {
    let Some(snapshot) = cloud.client().find_volume_snapshot(snapshot_id).await? else { return Ok(()) };
    if tagging::value_of(&snapshot.tags, OWNER_TAG).is_none() {
        return Err(Refusal::Untagged { what: "volume_snapshot", id: snapshot.id }.into());
    }
    // The volume of an old one may be gone, and is not told then.
    match snapshot.volume_id {
        Some(owner) if owner != volume_uuid => {
            let (snapshot_id, volume_uuid) = (snapshot.id, volume_uuid.to_owned());
            Err(Refusal::ForeignSnapshot { snapshot_id, owner, volume_uuid }.into())
        }
        _ => Ok(()),
    }
}
