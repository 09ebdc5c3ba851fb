//! Takes a volume_snapshot of a volume: plan, take, tidy.
//!
//! Its name ends in the operation's id, so a repeat finds what an earlier attempt made although it never heard of it.
//! CloudStack takes one at a time for each VM: the others wait for their turn.

use std::collections::{BTreeMap, BTreeSet};

use api::volume::SnapshotVolume;
use async_trait::async_trait;
use cloudstack::{
    Change, CloudstackError, JobHandle, NewVolumeSnapshot, RefusalClass, Trace, VolumeSnapshot, VolumeSnapshotQuery,
    VolumeSnapshotState, VolumeState,
};
use joblog::{Saga, Step, StepContext, StepError, StepResult, output};
use model::ownership::OwnedAs;
use model::status::VolumeSnapshotStatus;
use serde::{Deserialize, Serialize};
use store::ossea_volumes::OsseaVolume;
use store::{ossea_volumes, volume_snapshots};

use super::cloud_job::{SECOND_LOOK_PAUSE, confirmed, ended, pursue_in_turn, settled};
use super::refusal::Refusal;
use super::{Params, begin, finished};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// Longest name CloudStack takes, in characters.
const MAX_NAME_CHARS: usize = 255;
/// Attempts of the last step before what it could not remove is left to whoever looks for strays.
const MAX_TIDY_ATTEMPTS: u32 = 4;

/// The saga.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_snapshot",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::undoable(
            "take",
            |daemon, context| Box::pin(take(daemon, context)),
            |daemon, context| Box::pin(undo_take(daemon, context)),
        )
        .with_weight(8),
        Step::check("tidy", |daemon, context| Box::pin(tidy(daemon, context))),
    ],
    finished,
};

/// What is asked for, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRequest {
    pub(crate) volume_uuid: String,
    #[serde(flatten)]
    pub(crate) asked: SnapshotVolume,
}

/// Everything that is decided before CloudStack is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    volume_uuid: String,
    /// No other operation's volume_snapshot is called this.
    name: String,
    vm_context_id: String,
    job_id: String,
}

/// One that was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Taken {
    snapshot_id: String,
    #[serde(flatten)]
    trace: Trace,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: SnapshotRequest = params.request()?;
    let row = ossea_volumes::by_volume_id(&daemon.store, &request.volume_uuid).await.map_err(step)?;
    refuse_second(&row).map_err(step)?;
    let cloud = daemon.clouds.get(Some(&row.ossea_config_id)).await.map_err(step)?;
    confirmed(|| require_ready(&cloud, &row.volume_id)).await.map_err(step)?;
    output(&Plan {
        ossea_config_id: row.ossea_config_id,
        volume_uuid: row.volume_id,
        name: unique_name(&request.asked.name, &params.operation_id),
        vm_context_id: row.vm_context_id,
        job_id: request.asked.job_id,
    })
}

/// A volume has one at a time: a second would make it unclear which one a failover goes back to.
fn refuse_second(row: &OsseaVolume) -> Result<(), VolumeDaemonError> {
    match (*row.snapshot_status, &row.snapshot_id) {
        (VolumeSnapshotStatus::Ready | VolumeSnapshotStatus::Reverting, snapshot_id) => {
            let (volume_uuid, snapshot_id) = (row.volume_id.clone(), snapshot_id.clone().unwrap_or_default());
            Err(Refusal::HasSnapshot { volume_uuid, snapshot_id }.into())
        }
        _ => Ok(()),
    }
}

/// Refuses a volume that has no bytes yet, or that CloudStack is changing.
async fn require_ready(cloud: &Cloud, volume_uuid: &str) -> Result<(), VolumeDaemonError> {
    let volume = cloud.volume(volume_uuid).await?;
    match volume.state {
        VolumeState::Ready => Ok(()),
        VolumeState::Allocated => Err(Refusal::NeverUsed { volume_uuid: volume.id }.into()),
        state => Err(Refusal::NotReady { volume_uuid: volume.id, state }.into()),
    }
}

fn unique_name(wanted: &str, operation_id: &str) -> String {
    let room = MAX_NAME_CHARS.saturating_sub(operation_id.chars().count() + 1);
    format!("{}-{operation_id}", wanted.chars().take(room).collect::<String>())
}

