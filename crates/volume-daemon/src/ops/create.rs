//! Makes a volume: plan, create, record, tag.
//!
//! A root administrator chooses the volume's id before CloudStack is asked, so a repeat finds what an earlier attempt
//! made. Other accounts find it by the id the submission answered, else by name among volumes that were never used.

use api::volume::CreateVolume;
use async_trait::async_trait;
use cloudstack::{
    Account, Capabilities, Change, DiskOffering, JobHandle, Limit, NewVolume, OfferingQuery, Submission, TaggedKind,
    Trace, Volume, VolumeQuery,
};
use futures::future::BoxFuture;
use joblog::{RetryPolicy, Saga, Step, StepContext, StepError, StepResult, output};
use model::FailureKind;
use model::ownership::{JOB_TAG, OwnedAs};
use model::size::{GIB_BYTES, gib_rounded_up};
use model::status::{VolumeState, VolumeType};
use serde::{Deserialize, Serialize};
use store::volume_operations::{self, Learnt};
use store::{ossea_volumes, vm_replication_contexts};

use super::cloud_job::{ended, pursue};
use super::{Params, begin, finished, tagging};
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};
use crate::own_vm::require_own_vm;

/// Smallest volume CloudStack makes, in GiB, when it does not say.
const DEFAULT_MIN_GIB: u64 = 1;
/// Largest volume CloudStack makes, in GiB, when it does not say: `custom.diskoffering.size.max` as shipped.
const DEFAULT_MAX_GIB: u64 = 1024;

/// The saga.
pub(super) static SAGA: Saga<Daemon> = Saga {
    job_type: "volume_create",
    steps: &[
        Step::check("plan", |daemon, context| Box::pin(plan(daemon, context))),
        Step::undoable(
            "create",
            |daemon, context| Box::pin(create(daemon, context)),
            |daemon, context| Box::pin(undo_create(daemon, context)),
        )
        .with_weight(8),
        Step::undoable("record", |daemon, context| Box::pin(record(daemon, context)), undo_record),
        Step::check("tag", |daemon, context| Box::pin(tag(daemon, context))).with_retry(RetryPolicy::ONCE),
    ],
    finished,
};

/// Everything that is decided before CloudStack is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    ossea_config_id: String,
    /// The id the volume will have; only a root administrator may choose it.
    custom_id: Option<String>,
    name: String,
    zone_id: String,
    disk_offering_id: String,
    size_gib: u64,
    vm_context_id: String,
    volume_type: VolumeType,
}

impl Plan {
    fn order(&self) -> NewVolume {
        NewVolume {
            name: self.name.clone(),
            zone_id: self.zone_id.clone(),
            disk_offering_id: self.disk_offering_id.clone(),
            size_gib: self.size_gib,
            custom_id: self.custom_id.clone(),
            owner: None,
        }
    }
}

/// A volume that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    volume_uuid: String,
    size_bytes: u64,
    #[serde(flatten)]
    trace: Trace,
}

async fn plan(daemon: &Daemon, context: &StepContext) -> StepResult {
    let params: Params = context.params()?;
    let request: CreateVolume = params.request()?;
    vm_replication_contexts::by_id(&daemon.store, &request.vm_context_id).await.map_err(step)?;
    let cloud = daemon.clouds.get(request.ossea_config_id.as_deref()).await.map_err(step)?;
    require_own_vm(daemon, &cloud).await.map_err(step)?;
    let account = cloud.client().own_account().await.map_err(step)?;
    let size_gib = gib_rounded_up(request.size_bytes).max(1);
    check_limits(&cloud, account.as_ref(), size_gib).await.map_err(step)?;
    let zone_id = zone(&cloud).await.map_err(step)?;
    let offering = disk_offering(&cloud, &zone_id).await.map_err(step)?;
    let may_choose = account.is_some_and(|account| account.is_root_admin());
    output(&Plan {
        ossea_config_id: cloud.config.id.clone(),
        // Random throughout: the serial of the device is made of its first digits.
        custom_id: may_choose.then(|| uuid::Uuid::new_v4().to_string()),
        name: request.name,
        zone_id,
        disk_offering_id: offering.id,
        size_gib,
        vm_context_id: request.vm_context_id,
        volume_type: request.volume_type,
    })
}

async fn check_limits(cloud: &Cloud, account: Option<&Account>, size_gib: u64) -> Result<(), VolumeDaemonError> {
    check_size(&cloud.client().capabilities().await?, size_gib)?;
    let Some(account) = account else { return Ok(()) };
    check_room("volumes", account.volume_available, 1)?;
    check_room("GiB of primary storage", account.primary_storage_available_gib, size_gib)
}

