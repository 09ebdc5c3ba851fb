//! Attaches a volume as the root of a VM that is stopped, has none, and is not the hub's own. After the plan it is an
//! attachment like any other.

use joblog::{Saga, Step, StepContext, StepResult, output};
use model::status::OperationMode;
use serde::{Deserialize, Serialize};
use store::ossea_volumes;

use super::attach::{self, Plan, refuse_other_holder};
use super::cloud_job::confirmed;
use super::pending::refuse_pending_job;
use super::refusal::Refusal;
use super::vm_root;
use super::{Params, finished};
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// The device id of a root.
const ROOT_DEVICE_ID: u32 = 0;

/// The saga.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_attach_root",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::undoable(
            "attach",
            |daemon, context| Box::pin(attach::attach(daemon, context)),
            |daemon, context| Box::pin(attach::undo_attach(daemon, context)),
        )
        .with_weight(6),
    ],
    finished,
};

/// What is asked for, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachRootRequest {
    pub(crate) volume_uuid: String,
    pub(crate) vm_id: String,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: AttachRootRequest = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    let look = || async {
        let volume = cloud.volume(&row.volume_id).await?;
        refuse_other_holder(&volume, &request.vm_id, Some(ROOT_DEVICE_ID))?;
        let seen = vm_root::of_stopped_vm(daemon, &cloud, &request.vm_id).await?;
        match seen.root {
            Some(root) if root.id != row.volume_id => {
                Err(VolumeDaemonError::from(Refusal::HasRoot { vm_id: seen.vm.id, volume_uuid: root.id }))
            }
            _ => Ok(()),
        }
    };
    confirmed(look).await.map_err(step)?;
    refuse_pending_job(daemon, &cloud, &row.volume_id).await.map_err(step)?;
    output(&Plan {
        ossea_config_id: cloud.config.id.clone(),
        volume_uuid: row.volume_id,
        vm_id: request.vm_id,
        mode: OperationMode::Failover,
        device_id: Some(ROOT_DEVICE_ID),
        vm_context_id: row.vm_context_id,
        recorded_bytes: *row.size_bytes,
    })
}