async fn take(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    set_status(daemon, &plan, VolumeSnapshotStatus::Creating, None).await?;
    let change = Taking { daemon, cloud: &cloud, plan: &plan };
    let (snapshot, trace) = pursue_in_turn(daemon, &cloud, context, &lease, &change).await?;
    set_status(daemon, &plan, VolumeSnapshotStatus::Ready, Some(&snapshot.id)).await?;
    tracing::info!(volume = plan.volume_uuid, volume_snapshot = snapshot.id, "took a volume_snapshot");
    output(&Taken { snapshot_id: snapshot.id, trace })
}

async fn set_status(
    daemon: &Daemon,
    plan: &Plan,
    to: VolumeSnapshotStatus,
    taken: Option<&str>,
) -> Result<(), StepError> {
    volume_snapshots::set_status(&daemon.store, &plan.volume_uuid, to, taken).await.map_err(step)
}

/// Whether one can be gone back to. Where nothing is copied to secondary storage it stays on primary storage.
pub(super) fn is_complete(snapshot: &VolumeSnapshot) -> bool {
    match snapshot.state {
        VolumeSnapshotState::BackedUp => true,
        VolumeSnapshotState::CreatedOnPrimary => snapshot.revertable,
        _ => false,
    }
}

/// What one of ours means for this operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is what was asked for.
    Usable,
    /// It may still become that.
    UnderWay,
    /// It never will.
    Dead,
    /// CloudStack is deleting it or has.
    Gone,
}

/// Judges one by its state and by what is known of the job that makes it: none is waited for when this is asked.
fn judge(snapshot: &VolumeSnapshot, trace: &Trace) -> Verdict {
    let of_ended_job = trace.entity_id.as_deref() == Some(snapshot.id.as_str());
    match &snapshot.state {
        VolumeSnapshotState::BackedUp => Verdict::Usable,
        // Its job says whether it will be copied further.
        _ if trace.job_succeeded && is_complete(snapshot) => Verdict::Usable,
        VolumeSnapshotState::Error => Verdict::Dead,
        state if state.is_gone() => Verdict::Gone,
        _ if of_ended_job && !trace.job_succeeded => Verdict::Dead,
        _ => Verdict::UnderWay,
    }
}

struct Taking<'a> {
    daemon: &'a Daemon,
    cloud: &'a Cloud,
    plan: &'a Plan,
}

impl Taking<'_> {
    /// Everything that this operation made.
    async fn ours(&self) -> Result<Vec<VolumeSnapshot>, VolumeDaemonError> {
        let query =
            VolumeSnapshotQuery { volume_id: Some(self.plan.volume_uuid.clone()), ..VolumeSnapshotQuery::default() };
        let mut found = self.cloud.client().list_volume_snapshots(&query).await?;
        found.retain(|snapshot| snapshot.name == self.plan.name);
        Ok(found)
    }

    fn order(&self) -> NewVolumeSnapshot {
        let tags = OwnedAs::SafetySnapshot.tags(&self.plan.vm_context_id, &self.plan.job_id);
        NewVolumeSnapshot {
            volume_id: self.plan.volume_uuid.clone(),
            name: self.plan.name.clone(),
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        }
    }
}

#[async_trait]
impl Change for Taking<'_> {
    type Found = VolumeSnapshot;
    type Error = VolumeDaemonError;

    async fn look(&self, trace: &Trace) -> Result<Option<VolumeSnapshot>, VolumeDaemonError> {
        Ok(self.ours().await?.into_iter().find(|snapshot| judge(snapshot, trace) == Verdict::Usable))
    }

    async fn submit(&self, trace: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        for snapshot in self.ours().await? {
            match judge(&snapshot, trace) {
                Verdict::Usable => return Ok(None),
                Verdict::UnderWay => {
                    return Err(Refusal::SnapshotUnderWay { snapshot_id: snapshot.id, state: snapshot.state }.into());
                }
                Verdict::Dead => {
                    tracing::warn!(volume_snapshot = snapshot.id, state = %snapshot.state, "deleting a failed attempt");
                    remove(self.daemon, self.cloud, &snapshot.id).await?;
                }
                Verdict::Gone => {}
            }
        }
        require_ready(self.cloud, &self.plan.volume_uuid).await?;
        Ok(Some(self.cloud.volumes.create_volume_snapshot(&self.order()).await?))
    }
}

/// Deletes a volume_snapshot and waits until it is gone; one that is gone already is fine.
pub(super) async fn remove(daemon: &Daemon, cloud: &Cloud, snapshot_id: &str) -> Result<(), VolumeDaemonError> {
    let handle = match cloud.volumes.delete_volume_snapshot(snapshot_id).await {
        Err(error) if error.refusal_class() == Some(RefusalClass::NotFound) => return Ok(()),
        submitted => submitted?,
    };
    let outcome = ended(daemon, cloud, &handle.job_id).await;
    match (cloud.client().find_volume_snapshot(snapshot_id).await?, outcome) {
        (None, _) => Ok(()),
        (Some(_), Err(error)) => Err(error.into()),
        (Some(_), Ok(())) => Err(CloudstackError::NotVisibleYet { job_id: handle.job_id }.into()),
    }
}

