//! Detaches a volume: plan, close its exports, detach, record.

use async_trait::async_trait;
use cloudstack::{Change, JobHandle, Trace};
use joblog::{Saga, Step, StepContext, StepResult, output};
use model::FailureKind;
use model::status::{LinuxState, VolumeState};
use serde::{Deserialize, Serialize};
use store::volume_operations::{self, Learnt};
use store::{device_mappings, ossea_volumes};

use super::cloud_job::{confirmed, pursue};
use super::{Params, VolumeRequest, begin, finished};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};
use crate::exports;

/// The saga. Nothing of it is undone: an export that was closed is opened by whoever needs it.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_detach",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::check("close_exports", |daemon, context| Box::pin(close_exports(daemon, context))),
        Step::check("detach", |daemon, context| Box::pin(detach(daemon, context))).with_weight(6),
        Step::retried("record", |daemon, context| Box::pin(record(daemon, context))),
    ],
    finished,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    volume_uuid: String,
    /// The VM that holds it.
    vm_id: Option<String>,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: VolumeRequest = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    let volume = confirmed(|| cloud.volume(&row.volume_id)).await.map_err(step)?;
    let (ossea_config_id, vm_id) = (row.ossea_config_id, volume.virtual_machine_id);
    output(&Plan { ossea_config_id, volume_uuid: row.volume_id, vm_id })
}

async fn close_exports(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let closed = exports::close_all_of(daemon, &plan.volume_uuid).await.map_err(step)?;
    if !closed.is_empty() {
        tracing::warn!(volume = plan.volume_uuid, exports = closed.join(", "), "closed exports of a volume to detach");
    }
    output(&closed)
}

async fn detach(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    let learnt = Learnt { vm_id: plan.vm_id.clone(), ..Learnt::default() };
    volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    let change = Detachment { cloud: &cloud, volume_uuid: &plan.volume_uuid };
    let ((), trace) = pursue(daemon, &cloud, context, &lease, &change).await?;
    output(&trace)
}

/// The change from attached to attached to nothing.
pub(super) struct Detachment<'a> {
    pub(super) cloud: &'a Cloud,
    pub(super) volume_uuid: &'a str,
}

#[async_trait]
impl Change for Detachment<'_> {
    type Found = ();
    type Error = VolumeDaemonError;

    async fn look(&self, _: &Trace) -> Result<Option<()>, VolumeDaemonError> {
        let volume = self.cloud.volume(self.volume_uuid).await?;
        Ok((!volume.is_attached()).then_some(()))
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        Ok(Some(self.cloud.volumes.detach(self.volume_uuid).await?))
    }
}

async fn record(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    record_detached(daemon, &plan.volume_uuid).await.map_err(step)?;
    tracing::info!(volume = plan.volume_uuid, vm_id = plan.vm_id, "detached a volume");
    output(&())
}

/// Writes down that nothing holds a volume; a volume that never was attached keeps its state.
pub(super) async fn record_detached(daemon: &Daemon, volume_uuid: &str) -> Result<(), VolumeDaemonError> {
    match device_mappings::set_gone(&daemon.store, volume_uuid, LinuxState::Absent).await {
        Err(error) if error.kind() != FailureKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let row = ossea_volumes::by_volume_id(&daemon.store, volume_uuid).await?;
    if *row.state != VolumeState::Available {
        ossea_volumes::set_state(&daemon.store, volume_uuid, VolumeState::Detached, None).await?;
    }
    Ok(())
}
