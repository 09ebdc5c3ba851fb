//! Attaches a volume: plan, attach, and on the hub's own VM find its device.

use std::path::Path;

use api::volume::AttachVolume;
use async_trait::async_trait;
use cloudstack::{Change, CloudstackError, JobHandle, Trace, Volume};
use futures::future::BoxFuture;
use joblog::{RetryPolicy, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::id::volume_serial;
use model::status::{LinuxState, OperationMode, VolumeState};
use serde::{Deserialize, Serialize};
use store::device_mappings::{self, NewMapping, SeenDevice};
use store::ossea_volumes::{self, HeldBy};
use store::vm_disks;
use store::volume_operations::{self, Learnt};

use super::cloud_job::{SECOND_LOOK_PAUSE, confirmed, ended, pursue, settled};
use super::detach::record_detached;
use super::pending::refuse_pending_job;
use super::refusal::Refusal;
use super::{Params, begin, current_lease, finished};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::device::correlate::{Candidate, Expected};
use crate::device::watch::appeared;
use crate::error::{VolumeDaemonError, step};
use crate::own_vm::own_vm_id;

/// The saga.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_attach",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::undoable(
            "attach",
            |daemon, context| Box::pin(attach(daemon, context)),
            |daemon, context| Box::pin(undo_attach(daemon, context)),
        )
        .with_weight(6),
        // Waiting once is long enough; the caller may ask again.
        Step::undoable("device", |daemon, context| Box::pin(device(daemon, context)), undo_device)
            .with_retry(RetryPolicy::ONCE)
            .with_weight(2),
    ],
    finished,
};

/// What is asked for, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachRequest {
    pub(crate) volume_uuid: String,
    #[serde(flatten)]
    pub(crate) to: AttachVolume,
}

/// Everything that is decided before CloudStack is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) ossea_config_id: String,
    pub(super) volume_uuid: String,
    pub(super) vm_id: String,
    pub(super) mode: OperationMode,
    pub(super) device_id: Option<u32>,
    pub(super) vm_context_id: String,
    pub(super) recorded_bytes: u64,
}

/// A volume that is attached now.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    reported_bytes: u64,
    #[serde(flatten)]
    trace: Trace,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: AttachRequest = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    let own = own_vm_id(daemon, &cloud).await;
    let (vm_id, mode) = match (request.to.vm_id, own) {
        (Some(vm_id), Ok(own)) if vm_id == own => (vm_id, OperationMode::Oma),
        // Another VM; whether the hub's own is known does not matter then.
        (Some(vm_id), _) => (vm_id, OperationMode::Failover),
        (None, own) => (own.map_err(step)?, OperationMode::Oma),
    };
    let look = || async { refuse_other_holder(&cloud.volume(&row.volume_id).await?, &vm_id, request.to.device_id) };
    confirmed(look).await.map_err(step)?;
    refuse_pending_job(daemon, &cloud, &row.volume_id).await.map_err(step)?;
    output(&Plan {
        ossea_config_id: cloud.config.id.clone(),
        volume_uuid: row.volume_id,
        vm_id,
        mode,
        device_id: request.to.device_id,
        vm_context_id: row.vm_context_id,
        recorded_bytes: *row.size_bytes,
    })
}

/// Refuses a volume that another VM holds, or this one with another device id than asked for.
pub(super) fn refuse_other_holder(
    volume: &Volume,
    vm_id: &str,
    device_id: Option<u32>,
) -> Result<(), VolumeDaemonError> {
    let Some(holder) = &volume.virtual_machine_id else { return Ok(()) };
    let volume_uuid = volume.id.clone();
    if holder != vm_id {
        return Err(VolumeDaemonError::Attached { volume_uuid, vm_id: holder.clone() });
    }
    match (volume.device_id, device_id) {
        (Some(found), Some(wanted)) if found != u64::from(wanted) => {
            Err(Refusal::OtherDevice { volume_uuid, vm_id: holder.clone(), found, wanted }.into())
        }
        _ => Ok(()),
    }
}

pub(super) async fn attach(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    let learnt = Learnt { vm_id: Some(plan.vm_id.clone()), ..Learnt::default() };
    volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    if plan.mode == OperationMode::Failover {
        // The other VM may write to it, so it is no committed replica any more.
        vm_disks::distrust_volume(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    }
    let change = Attachment { cloud: &cloud, plan: &plan };
    let (volume, trace) = pursue(daemon, &cloud, context, &lease, &change).await?;
    record_attached(daemon, &plan, &volume).await.map_err(step)?;
    tracing::info!(volume = volume.id, vm_id = plan.vm_id, "attached a volume");
    output(&Held { reported_bytes: volume.size_bytes.unwrap_or(plan.recorded_bytes), trace })
}

struct Attachment<'a> {
    cloud: &'a Cloud,
    plan: &'a Plan,
}

