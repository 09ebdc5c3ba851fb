//! Deletes a volume_snapshot of a volume: plan, delete, record. One that is gone already is fine.

use async_trait::async_trait;
use cloudstack::{Change, JobHandle, RefusalClass, Trace};
use joblog::{Saga, Step, StepContext, StepResult, output};
use model::status::VolumeSnapshotStatus;
use serde::{Deserialize, Serialize};
use store::{ossea_volumes, volume_snapshots};

use super::cloud_job::{confirmed, pursue_in_turn};
use super::{Params, SnapshotOfVolume, begin, finished};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// The saga. Nothing of it is undone: a repeat goes on.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_snapshot_delete",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::check("delete", |daemon, context| Box::pin(delete(daemon, context))).with_weight(6),
        Step::retried("record", |daemon, context| Box::pin(record(daemon, context))),
    ],
    finished,
};

/// What is to be deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) ossea_config_id: String,
    pub(super) volume_uuid: String,
    pub(super) snapshot_id: String,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: SnapshotOfVolume = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    let look = || async {
        match cloud.client().find_volume_snapshot(&request.snapshot_id).await? {
            Some(snapshot) => request.refuse_foreign(&snapshot),
            None => Ok(()),
        }
    };
    confirmed(look).await.map_err(step)?;
    let (ossea_config_id, volume_uuid) = (row.ossea_config_id, row.volume_id);
    output(&Plan { ossea_config_id, volume_uuid, snapshot_id: request.snapshot_id })
}

pub(super) async fn delete(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    let change = SnapshotDeletion { cloud: &cloud, snapshot_id: &plan.snapshot_id };
    let ((), trace) = pursue_in_turn(daemon, &cloud, context, &lease, &change).await?;
    tracing::info!(volume = plan.volume_uuid, volume_snapshot = plan.snapshot_id, "deleted a volume_snapshot");
    output(&trace)
}

struct SnapshotDeletion<'a> {
    cloud: &'a Cloud,
    snapshot_id: &'a str,
}

#[async_trait]
impl Change for SnapshotDeletion<'_> {
    type Found = ();
    type Error = VolumeDaemonError;

    async fn look(&self, _: &Trace) -> Result<Option<()>, VolumeDaemonError> {
        Ok(self.cloud.client().find_volume_snapshot(self.snapshot_id).await?.is_none().then_some(()))
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        match self.cloud.volumes.delete_volume_snapshot(self.snapshot_id).await {
            Err(error) if error.refusal_class() == Some(RefusalClass::NotFound) => Ok(None),
            submitted => Ok(Some(submitted?)),
        }
    }
}

async fn record(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let named = volume_snapshots::volume_of(&daemon.store, &plan.snapshot_id).await.map_err(step)?;
    if let Some(volume) = named {
        let none = VolumeSnapshotStatus::None;
        volume_snapshots::set_status(&daemon.store, &volume.volume_id, none, None).await.map_err(step)?;
    }
    output(&())
}
