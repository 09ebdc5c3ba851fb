//! Removes the root a VM of ours was made with, so that a replica can take its place: plan, mark, detach, delete.
//!
//! Only a root that never came into being is removed: its VM was made without being started, so there is nothing on it.
//! It is tagged before it is detached, because afterwards nothing else tells what it was.

use std::collections::BTreeMap;

use api::volume::DiscardRoot;
use cloudstack::{ResourceTag, TaggedKind, Volume, VolumeQuery, VolumeState};
use joblog::{RetryPolicy, Saga, Step, StepContext, StepResult, output};
use model::ownership::{CONTEXT_TAG, JOB_TAG, OWNER_TAG, OwnedAs};
use serde::{Deserialize, Serialize};
use store::volume_operations::{self, Learnt};
use store::{ossea_volumes, vm_disks};

use super::cloud_job::{confirmed, pursue};
use super::detach::Detachment;
use super::refusal::Refusal;
use super::vm_root::{self, VmRoot};
use super::{Params, begin, finished, tagging};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// The saga. What was detached is deleted in the end; an attempt that fails before has changed nothing.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "vm_discard_root",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::check("mark", |daemon, context| Box::pin(mark(daemon, context))).with_retry(RetryPolicy::ONCE),
        Step::check("detach", |daemon, context| Box::pin(detach(daemon, context))).with_weight(4),
        Step::retried("delete", |daemon, context| Box::pin(delete(daemon, context))).with_weight(2),
    ],
    finished,
};

/// What is asked for, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiscardRootRequest {
    pub(crate) vm_id: String,
    #[serde(flatten)]
    pub(crate) proof: DiscardRoot,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    vm_id: String,
    /// The root, or one that an earlier operation had detached and not deleted; none when there is nothing to do.
    volume_uuid: Option<String>,
    /// Context and job of the VM, as its tags say.
    belongs_to: Option<(String, String)>,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: DiscardRootRequest = params.request()?;
    let config_id = target_of(daemon, &request.proof).await.map_err(step)?;
    let cloud = daemon.clouds.get(config_id.as_deref()).await.map_err(step)?;
    let (vm_id, volume_uuid, tags) = confirmed(|| find(daemon, &cloud, &request)).await.map_err(step)?;
    let tag = |key: &str| tagging::value_of(&tags, key).map(str::to_owned);
    let belongs_to = tag(CONTEXT_TAG).zip(tag(JOB_TAG));
    output(&Plan { ossea_config_id: cloud.config.id.clone(), vm_id, volume_uuid, belongs_to })
}

/// The target named, else that of the VM context's volumes; none means the active one.
async fn target_of(daemon: &Daemon, proof: &DiscardRoot) -> Result<Option<String>, VolumeDaemonError> {
    if proof.ossea_config_id.is_some() {
        return Ok(proof.ossea_config_id.clone());
    }
    let Some(vm_context_id) = &proof.vm_context_id else { return Ok(None) };
    let volumes = ossea_volumes::list(&daemon.store, Some(vm_context_id), 1).await?;
    Ok(volumes.into_iter().next().map(|row| row.ossea_config_id))
}

/// The VM's id, what is to be deleted, and the VM's tags.
async fn find(
    daemon: &Daemon,
    cloud: &Cloud,
    request: &DiscardRootRequest,
) -> Result<(String, Option<String>, Vec<ResourceTag>), VolumeDaemonError> {
    let VmRoot { vm, root } = vm_root::of_stopped_vm(daemon, cloud, &request.vm_id).await?;
    if let Some(reason) = objection(&vm.tags, &request.proof) {
        return Err(Refusal::VmNotOurs { vm_id: vm.id, reason }.into());
    }
    let found = match root {
        Some(root) => {
            refuse_precious(daemon, &vm.id, &root).await?;
            Some(root.id)
        }
        None => left_over(daemon, cloud, &vm.id, &vm.tags).await?,
    };
    Ok((vm.id, found, vm.tags))
}

/// Why a VM is not known to be ours, if it is not: it says so itself, or the caller knows whose it is.
fn objection(tags: &[ResourceTag], proof: &DiscardRoot) -> Option<String> {
    let ours = OwnedAs::FailoverVm.as_str();
    for (key, wanted) in [(CONTEXT_TAG, &proof.vm_context_id), (JOB_TAG, &proof.job_id)] {
        let found = tagging::value_of(tags, key);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| found != Some(wanted)) {
            return Some(format!("its tag {key} is {}, not {wanted}", found.unwrap_or("absent")));
        }
    }
    match tagging::value_of(tags, OWNER_TAG) {
        Some(value) if value == ours => None,
        Some(value) => Some(format!("its tag {OWNER_TAG} is {value}, not {ours}")),
        None if proof.vm_context_id.is_some() && proof.job_id.is_some() => None,
        None => Some(format!("it has no tag {OWNER_TAG}")),
    }
}

/// Refuses a root that may hold something.
async fn refuse_precious(daemon: &Daemon, vm_id: &str, root: &Volume) -> Result<(), VolumeDaemonError> {
    let (vm_id, volume_uuid) = (vm_id.to_owned(), root.id.clone());
    if is_replica(daemon, root).await? {
        return Err(Refusal::RootIsReplica { vm_id, volume_uuid }.into());
    }
    if root.state != VolumeState::Allocated {
        return Err(Refusal::RootWasUsed { vm_id, volume_uuid, state: root.state.clone() }.into());
    }
    Ok(())
}

