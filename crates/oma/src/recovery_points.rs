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

/// Commits, newest first, down to the one that is in a volume: there is no way back before it. While a volume is between two
/// of them, not even to that.
fn points(kept: &[RecoveryPoint], certificates: &[EqualityCertificate]) -> Vec<PointView> {
    let is_merging = kept.iter().any(|point| point.ended_at.is_some());
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
        let in_volume = journal.is_none();
        if let Some(point) = found.iter_mut().find(|point| point.id == *job_id) {
            point.in_volume |= in_volume;
            point.disks.push(disk);
            continue;
        }
        if found.last().is_some_and(|last| last.in_volume) {
            break;
        }
        let (id, committed_at) = (job_id.clone(), *certificate.created_at);
        found.push(PointView { id, committed_at, in_volume, disks: vec![disk] });
    }
    found.retain(|point| !(is_merging && point.in_volume));
    found
}

/// Waits until nothing is written into volumes any more: a merge or an application that nobody waited for goes on to its
/// end, and must not fall between a volume snapshot and what it is for.
pub(crate) async fn settled(state: &OmaState, volume_uuids: &[String]) -> Result<(), StepError> {
    for uuid in volume_uuids {
        // It asks for nothing to be merged, and its turn comes after everything that was begun.
        match merge(state, uuid, u32::MAX).await {
            Err(error) if error.kind != FailureKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
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
    let of_point = |kept: &&RecoveryPoint| point.is_some_and(|job_id| kept.job_id == job_id);
    let until = kept.iter().filter(of_point).map(|kept| kept.committed_at).max();
    // A disk that has the point is brought to it and no further, whatever the clock did between two commits.
    let is_wanted = |candidate: &&RecoveryPoint| {
        let own = kept.iter().filter(of_point).find(|own| own.vm_disk_id == candidate.vm_disk_id);
        match (point, own) {
            (None, _) => true,
            (Some(_), Some(own)) => candidate.sequence <= own.sequence,
            (Some(_), None) => until.is_some_and(|until| candidate.committed_at <= until),
        }
    };
    let mut newest: Vec<RecoveryPoint> = Vec::new();
    for candidate in kept.iter().filter(is_wanted) {
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

/// Forgets every point of volumes: their content goes its own way from here. What a replica was equal to is in its points:
/// it is forgotten first, so that no increment builds upon what is no longer there.
pub(crate) async fn discard(state: &OmaState, volume_uuids: &[String]) -> Result<(), StepError> {
    for uuid in volume_uuids {
        let export = volume_export_name(uuid);
        if !recovery_points::of_export(state.store(), &export).await.map_err(failed)?.is_empty() {
            vm_disks::distrust_volume(state.store(), uuid).await.map_err(failed)?;
        }
        match state.gateway().discard(&export).await {
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
        merge(state, uuid, keep_points(&vm)).await?;
    }
    Ok(())
}

/// Merges everything that is kept beside a volume; one without an export has nothing.
pub(crate) async fn merge_all(state: &OmaState, volume_uuid: &str) -> Result<(), StepError> {
    match merge(state, volume_uuid, 0).await {
        Err(error) if error.kind == FailureKind::NotFound => Ok(()),
        merged => merged,
    }
}

async fn merge(state: &OmaState, volume_uuid: &str, keep: u32) -> Result<(), StepError> {
    let export = volume_export_name(volume_uuid);
    let merged = state.gateway().merge(&export, keep).await.map_err(failed)?;
    let increments = merged.written.len();
    if increments > 0 {
        tracing::info!(export, increments, kept = merged.kept, "merged increments into the volume");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::status::{PointState, ReplicationType};
    use store::{Count, Timestamp};
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;

    const DAY: OffsetDateTime = datetime!(2026-11-29 0:00 UTC);

    fn point(disk: u32, hour: i64) -> RecoveryPoint {
        RecoveryPoint {
            id: format!("point-{disk}-{hour}"),
            vm_context_id: "ctx".to_owned(),
            vm_disk_id: format!("row-{disk}"),
            job_id: format!("job-{hour}"),
            export_name: format!("export-{disk}"),
            sequence: Count(u64::try_from(hour).unwrap()),
            change_id: None,
            index_bytes: Count(1024),
            data_bytes: Count(4096),
            state: PointState::Kept.into(),
            // The disks of one commit are not written down at the same instant.
            committed_at: Timestamp::from(
                DAY + time::Duration::hours(hour) + time::Duration::milliseconds(disk.into()),
            ),
            ended_at: None,
        }
    }

    fn chosen(kept: &[RecoveryPoint], point: Option<&str>) -> Vec<String> {
        let mut ids: Vec<String> = newest_of_each(kept, point).into_iter().map(|point| point.id).collect();
        ids.sort();
        ids
    }

    fn certificate(disk: u32, hour: i64) -> EqualityCertificate {
        let RecoveryPoint { vm_context_id, vm_disk_id, job_id, committed_at, .. } = point(disk, hour);
        EqualityCertificate {
            id: format!("certificate-{disk}-{hour}"),
            vm_context_id,
            vm_disk_id,
            job_id: Some(job_id),
            disk_id: format!("disk-{disk}"),
            change_id: format!("52 aa/{hour}"),
            root_digest: String::new(),
            capacity_bytes: Count(1),
            leaf_size_bytes: Count(1),
            leaves_total: Count(1),
            leaves_verified: Count(1),
            sync_type: ReplicationType::Incremental.into(),
            previous_certificate_id: None,
            document: String::new(),
            signature: String::new(),
            public_key: String::new(),
            created_at: committed_at,
        }
    }

    /// What is listed of four commits of two disks: its id, and whether it is in a volume.
    fn listed(kept: &[RecoveryPoint]) -> Vec<(String, bool)> {
        let certificates: Vec<EqualityCertificate> =
            (0..4).rev().flat_map(|hour| [certificate(2, hour), certificate(1, hour)]).collect();
        points(kept, &certificates).into_iter().map(|point| (point.id, point.in_volume)).collect()
    }

    #[test]
    fn the_list_ends_where_a_disk_can_go_back_no_further() {
        let both = [point(1, 3), point(2, 3), point(1, 2), point(2, 2)];
        let whole = [("job-3".to_owned(), false), ("job-2".to_owned(), false), ("job-1".to_owned(), true)];
        assert_eq!(listed(&both), whole);
        assert_eq!(listed(&[]), [("job-3".to_owned(), true)], "the volumes hold the newest commit and nothing else");
        // The first disk is merged already, the second not.
        assert_eq!(listed(&[point(1, 3), point(2, 3), point(2, 2)]), [whole[0].clone(), ("job-2".to_owned(), true)]);
        assert_eq!(listed(&[point(2, 3), point(2, 2)]), [("job-3".to_owned(), true)]);
        let mut merging = both.to_vec();
        merging[2].ended_at = Some(merging[2].committed_at);
        assert_eq!(listed(&merging), whole[..2], "that volume is between two points");
    }

    #[test]
    fn a_point_is_the_same_moment_of_every_disk() {
        // The second disk is new since the second commit.
        let kept = [point(1, 3), point(2, 3), point(1, 2), point(2, 2), point(1, 1)];
        assert_eq!(chosen(&kept, None), ["point-1-3", "point-2-3"]);
        assert_eq!(chosen(&kept, Some("job-2")), ["point-1-2", "point-2-2"]);
        assert_eq!(chosen(&kept, Some("job-1")), ["point-1-1"]);
        assert_eq!(chosen(&kept, Some("job-0")), Vec::<String>::new(), "it is what the volumes hold");
        assert_eq!(chosen(&[], None), Vec::<String>::new());
    }
}
