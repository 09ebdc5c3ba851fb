//! The operations on volumes and on roots of VMs: accepted once per idempotency key, carried out as jobs of the job log, ended in their
//! rows. What each does is in its own file.

pub(crate) mod attach;
pub(crate) mod attach_root;
mod cloud_job;
pub(crate) mod create;
pub(crate) mod delete;
mod delete_snapshot;
pub(crate) mod detach;
pub(crate) mod discard_root;
mod pending;
pub(crate) mod refusal;
mod revert;
pub(crate) mod snapshot;
pub(crate) mod strays;
mod submit;
mod tagging;
mod vm_root;

use api::Problem;
use futures::future::BoxFuture;
use joblog::{JobView, Saga, StepContext, StepError};
use model::FailureKind;
use model::status::{JobStatus, OperationStatus, OperationType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::volume_operations::{self, OperationEnd, OperationLease, VolumeOperation};

use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};
use refusal::Refusal;

pub(crate) use submit::{Asked, busy, busy_with, resume_accepted, submit, with_key};

/// Every operation.
pub(crate) static SAGAS: [&Saga<Daemon>; 11] = [
    &create::SAGA,
    &attach::SAGA,
    &attach_root::SAGA,
    &detach::SAGA,
    &delete::SAGA,
    &snapshot::SAGA,
    &revert::SAGA,
    &delete_snapshot::SAGA,
    &discard_root::SAGA,
    &strays::VOLUME_SAGA,
    &strays::SNAPSHOT_SAGA,
];

/// The parameters of every job of ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    /// The row in `volume_operations`.
    operation_id: String,
    /// What was asked for.
    request: Value,
}

impl Params {
    fn request<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        T::deserialize(&self.request)
            .map_err(|error| StepError::new(FailureKind::Internal, format!("the request cannot be read: {error}")))
    }
}

/// How an operation is carried out; none for operations this process has no code for.
fn saga_of(operation: &VolumeOperation) -> Option<&'static Saga<Daemon>> {
    match *operation.operation_type {
        OperationType::Create => Some(&create::SAGA),
        OperationType::Attach => Some(&attach::SAGA),
        OperationType::AttachRoot => Some(&attach_root::SAGA),
        OperationType::Detach => Some(&detach::SAGA),
        OperationType::Delete => Some(&delete::SAGA),
        OperationType::Snapshot => Some(&snapshot::SAGA),
        OperationType::RevertSnapshot => Some(&revert::SAGA),
        OperationType::DeleteSnapshot => Some(&delete_snapshot::SAGA),
        OperationType::Cleanup if operation.volume_id.is_none() => Some(&discard_root::SAGA),
        OperationType::Cleanup if snapshot_in(&operation.request).is_some() => Some(&strays::SNAPSHOT_SAGA),
        OperationType::Cleanup => Some(&strays::VOLUME_SAGA),
        OperationType::Resize => None,
    }
}

/// The volume_snapshot that a request, or a step's output, names.
fn snapshot_in(value: &Value) -> Option<&str> {
    value.get("snapshot_id").and_then(Value::as_str)
}

/// A request about one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VolumeRequest {
    /// CloudStack's uuid of the volume.
    pub(crate) volume_uuid: String,
}

/// A request about a volume_snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotOfVolume {
    /// CloudStack's uuid of the volume.
    pub(crate) volume_uuid: String,
    /// That of the volume_snapshot.
    pub(crate) snapshot_id: String,
}

impl SnapshotOfVolume {
    /// Refuses a volume_snapshot of another volume.
    fn refuse_foreign(&self, snapshot: &cloudstack::VolumeSnapshot) -> Result<(), VolumeDaemonError> {
        if snapshot.volume_id.as_ref() == Some(&self.volume_uuid) {
            return Ok(());
        }
        let owner = snapshot.volume_id.clone().unwrap_or_else(|| "that is not told".to_owned());
        let Self { volume_uuid, snapshot_id } = self.clone();
        Err(Refusal::ForeignSnapshot { snapshot_id, owner, volume_uuid }.into())
    }
}

/// Begins an attempt: raises the operation's fence, so that an earlier executor can write no more.
async fn begin(daemon: &Daemon, context: &StepContext) -> Result<OperationLease, StepError> {
    let params: Params = context.params()?;
    volume_operations::begin(&daemon.store, &params.operation_id).await.map_err(step)
}

/// The right to write the operation as whoever began it last; the job log sees to it that this is us.
async fn current_lease(daemon: &Daemon, context: &StepContext) -> Result<OperationLease, StepError> {
    let params: Params = context.params()?;
    let row = volume_operations::by_id(&daemon.store, &params.operation_id).await.map_err(step)?;
    Ok(OperationLease { operation_id: row.id, fence: *row.fence })
}

/// Ends the operation's row as its job ends.
fn finished<'a>(daemon: &'a Daemon, view: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
    Box::pin(async move {
        let params: Params = view.params()?;
        let row = volume_operations::by_id(&daemon.store, &params.operation_id).await.map_err(step)?;
        if volume_operations::has_ended(&row) {
            return Ok(());
        }
        let lease = if *row.status == OperationStatus::Pending {
            volume_operations::begin(&daemon.store, &row.id).await.map_err(step)?
        } else {
            OperationLease { operation_id: row.id.clone(), fence: *row.fence }
        };
        volume_operations::finish(&daemon.store, &lease, &end_of(view, &row)?).await.map_err(step)
    })
}

fn end_of(view: &JobView, row: &VolumeOperation) -> Result<OperationEnd, StepError> {
    match view.outcome {
        JobStatus::Completed => Ok(OperationEnd::Completed(json!({
            "volume_id": row.volume_id,
            "vm_id": row.vm_id,
            "snapshot_id": snapshot_of(view, row),
        }))),
        JobStatus::Cancelled => Ok(OperationEnd::Cancelled),
        _ => {
            let text = serde_json::to_string(&problem_of(view));
            let text = text.map_err(|error| StepError::new(FailureKind::Internal, error.to_string()))?;
            Ok(OperationEnd::Failed(text))
        }
    }
}

/// The volume_snapshot an operation was about: the one asked about, or the one it took.
fn snapshot_of<'a>(view: &'a JobView, row: &'a VolumeOperation) -> Option<&'a str> {
    let outputs = view.steps.iter().filter_map(|step| step.output.as_ref());
    snapshot_in(&row.request).or_else(|| outputs.filter_map(snapshot_in).next())
}

fn problem_of(view: &JobView) -> Problem {
    let Some(error) = &view.job.error else {
        return Problem::new(FailureKind::Internal, "the job ended without a reason").job(&view.job.id);
    };
    let mut problem = Problem::new(error.kind, error.message.clone()).job(&view.job.id);
    problem.remedy.clone_from(&error.remedy);
    problem.evidence = error.detail.as_ref().filter(|detail| !detail.is_null()).map(ToString::to_string);
    if view.outcome == JobStatus::NeedsOperator {
        problem.cause = Some("what was begun could not be taken back; the job waits for an operator".to_owned());
    }
    problem
}