/// Deletes whatever this operation made.
async fn undo_take(daemon: &Daemon, context: &StepContext) -> Result<(), StepError> {
    let plan: Plan = context.output("plan")?;
    let trace: Trace = context.own_output()?.unwrap_or_default();
    if trace.submitted {
        let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
        settled(daemon, &cloud, &trace).await.map_err(step)?;
        let change = Taking { daemon, cloud: &cloud, plan: &plan };
        let mut ours = change.ours().await.map_err(step)?;
        if ours.is_empty() {
            // A list that lags behind would leave one behind.
            tokio::time::sleep(SECOND_LOOK_PAUSE).await;
            ours = change.ours().await.map_err(step)?;
        }
        let listed = ours.into_iter().filter(|snapshot| !snapshot.state.is_gone()).map(|snapshot| snapshot.id);
        let doomed: BTreeSet<String> = listed.chain(trace.entity_id).collect();
        for snapshot_id in doomed {
            remove(daemon, &cloud, &snapshot_id).await.map_err(step)?;
        }
    }
    set_status(daemon, &plan, VolumeSnapshotStatus::None, None).await
}

/// Deletes further ones of the same name: an attempt whose answer was lost may have made one that no list showed then.
async fn tidy(daemon: &Daemon, context: &StepContext) -> StepResult {
    let (plan, taken): (Plan, Taken) = (context.output("plan")?, context.output("take")?);
    let removed = remove_others(daemon, &plan, &taken).await;
    match removed {
        Ok(removed) => output(&removed),
        Err(error) if error.kind().is_transient() && context.attempt() < MAX_TIDY_ATTEMPTS => Err(step(error)),
        // The one asked for is there; what is left over carries our tags and is found by whoever looks for strays.
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a further volume_snapshot may be left over");
            output(&Vec::<String>::new())
        }
    }
}

async fn remove_others(daemon: &Daemon, plan: &Plan, taken: &Taken) -> Result<Vec<String>, VolumeDaemonError> {
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await?;
    let others = Taking { daemon, cloud: &cloud, plan }.ours().await?;
    let mut removed = Vec::new();
    for other in others.into_iter().filter(|other| other.id != taken.snapshot_id && !other.state.is_gone()) {
        remove(daemon, &cloud, &other.id).await?;
        removed.push(other.id);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(state: &str, revertable: bool) -> VolumeSnapshot {
        let text = format!(r#"{{"id":"s","name":"n","state":"{state}","revertable":{revertable}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_name_holds_the_operations_id_and_fits() {
        assert_eq!(unique_name("web1", "op-1"), "web1-op-1");
        let long = unique_name(&"ü".repeat(400), "op-1");
        assert_eq!((long.chars().count(), long.ends_with("-op-1")), (MAX_NAME_CHARS, true));
    }

    #[test]
    fn one_of_ours_is_judged_by_its_state_and_what_is_known_of_its_job() {
        let unknown = Trace { submitted: true, ..Trace::default() };
        let failed = Trace { entity_id: Some("s".to_owned()), ..unknown.clone() };
        let done = Trace { job_succeeded: true, ..failed.clone() };
        for (state, revertable, trace, verdict) in [
            ("BackedUp", false, &failed, Verdict::Usable),
            ("BackedUp", true, &unknown, Verdict::Usable),
            ("Error", true, &done, Verdict::Dead),
            ("Allocated", false, &unknown, Verdict::UnderWay),
            ("Allocated", false, &failed, Verdict::Dead),
            ("BackingUp", true, &unknown, Verdict::UnderWay),
            ("BackingUp", true, &failed, Verdict::Dead),
            ("BackingUp", true, &done, Verdict::UnderWay),
            ("CreatedOnPrimary", true, &done, Verdict::Usable),
            ("CreatedOnPrimary", false, &done, Verdict::UnderWay),
            ("CreatedOnPrimary", true, &unknown, Verdict::UnderWay),
            ("Destroying", true, &done, Verdict::Gone),
            ("Teleporting", true, &unknown, Verdict::UnderWay),
        ] {
            assert_eq!(judge(&snapshot(state, revertable), trace), verdict, "{state} {trace:?}");
        }
    }
}
