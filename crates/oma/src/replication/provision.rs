//! A volume for each disk: made if there is none, attached to the hub's own VM, found as a device of the right size.

use api::volume::{AttachVolume, CreateVolume, DeviceView};
use joblog::{StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::status::{LinuxState, OperationMode, ReplicationStatus, VolumeState, VolumeType};
use serde::{Deserialize, Serialize};
use store::ossea_volumes::OsseaVolume;
use store::vm_disks::{VmDisk, VolumeLink};

use super::Params;
use super::saga::{plan_of, set_status};
use crate::failure::{defect, failed};
use crate::operations::until_done;
use crate::state::OmaState;

/// Most volumes of one VM that are looked through.
const MAX_VOLUMES: u32 = 1000;

/// A disk with its volume on this hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProvisionedDisk {
    pub(super) disk_id: String,
    pub(super) vm_disk_id: String,
    pub(super) disk_uuid: String,
    pub(super) capacity_bytes: u64,
    pub(super) volume_uuid: String,
    pub(super) device_path: String,
}

pub(super) async fn run(state: &OmaState, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    set_status(state, &params, ReplicationStatus::Initializing, "preparing the volumes").await?;
    let plan = plan_of(context)?;
    let vm = store::vm_replication_contexts::by_id(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let rows = store::vm_disks::of_context(state.store(), &params.vm_context_id).await.map_err(failed)?;
    let mut provisioned = Vec::with_capacity(plan.disks.len());
    for (index, planned) in plan.disks.iter().enumerate() {
        context.check_cancelled()?;
        let row = rows.iter().find(|row| row.disk_id == planned.disk_id);
        let row = row.ok_or_else(|| defect(format!("{} has no row", planned.disk_id)))?;
        let request = CreateVolume {
            vm_context_id: params.vm_context_id.clone(),
            name: format!("migration-{0}-{0}-disk-{index}", vm.vm_name),
            size_bytes: planned.capacity_bytes,
            ossea_config_id: vm.ossea_config_id.clone(),
            volume_type: if row.is_boot_disk == Some(true) { VolumeType::Root } else { VolumeType::Datadisk },
        };
        let volume_uuid = match &planned.volume_uuid {
            Some(uuid) => uuid.clone(),
            None => {
                let volume = match unused_volume(state, &rows, &request).await? {
                    Some(unused) => unused,
                    None => made(state, &params, row, &request).await?,
                };
                linked(state, &params, row, volume).await?
            }
        };
        let device = attached(state, &params, &volume_uuid).await?;
        provisioned.push(checked(row, device)?);
        #[allow(clippy::cast_precision_loss, reason = "a share of a few disks")]
        context.progress((index + 1) as f64 / plan.disks.len() as f64);
    }
    output(&provisioned)
}

/// A volume an earlier attempt made for this disk and could not attach. Nothing was ever written to it.
async fn unused_volume(
    state: &OmaState,
    rows: &[VmDisk],
    wanted: &CreateVolume,
) -> Result<Option<OsseaVolume>, StepError> {
    let known = store::ossea_volumes::list(state.store(), Some(&wanted.vm_context_id), MAX_VOLUMES).await;
    let fits = |volume: &OsseaVolume| {
        volume.volume_name == wanted.name
            && *volume.size_bytes >= wanted.size_bytes
            && matches!(*volume.state, VolumeState::Available | VolumeState::Attached | VolumeState::Detached)
            && wanted.ossea_config_id.as_ref().is_none_or(|target| *target == volume.ossea_config_id)
            && rows.iter().all(|row| row.volume_uuid.as_deref() != Some(&volume.volume_id))
    };
    Ok(known.map_err(failed)?.into_iter().find(fits))
}

/// A new volume for the disk.
async fn made(
    state: &OmaState,
    params: &Params,
    row: &VmDisk,
    request: &CreateVolume,
) -> Result<OsseaVolume, StepError> {
    let operation = until_done(state, &format!("{}:{}:create", params.job_id, row.id), |key| async move {
        state.volumes().create(request, &key).await
    })
    .await?;
    let volume_uuid = operation.volume_id.ok_or_else(|| defect("the volume daemon made a volume without an id"))?;
    let volume = store::ossea_volumes::find(state.store(), &volume_uuid).await.map_err(failed)?;
    volume.ok_or_else(|| defect(format!("volume {volume_uuid} has no row")))
}

/// Attaches the volume and makes it the disk's: its row may name a device mapping only once there is one.
async fn linked(state: &OmaState, params: &Params, row: &VmDisk, volume: OsseaVolume) -> Result<String, StepError> {
    let device = attached(state, params, &volume.volume_id).await?;
    tracing::info!(disk = row.disk_id, volume = volume.volume_id, device = device.device_path, "a volume for the disk");
    let link = VolumeLink { volume_uuid: volume.volume_id.clone(), ossea_volume_id: volume.id };
    store::vm_disks::set_volume(state.store(), &row.id, &link).await.map_err(failed)?;
    Ok(volume.volume_id)
}

/// The volume's device on this hub, attached when it is not.
async fn attached(state: &OmaState, params: &Params, volume_uuid: &str) -> Result<DeviceView, StepError> {
    match state.volumes().device(volume_uuid).await {
        Ok(device) if device.operation_mode == OperationMode::Failover => {
            return Err(StepError::new(
                FailureKind::Conflict,
                format!("volume {volume_uuid} belongs to a failed-over VM"),
            )
            .remedy("end the failover first"));
        }
        Ok(device) if device.linux_state == LinuxState::Present => return Ok(device),
        Ok(_) => {}
        Err(error) if error.kind() == FailureKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let here = AttachVolume { vm_id: None, device_id: None };
    let here = &here;
    until_done(state, &format!("{}:{volume_uuid}:attach", params.job_id), |key| async move {
        state.volumes().attach(volume_uuid, here, &key).await
    })
    .await?;
    state.volumes().device(volume_uuid).await.map_err(failed)
}

fn checked(row: &VmDisk, device: DeviceView) -> Result<ProvisionedDisk, StepError> {
    let absent =
        || StepError::new(FailureKind::Unavailable, format!("volume {} shows no device here", device.volume_uuid));
    let device_path = device.device_path.clone().ok_or_else(absent)?;
    if device.size_bytes < *row.capacity_bytes {
        let message =
            format!("{device_path} has {} bytes, {} has {}", device.size_bytes, row.disk_id, *row.capacity_bytes);
        return Err(StepError::new(FailureKind::Invalid, message)
            .remedy("resize the volume in CloudStack to at least the disk's size, or tear the replica down"));
    }
    Ok(ProvisionedDisk {
        disk_id: row.disk_id.clone(),
        vm_disk_id: row.id.clone(),
        disk_uuid: row.disk_uuid.clone(),
        capacity_bytes: *row.capacity_bytes,
        volume_uuid: device.volume_uuid,
        device_path,
    })
}
