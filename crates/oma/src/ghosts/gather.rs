//! One look: the rows, then everything with our marks in CloudStack and vCenter, then the rows again.
//!
//! What cannot be looked at is a note: a target or an agent that is away hides its ghosts and makes none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::oma::ghosts::GhostKind;
use api::vma::{DiscoverRequest, RunPhase, SourceVm, VmRequest, VmaClient};
use api::{ClientError, Problem};
use cloudstack::{Client, CloudstackError, ResourceTag, VmQuery, VolumeQuery, VolumeSnapshotQuery};
use model::FailureKind;
use model::id::VM_SNAPSHOT_PREFIX;
use model::ownership::{OWNER_TAG, OwnedAs};
use serde_json::Value;
use store::failover_jobs::{self, FailoverJob, Filter};
use store::ossea_configs::{self, OsseaConfig};
use store::vm_replication_contexts::{self, VmContext};
use store::{ossea_volumes, replication_jobs, vm_disks};
use time::OffsetDateTime;

use super::classify::{Verdict, agreed, classify, ghost_id};
use super::facts::{ContextFacts, FailoverFacts, InTarget, JobFacts, Marks, Rows, Seen, SeenSource, VolumeFacts};
use super::removal::REMOVAL;
use crate::error::OmaError;
use crate::inventory::vcenter;
use crate::state::OmaState;
use crate::targets;

/// Most rows of one table; with more, nothing is judged: a ghost by half of the rows may be none.
const MAX_ROWS: u32 = 100_000;
/// Jobs that only remove: what they are about is needed by nobody, and a removal that is begun again finds its own here.
const REMOVING: [&str; 5] =
    [REMOVAL.job_type, "volume_delete", "volume_snapshot_delete", "stray_volume_delete", "stray_snapshot_delete"];
/// How long an agent may take for a whole inventory.
const AGENT_LIMIT: Duration = Duration::from_secs(120);

/// Where it is looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everywhere.
    Everything,
    /// In every active target.
    Clouds,
    /// At one VM in vCenter (context id).
    Source(String),
}

impl Scope {
    /// Where a ghost would be seen; none for what is no ghost's id.
    pub(super) fn of(id: &str) -> Option<Self> {
        let kinds = [GhostKind::Vm, GhostKind::Volume, GhostKind::VolumeSnapshot];
        if let Some(context_id) = id.strip_prefix(&ghost_id(GhostKind::VmSnapshot, "")) {
            return Some(Self::Source(context_id.to_owned()));
        }
        kinds.iter().any(|kind| id.starts_with(&ghost_id(*kind, ""))).then_some(Self::Clouds)
    }
}

/// What a look came to.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// What was decided about each thing, by id.
    pub(super) verdicts: BTreeMap<String, Verdict>,
    /// What could not be looked at.
    pub(super) notes: Vec<String>,
    /// When it began.
    pub(super) looked_at: OffsetDateTime,
}

/// Looks.
///
/// # Errors
/// The database fails, or has more rows than are judged.
pub(super) async fn look(state: &OmaState, scope: &Scope) -> Result<Look, OmaError> {
    let looked_at = OffsetDateTime::now_utc();
    let targets = ossea_configs::list(state.store()).await?;
    let before = rows(state, &targets, &[]).await?;
    let (mut seen, mut notes) = (Seen::default(), Vec::new());
    if !matches!(scope, Scope::Source(_)) {
        for target in targets.iter().filter(|target| target.is_active) {
            if let Err(error) = see_cloud(state, target, &mut seen).await {
                notes.push(format!("target {}: {}", target.name, in_words(error)));
            }
        }
    }
    match scope {
        Scope::Clouds => {}
        Scope::Everything => see_sources(state, &mut seen, &mut notes).await?,
        Scope::Source(context_id) => match vm_replication_contexts::by_id(state.store(), context_id).await {
            Ok(vm) => note_failure(&vm.vm_name, see_source(state, &vm, &mut seen).await, &mut notes),
            Err(error) if error.kind() == FailureKind::NotFound => {}
            Err(error) => return Err(error.into()),
        },
    }
    let after = rows(state, &targets, &named_jobs(&seen)).await?;
    let verdicts = agreed(&classify(&seen, &before), classify(&seen, &after));
    Ok(Look { verdicts, notes, looked_at })
}

fn note_failure(what: &str, outcome: Result<(), OmaError>, notes: &mut Vec<String>) {
    if let Err(error) = outcome {
        notes.push(format!("vm_snapshots of {what}: {}", in_words(error)));
    }
}

fn in_words(error: OmaError) -> String {
    let problem = error.into_problem();
    match problem.cause {
        Some(cause) => format!("{}: {cause}", problem.detail),
        None => problem.detail,
    }
}