#[async_trait]
impl Change for Attachment<'_> {
    type Found = Volume;
    type Error = VolumeDaemonError;

    async fn look(&self, _: &Trace) -> Result<Option<Volume>, VolumeDaemonError> {
        let look = || async {
            let volume = self.cloud.volume(&self.plan.volume_uuid).await?;
            refuse_other_holder(&volume, &self.plan.vm_id, self.plan.device_id)?;
            Ok(Some(volume).filter(Volume::is_attached))
        };
        confirmed(look).await
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        let plan = self.plan;
        Ok(Some(self.cloud.volumes.attach(&plan.volume_uuid, &plan.vm_id, plan.device_id).await?))
    }
}

async fn record_attached(daemon: &Daemon, plan: &Plan, volume: &Volume) -> Result<(), VolumeDaemonError> {
    let mapping = NewMapping {
        volume_uuid: plan.volume_uuid.clone(),
        vm_context_id: Some(plan.vm_context_id.clone()),
        vm_id: plan.vm_id.clone(),
        operation_mode: plan.mode,
        cloudstack_device_id: volume.device_id,
        serial: volume_serial(&plan.volume_uuid),
        cloudstack_state: volume.state.to_string(),
        size_bytes: volume.size_bytes.unwrap_or(plan.recorded_bytes),
    };
    device_mappings::record(&daemon.store, &mapping).await?;
    let held = HeldBy { vm_id: plan.vm_id.clone(), device_path: None };
    ossea_volumes::set_state(&daemon.store, &plan.volume_uuid, VolumeState::Attached, Some(&held)).await?;
    Ok(())
}

/// Detaches what this operation attached, and only that.
pub(super) async fn undo_attach(daemon: &Daemon, context: &StepContext) -> Result<(), StepError> {
    let plan: Plan = context.output("plan")?;
    let trace: Trace = context.own_output()?.unwrap_or_default();
    if !trace.submitted {
        return Ok(());
    }
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    settled(daemon, &cloud, &trace).await.map_err(step)?;
    let mut volume = cloud.volume(&plan.volume_uuid).await.map_err(step)?;
    if !volume.is_attached() {
        // A list that lags behind would leave it attached.
        tokio::time::sleep(SECOND_LOOK_PAUSE).await;
        volume = cloud.volume(&plan.volume_uuid).await.map_err(step)?;
    }
    if volume.virtual_machine_id.as_ref() == Some(&plan.vm_id) {
        take_back(daemon, context, &cloud, &plan).await?;
    }
    record_detached(daemon, &plan.volume_uuid).await.map_err(step)
}

async fn take_back(daemon: &Daemon, context: &StepContext, cloud: &Cloud, plan: &Plan) -> Result<(), StepError> {
    let handle = cloud.volumes.detach(&plan.volume_uuid).await.map_err(step)?;
    let lease = current_lease(daemon, context).await?;
    let learnt = Learnt { cloudstack_job_id: Some(handle.job_id.clone()), ..Learnt::default() };
    volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    let outcome = ended(daemon, cloud, &handle.job_id).await;
    let attached = cloud.volume(&plan.volume_uuid).await.map_err(step)?.is_attached();
    match outcome {
        Err(error) if attached => Err(step(error)),
        Ok(()) if attached => Err(step(CloudstackError::NotVisibleYet { job_id: handle.job_id })),
        _ => Ok(()),
    }
}

async fn device(daemon: &Daemon, context: &StepContext) -> StepResult {
    let (plan, held): (Plan, Held) = (context.output("plan")?, context.output("attach")?);
    if plan.mode == OperationMode::Failover {
        return output(&None::<String>);
    }
    let expected = Expected {
        serial: volume_serial(&plan.volume_uuid),
        recorded_bytes: plan.recorded_bytes,
        reported_bytes: held.reported_bytes,
    };
    let found = appeared(&daemon.config.by_id_dir, &expected, daemon.config.device_wait()).await.map_err(step)?;
    let seen = seen_device(&found);
    device_mappings::set_present(&daemon.store, &plan.volume_uuid, &seen).await.map_err(step)?;
    tracing::info!(volume = plan.volume_uuid, device = seen.device_path, "found the device of the volume");
    output(&Some(seen.device_path))
}

/// The row's view of a device.
pub(crate) fn seen_device(found: &Candidate) -> SeenDevice {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    SeenDevice {
        device_path: text(&found.device),
        symlink_path: Some(text(&found.link)),
        persistent_device_name: found.link.file_name().map(|name| name.to_string_lossy().into_owned()),
        size_bytes: found.size_bytes,
    }
}

fn undo_device<'a>(daemon: &'a Daemon, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async move {
        let plan: Plan = context.output("plan")?;
        match device_mappings::set_gone(&daemon.store, &plan.volume_uuid, LinuxState::Absent).await {
            Err(error) if error.kind() != FailureKind::NotFound => Err(step(error)),
            _ => Ok(()),
        }
    })
}
