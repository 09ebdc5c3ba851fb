//! Jobs of earlier operations on a volume that may still change it. A late detachment clears whatever attachment it
//! finds, a late reversal overwrites whatever it finds.

use cloudstack::{CloudstackError, JobOutcome};
use model::status::OperationType;
use store::volume_operations;

use super::submit::MAX_RECENT_OPERATIONS;
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;

/// Jobs of earlier operations looked at: a volume has one at a time, so only the latest can be pending.
const MAX_EARLIER_JOBS: usize = 5;
/// Operations whose late jobs would do harm.
const HARMFUL: [OperationType; 5] = [
    OperationType::Attach,
    OperationType::AttachRoot,
    OperationType::Detach,
    OperationType::Snapshot,
    OperationType::RevertSnapshot,
];

/// Refuses while the job of an earlier operation is pending, even of one that was given up.
pub(super) async fn refuse_pending_job(
    daemon: &Daemon,
    cloud: &Cloud,
    volume_uuid: &str,
) -> Result<(), VolumeDaemonError> {
    let recent = volume_operations::list(&daemon.store, None, MAX_RECENT_OPERATIONS).await?;
    let earlier = recent
        .iter()
        .filter(|row| HARMFUL.contains(&row.operation_type) && row.volume_id.as_deref() == Some(volume_uuid))
        .filter_map(|row| row.cloudstack_job_id.as_ref());
    for job_id in earlier.take(MAX_EARLIER_JOBS) {
        match cloud.client().job(job_id).await {
            Ok(report) if report.outcome() == JobOutcome::Pending => {
                let (volume_uuid, job_id) = (volume_uuid.to_owned(), job_id.clone());
                return Err(VolumeDaemonError::JobPending { volume_uuid, job_id });
            }
            Ok(_) | Err(CloudstackError::JobForgotten { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