/// Everything with our tags in a target. The volumes come first: a VM is not judged without knowing what hangs on it.
async fn see_cloud(state: &OmaState, target: &OsseaConfig, seen: &mut Seen) -> Result<(), OmaError> {
    let client = targets::client(state, target)?;
    seen.volumes.extend(owned(target, volumes(&client), OwnedAs::Replica, |one| &one.tags).await?);
    seen.vms.extend(owned(target, vms(&client), OwnedAs::FailoverVm, |one| &one.tags).await?);
    let found = owned(target, volume_snapshots(&client), OwnedAs::SafetySnapshot, |one| &one.tags);
    seen.volume_snapshots.extend(found.await?);
    Ok(())
}

async fn volumes(client: &Client) -> Result<Vec<cloudstack::Volume>, CloudstackError> {
    client.list_volumes(&VolumeQuery { tags: tag(OwnedAs::Replica), ..VolumeQuery::default() }).await
}

async fn vms(client: &Client) -> Result<Vec<cloudstack::VirtualMachine>, CloudstackError> {
    client.list_virtual_machines(&VmQuery { tags: tag(OwnedAs::FailoverVm), ..VmQuery::default() }).await
}

async fn volume_snapshots(client: &Client) -> Result<Vec<cloudstack::VolumeSnapshot>, CloudstackError> {
    let query = VolumeSnapshotQuery { tags: tag(OwnedAs::SafetySnapshot), ..VolumeSnapshotQuery::default() };
    client.list_volume_snapshots(&query).await
}

fn tag(owned_as: OwnedAs) -> BTreeMap<String, String> {
    BTreeMap::from([(OWNER_TAG.to_owned(), owned_as.as_str().to_owned())])
}

/// What a list shows, only of what carries the tag: servers differ in how strictly they filter.
async fn owned<T>(
    target: &OsseaConfig,
    listing: impl Future<Output = Result<Vec<T>, CloudstackError>>,
    owned_as: OwnedAs,
    tags: impl Fn(&T) -> &Vec<ResourceTag>,
) -> Result<Vec<InTarget<T>>, OmaError> {
    let found = targets::read(target, listing).await?;
    let is_ours = |one: &T| tags(one).iter().any(|tag| tag.key == OWNER_TAG && tag.value == owned_as.as_str());
    let ours = found.into_iter().filter(|one| is_ours(one));
    Ok(ours.map(|found| InTarget { target_id: target.id.clone(), target: target.name.clone(), found }).collect())
}

/// The vm_snapshots of ours of every VM that has an agent, with one inventory for each agent and vCenter.
async fn see_sources(state: &OmaState, seen: &mut Seen, notes: &mut Vec<String>) -> Result<(), OmaError> {
    let mut by_agent: BTreeMap<(String, Option<String>), Vec<VmContext>> = BTreeMap::new();
    for vm in vm_replication_contexts::list(state.store(), MAX_ROWS).await? {
        if let Some(agent) = &vm.enrollment_id {
            by_agent.entry((agent.clone(), vm.credential_id.clone())).or_default().push(vm);
        }
    }
    for ((agent, credential), vms) in by_agent {
        let what = match vms.as_slice() {
            [vm] => vm.vm_name.clone(),
            several => format!("{} VMs", several.len()),
        };
        note_failure(&what, see_inventory(state, &agent, credential.as_deref(), &vms, seen).await, notes);
    }
    Ok(())
}

async fn see_inventory(
    state: &OmaState,
    agent: &str,
    credential: Option<&str>,
    vms: &[VmContext],
    seen: &mut Seen,
) -> Result<(), OmaError> {
    let agent = state.agents().client(agent)?;
    let vcenter = vcenter::connection(state, credential).await?;
    let request = DiscoverRequest { vcenter, filter: None };
    let inventory = in_time(agent.discover(&request)).await?;
    let active_runs = active_runs(&agent).await?;
    for vm in vms {
        let found = inventory.vms.iter().find(|found| found.instance_uuid == vm.vmware_vm_id);
        seen.sources.extend(found.map(|found| source(vm, found, &active_runs)));
    }
    Ok(())
}

async fn see_source(state: &OmaState, vm: &VmContext, seen: &mut Seen) -> Result<(), OmaError> {
    let agent = crate::replication::agent_of(state, vm)?;
    let vcenter = vcenter::connection(state, vm.credential_id.as_deref()).await?;
    let request = VmRequest { vcenter };
    let found = match in_time(agent.vm(&vm.vmware_moref, &request)).await {
        Err(error) if error.kind() == FailureKind::NotFound => return Ok(()),
        found => found?,
    };
    // The managed object id may name another VM by now.
    if found.instance_uuid == vm.vmware_vm_id {
        seen.sources.push(source(vm, &found, &active_runs(&agent).await?));
    }
    Ok(())
}

async fn active_runs(agent: &VmaClient) -> Result<Vec<String>, OmaError> {
    let has_ended = |phase| matches!(phase, RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled);
    let runs = in_time(agent.runs()).await?;
    Ok(runs.into_iter().filter(|run| !has_ended(run.phase)).map(|run| run.job_id).collect())
}

async fn in_time<T>(asking: impl Future<Output = Result<T, ClientError>>) -> Result<T, OmaError> {
    match tokio::time::timeout(AGENT_LIMIT, asking).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(OmaError::AgentSilent { seconds: AGENT_LIMIT.as_secs() }),
    }
}

