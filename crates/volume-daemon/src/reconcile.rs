//! Compares rows, devices and CloudStack, and mends the rows. Takes no input, changes nothing in CloudStack, deletes
//! nothing: what it cannot mend it says.

mod decide;

use std::collections::HashMap;

use api::volume::ReconcileReport;
use cloudstack::{Volume, VolumeQuery};
use model::status::{LinuxState, OperationMode, VolumeState};
use store::device_mappings::{self, DeviceMapping, NewMapping};
use store::ossea_volumes::{self, HeldBy, OsseaVolume};
use store::vm_disks;

use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::device::correlate::{Candidate, Expected};
use crate::device::scan::{self, ScanError};
use crate::error::VolumeDaemonError;
use crate::exports;
use crate::ops;
use decide::{DeviceVerdict, VolumeVerdict, of_device, of_volume};

/// Most volumes compared in one pass.
const MAX_VOLUMES: u32 = 10_000;

/// One pass.
pub(crate) async fn reconcile(daemon: &Daemon) -> Result<ReconcileReport, VolumeDaemonError> {
    let _one_at_a_time = daemon.reconciling.lock().await;
    let mut report = ReconcileReport::default();
    compare_volumes(daemon, &mut report).await?;
    compare_devices(daemon, &mut report).await?;
    for finding in &report.findings {
        tracing::warn!("reconcile: {finding}");
    }
    Ok(report)
}

async fn compare_volumes(daemon: &Daemon, report: &mut ReconcileReport) -> Result<(), VolumeDaemonError> {
    let mut by_config: HashMap<String, Vec<OsseaVolume>> = HashMap::new();
    for row in ossea_volumes::list(&daemon.store, None, MAX_VOLUMES).await? {
        by_config.entry(row.ossea_config_id.clone()).or_default().push(row);
    }
    for (config_id, rows) in by_config {
        let compared = compare_target(daemon, &config_id, &rows, report).await;
        if let Err(error) = compared {
            report.findings.push(format!("target {config_id} cannot be compared: {}", with_sources(&error)));
        }
    }
    Ok(())
}

async fn compare_target(
    daemon: &Daemon,
    config_id: &str,
    rows: &[OsseaVolume],
    report: &mut ReconcileReport,
) -> Result<(), VolumeDaemonError> {
    let cloud = daemon.clouds.get(Some(config_id)).await?;
    // One list for what the hub's VM holds, which is nearly all; single questions for the rest.
    let own_vm = cloud.config.oma_vm_id.clone();
    let held = match &own_vm {
        Some(vm_id) => {
            let query = VolumeQuery { virtual_machine_id: Some(vm_id.clone()), ..VolumeQuery::default() };
            cloud.client().list_volumes(&query).await?
        }
        None => Vec::new(),
    };
    for row in rows {
        let seen = match held.iter().find(|volume| volume.id == row.volume_id) {
            Some(volume) => Some(volume.clone()),
            None => match cloud.client().find_volume(&row.volume_id).await {
                Ok(seen) => seen,
                Err(error) if error.kind().is_transient() => return Err(error.into()),
                Err(error) => {
                    report.findings.push(format!("volume {} cannot be read: {error}", row.volume_id));
                    continue;
                }
            },
        };
        apply_volume(daemon, &cloud, row, seen.as_ref(), report).await?;
    }
    Ok(())
}

/// Mends one row, unless an operation works on the volume or the row has changed since it was read.
async fn apply_volume(
    daemon: &Daemon,
    cloud: &Cloud,
    row: &OsseaVolume,
    seen: Option<&Volume>,
    report: &mut ReconcileReport,
) -> Result<(), VolumeDaemonError> {
    let holder = seen.map(|volume| volume.virtual_machine_id.as_deref());
    let verdict = of_volume(*row.state, row.vm_id.as_deref(), holder);
    if verdict == VolumeVerdict::Agrees {
        return Ok(());
    }
    let _one_at_a_time = daemon.accepting.lock().await;
    let unchanged = ossea_volumes::by_volume_id(&daemon.store, &row.volume_id).await.is_ok_and(|now| now == *row);
    if !unchanged || ops::busy_with(daemon, &row.volume_id).await?.is_some() {
        return Ok(());
    }
    let (id, target) = (&row.volume_id, &cloud.config.name);
    let finding = match verdict {
        VolumeVerdict::Agrees => return Ok(()),
        VolumeVerdict::Gone => {
            ossea_volumes::set_state(&daemon.store, id, VolumeState::Error, None).await?;
            format!("volume {id} ({}) is gone from target {target}, or its keys no longer show it", row.volume_name)
        }
        VolumeVerdict::Detached => {
            ossea_volumes::set_state(&daemon.store, id, VolumeState::Detached, None).await?;
            format!("volume {id} was detached outside of this program")
        }
        VolumeVerdict::Held { vm_id } => {
            if cloud.config.oma_vm_id.as_deref() != Some(vm_id.as_str()) {
                // Another VM may write to it, so it is no committed replica any more.
                vm_disks::distrust_volume(&daemon.store, id).await?;
            }
            let held = HeldBy { vm_id: vm_id.clone(), device_path: None };
            ossea_volumes::set_state(&daemon.store, id, VolumeState::Attached, Some(&held)).await?;
            record_holder(daemon, cloud, row, seen, &vm_id).await?;
            format!("volume {id} is attached to VM {vm_id}, which was not recorded")
        }
    };
    report.volumes_changed += 1;
    report.findings.push(finding);
    Ok(())
}

