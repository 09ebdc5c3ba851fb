//! Brings a volume back to a volume_snapshot: plan, close its exports, distrust, revert, record.
//!
//! Whether it happened cannot be seen by looking: only a job that ended in success counts, and any other outcome means
//! to ask again, which does no harm. CloudStack would revert under a stopped VM; here nothing may hold the volume.

use async_trait::async_trait;
use cloudstack::{Change, JobHandle, Trace, VolumeState};
use joblog::{Saga, Step, StepContext, StepError, StepResult, output};
use model::status::VolumeSnapshotStatus;
use serde::{Deserialize, Serialize};
use store::{ossea_volumes, vm_disks, volume_snapshots};

use super::cloud_job::{confirmed, pursue_in_turn};
use super::pending::refuse_pending_job;
use super::refusal::Refusal;
use super::snapshot::is_complete;
use super::{Params, SnapshotOfVolume, begin, finished};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};
use crate::exports;

/// The saga. A volume whose reversal failed stays distrusted; its volume_snapshot can still be gone back to.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_snapshot_revert",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::check("close_exports", |daemon, context| Box::pin(close_exports(daemon, context))),
        Step::undoable(
            "distrust",
            |daemon, context| Box::pin(distrust(daemon, context)),
            |daemon, context| Box::pin(undo_distrust(daemon, context)),
        ),
        Step::check("revert", |daemon, context| Box::pin(revert(daemon, context))).with_weight(8),
        Step::retried("record", |daemon, context| Box::pin(record(daemon, context))),
    ],
    finished,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    volume_uuid: String,
    snapshot_id: String,
    /// Whether the volume's row names it; one that was taken outside of this program leaves no mark there.
    recorded: bool,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: SnapshotOfVolume = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    confirmed(|| check(&cloud, &request)).await.map_err(step)?;
    refuse_pending_job(daemon, &cloud, &row.volume_id).await.map_err(step)?;
    output(&Plan {
        ossea_config_id: row.ossea_config_id,
        volume_uuid: row.volume_id,
        recorded: row.snapshot_id.as_ref() == Some(&request.snapshot_id),
        snapshot_id: request.snapshot_id,
    })
}

async fn check(cloud: &Cloud, request: &SnapshotOfVolume) -> Result<(), VolumeDaemonError> {
    let found = cloud.client().find_volume_snapshot(&request.snapshot_id).await?;
    let snapshot_id = request.snapshot_id.clone();
    let target = cloud.config.name.clone();
    let snapshot = found.ok_or(Refusal::SnapshotNotVisible { snapshot_id: snapshot_id.clone(), target })?;
    request.refuse_foreign(&snapshot)?;
    if !is_complete(&snapshot) {
        return Err(Refusal::SnapshotUnusable { snapshot_id, state: snapshot.state }.into());
    }
    refuse_attached(cloud, &request.volume_uuid).await.map(drop)
}

/// The state of a volume that nothing holds.
async fn refuse_attached(cloud: &Cloud, volume_uuid: &str) -> Result<VolumeState, VolumeDaemonError> {
    let volume = cloud.volume(volume_uuid).await?;
    match volume.virtual_machine_id {
        Some(vm_id) => Err(VolumeDaemonError::Attached { volume_uuid: volume.id, vm_id }),
        None => Ok(volume.state),
    }
}

async fn close_exports(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    output(&exports::close_all_of(daemon, &plan.volume_uuid).await.map_err(step)?)
}

/// From here on nobody knows what is on the volume until the reversal is proven.
async fn distrust(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    vm_disks::distrust_volume(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    set_status(daemon, &plan, VolumeSnapshotStatus::Reverting).await?;
    output(&())
}

async fn undo_distrust(daemon: &Daemon, context: &StepContext) -> Result<(), StepError> {
    let plan: Plan = context.output("plan")?;
    set_status(daemon, &plan, VolumeSnapshotStatus::Ready).await
}

async fn set_status(daemon: &Daemon, plan: &Plan, to: VolumeSnapshotStatus) -> Result<(), StepError> {
    if !plan.recorded {
        return Ok(());
    }
    volume_snapshots::set_status(&daemon.store, &plan.volume_uuid, to, None).await.map_err(step)
}

async fn revert(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    let change = Reversal { cloud: &cloud, plan: &plan };
    let ((), trace) = pursue_in_turn(daemon, &cloud, context, &lease, &change).await?;
    output(&trace)
}

struct Reversal<'a> {
    cloud: &'a Cloud,
    plan: &'a Plan,
}

#[async_trait]
impl Change for Reversal<'_> {
    type Found = ();
    type Error = VolumeDaemonError;

    async fn look(&self, trace: &Trace) -> Result<Option<()>, VolumeDaemonError> {
        if !trace.job_succeeded {
            return Ok(None);
        }
        let volume = self.cloud.volume(&self.plan.volume_uuid).await?;
        Ok((volume.state == VolumeState::Ready).then_some(()))
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        let volume_uuid = &self.plan.volume_uuid;
        match confirmed(|| refuse_attached(self.cloud, volume_uuid)).await? {
            VolumeState::Ready => {}
            // Perhaps an earlier attempt is at work: what it does must have ended before this one.
            state => return Err(Refusal::NotReady { volume_uuid: volume_uuid.clone(), state }.into()),
        }
        Ok(Some(self.cloud.volumes.revert_volume_snapshot(&self.plan.snapshot_id).await?))
    }
}

async fn record(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    set_status(daemon, &plan, VolumeSnapshotStatus::Ready).await?;
    tracing::info!(volume = plan.volume_uuid, volume_snapshot = plan.snapshot_id, "brought a volume back");
    output(&())
}