fn source(vm: &VmContext, found: &SourceVm, active_runs: &[String]) -> SeenSource {
    let is_ours = |name: &&String| name.starts_with(VM_SNAPSHOT_PREFIX);
    SeenSource {
        context_id: vm.context_id.clone(),
        moref: found.moref.clone(),
        vm_snapshots: found.vm_snapshots.iter().filter(is_ours).cloned().collect(),
        active_runs: active_runs.to_vec(),
    }
}

/// The jobs the tags name.
fn named_jobs(seen: &Seen) -> Vec<String> {
    let vms = seen.vms.iter().map(|one| &one.found.tags);
    let snapshots = seen.volume_snapshots.iter().map(|one| &one.found.tags);
    let named: BTreeSet<String> = vms.chain(snapshots).filter_map(|tags| Marks::of(tags).job_id).collect();
    named.into_iter().collect()
}

/// What the rows say now; `named` are failovers that are read even when they have ended.
async fn rows(state: &OmaState, targets: &[OsseaConfig], named: &[String]) -> Result<Rows, OmaError> {
    let store = state.store();
    let contexts = all_of("VMs", vm_replication_contexts::list(store, MAX_ROWS).await?)?;
    let volumes = all_of("volumes", ossea_volumes::list(store, None, MAX_ROWS).await?)?;
    let holding = Filter { only_holding: true, ..Filter::default() };
    let mut failovers = all_of("failovers", failover_jobs::list(store, &holding, MAX_ROWS).await?)?;
    let others = failover_jobs::with_ids(store, named).await?;
    failovers.extend(others.into_iter().filter(|row| !row.holds_vm()));
    let unfinished = all_of("unfinished jobs", store::unfinished_jobs(store, MAX_ROWS).await?)?;
    let replications = replication_jobs::unfinished(store).await?;
    let replications: BTreeMap<String, String> =
        replications.into_iter().map(|row| (row.vm_context_id, row.id)).collect();
    Ok(Rows {
        contexts: contexts.into_iter().map(|vm| context_facts(vm, &replications)).collect(),
        volumes: volumes.into_iter().map(volume_facts).collect(),
        disks: vm_disks::linked(store).await?,
        failovers: failovers.into_iter().map(failover_facts).collect(),
        unfinished: unfinished
            .into_iter()
            .filter(|job| !REMOVING.contains(&job.job_type.as_str()))
            .map(|job| JobFacts {
                id: job.id,
                job_type: job.job_type,
                external_id: job.external_job_id,
                context_id: job.vm_context_id,
            })
            .collect(),
        own_vms: targets.iter().filter_map(|target| target.oma_vm_id.clone()).collect(),
    })
}

fn all_of<T>(what: &str, rows: Vec<T>) -> Result<Vec<T>, OmaError> {
    if u32::try_from(rows.len()).is_ok_and(|count| count < MAX_ROWS) {
        return Ok(rows);
    }
    let problem = Problem::new(FailureKind::Exhausted, format!("there are {MAX_ROWS} {what} or more"));
    Err(problem.remedy("ghosts are not looked for among so many").into())
}

fn context_facts(vm: VmContext, replications: &BTreeMap<String, String>) -> (String, ContextFacts) {
    let running = replications.get(&vm.context_id).cloned();
    let facts = ContextFacts {
        name: vm.vm_name,
        status: *vm.current_status,
        current_job: vm.current_job_id.or(running),
        was_committed: *vm.successful_jobs > 0,
    };
    (vm.context_id, facts)
}

fn volume_facts(row: ossea_volumes::OsseaVolume) -> VolumeFacts {
    VolumeFacts {
        id: row.id,
        volume_uuid: row.volume_id,
        context_id: row.vm_context_id,
        state: *row.state,
        vm_id: row.vm_id,
        snapshot_id: row.snapshot_id,
    }
}

fn failover_facts(row: FailoverJob) -> FailoverFacts {
    let mut snapshot_ids = Vec::new();
    texts_in(&row.snapshot_ids, &mut snapshot_ids);
    FailoverFacts {
        holds: row.holds_vm(),
        job_id: row.job_id,
        context_id: row.vm_context_id,
        vm_name: row.source_vm_name,
        failover_type: *row.job_type,
        status: *row.status,
        vm_id: row.destination_vm_id,
        snapshot_ids,
    }
}

/// Every text of a document: whatever its form, an id that it names is found.
fn texts_in(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts_in(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| texts_in(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_to_look() {
        for (id, scope) in [
            ("vm-11111111-2222", Some(Scope::Clouds)),
            ("volume-1", Some(Scope::Clouds)),
            ("snapshot-1", Some(Scope::Clouds)),
            ("vmsnapshot-0190", Some(Scope::Source("0190".to_owned()))),
            ("job-20260101-000000-abcdef", None),
            ("", None),
        ] {
            assert_eq!(Scope::of(id), scope, "{id}");
        }
    }
}