fn check_size(capabilities: &Capabilities, size_gib: u64) -> Result<(), VolumeDaemonError> {
    let min_gib = capabilities.custom_volume_min_gib.unwrap_or(DEFAULT_MIN_GIB);
    let max_gib = capabilities.custom_volume_max_gib.unwrap_or(DEFAULT_MAX_GIB);
    if (min_gib..=max_gib).contains(&size_gib) {
        return Ok(());
    }
    Err(VolumeDaemonError::SizeOutOfRange { size_gib, min_gib, max_gib })
}

fn check_room(what: &'static str, left: Option<Limit>, wanted: u64) -> Result<(), VolumeDaemonError> {
    match left {
        Some(left) if !left.has_room_for(wanted) => Err(VolumeDaemonError::LimitReached { what, left, wanted }),
        _ => Ok(()),
    }
}

async fn zone(cloud: &Cloud) -> Result<String, VolumeDaemonError> {
    let zones = cloud.client().list_zones().await?;
    let wanted = &cloud.config.zone;
    let found = zones.into_iter().find(|zone| zone.is_called(wanted));
    let found = found.map(|zone| zone.id);
    found.ok_or_else(|| VolumeDaemonError::NoZone { zone: wanted.clone(), target: cloud.config.name.clone() })
}

/// The target's disk offering, else the first one that takes any size.
async fn disk_offering(cloud: &Cloud, zone_id: &str) -> Result<DiskOffering, VolumeDaemonError> {
    let wanted = cloud.config.disk_offering_id.clone();
    let query = OfferingQuery { id: wanted.clone(), zone_id: Some(zone_id.to_owned()) };
    let offerings = cloud.client().list_disk_offerings(&query).await?;
    let found = offerings.into_iter().find(|offering| offering.takes_any_size(Some(zone_id)));
    found.ok_or_else(|| VolumeDaemonError::NoDiskOffering { target: cloud.config.name.clone(), wanted })
}

async fn create(daemon: &Daemon, context: &StepContext) -> StepResult {
    let plan: Plan = context.output("plan")?;
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    let lease = begin(daemon, context).await?;
    if let Some(id) = &plan.custom_id {
        // Known before it exists, so that the row never lacks it.
        let learnt = Learnt { volume_id: Some(id.clone()), ..Learnt::default() };
        volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    }
    let change = Creation { daemon, cloud: &cloud, plan: &plan };
    let (volume, trace) = pursue(daemon, &cloud, context, &lease, &change).await?;
    let learnt = Learnt { volume_id: Some(volume.id.clone()), ..Learnt::default() };
    volume_operations::record(&daemon.store, &lease, &learnt).await.map_err(step)?;
    tracing::info!(volume = volume.id, name = plan.name, size_gib = plan.size_gib, "made a volume");
    let size_bytes = volume.size_bytes.unwrap_or(plan.size_gib.saturating_mul(GIB_BYTES));
    output(&Made { volume_uuid: volume.id, size_bytes, trace })
}

struct Creation<'a> {
    daemon: &'a Daemon,
    cloud: &'a Cloud,
    plan: &'a Plan,
}