/// Whether a row or a tag says that a volume holds a replica.
async fn is_replica(daemon: &Daemon, volume: &Volume) -> Result<bool, VolumeDaemonError> {
    let tagged = tagging::value_of(&volume.tags, OWNER_TAG) == Some(OwnedAs::Replica.as_str());
    let known = ossea_volumes::find(&daemon.store, &volume.id).await?.is_some();
    Ok(tagged || known || !vm_disks::replicated_by(&daemon.store, &volume.id).await?.is_empty())
}

/// The root of this VM that an earlier operation marked and detached, and gave up before deleting it.
async fn left_over(
    daemon: &Daemon,
    cloud: &Cloud,
    vm_id: &str,
    tags: &[ResourceTag],
) -> Result<Option<String>, VolumeDaemonError> {
    let tag = |key: &str| tagging::value_of(tags, key);
    let (Some(vm_context_id), Some(job_id)) = (tag(CONTEXT_TAG), tag(JOB_TAG)) else { return Ok(None) };
    let wanted = OwnedAs::FailoverVm.tags(vm_context_id, job_id);
    let tags: BTreeMap<String, String> = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let query = VolumeQuery { tags, ..VolumeQuery::default() };
    for volume in cloud.client().list_volumes(&query).await? {
        let marked = wanted.iter().all(|(key, value)| tagging::value_of(&volume.tags, key) == Some(value));
        if marked && !volume.is_attached() && !volume.state.is_gone() {
            refuse_precious(daemon, vm_id, &volume).await?;
            return Ok(Some(volume.id));
        }
    }
    Ok(None)
}

/// Tags the root as the VM is tagged. Without tags it goes as well: whatever fails here is only said.
async fn mark(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let (Some(volume_uuid), Some((vm_context_id, job_id))) = (&plan.volume_uuid, &plan.belongs_to) else {
        return output(&false);
    };
    let marked = async {
        let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await?;
        let present = cloud.volume(volume_uuid).await?.tags;
        let wanted = OwnedAs::FailoverVm.tags(vm_context_id, job_id);
        tagging::put(daemon, &cloud, (TaggedKind::Volume, volume_uuid), &present, wanted).await
    };
    let marked: Result<(), VolumeDaemonError> = marked.await;
    if let Err(error) = &marked {
        tracing::warn!(volume = volume_uuid, error = error as &dyn std::error::Error, "the root is not tagged");
    }
    output(&marked.is_ok())
}

async fn detach(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let Some(volume_uuid) = &plan.volume_uuid else { return output(&()) };
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    let learnt = Learnt { vm_id: Some(plan.vm_id.clone()), ..Learnt::default() };
    volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    let change = Detachment { cloud: &cloud, volume_uuid };
    let ((), trace) = pursue(daemon, &cloud, context, &lease, &change).await?;
    output(&trace)
}

async fn delete(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let Some(volume_uuid) = &plan.volume_uuid else { return output(&()) };
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    begin(daemon, context).await?;
    // Nothing but what was found before may be deleted, whatever happened since.
    if let Some(volume) = cloud.client().find_volume(volume_uuid).await.map_err(step)? {
        refuse_precious(daemon, &plan.vm_id, &volume).await.map_err(step)?;
    }
    let deletion = cloud.volumes.delete_allocated(volume_uuid).await.map_err(step)?;
    tracing::info!(vm_id = plan.vm_id, volume = volume_uuid, ?deletion, "removed the root a VM was made with");
    output(&())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Vec<ResourceTag> {
        let tag = |(key, value): &(&str, &str)| serde_json::from_value(serde_json::json!({"key": key, "value": value}));
        pairs.iter().map(|pair| tag(pair).unwrap()).collect()
    }

    #[test]
    fn a_vm_is_ours_by_its_tag_or_by_what_the_caller_knows_of_it() {
        let proof = |context: Option<&str>, job: Option<&str>| DiscardRoot {
            vm_context_id: context.map(str::to_owned),
            job_id: job.map(str::to_owned),
            ossea_config_id: None,
        };
        let full = [(OWNER_TAG, "failover-vm"), (CONTEXT_TAG, "c"), (JOB_TAG, "j")];
        for (tagged, asked, ours) in [
            (&full[..], proof(None, None), true),
            (&full[..], proof(Some("c"), Some("j")), true),
            (&full[..], proof(Some("other"), None), false),
            (&full[..], proof(None, Some("other")), false),
            (&full[..1], proof(None, None), true),
            (&full[..1], proof(Some("c"), None), false),
            (&full[1..], proof(Some("c"), Some("j")), true),
            (&full[1..], proof(Some("c"), None), false),
            (&full[1..], proof(None, None), false),
            (&[], proof(Some("c"), Some("j")), false),
            (&[(OWNER_TAG, "replica"), (CONTEXT_TAG, "c"), (JOB_TAG, "j")], proof(Some("c"), Some("j")), false),
        ] {
            assert_eq!(objection(&tags(tagged), &asked).is_none(), ours, "{tagged:?} {asked:?}");
        }
    }
}
