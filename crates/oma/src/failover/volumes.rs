//! The replica volumes of a failover, by the volume daemon: snapshotted, handed to the new VM, put back, set free.
//!
//! Every function looks first, so that a step or an undo may be begun again anywhere.

use api::oma::failovers::{DestinationDisk, DestinationVm, SafetySnapshot};
use api::volume::{AttachRoot, AttachVolume, SnapshotVolume, VolumeView};
use joblog::{StepContext, StepError};
use model::FailureKind;
use model::status::{DiskSyncStatus, LinuxState, OperationMode};
use serde::{Deserialize, Serialize};
use store::failover_jobs::{self, Learnt};
use store::vm_disks::{self, Restored};

use super::params::Params;
use crate::failure::{defect, failed};
use crate::operations::until_done;
use crate::state::OmaState;

/// The safety snapshots of a failover, as far as they are taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Taken {
    /// Those that exist.
    pub(super) snapshots: Vec<SafetySnapshot>,
    /// The disk whose snapshot is asked for now: it may exist, too.
    asking: Option<DestinationDisk>,
}

/// Takes a snapshot of every volume; those that exist are kept. Each is recorded at once.
pub(super) async fn snapshotted(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    vm: &DestinationVm,
) -> Result<Taken, StepError> {
    let mut taken: Taken = context.own_output()?.unwrap_or_default();
    let rows = vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    for disk in &vm.disks {
        if taken.snapshots.iter().any(|known| known.volume_uuid == disk.volume_uuid) {
            continue;
        }
        context.check_cancelled()?;
        let row = rows.iter().find(|row| row.disk_id == disk.disk_id);
        let row = row.ok_or_else(|| defect(format!("{} has no row", disk.disk_id)))?;
        let committed = row.disk_change_id.as_ref().filter(|_| *row.sync_status == DiskSyncStatus::Completed);
        let change_id = committed.map(|id| id.0.to_string()).ok_or_else(|| {
            StepError::new(FailureKind::Conflict, format!("the replica of {} is not complete", disk.disk_id))
                .remedy("replicate to the end first; nothing was changed in the target")
        })?;
        taken.asking = Some(disk.clone());
        context.checkpoint(&taken).await?;
        let id = snapshot(state, context, params, disk).await?;
        tracing::info!(disk = disk.disk_id, volume = disk.volume_uuid, snapshot = id, "took the safety snapshot");
        taken.snapshots.push(SafetySnapshot {
            disk_id: disk.disk_id.clone(),
            volume_uuid: disk.volume_uuid.clone(),
            ossea_snapshot_id: id,
            change_id,
        });
        taken.asking = None;
        context.checkpoint(&taken).await?;
        record_snapshots(state, params, &taken.snapshots).await?;
    }
    Ok(taken)
}

/// Asks for the snapshot of one volume, or finds the one an earlier attempt asked for.
async fn snapshot(
    state: &OmaState,
    context: &StepContext,
    params: &Params,
    disk: &DestinationDisk,
) -> Result<String, StepError> {
    let request = SnapshotVolume {
        name: format!("{}-{}", params.job_id, disk.disk_id),
        vm_context_id: Some(params.vm_context_id.clone()),
        job_id: params.job_id.clone(),
    };
    let (uuid, request) = (&disk.volume_uuid, &request);
    let key = format!("{}:{uuid}:snapshot", context.job_id());
    let operation =
        until_done(state, &key, |key| async move { state.volumes().snapshot(uuid, request, &key).await }).await?;
    operation.snapshot_id.ok_or_else(|| defect("the volume daemon took a snapshot without an id"))
}

/// Deletes what a failover that is undone took. Whether the snapshot that was asked for last exists is found out by asking
/// for it again.
pub(super) async fn untaken(state: &OmaState, context: &StepContext, params: &Params) -> Result<(), StepError> {
    let Some(mut taken) = context.own_output::<Taken>()? else { return Ok(()) };
    if let Some(disk) = &taken.asking {
        match snapshot(state, context, params, disk).await {
            Ok(id) => taken.snapshots.push(SafetySnapshot {
                disk_id: disk.disk_id.clone(),
                volume_uuid: disk.volume_uuid.clone(),
                ossea_snapshot_id: id,
                change_id: disk.change_id.clone(),
            }),
            Err(error) if error.kind.is_transient() => return Err(error),
            // The daemon leaves nothing behind of one that failed.
            Err(error) => tracing::info!(disk = disk.disk_id, "there is no safety snapshot to delete: {error}"),
        }
    }
    unsnapshotted(state, context, &taken.snapshots).await
}

async fn record_snapshots(state: &OmaState, params: &Params, taken: &[SafetySnapshot]) -> Result<(), StepError> {
    let snapshot_ids = serde_json::to_value(taken).map_err(|error| defect(error.to_string()))?;
    let learnt = Learnt { snapshot_ids: Some(snapshot_ids), ..Learnt::default() };
    failover_jobs::record(state.store(), &params.job_id, &learnt).await.map_err(failed)
}

/// Deletes snapshots. Those that are gone already are fine.
pub(super) async fn unsnapshotted(
    state: &OmaState,
    context: &StepContext,
    taken: &[SafetySnapshot],
) -> Result<(), StepError> {
    for snapshot in taken {
        let (uuid, id) = (&snapshot.volume_uuid, &snapshot.ossea_snapshot_id);
        let key = format!("{}:{uuid}:delete-snapshot", context.job_id());
        until_done(state, &key, |key| async move { state.volumes().delete_snapshot(uuid, id, &key).await }).await?;
    }
    Ok(())
}

