//! Accepting an operation: the same key answers with the same operation, a busy volume is refused, and what was
//! accepted is begun even if the process dies right after.

use joblog::{JobError, NewJob};
use model::status::OperationType;
use serde_json::Value;
use store::volume_operations::{self, NewOperation, VolumeOperation};
use store::{ossea_volumes, vm_replication_contexts};

use super::refusal::Refusal;
use super::{Params, saga_of};
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;

/// How far back operations are searched for one with the key of a repeated request, and for earlier detachments.
pub(super) const MAX_RECENT_OPERATIONS: u32 = 1000;

/// An operation somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) operation_type: OperationType,
    /// The volume, where there is one already.
    pub(crate) volume_uuid: Option<String>,
    /// The VM it concerns, when the caller named one.
    pub(crate) vm_id: Option<String>,
    pub(crate) request: Value,
    pub(crate) key: String,
}

/// Accepts an operation and begins it, or answers with the one that has its key.
pub(crate) async fn submit(daemon: &Daemon, asked: Asked) -> Result<VolumeOperation, VolumeDaemonError> {
    let _one_at_a_time = daemon.accepting.lock().await;
    if let Some(refusal) = standing_against(daemon, &asked).await? {
        // A late repeat of an ended request is no new operation.
        if with_key(daemon, &asked.key).await?.is_none() {
            return Err(refusal);
        }
    }
    let new = NewOperation {
        operation_type: asked.operation_type,
        volume_id: asked.volume_uuid,
        vm_id: asked.vm_id,
        request: asked.request,
        correlation_id: model::id::new_id(),
        idempotency_key: asked.key,
    };
    let operation = volume_operations::submit(&daemon.store, &new).await?.operation;
    if !volume_operations::has_ended(&operation) {
        start(daemon, &operation).await?;
    }
    Ok(operation)
}

/// Why an operation has to wait: another one is under way on its volume, or on the root of its VM.
async fn standing_against(daemon: &Daemon, asked: &Asked) -> Result<Option<VolumeDaemonError>, VolumeDaemonError> {
    let unfinished = volume_operations::unfinished(&daemon.store).await?;
    let mut others = unfinished.iter().filter(|other| other.idempotency_key != asked.key);
    if let Some(volume_uuid) = asked.volume_uuid.as_deref()
        && let Some(other) = others.clone().find(|other| other.volume_id.as_deref() == Some(volume_uuid))
    {
        return Ok(Some(busy(volume_uuid, other)));
    }
    let Some(vm_id) = asked.vm_id.as_ref().filter(|_| changes_root(asked.operation_type)) else { return Ok(None) };
    let other = others.find(|other| changes_root(*other.operation_type) && other.vm_id.as_ref() == Some(vm_id));
    Ok(other.map(|other| {
        let (operation_id, operation_type) = (other.id.clone(), *other.operation_type);
        Refusal::VmBusy { vm_id: vm_id.clone(), operation_id, operation_type }.into()
    }))
}

/// Whether an operation with a VM changes that VM's root.
fn changes_root(operation_type: OperationType) -> bool {
    matches!(operation_type, OperationType::AttachRoot | OperationType::Cleanup)
}

/// The recent operation that was accepted under a key.
pub(crate) async fn with_key(daemon: &Daemon, key: &str) -> Result<Option<VolumeOperation>, VolumeDaemonError> {
    let recent = volume_operations::list(&daemon.store, None, MAX_RECENT_OPERATIONS).await?;
    Ok(recent.into_iter().find(|operation| operation.idempotency_key == key))
}

/// The operation that is under way on a volume.
pub(crate) async fn busy_with(
    daemon: &Daemon,
    volume_uuid: &str,
) -> Result<Option<VolumeOperation>, VolumeDaemonError> {
    let unfinished = volume_operations::unfinished(&daemon.store).await?;
    Ok(unfinished.into_iter().find(|operation| operation.volume_id.as_deref() == Some(volume_uuid)))
}

/// The refusal while `other` is under way.
pub(crate) fn busy(volume_uuid: &str, other: &VolumeOperation) -> VolumeDaemonError {
    VolumeDaemonError::Busy {
        volume_uuid: volume_uuid.to_owned(),
        operation_id: other.id.clone(),
        operation_type: *other.operation_type,
    }
}

/// Begins operations that were accepted by a process that died before it could begin them.
pub(crate) async fn resume_accepted(daemon: &Daemon) -> Result<(), VolumeDaemonError> {
    let _one_at_a_time = daemon.accepting.lock().await;
    for operation in volume_operations::unfinished(&daemon.store).await? {
        start(daemon, &operation).await?;
    }
    Ok(())
}

async fn start(daemon: &Daemon, operation: &VolumeOperation) -> Result<(), VolumeDaemonError> {
    let Some(saga) = saga_of(operation) else { return Ok(()) };
    let params = Params { operation_id: operation.id.clone(), request: operation.request.clone() };
    let mut job = NewJob::new(saga.job_type, sentence(operation), &params)?
        .with_id(operation.correlation_id.clone())
        .external_id(operation.id.clone());
    if let Some(vm_context_id) = vm_context_of(daemon, operation).await {
        job = job.vm_context(vm_context_id);
    }
    match daemon.runner().start(job).await {
        // It was begun before.
        Ok(_) | Err(JobError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The VM an operation is about: named by the request, or known by its volume; none when it is not known any more.
async fn vm_context_of(daemon: &Daemon, operation: &VolumeOperation) -> Option<String> {
    if let Some(named) = operation.request.get("vm_context_id").and_then(Value::as_str) {
        let known = vm_replication_contexts::by_id(&daemon.store, named).await.is_ok();
        return known.then(|| named.to_owned());
    }
    let volume = ossea_volumes::by_volume_id(&daemon.store, operation.volume_id.as_deref()?).await;
    volume.ok().map(|row| row.vm_context_id)
}

fn sentence(operation: &VolumeOperation) -> String {
    let text = |key: &str| operation.request.get(key).and_then(Value::as_str);
    let vm = operation.vm_id.as_deref().unwrap_or_default();
    let volume = operation.volume_id.as_deref().or_else(|| text("name")).unwrap_or_default();
    let snapshot = text("snapshot_id").unwrap_or_default();
    match *operation.operation_type {
        OperationType::AttachRoot => format!("attach volume {volume} as the root of VM {vm}"),
        OperationType::Snapshot => format!("take a volume_snapshot of volume {volume}"),
        OperationType::RevertSnapshot => format!("bring volume {volume} back to volume_snapshot {snapshot}"),
        OperationType::DeleteSnapshot => format!("delete volume_snapshot {snapshot} of volume {volume}"),
        OperationType::Cleanup if operation.volume_id.is_none() => format!("remove the root VM {vm} was made with"),
        OperationType::Cleanup if !snapshot.is_empty() => format!("delete stray volume_snapshot {snapshot}"),
        OperationType::Cleanup => format!("delete stray volume {volume}"),
        other => format!("{other} volume {volume}"),
    }
}