impl Creation<'_> {
    /// A volume an earlier attempt made without living to hear its id: never attached, of this order, of nobody.
    async fn nameless(&self) -> Result<Option<Volume>, VolumeDaemonError> {
        let query = VolumeQuery {
            name: Some(self.plan.name.clone()),
            zone_id: Some(self.plan.zone_id.clone()),
            ..VolumeQuery::default()
        };
        let size_bytes = self.plan.size_gib.saturating_mul(GIB_BYTES);
        for volume in self.cloud.client().list_volumes(&query).await? {
            let unused = volume.state == cloudstack::VolumeState::Allocated && !volume.is_attached();
            let untagged = !volume.tags.iter().any(|tag| tag.key == JOB_TAG);
            if volume.name != self.plan.name || volume.size_bytes != Some(size_bytes) || !unused || !untagged {
                continue;
            }
            match ossea_volumes::by_volume_id(&self.daemon.store, &volume.id).await {
                Err(error) if error.kind() == FailureKind::NotFound => return Ok(Some(volume)),
                other => drop(other?),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Change for Creation<'_> {
    type Found = Volume;
    type Error = VolumeDaemonError;

    async fn look(&self, trace: &Trace) -> Result<Option<Volume>, VolumeDaemonError> {
        match self.plan.custom_id.as_ref().or(trace.entity_id.as_ref()) {
            Some(id) => Ok(self.cloud.client().find_volume(id).await?),
            None if trace.submitted => self.nameless().await,
            None => Ok(None),
        }
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, VolumeDaemonError> {
        match self.cloud.volumes.create_or_adopt(&self.plan.order()).await? {
            Submission::Submitted(handle) => Ok(Some(handle)),
            Submission::Existing(_) => Ok(None),
        }
    }
}

/// Deletes what was made; it never held anything.
async fn undo_create(daemon: &Daemon, context: &StepContext) -> Result<(), StepError> {
    let plan: Plan = context.output("plan")?;
    let trace: Trace = context.own_output()?.unwrap_or_default();
    if !trace.submitted {
        return Ok(());
    }
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await.map_err(step)?;
    if let Some(job_id) = &trace.job_id
        && let Err(error) = ended(daemon, &cloud, job_id).await
    {
        tracing::info!(job_id, error = &error as &dyn std::error::Error, "the job of the volume to be taken back");
    }
    let change = Creation { daemon, cloud: &cloud, plan: &plan };
    let Some(volume) = change.look(&trace).await.map_err(step)? else { return Ok(()) };
    if let Some(vm_id) = volume.virtual_machine_id {
        return Err(step(VolumeDaemonError::Attached { volume_uuid: volume.id, vm_id }));
    }
    cloud.volumes.delete(&volume.id).await.map(|_| ()).map_err(step)
}

async fn record(daemon: &Daemon, context: &StepContext) -> StepResult {
    let (plan, made): (Plan, Made) = (context.output("plan")?, context.output("create")?);
    let row = ossea_volumes::NewVolume {
        volume_id: made.volume_uuid,
        vm_context_id: plan.vm_context_id,
        volume_name: plan.name,
        size_bytes: made.size_bytes,
        disk_offering_id: plan.disk_offering_id,
        zone_id: plan.zone_id,
        volume_type: plan.volume_type,
        state: VolumeState::Available,
        ossea_config_id: plan.ossea_config_id,
    };
    let row = ossea_volumes::record(&daemon.store, &row).await.map_err(step)?;
    output(&row.id)
}

fn undo_record<'a>(daemon: &'a Daemon, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async move {
        let made: Made = context.output("create")?;
        ossea_volumes::delete(&daemon.store, &made.volume_uuid).await.map_err(step)
    })
}

/// Marks the volume as ours. A volume without tags is as usable: whatever fails here is only said.
async fn tag(daemon: &Daemon, context: &StepContext) -> StepResult {
    let (plan, made): (Plan, Made) = (context.output("plan")?, context.output("create")?);
    let tagged = put_tags(daemon, context, &plan, &made.volume_uuid).await;
    if let Err(error) = &tagged {
        tracing::warn!(volume = made.volume_uuid, error = error as &dyn std::error::Error, "the volume is not tagged");
    }
    output(&tagged.is_ok())
}

async fn put_tags(
    daemon: &Daemon,
    context: &StepContext,
    plan: &Plan,
    volume_uuid: &str,
) -> Result<(), VolumeDaemonError> {
    let cloud = daemon.clouds.get(Some(&plan.ossea_config_id)).await?;
    let present = cloud.volume(volume_uuid).await?.tags;
    let wanted = OwnedAs::Replica.tags(&plan.vm_context_id, context.job_id());
    tagging::put(daemon, &cloud, (TaggedKind::Volume, volume_uuid), &present, wanted).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(text: &str) -> Capabilities {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn sizes_are_held_against_what_the_server_says_or_ships_with() {
        let told = capabilities(r#"{"customdiskofferingminsize":2,"customdiskofferingmaxsize":8}"#);
        for (size_gib, fits) in [(1, false), (2, true), (8, true), (9, false)] {
            assert_eq!(check_size(&told, size_gib).is_ok(), fits, "{size_gib}");
        }
        let silent = capabilities("{}");
        assert!(check_size(&silent, 1024).is_ok());
        let error = check_size(&silent, 1025).unwrap_err();
        assert!(error.remedy().unwrap().contains("custom.diskoffering.size.max"));
    }

    #[test]
    fn a_limit_that_is_used_up_is_named() {
        assert!(check_room("volumes", None, 1).is_ok());
        assert!(check_room("volumes", Some(Limit::Unlimited), 1).is_ok());
        let error = check_room("GiB of primary storage", Some(Limit::Max(4)), 5).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Exhausted);
        assert_eq!(error.to_string(), "the account has 4 GiB of primary storage left and 5 are needed");
    }
}