/// Detaches volumes from `from`; a volume it does not hold is left alone.
pub(super) async fn detached(
    state: &OmaState,
    context: &StepContext,
    volumes: &[String],
    from: Holder<'_>,
) -> Result<(), StepError> {
    for uuid in volumes {
        let view = state.volumes().volume(uuid).await.map_err(failed)?;
        if !from.holds(&view, state, uuid).await? {
            continue;
        }
        let verb = from.verb();
        until_done(state, &key(context, uuid, verb), |key| async move { state.volumes().detach(uuid, &key).await })
            .await?;
        tracing::info!(volume = uuid, "detached a replica volume ({verb})");
    }
    Ok(())
}

/// Who a volume is taken from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder<'a> {
    /// The hub's own VM.
    Hub,
    /// This VM and no other.
    Vm(&'a str),
}

impl Holder<'_> {
    fn verb(self) -> &'static str {
        match self {
            Self::Hub => "detach-from-hub",
            Self::Vm(_) => "detach-from-vm",
        }
    }

    async fn holds(self, view: &VolumeView, state: &OmaState, uuid: &str) -> Result<bool, StepError> {
        match (self, &view.vm_id) {
            (_, None) => Ok(false),
            (Self::Vm(vm_id), Some(holder)) => Ok(vm_id == holder),
            (Self::Hub, Some(_)) => {
                let device = state.volumes().device(uuid).await.map_err(failed)?;
                Ok(device.operation_mode == OperationMode::Oma)
            }
        }
    }
}

/// Attaches the root and then the data disks to the new VM, each at its device id.
pub(super) async fn attached(
    state: &OmaState,
    context: &StepContext,
    vm: &DestinationVm,
    vm_id: &str,
) -> Result<(), StepError> {
    for disk in &vm.disks {
        let uuid = &disk.volume_uuid;
        let view = state.volumes().volume(uuid).await.map_err(failed)?;
        if view.vm_id.as_deref() == Some(vm_id) {
            continue;
        }
        until_done(state, &key(context, uuid, "attach-to-vm"), |key| async move {
            if disk.device_id == 0 {
                let to = AttachRoot { vm_id: vm_id.to_owned() };
                return state.volumes().attach_root(uuid, &to, &key).await;
            }
            let to = AttachVolume { vm_id: Some(vm_id.to_owned()), device_id: Some(disk.device_id) };
            state.volumes().attach(uuid, &to, &key).await
        })
        .await?;
        tracing::info!(disk = disk.disk_id, volume = uuid, device_id = disk.device_id, vm_id, "attached to the new VM");
    }
    Ok(())
}

/// Reverts volumes that nothing holds to their snapshots. Reverting twice does no harm, so a repeat reverts again.
pub(super) async fn reverted(
    state: &OmaState,
    context: &StepContext,
    taken: &[SafetySnapshot],
) -> Result<(), StepError> {
    for snapshot in taken {
        let (uuid, id) = (&snapshot.volume_uuid, &snapshot.ossea_snapshot_id);
        until_done(state, &key(context, uuid, "revert"), |key| async move {
            state.volumes().revert_snapshot(uuid, id, &key).await
        })
        .await?;
        tracing::info!(disk = snapshot.disk_id, volume = uuid, "reverted to the safety snapshot");
    }
    Ok(())
}

/// Attaches volumes to the hub's VM again and waits until each shows its device.
pub(super) async fn reattached(state: &OmaState, context: &StepContext, volumes: &[String]) -> Result<(), StepError> {
    for uuid in volumes {
        match state.volumes().device(uuid).await {
            Ok(device) if device.operation_mode == OperationMode::Oma && device.linux_state == LinuxState::Present => {
                continue;
            }
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
        let here = AttachVolume { vm_id: None, device_id: None };
        let here = &here;
        until_done(state, &key(context, uuid, "attach-to-hub"), |key| async move {
            state.volumes().attach(uuid, here, &key).await
        })
        .await?;
    }
    Ok(())
}

/// Takes up again what the reverted volumes are equal to.
pub(super) async fn trusted_again(state: &OmaState, taken: &[SafetySnapshot]) -> Result<(), StepError> {
    let restored = taken.iter().map(|snapshot| {
        let change_id = snapshot
            .change_id
            .parse()
            .map_err(|error| defect(format!("the change id of {} cannot be read: {error}", snapshot.disk_id)))?;
        Ok(Restored { volume_uuid: snapshot.volume_uuid.clone(), change_id })
    });
    let restored = restored.collect::<Result<Vec<_>, StepError>>()?;
    vm_disks::restore(state.store(), &restored).await.map_err(failed)
}

/// The volumes of a VM.
pub(super) fn uuids(vm: &DestinationVm) -> Vec<String> {
    vm.disks.iter().map(|disk| disk.volume_uuid.clone()).collect()
}

/// One operation of one volume in one attempt of one step: a repeat of the attempt finds it again. Whatever an earlier
/// attempt left under way is awaited, because the daemon refuses a second operation on a volume until then.
fn key(context: &StepContext, volume_uuid: &str, verb: &str) -> String {
    format!("{}:{}:{}:{volume_uuid}:{verb}", context.job_id(), context.step_name(), context.attempt())
}