async fn record_holder(
    daemon: &Daemon,
    cloud: &Cloud,
    row: &OsseaVolume,
    seen: Option<&Volume>,
    vm_id: &str,
) -> Result<(), VolumeDaemonError> {
    let own = cloud.config.oma_vm_id.as_deref() == Some(vm_id);
    let mapping = NewMapping {
        volume_uuid: row.volume_id.clone(),
        vm_context_id: Some(row.vm_context_id.clone()),
        vm_id: vm_id.to_owned(),
        operation_mode: if own { OperationMode::Oma } else { OperationMode::Failover },
        cloudstack_device_id: seen.and_then(|volume| volume.device_id),
        serial: model::id::volume_serial(&row.volume_id),
        cloudstack_state: seen.map(|volume| volume.state.to_string()).unwrap_or_default(),
        size_bytes: seen.and_then(|volume| volume.size_bytes).unwrap_or(*row.size_bytes),
    };
    device_mappings::record(&daemon.store, &mapping).await?;
    Ok(())
}

async fn compare_devices(daemon: &Daemon, report: &mut ReconcileReport) -> Result<(), VolumeDaemonError> {
    for mapping in device_mappings::list(&daemon.store).await? {
        let _one_at_a_time = daemon.accepting.lock().await;
        if ops::busy_with(daemon, &mapping.volume_uuid).await?.is_some() {
            continue;
        }
        // Read again under the lock: an operation may have ended in between.
        let Ok(mapping) = device_mappings::by_volume(&daemon.store, &mapping.volume_uuid).await else { continue };
        let compared = compare_device(daemon, &mapping, report).await;
        if let Err(error) = compared {
            report.findings.push(format!("the device of volume {}: {}", mapping.volume_uuid, with_sources(&error)));
        }
    }
    Ok(())
}

async fn compare_device(
    daemon: &Daemon,
    mapping: &DeviceMapping,
    report: &mut ReconcileReport,
) -> Result<(), VolumeDaemonError> {
    let volume = ossea_volumes::by_volume_id(&daemon.store, &mapping.volume_uuid).await?;
    let belongs_here = *mapping.operation_mode == OperationMode::Oma && *volume.state == VolumeState::Attached;
    let (seen, trouble) = match device_of(daemon, mapping, *volume.size_bytes).await {
        Ok(seen) => (seen, None),
        Err(ScanError::Correlate(error)) => (None, Some(error)),
        Err(ScanError::Other(error)) => return Err(error),
    };
    let known = mapping.device_path.as_deref();
    let found = seen.as_ref().map(|found| found.device.to_string_lossy().into_owned());
    let verdict = of_device(*mapping.linux_state, belongs_here, known, found.as_deref());
    let uuid = &mapping.volume_uuid;
    if let Some(error) = &trouble {
        report.findings.push(format!("the device of volume {uuid} may not be used: {error}"));
    }
    match (verdict, seen) {
        (DeviceVerdict::Appeared, Some(found)) => {
            device_mappings::set_present(&daemon.store, uuid, &ops::attach::seen_device(&found)).await?;
            report.findings.push(format!("the device of volume {uuid} is {}", found.device.display()));
        }
        (DeviceVerdict::Vanished, _) => {
            device_mappings::set_gone(&daemon.store, uuid, LinuxState::Vanished).await?;
            report.findings.push(format!("the device of volume {uuid} has vanished"));
            for name in exports::fail_all_of(daemon, uuid).await? {
                report.findings.push(format!("export {name} has no device any more"));
            }
        }
        (DeviceVerdict::NotHere, _) => device_mappings::set_gone(&daemon.store, uuid, LinuxState::Absent).await?,
        (DeviceVerdict::Agrees | DeviceVerdict::Appeared, _) => return Ok(()),
    }
    report.devices_changed += 1;
    Ok(())
}

async fn device_of(
    daemon: &Daemon,
    mapping: &DeviceMapping,
    recorded_bytes: u64,
) -> Result<Option<Candidate>, ScanError> {
    let expected = Expected { serial: mapping.serial.clone(), recorded_bytes, reported_bytes: *mapping.size_bytes };
    scan::find(&daemon.config.by_id_dir, &expected).await
}

/// An error with everything below it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
