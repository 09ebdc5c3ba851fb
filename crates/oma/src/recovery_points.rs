//! Recovery points: committed replications whose increments are kept beside the volumes, and what a failover or a release
//! does with them. The gateway holds the journals; which of them count is said by the database.

use api::oma::points::{PointDisk, PointList, PointView};
use joblog::StepError;
use model::FailureKind;
use model::id::volume_export_name;
use model::status::PointState;
use store::StoreError;
use store::equality_certificates::{self, EqualityCertificate};
use store::recovery_points::{self, RecoveryPoint};
use store::vm_disks;
use store::vm_replication_contexts::{self, VmContext};

use crate::error::OmaError;
use crate::failure::failed;
use crate::state::OmaState;

/// Commits looked back through for the one the volumes hold; more points than this are never kept.
pub(crate) const MAX_KEPT: u32 = 100;
/// Disks of a VM.
const MAX_DISKS: u32 = 256;

/// The recovery points of a VM (name or id), newest first.
///
/// # Errors
/// There is no such VM, or the database fails.
pub(crate) async fn list(state: &OmaState, vm: &str) -> Result<PointList, OmaError> {
    let vm = vm_replication_contexts::find(state.store(), vm).await?;
    let kept = kept_of(state, &vm.context_id).await?;
    let certificates =
        equality_certificates::list(state.store(), Some(&vm.context_id), None, (MAX_KEPT + 1) * MAX_DISKS).await?;
    let mut points = points(&kept, &certificates);
    let disks = vm_disks::of_context(state.store(), &vm.context_id).await?;
    if disks.iter().any(|disk| disk.disk_change_id.is_none()) {
        // Somebody else wrote to a volume, or may have.
        points.retain(|point| !point.in_volume);
    }
    Ok(PointList { keep_points: keep_points(&vm), points, vm_context_id: vm.context_id })
}

async fn kept_of(state: &OmaState, context_id: &str) -> Result<Vec<RecoveryPoint>, StoreError> {
    recovery_points::of_context(state.store(), context_id, Some(PointState::Kept), MAX_KEPT * MAX_DISKS).await
}

/// How many increments of a VM are kept.
fn keep_points(vm: &VmContext) -> u32 {
    u32::try_from(*vm.keep_points).unwrap_or(MAX_KEPT)
}

/// Keeps this many increments of a VM from its next commit on.
///
/// # Errors
/// It is too many, there is no such VM, or the database fails.
pub(crate) async fn keep(state: &OmaState, context_id: &str, points: u32) -> Result<(), OmaError> {
    if points > MAX_KEPT {
        let reason = format!("at most {MAX_KEPT} are kept");
        return Err(OmaError::Invalid { what: "the number of recovery points", reason });
    }
    vm_replication_contexts::set_keep_points(state.store(), context_id, points).await?;
    Ok(())
}

/// Commits, newest first, down to the one the volumes hold: each with what is kept of it.
fn points(kept: &[RecoveryPoint], certificates: &[EqualityCertificate]) -> Vec<PointView> {
    let mut found: Vec<PointView> = Vec::new();
    for certificate in certificates {
        let Some(job_id) = &certificate.job_id else { continue };
        let journal = kept.iter().find(|point| point.vm_disk_id == certificate.vm_disk_id && point.job_id == *job_id);
        let disk = PointDisk {
            disk_id: certificate.disk_id.clone(),
            change_id: Some(certificate.change_id.clone()),
            journal_bytes: journal.map(|point| *point.data_bytes),
            export_name: journal.map(|point| format!("point-{}", point.id)),
        };
        if let Some(point) = found.iter_mut().find(|point| point.id == *job_id) {
            point.disks.push(disk);
            continue;
        }
        if found.last().is_some_and(|last| last.in_volume) {
            break;
        }
        let in_volume = !kept.iter().any(|point| point.job_id == *job_id);
        let (id, committed_at) = (job_id.clone(), *certificate.created_at);
        found.push(PointView { id, committed_at, in_volume, disks: vec![disk] });
    }
    found
}

/// What has to be written into a VM's volumes so that they hold a point: of each disk with kept increments the newest one
/// that belongs to it. Without a point everything that is kept.
///
/// # Errors
/// The database fails.
pub(crate) async fn to_apply(
    state: &OmaState,
    vm_context_id: &str,
    point: Option<&str>,
) -> Result<Vec<RecoveryPoint>, StepError> {
    let kept = kept_of(state, vm_context_id).await.map_err(failed)?;
    Ok(newest_of_each(&kept, point))
}

/// A point that is not kept is what the volumes hold.
fn newest_of_each(kept: &[RecoveryPoint], point: Option<&str>) -> Vec<RecoveryPoint> {
    let until = match point {
        None => kept.iter().map(|kept| kept.committed_at).max(),
        Some(job_id) => kept.iter().filter(|kept| kept.job_id == job_id).map(|kept| kept.committed_at).max(),
    };
    let mut newest: Vec<RecoveryPoint> = Vec::new();
    for candidate in kept.iter().filter(|kept| until.is_some_and(|until| kept.committed_at <= until)) {
        match newest.iter_mut().find(|known| known.vm_disk_id == candidate.vm_disk_id) {
            Some(known) if known.sequence < candidate.sequence => *known = candidate.clone(),
            Some(_) => {}
            None => newest.push(candidate.clone()),
        }
    }
    newest
}

/// Writes these points, and what is kept below each, into the volumes, and forgets nothing: a safety snapshot was taken
/// before, and the journals lie over whatever it brings back.
pub(crate) async fn apply(state: &OmaState, points: &[RecoveryPoint]) -> Result<(), StepError> {
    for point in points {
        let applied = state.gateway().apply(&point.export_name, Some(&point.id)).await.map_err(failed)?;
        let increments = applied.written.len();
        tracing::info!(export = point.export_name, point = point.job_id, increments, "the volume holds the point");
    }
    Ok(())
}

/// Forgets every point of volumes: their content goes its own way from here.
pub(crate) async fn discard(state: &OmaState, volume_uuids: &[String]) -> Result<(), StepError> {
    for uuid in volume_uuids {
        match state.gateway().discard(&volume_export_name(uuid)).await {
            Err(error) if error.kind() != FailureKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Merges what a VM keeps beyond its number of points, oldest first.
pub(crate) async fn settle(state: &OmaState, vm_context_id: &str, volume_uuids: &[String]) -> Result<(), StepError> {
    let vm = vm_replication_contexts::by_id(state.store(), vm_context_id).await.map_err(failed)?;
    for uuid in volume_uuids {
        let export = volume_export_name(uuid);
        let merged = state.gateway().merge(&export, keep_points(&vm)).await.map_err(failed)?;
        let increments = merged.written.len();
        if increments > 0 {
            tracing::info!(export, increments, kept = merged.kept, "merged increments into the volume");
        }
    }
    Ok(())
}
