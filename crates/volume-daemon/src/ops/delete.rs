//! Deletes a volume: plan, forget (its change id), delete, record. One that is attached is refused.

use joblog::{Saga, Step, StepContext, StepError, StepResult, output};
use model::status::VolumeState;
use serde::{Deserialize, Serialize};
use store::ossea_volumes;

use super::cloud_job::confirmed;
use super::{Params, VolumeRequest, begin, finished};
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// The saga.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_delete",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::undoable(
            "forget",
            |daemon, context| Box::pin(forget(daemon, context)),
            |daemon, context| Box::pin(undo_forget(daemon, context)),
        ),
        Step::check("delete", |daemon, context| Box::pin(delete(daemon, context))).with_weight(6),
        Step::retried("record", |daemon, context| Box::pin(record(daemon, context))),
    ],
    finished,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    volume_uuid: String,
    /// Whether CloudStack shows the volume: only then does its later absence mean that it is gone.
    visible: bool,
    state: VolumeState,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: VolumeRequest = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    let look = || async {
        let volume = cloud.client().find_volume(&row.volume_id).await?;
        let visible = volume.is_some();
        match volume.and_then(|volume| volume.virtual_machine_id) {
            Some(vm_id) => Err(VolumeDaemonError::Attached { volume_uuid: row.volume_id.clone(), vm_id }),
            None => Ok(visible),
        }
    };
    let visible = confirmed(look).await.map_err(step)?;
    output(&Plan { ossea_config_id: row.ossea_config_id, volume_uuid: row.volume_id, visible, state: *row.state })
}

/// From here on the content is not to be trusted: the change id goes in the same transaction as the state.
async fn forget(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    ossea_volumes::begin_delete(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    output(&())
}

/// The volume was not deleted and goes back to its state; its change id stays forgotten.
async fn undo_forget(daemon: &Daemon, context: &StepContext) -> Result<(), StepError> {
    let plan: Plan = context.output("plan")?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    if *row.state != VolumeState::Deleting {
        return Ok(());
    }
    let to = match plan.state {
        state @ (VolumeState::Available | VolumeState::Error) => state,
        _ => VolumeState::Detached,
    };
    ossea_volumes::set_state(&daemon.store, &plan.volume_uuid, to, None).await.map_err(step)
}

async fn delete(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    begin(daemon, context).await?;
    let error = match cloud.volumes.delete(&plan.volume_uuid).await {
        Ok(deletion) => {
            tracing::info!(volume = plan.volume_uuid, ?deletion, "deleted a volume");
            return output(&());
        }
        Err(error) => error,
    };
    // The call may have broken off while CloudStack went on erasing.
    if error.is_outcome_unknown()
        && plan.visible
        && cloud.client().find_volume(&plan.volume_uuid).await.map_err(step)?.is_none()
    {
        return output(&());
    }
    Err(step(error))
}

async fn record(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    ossea_volumes::delete(&daemon.store, &plan.volume_uuid).await.map_err(step)?;
    output(&())
}
